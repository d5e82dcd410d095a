"""What a drill was going to hit, and whether it still does, in the moment before it is armed."""

from __future__ import annotations

from collections.abc import Sequence

import msgspec

from gameday.drills.blast_radius import BlastRadius, reach_of
from gameday.drills.planned import Planned
from gameday.drills.production import Production, plan_on
from gameday.injectors.fault import Injection
from gameday.injectors.sandbox.base import Sandbox

__all__ = ["Aim"]


class Aim(msgspec.Struct):
    """The plan of a drill.

    Attributes:
        planned: What it makes, as far as is known.
        announced: The targets of each entry of ``faults`` in the plan that was shown beforehand.
    """

    box: Sandbox
    limits: BlastRadius
    planned: list[Planned]
    announced: dict[int, list[str]]

    @classmethod
    async def taken(
        cls, box: Sandbox, production: Production, announced: Sequence[Planned], seed: int
    ) -> Aim:
        """Plan on the sandbox that stands now; reads only.

        Raises:
            Refused: if it goes further than its blast radius.
        """
        limits = BlastRadius.of(production.scenario, production.protected)
        planned = await plan_on(box, production, seed)
        before: dict[int, list[str]] = {}
        for each in announced:
            before.setdefault(each.entry, []).append(each.injection.target)
        return cls(box, limits, planned, before)

    async def allow(self, entry: int, found: Sequence[Injection]) -> str:
        """Take in what an entry of ``faults`` is about to hit; what has changed, in words.

        Raises:
            Refused: if it goes too far by now.
        """
        reach = await reach_of(self.box)  # as it stands now: replicas may have been taken away
        known = next((each for each in self.planned if each.entry == entry), None)
        if known is not None:
            others = [each for each in self.planned if each.entry != entry]
            fresh = [msgspec.structs.replace(known, injection=injection) for injection in found]
            self.limits.check_now(fresh, others, reach)
            self.planned = [*others, *fresh]
        targets = sorted(injection.target for injection in found)
        before = sorted(self.announced.get(entry, targets))
        if targets == before or not found:
            return ""
        return (
            f"{found[0].fault} hits {', '.join(targets)}, and not {', '.join(before)} as planned: "
            "the sandbox has changed since"
        )
