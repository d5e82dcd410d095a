"""A fault: one small unit that breaks one thing, and knows the steps that put it back.

Write one as one file under ``injectors/faults/``, named after its kind::

    class ProcessKill(Fault, kind="process.kill"):
        needs = ("processes",)
        target: SlotTarget

        async def plan(self, box, rng): ...    # self.aim() chooses, self.injection() records
        async def inject(self, box, injection): ...
        async def look(self, box, injection): ...

A network fault is shorter still (`gameday.injectors.link_fault`); the whole
contract on one page is ``docs/write-a-fault.md``.

The laws that every fault obeys are tests (``tests/test_fault_laws.py``): plan
changes nothing; inject then undo restores; undo twice is harmless; undo without
inject is harmless; an injection survives JSON and another process.
"""

from __future__ import annotations

import abc
import math
import time
from collections.abc import Mapping, Sequence
from random import Random
from typing import Annotated, Any, ClassVar, NamedTuple, TypeVar

import msgspec
from msgspec import Meta

from gameday.injectors import units
from gameday.injectors.errors import SandboxError, UsageError
from gameday.injectors.models import Check, Model, Unit, field_types, show_value
from gameday.injectors.sandbox.base import Link, Sandbox, Slot, carries, label_words
from gameday.injectors.undo import ProcessId, Step

__all__ = [
    "Aim",
    "BitsPerSecond",
    "Bytes",
    "Evidence",
    "Fault",
    "FilePath",
    "Injection",
    "LinkTarget",
    "Seconds",
    "Share",
    "SignedSeconds",
    "SlotTarget",
    "choose",
    "choose_links",
    "exclude_each_other",
    "hits_links",
]


T = TypeVar("T")

_SIGNS = {"+": 1.0, "-": -1.0, "\N{MINUS SIGN}": -1.0}


def _duration(text: str) -> float:
    """A bare 0 needs no unit; every other number in a file does."""
    return units.parse_duration("0s" if text.strip() == "0" else text)


def _signed_duration(text: str) -> float:
    """A duration that a sign may stand before."""
    stripped = text.strip()
    sign = _SIGNS.get(stripped[:1])
    return _duration(stripped) if sign is None else sign * _duration(stripped[1:])


def _about(description: str, *examples: str) -> Meta:
    return Meta(description=description, extra_json_schema={"examples": list(examples)})


Seconds = Annotated[
    float,
    Unit(
        _duration,
        units.show_duration,
        "a duration such as 500ms, 10s, 3m or 1m30s",
        bare=False,
    ),
    _about("A duration with its unit.", "500ms", "10s", "1m30s"),
]
SignedSeconds = Annotated[
    float,
    Unit(
        _signed_duration,
        units.show_duration,
        "a duration such as 1h or -5m",
        bare=False,
        least=-math.inf,
    ),
    _about("A duration with its unit, and a sign where it is negative.", "1h", "-5m"),
]
Share = Annotated[
    float,
    Unit(units.parse_share, units.show_share, "a share such as 95%", most=1),
    _about("A share.", "95%"),
]
Bytes = Annotated[
    int,
    Unit(units.parse_size, units.show_size, "a size such as 64MiB"),
    _about("A size.", "64MiB"),
]
BitsPerSecond = Annotated[
    float,
    Unit(units.parse_rate, units.show_rate, "a data rate such as 1Mbit/s"),
    Meta(gt=0),
    _about("A data rate.", "1Mbit/s"),
]


FilePath = Annotated[
    str,
    Meta(
        pattern=r"^/[^\x00]*[^/\x00]$",
        max_length=4096,
        description="The file, as its processes see it.",
    ),
]


class _Choice(Model):
    """How many of what matches are hit: a count, or a share (rounded up); default one."""

    count: Annotated[int, Meta(ge=1)] | None = None
    share: Share | None = None

    def __post_init__(self) -> None:
        if self.count is not None and self.share is not None:
            raise ValueError("give count or share, not both")


Label = Annotated[
    str,
    Meta(
        pattern=r"^[^=\s]+(=.*)?$",
        description="Slots of whatever service with this label: tier=cache, or tier with any value.",
        examples=["tier=cache", "tier"],
        extra={"expected": "a label such as tier=cache, or tier for any value"},
    ),
]


class SlotTarget(_Choice):
    """Slots by service (``{service: api, count: 1}``), by name (``{slot: api-2}``) or by
    label (``{label: tier=cache, share: 50%}``), whatever their service.
    """

    service: str | None = None
    slot: str | None = None
    label: Label | None = None

    def __post_init__(self) -> None:
        super().__post_init__()
        if sum(way is not None for way in (self.service, self.slot, self.label)) != 1:
            raise ValueError("give one of service, slot and label")

    def matches(self, slot: str, service: str, labels: Mapping[str, str]) -> bool:
        """Whether it names a slot of that name, service and labels."""
        if self.label is not None:
            return carries(labels, self.label)
        return slot == self.slot if self.slot is not None else service == self.service


