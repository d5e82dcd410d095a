"""The fake cluster as plain data: what there is, what time does to it, whom it serves.

No effects and no clock of its own: every function takes ``now``. The whole state
is one msgspec struct, so it goes to a JSON file and back.
"""

from __future__ import annotations

import signal as signals
from collections.abc import Iterable, Mapping

import msgspec

from gameday.injectors.errors import UsageError
from gameday.injectors.sandbox.base import GONE, Change, Slot, Toxic
from gameday.injectors.undo import ProcessId

__all__ = [
    "BOOT_ID",
    "CLOCK_FILE",
    "NO_LIMIT",
    "USED",
    "FakeHelpers",
    "FakeLink",
    "FakeProcess",
    "FakeSlot",
    "FakeState",
    "fingerprint",
    "show_slot",
    "show_toxics",
]

BOOT_ID = "fake"
RESTART_DELAY = 0.5
"""Seconds for which a crash-looping slot stays empty between two processes."""
RESPONSE_BITS = 16_000.0
"""What crosses a link for one request; with a bandwidth toxic it takes time."""
NO_LIMIT = "max"
CLOCK_FILE = "/etc/clock"
"""What says how far off the clock of a fake process is."""
USED = 32 << 20
"""Bytes of memory that a fake process uses."""
_BLOCK = 4096


class FakeProcess(msgspec.Struct):
    """A process of the fake cluster; ``limit`` is its memory limit in bytes, -1 for none."""

    id: ProcessId
    cpus: tuple[int, ...]
    paused: bool = False
    limit: int = -1


class FakeSlot(msgspec.Struct):
    """A slot of the fake cluster.

    Attributes:
        wanted: False once somebody stopped it on purpose.
        since: When its process was started; ``ended``: when the last one ended.
        started_by: Role of who started its process; empty if it came up by itself.
        stopped_by: Role of who stopped it.
        holds: Uptime by tag; ``held`` is when the last one was put there.
        files: Sizes by name; what we filled its disk with.
        toxics: What is in force on all that it says and hears, by tag.
        limits: What it may use, by resource, where that is limited.
        networks: The networks that it is in, and how.
        removed: The tag of the fault that removed it; its place is kept here.
        corrupted: Paths of files by the tag of the fault that corrupted them; ``denied``: that denied them.
        skewed: How far off its wall clock is, by the tag of the fault that set it, in seconds.
    """

    name: str
    service: str
    process: FakeProcess | None = None
    wanted: bool = True
    drained: bool = False
    restarts: int = -1
    since: float = 0.0
    ended: float = 0.0
    started_by: str = ""
    stopped_by: str = ""
    holds: dict[str, float] = {}
    held: float = 0.0
    files: dict[str, int] = {}
    toxics: dict[str, Toxic] = {}
    limits: dict[str, str] = {}
    networks: dict[str, str] = {}
    removed: str = ""
    corrupted: dict[str, str] = {}
    denied: dict[str, str] = {}
    skewed: dict[str, float] = {}


class FakeHelpers(msgspec.Struct):
    """Burners beside a slot's process."""

    slot: str
    processes: list[ProcessId]


class FakeLink(msgspec.Struct):
    """A link of the fake cluster, with what is in force on it by tag."""

    name: str
    source: str
    target: str
    toxics: dict[str, Toxic] = {}


