"""Whether a plan stays within the blast radius that its scenario and its sandbox allow."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence

import msgspec

from gameday.drills.planned import Planned
from gameday.injectors.errors import Refused
from gameday.injectors.sandbox.base import Sandbox
from gameday.scenarios.blast_radius import Most
from gameday.scenarios.model import Scenario

__all__ = ["BlastRadius", "Reach", "reach_of"]


class Reach(msgspec.Struct, frozen=True):
    """What a sandbox has that can be hit: the group of each target.

    Slots are grouped by service, links by the services at their ends (``gateway->api``).
    ``out`` are slots that somebody stopped or drained, and the links from and to them;
    ``protected`` are slots that say of themselves that they are never a target.
    """

    groups: Mapping[str, str]
    out: frozenset[str] = frozenset()
    protected: frozenset[str] = frozenset()

    def group(self, target: str) -> str:
        """The group of a target; a target that is unknown is a group of its own."""
        return self.groups.get(target, target)

    def size(self, group: str) -> int:
        """How many targets are in it, but for those that are out of use."""
        return sum(each == group and target not in self.out for target, each in self.groups.items())


async def reach_of(box: Sandbox) -> Reach:
    """Look what can be hit; reads only."""
    listed, ways = await box.list_slots(), await box.list_links()
    slots = {slot.name: slot.service for slot in listed}
    links = {
        link.name: f"{slots.get(link.source, link.source)}->{slots.get(link.target, link.target)}"
        for link in ways
    }
    idle = {slot.name for slot in listed if slot.state == "stopped" or slot.drained}
    idle |= {link.name for link in ways if not idle.isdisjoint((link.source, link.target))}
    protected = frozenset(slot.name for slot in listed if slot.protected)
    return Reach(slots | links, frozenset(idle), protected)


class BlastRadius(msgspec.Struct, frozen=True):
    """The limits of one drill.

    Attributes:
        most: At most so many of a service's replicas, or of the links between two services, may
            be hit at a time; None: any number.
        protected: Services, slots and links that are never a target.
        at_once: How many injections may be in force at a time; None: any number.
    """

    most: Most | None = None
    protected: frozenset[str] = frozenset()
    at_once: int | None = None

    @classmethod
    def of(cls, scenario: Scenario, protected: Iterable[str]) -> BlastRadius:
        """That of a scenario, on a sandbox that protects these services itself."""
        limits = scenario.blast_radius
        names = frozenset((*limits.protected, *protected))
        return cls(limits.most, names, limits.at_once)

    def check(self, planned: Sequence[Planned], reach: Reach) -> None:
        """Pass a plan.

        Raises:
            Refused: with what goes too far, and why.
        """
        for each in planned:
            self._check_protected(each, reach)
        for instant in sorted({each.at for each in planned}):
            self._check_together([p for p in planned if p.at <= instant < p.until], reach)

    def check_now(self, hit: Sequence[Planned], others: Sequence[Planned], reach: Reach) -> None:
        """Pass what is about to be hit, beside what is in force then, on the sandbox as it stands.

        A replica that is hit counts as there, also where somebody has taken it out of use.

        Raises:
            Refused: with what goes too far, and why.
        """
        for each in hit:
            self._check_protected(each, reach)
            beside = [other for other in others if other.at <= each.at < other.until]
            together = [*hit, *beside]
            hit_now = {p.injection.target for p in together}
            there = msgspec.structs.replace(reach, out=reach.out - hit_now)
            groups = {reach.group(p.injection.target) for p in hit}
            self._check_together(together, there, groups)

    def _check_protected(self, each: Planned, reach: Reach) -> None:
        target = each.injection.target
        for name in (target, reach.group(target)):
            if name in self.protected or name in reach.protected:
                raise Refused(
                    f"{each.injection.fault} would hit {target}, and {name} is protected",
                    hint="Aim elsewhere; what is protected stands in the scenario's blast_radius "
                    "and in the sandbox's declaration, or in labels of its containers.",
                )

    def _check_together(
        self, at_once: Sequence[Planned], reach: Reach, groups: Collection[str] | None = None
    ) -> None:
        """``groups``: which are looked at; by default all."""
        if self.at_once is not None and len(at_once) > self.at_once:
            raise Refused(
                f"{len(at_once)} faults would be in force at a time ({_list(at_once)}); "
                f"blast_radius.at_once allows {self.at_once}",
                hint="Let some of them last shorter, or inject them later.",
            )
        for group, targets in _by_group(at_once, reach):
            if groups is not None and group not in groups:
                continue
            there_are = reach.size(group)
            allowed = self.most.of(there_are) if self.most is not None else len(targets)
            if len(targets) > allowed:
                assert self.most is not None
                raise Refused(
                    f"{len(targets)} of the {there_are} of {group} would be hit at a time "
                    f"({', '.join(targets)}); blast_radius.at_most ({self.most.text}) "
                    f"allows {allowed or 'none'}",
                    hint="Aim at fewer, run more replicas, or allow more.",
                )


def _by_group(planned: Iterable[Planned], reach: Reach) -> Iterator[tuple[str, list[str]]]:
    found: dict[str, set[str]] = {}
    for each in planned:
        target = each.injection.target
        found.setdefault(reach.group(target), set()).add(target)
    for group, targets in found.items():
        yield group, sorted(targets)


def _list(planned: Sequence[Planned]) -> str:
    return ", ".join(f"{each.injection.fault} on {each.injection.target}" for each in planned)