def _link(text: str) -> str:
    ends = [[one.strip() for one in end.split(",")] for end in text.split("->")]
    if len(ends) != 2 or not all(one for end in ends for one in end):
        raise ValueError(f"{text!r} is not a link; write it as api->store or api-1->store")
    return "->".join(",".join(end) for end in ends)


class LinkTarget(_Choice):
    """Links by their ends, each a service or a slot, or several: ``{link: "web, api->store"}``.

    Without count or share, every link that matches is hit.
    """

    link: Annotated[str, Check(_link)]

    def ends(self) -> tuple[list[str], list[str]]:
        """Services and slots where its links begin, and where they end."""
        source, _, target = self.link.partition("->")
        return source.split(","), target.split(",")


class Injection(msgspec.Struct, frozen=True):
    """One fault on one target in one drill.

    Attributes:
        id: Unique within the drill; the tag's last part.
        fault: The fault's kind.
        target: The slot or link that is hit.
        tag: What everything that the injection makes carries, and is found by.
        undo: Steps that put it back, in the order in which they run.
        parameters: The fault's parameters, for people and for `look`.
        before: Who filled the slot when it was planned; None for links.
        place: What `Sandbox.fingerprint` is asked for, where that is not the target: ``api-1:/etc/hosts``.
    """

    id: str
    fault: str
    target: str
    tag: str
    undo: tuple[Step, ...]
    parameters: dict[str, Any] = {}
    before: ProcessId | None = None
    place: str = ""

    @property
    def where(self) -> str:
        """What is compared before and after: the place, else the target."""
        return self.place or self.target


class Evidence(msgspec.Struct, frozen=True):
    """What a look at the target showed, not what the injecting call returned.

    Attributes:
        took_effect: The change is or was there; may rest on identity (the old process is gone).
        in_force: It is there now.
        seen: What was seen, for people.
        at: CLOCK_MONOTONIC of the look, seconds (absolute).
    """

    took_effect: bool
    in_force: bool
    seen: str
    at: float = msgspec.field(default_factory=time.monotonic)

    def after(self, earlier: Evidence | None) -> Evidence:
        """This look in the light of an earlier one: that a fault took effect is never unlearnt."""
        if earlier is None or self.took_effect or not earlier.took_effect:
            return self
        return msgspec.structs.replace(self, took_effect=True)


class Aim(NamedTuple):
    """A chosen slot, the process that fills it, and the tag for what is done there."""

    slot: str
    process: ProcessId
    tag: str