class FakeState(msgspec.Struct):
    """The whole fake cluster.

    Attributes:
        routes: Which service calls which.
        commands: What `Hands.execute` and `RunCommand` ran.
        heals_after: Seconds after which an exited process comes back by itself; None: never.
        patience: Seconds after which a caller gives up on a link.
        disk: Bytes of each slot's disk that are free at first.
        labels: Of the slots of each service.
        networks: That the slots of each service are in at first; ``default`` where it is not said.
    """

    routes: list[tuple[str, str]]
    slots: dict[str, FakeSlot] = {}
    links: dict[str, FakeLink] = {}
    helpers: dict[str, FakeHelpers] = {}
    changes: list[Change] = []
    commands: list[tuple[str, ...]] = []
    next_pid: int = 1000
    cpus: tuple[int, ...] = (0, 1, 2, 3)
    disk: int = 64 << 20
    patience: float = 0.5
    heals_after: float | None = None
    labels: dict[str, dict[str, str]] = {}
    networks: dict[str, list[str]] = {}

    def slot(self, name: str) -> FakeSlot:
        """The slot of that name.

        Raises:
            UsageError: if there is none.
        """
        try:
            return self.slots[name]
        except KeyError:
            raise _unknown("slot", name, self.slots) from None

    def place(self, name: str) -> FakeSlot | FakeLink:
        """What packets pass: a link, or a slot, or a link the other way round.

        Raises:
            UsageError: if there is none.
        """
        found = self.find_place(name)
        return found or (self.link(name) if "->" in name else self.slot(name))

    def find_place(self, name: str) -> FakeSlot | FakeLink | None:
        """As `place`; None if there is none."""
        source, _, target = name.partition("->")
        return self.slots.get(name) or self.links.get(name) or self.links.get(f"{target}->{source}")

    def link(self, name: str) -> FakeLink:
        """The link of that name.

        Raises:
            UsageError: if there is none.
        """
        try:
            return self.links[name]
        except KeyError:
            raise _unknown("link", name, self.links) from None

    def holder(self, process: ProcessId) -> FakeSlot | None:
        """The slot that this very process fills."""
        held = (s for s in self.slots.values() if s.process and s.process.id == process)
        return next(held, None)

    def replicas(self, service: str) -> list[FakeSlot]:
        """The slots of a service, stopped ones included.

        Raises:
            UsageError: if there is no such service.
        """
        found = [slot for slot in self.slots.values() if slot.service == service]
        if not found:
            raise _unknown("service", service, {slot.service for slot in self.slots.values()})
        return found

    def note(self, now: float, action: str, slot: str, by: str = "", detail: str = "") -> None:
        """Record a change."""
        self.changes.append(Change(now, action, slot, by, detail))

    # What happens to processes.

    def spawn(self, now: float) -> ProcessId:
        """A fresh identity; nothing else."""
        self.next_pid += 1
        return ProcessId(BOOT_ID, self.next_pid, int(now * 100))

    def add_slot(self, service: str, number: int) -> FakeSlot:
        """A new, empty slot with the links that its service's routes give it."""
        networks = dict.fromkeys(self.networks.get(service, ["default"]), "{}")
        slot = FakeSlot(f"{service}-{number}", service, networks=networks)
        self.slots[slot.name] = slot
        for source, target in self.routes:
            for other in list(self.slots.values()):
                if source == service and target == other.service:
                    self._add_link(slot.name, other.name)
                elif target == service and source == other.service:
                    self._add_link(other.name, slot.name)
        return slot

    def _add_link(self, source: str, target: str) -> None:
        self.links[f"{source}->{target}"] = FakeLink(f"{source}->{target}", source, target)

    def start(self, slot: FakeSlot, now: float, by: str = "") -> None:
        """Fill an empty slot."""
        slot.process = FakeProcess(self.spawn(now), self.cpus)
        slot.wanted, slot.since, slot.started_by = True, now, by
        slot.restarts += 1
        self.note(now, "started", slot.name, by)

    def end(self, slot: FakeSlot, now: float, detail: str, by: str = "") -> None:
        """Empty a slot."""
        slot.process, slot.ended = None, now
        slot.denied.clear()
        self.note(now, "exited", slot.name, by, detail)

    def stop(self, slot: FakeSlot, now: float, by: str) -> None:
        """Empty a slot on purpose."""
        slot.wanted, slot.stopped_by = False, by
        if slot.process is not None:
            self.end(slot, now, "stopped", by)

    def signal(self, slot: FakeSlot, number: int, now: float) -> None:
        """What a signal does to the slot's process."""
        process = slot.process
        if process is None:
            return
        if number == signals.SIGSTOP:
            process.paused = True
        elif number == signals.SIGCONT:
            process.paused = False
        elif number == signals.SIGKILL or (
            number in (signals.SIGTERM, signals.SIGINT) and not process.paused
        ):
            self.end(slot, now, signals.Signals(number).name)

    def scale(self, service: str, replicas: int, now: float, by: str) -> None:
        """Start or stop replicas; a stopped one keeps its slot."""
        known = {slot.name: slot for slot in self.replicas(service)}
        for number in range(1, replicas + 1):
            slot = known.pop(f"{service}-{number}", None) or self.add_slot(service, number)
            slot.removed = ""
            if slot.process is None:
                self.start(slot, now, by)
        for slot in known.values():
            self.stop(slot, now, by)

    # What time does.

    def due(self, slot: FakeSlot) -> float | None:
        """When the slot's process crashes or comes back by itself; None if it stays as it is."""
        if slot.process is not None:
            return max(slot.since + min(slot.holds.values()), slot.held) if slot.holds else None
        if not slot.wanted or slot.removed:
            return None
        if slot.holds:
            return max(slot.ended, slot.held) + RESTART_DELAY
        return None if self.heals_after is None else slot.ended + self.heals_after

    def next_due(self) -> tuple[float, FakeSlot] | None:
        """What time does next, and to whom."""
        dues = [(due, slot) for slot in self.slots.values() if (due := self.due(slot)) is not None]
        return min(dues, key=lambda item: item[0]) if dues else None

    def settle(self, now: float) -> None:
        """Let everything happen that was due until ``now``."""
        while (coming := self.next_due()) is not None and coming[0] <= now:
            due, slot = coming
            if slot.process is None:
                self.start(slot, due)
            else:
                self.end(slot, due, "crashed")

    # What can be seen.

    def free(self, slot: FakeSlot) -> int:
        """Bytes free on the slot's disk."""
        return self.disk - sum(slot.files.values())

    def burners(self, slot: FakeSlot) -> int:
        """Burners beside the slot's process on the one CPU that it has left."""
        pinned = slot.process is not None and len(slot.process.cpus) == 1
        beside = [helpers for helpers in self.helpers.values() if helpers.slot == slot.name]
        return sum(len(helpers.processes) for helpers in beside) if pinned else 0

    def able(self, slot: FakeSlot) -> bool:
        """True if the slot could answer a request that reaches it."""
        process = slot.process
        return (
            process is not None
            and not process.paused
            and process.limit == -1
            and not slot.holds
            and not slot.toxics
            and not slot.limits
            and not slot.denied
            and not slot.corrupted
            and not slot.skewed
            and bool(slot.networks)
            and not self.burners(slot)
            and self.free(slot) > _BLOCK
        )

    def passes(self, link: FakeLink) -> bool:
        """True if a request crosses the link before its caller gives up."""
        wait = 0.0
        for toxic in link.toxics.values():
            if toxic.kind in ("blackhole", "reset"):
                return False
            wait += toxic.parameters.get("delay", 0.0)
            if rate := toxic.parameters.get("rate"):
                wait += RESPONSE_BITS / rate
        return wait <= self.patience

    def serves(self, slot: FakeSlot) -> bool:
        """True if the slot is able, and some way leads to it (or none is needed)."""
        inbound = [link for link in self.links.values() if link.target == slot.name]
        return self.able(slot) and (not inbound or any(map(self.passes, inbound)))

    def share(self, slot: FakeSlot, seen: frozenset[str] = frozenset()) -> float:
        """The share of requests to the slot that succeed, whoever it has to call for them."""
        if not self.able(slot):
            return 0.0
        share = 1.0
        for source, service in self.routes:
            if source == slot.service and service not in seen:
                share *= self._share_of(slot, service, seen | {slot.service})
        return share

    def _share_of(self, slot: FakeSlot, service: str, seen: frozenset[str]) -> float:
        ways = [
            (self.links[f"{slot.name}->{other.name}"], other)
            for other in self.slots.values()
            if other.service == service and not other.drained and other.wanted
        ]
        good = sum(self.share(other, seen) for link, other in ways if self.passes(link))
        return good / len(ways) if ways else 0.0