class Fault(Model):
    """The base of all faults; a model (`gameday.injectors.models`) whose fields are its parameters.

    Attributes:
        kind: ``process.kill``: the class keyword, and the file's name.
        needs: Parts of the sandbox that it acts through.
        excludes: Kinds that cannot be in force on the same target at the same time.
        ends_processes: Whether it ends processes, so that nothing may hang on theirs going on.
    """

    kind: ClassVar[str]
    needs: ClassVar[tuple[str, ...]] = ()
    excludes: ClassVar[tuple[str, ...]] = ()
    ends_processes: ClassVar[bool] = False

    target: Any

    def parameters(self) -> dict[str, Any]:
        """The fields except the target, in SI units."""
        given: dict[str, Any] = msgspec.to_builtins(msgspec.structs.asdict(self))
        return {name: value for name, value in given.items() if name != "target"}

    def shown(self) -> dict[str, str]:
        """The parameters as people write them; those that say nothing (no network) are left out."""
        fields = {field.attribute: field for field in field_types(type(self)).values()}
        return {
            name: show_value(value, fields.get(name))
            for name, value in self.parameters().items()
            if value not in (None, "")
        }

    def injection(
        self,
        target: str,
        *undo: Step,
        tag: str,
        before: ProcessId | None = None,
        place: str = "",
    ) -> Injection:
        """An injection of this fault; ``tag`` comes from `new_tag` and is in the undo steps too."""
        return Injection(
            id=tag.rsplit("-", 1)[-1],
            fault=self.kind,
            target=target,
            tag=tag,
            undo=undo,
            parameters=self.parameters(),
            before=before,
            place=place,
        )

    @staticmethod
    def new_tag(box: Sandbox, rng: Random) -> str:
        """A fresh tag: the drill's id, then a part drawn from ``rng`` (same seed, same plan)."""
        return f"gameday-{box.drill or 'test'}-{rng.getrandbits(32):08x}"

    async def aim(self, box: Sandbox, rng: Random) -> list[Aim]:
        """The slots that the target names, each with its process and a fresh tag. Reads only.

        Raises:
            UsageError: if none match, fewer than asked for, or no process runs there.
            Unsupported: if the sandbox lacks a part that the fault needs.
        """
        for part in self.needs:
            box.part(part)
        aims = []
        for slot in await choose(box, self.target, rng):
            if slot.process is None:
                raise UsageError(
                    f"{self.kind} needs a process to act on, but none runs at {slot.name}",
                    hint=f"`gameday sandbox restart {slot.name}` starts it.",
                )
            aims.append(Aim(slot.name, slot.process, self.new_tag(box, rng)))
        if self.ends_processes:
            await box.processes.check_end([aim.slot for aim in aims])
        return aims

    @staticmethod
    async def send(box: Sandbox, injection: Injection, signal: int) -> None:
        """Send a signal to the process that the injection was planned for.

        Raises:
            SandboxError: if it is no longer there: then whatever happened is not our doing.
        """
        process = injection.before
        if process is None or not await box.processes.signal(process, signal):
            raise SandboxError(
                f"the process that filled {injection.target} when the fault was planned "
                "is no longer there; nothing was done"
            )

    @abc.abstractmethod
    async def plan(self, box: Sandbox, rng: Random) -> list[Injection]:
        """Resolve the exact targets and their undo. Reads only.

        Raises:
            UsageError: if nothing matches the target.
            Unsupported: if the sandbox or the machine cannot do it.
        """

    @abc.abstractmethod
    async def inject(self, box: Sandbox, injection: Injection) -> None:
        """Make the change. May be called once; may be interrupted at any await."""

    @abc.abstractmethod
    async def look(self, box: Sandbox, injection: Injection) -> Evidence:
        """Look at the target. Reads only."""


def hits_links(fault: type[Fault]) -> bool:
    """True if its targets are links, not slots."""
    return field_types(fault)["target"].kind is LinkTarget


def exclude_each_other(one: type[Fault], other: type[Fault]) -> bool:
    """True if the two cannot be in force on the same target at the same time.

    Either may say so: a third party's fault can name ours.
    """
    return other.kind in one.excludes or one.kind in other.excludes


def _pick(found: Sequence[T], target: _Choice, rng: Random, default: int) -> list[T]:
    count = default
    if target.count is not None:
        count = target.count
    elif target.share is not None:
        count = math.ceil(target.share * len(found))
    if count > len(found):
        raise UsageError(f"the target asks for {count}, but only {len(found)} match")
    chosen = set(rng.sample(range(len(found)), count))
    return [item for index, item in enumerate(found) if index in chosen]


async def choose(box: Sandbox, target: SlotTarget, rng: Random) -> list[Slot]:
    """The slots that ``target`` names, chosen by ``rng`` where it leaves a choice.

    Slots that are running come first: breaking what is already broken proves nothing.

    Raises:
        UsageError: if none match, or fewer than asked for.
    """
    slots = await box.list_slots()
    found = [slot for slot in slots if target.matches(slot.name, slot.service, slot.labels)]
    if not found:
        if target.label is not None:
            known = label_words((slot.labels for slot in slots), target.label)
            hint = f"There are: {', '.join(known)}." if known else "No slot there has a label."
            raise UsageError(f"no slot of the sandbox has the label {target.label!r}", hint=hint)
        names = sorted({slot.service for slot in slots} | {slot.name for slot in slots})
        raise UsageError(
            f"the target {target.slot or target.service!r} matches nothing in the sandbox",
            hint=f"There are: {', '.join(names)}." if names else "Nothing in it may be broken.",
        )
    running = [slot for slot in found if slot.state == "running"]
    return _pick(running or found, target, rng, default=1)


async def choose_links(box: Sandbox, target: LinkTarget, rng: Random) -> list[Link]:
    """The links that ``target`` names; all of them unless a count or share is given.

    Raises:
        UsageError: if none match, or fewer than asked for.
    """
    sources, ends = target.ends()
    services = {slot.name: slot.service for slot in await box.list_slots()}
    links = await box.list_links()
    found = [
        link
        for link in links
        if not {link.source, services.get(link.source)}.isdisjoint(sources)
        and not {link.target, services.get(link.target)}.isdisjoint(ends)
    ]
    if not found:
        raise UsageError(
            f"the link {target.link!r} matches nothing in the sandbox",
            hint=f"There are: {', '.join(link.name for link in links) or 'no links'}.",
        )
    return _pick(found, target, rng, default=len(found))