def show_slot(state: FakeState, slot: FakeSlot) -> Slot:
    """The slot as `gameday sandbox ps` shows it."""
    if slot.process is not None:
        shown = "paused" if slot.process.paused else "running"
    elif not slot.wanted:
        shown = "stopped"
    else:
        shown = "starting" if slot.holds else "exited"
    return Slot(
        name=slot.name,
        service=slot.service,
        state=shown,
        health="healthy" if state.serves(slot) else "unhealthy",
        process=slot.process.id if slot.process else None,
        drained=slot.drained,
        restarts=max(slot.restarts, 0),
        since=slot.since,
        labels=state.labels.get(slot.service, {}),
    )


def show_toxics(toxics: Mapping[str, Toxic]) -> str:
    """What is in force, for people."""
    return ", ".join(sorted(f"{toxic.kind} {toxic.tag}" for toxic in toxics.values()))


def fingerprint(state: FakeState, slot: FakeSlot) -> dict[str, str]:
    """What a fault could have changed at the slot, without identity."""
    shown = show_slot(state, slot)
    process = slot.process
    if slot.removed:
        return dict(GONE)
    helpers = sorted(tag for tag, helper in state.helpers.items() if helper.slot == slot.name)
    return {
        "state": shown.state,
        "health": shown.health,
        "drained": str(slot.drained),
        "holds": ", ".join(sorted(slot.holds)),
        "cpus": ", ".join(map(str, process.cpus)) if process else "",
        "limit": str(process.limit) if process else "",
        "helpers": ", ".join(helpers),
        "files": ", ".join(sorted(slot.files)),
        "toxics": show_toxics(slot.toxics),
        "limits": ", ".join(f"{name} {value}" for name, value in sorted(slot.limits.items())),
        "networks": ", ".join(f"{name} {how}" for name, how in sorted(slot.networks.items())),
    }


def _unknown(what: str, name: str, known: Iterable[str]) -> UsageError:
    return UsageError(
        f"the fake sandbox has no {what} {name!r}",
        hint=f"There are: {', '.join(sorted(known)) or 'none'}.",
    )
