"""A sandbox without processes: plain data, for tests and for simulations.

It is public: test your own faults, fixers and scenarios with it, in microseconds
and the same each time::

    box = FakeSandbox({"gateway": 1, "api": 3, "store": 1}, ["gateway->api", "api->store"])
    box.crash("api-2")
    assert box.availability() == 2 / 3

Time is the ``clock`` that you pass; nothing waits. The cluster lives in memory,
or with ``path`` in a JSON file, where other processes find it by its `SandboxRef`.
What the words mean here (who serves, what a toxic does) is in `fake_state`.
"""

from __future__ import annotations

import fcntl
import itertools
import math
import time
import weakref
from collections.abc import AsyncIterator, Callable, Collection, Iterator, Mapping
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import anyio
import msgspec

from gameday.injectors.errors import SandboxError, SandboxGone, UsageError
from gameday.injectors.reading import UNREADABLE
from gameday.injectors.sandbox import fake_steps
from gameday.injectors.sandbox.base import Change, Link, Sandbox, Slot
from gameday.injectors.sandbox.fake_parts import make_parts
from gameday.injectors.sandbox.fake_state import (
    CLOCK_FILE,
    FakeState,
    fingerprint,
    show_slot,
    show_toxics,
)
from gameday.injectors.undo import SandboxRef, Step, StepResult

__all__ = ["FakeClock", "FakeSandbox"]

_IN_MEMORY: weakref.WeakValueDictionary[str, FakeSandbox] = weakref.WeakValueDictionary()
_NUMBERS = itertools.count(1)
_POLL = 0.05
"""Seconds between two looks at a file that another process may have changed."""


class FakeClock:
    """A clock that stands still until it is told: pass it as ``clock``."""

    def __init__(self, now: float = 0.0) -> None:
        self.now = now

    def __call__(self) -> float:
        """The time, in seconds."""
        return self.now

    def advance(self, seconds: float) -> None:
        """Let time pass."""
        self.now += seconds

    async def sleep(self, seconds: float) -> None:
        """Let time pass, for code that awaits it; returns at once."""
        self.advance(seconds)


@dataclass
class _Trouble:
    """What a test ordered: the next ``times`` calls of ``op`` are slow, or fail."""

    op: str
    times: int
    error: Exception | None = None
    after: bool = False
    seconds: float = 0.0

    def meets(self, op: str, writes: bool) -> bool:
        group = "inject" if writes and not op.startswith("run_step") else "look"
        return self.times > 0 and self.op in (op, *op.split("."), group)


class FakeSandbox(Sandbox):
    """A deterministic cluster on plain data, with every part.

    Args:
        services: Replicas by service; the first service is the entry.
        links: Which service calls which: ``api->store``; every replica to every replica.
        clock: The time in seconds; by default CLOCK_MONOTONIC.
        name: What its `SandboxRef` is called; by default a number.
        path: A JSON file to keep the cluster in, so that other processes can connect.
        drill: Id of the drill, the first part of every tag.
        lacks: Parts that it shall not have, each with the reason.
        cpus: CPUs that each process may use at first.
        disk: Bytes free on each slot's disk at first.
        patience: Seconds after which a caller gives up on a link.
        heals_after: Seconds after which an exited process comes back by itself; None: never.
        labels: Labels of a service's slots.
        networks: The networks of a service's slots; ``default`` where none are given.
    """

    def __init__(
        self,
        services: Mapping[str, int],
        links: Collection[str] = (),
        *,
        clock: Callable[[], float] = time.monotonic,
        name: str = "",
        path: Path | None = None,
        drill: str = "",
        lacks: Mapping[str, str] | None = None,
        cpus: int = 4,
        disk: int = 64 << 20,
        patience: float = 0.5,
        heals_after: float | None = None,
        labels: Mapping[str, Mapping[str, str]] | None = None,
        networks: Mapping[str, Collection[str]] | None = None,
    ) -> None:
        routes = [_route(link, services) for link in links]
        state = FakeState(
            routes,
            cpus=tuple(range(cpus)),
            disk=disk,
            patience=patience,
            heals_after=heals_after,
            labels={service: dict(each) for service, each in (labels or {}).items()},
            networks={service: list(each) for service, each in (networks or {}).items()},
        )
        for service, replicas in services.items():
            for number in range(1, replicas + 1):
                state.start(state.add_slot(service, number), clock())
        state.changes.clear()
        name = name or str(next(_NUMBERS))
        address = f"memory:{name}" if path is None else str(path.absolute())
        self._attach(SandboxRef("fake", f"fake-{name}", address), state, clock)
        self.drill = drill
        self._lacks.update(lacks or {})
        self.parts = {key: part for key, part in self.parts.items() if key not in self._lacks}
        if path is None:
            _IN_MEMORY[address] = self
        else:
            self._save()

    def _attach(self, ref: SandboxRef, state: FakeState, clock: Callable[[], float]) -> None:
        self.ref, self._state, self._clock = ref, state, clock
        self._file = None if ref.address.startswith("memory:") else Path(ref.address)
        self._lacks: dict[str, str] = {}
        self._troubles: list[_Trouble] = []
        self._news = anyio.Event()
        self.parts: dict[str, Any] = make_parts(self.operation, clock)

    @classmethod
    async def connect(
        cls, ref: SandboxRef, *, clock: Callable[[], float] = time.monotonic
    ) -> FakeSandbox:
        """Find a fake sandbox again: in this process's memory, or in its file.

        Raises:
            SandboxGone: if it is not there any more.
        """
        if ref.address.startswith("memory:"):
            try:
                return _IN_MEMORY[ref.address]
            except KeyError:
                raise SandboxGone(
                    f"the fake sandbox {ref.identity} is not in this process's memory",
                    hint="Give it a path, and other processes can connect to it.",
                ) from None
        box = cls.__new__(cls)
        box._attach(ref, FakeState([]), clock)
        box._load()
        return box

    # What a test or a simulation does and asks, at once and without awaiting.

    def crash(self, slot: str) -> None:
        """Let the slot's process exit, as if by itself."""
        with self._changing() as state:
            held = state.slot(slot)
            if held.process is not None:
                state.end(held, self._clock(), "crashed")

    def start(self, slot: str, *, by: str = "") -> None:
        """Fill the slot if nobody does."""
        with self._changing() as state:
            held = state.slot(slot)
            if held.process is None:
                state.start(held, self._clock(), by)

    def serves(self, slot: str) -> bool:
        """True if the slot answers: its process runs unhindered, and a link leads to it."""
        with self._changing() as state:
            return state.serves(state.slot(slot))

    def availability(self, service: str = "") -> float:
        """The share of requests to the entry (or ``service``) that succeed now.

        Each caller spreads its calls evenly over the replicas that it calls, and tries once.
        """
        with self._changing() as state:
            entry = service or next(iter(state.slots.values())).service
            replicas = [s for s in state.replicas(entry) if s.wanted and not s.drained]
            return sum(map(state.share, replicas)) / len(replicas) if replicas else 0.0

    def next_change(self) -> float | None:
        """When time alone will change something (a crash loop, self-healing); None: never."""
        with self._changing() as state:
            coming = state.next_due()
            return None if coming is None else coming[0]

    @property
    def state(self) -> FakeState:
        """The cluster as it is now, to read."""
        with self._changing() as state:
            return state

    @property
    def history(self) -> tuple[Change, ...]:
        """Every change since the start."""
        with self._changing() as state:
            return tuple(state.changes)

    @property
    def commands(self) -> tuple[tuple[str, ...], ...]:
        """Every command that was run, by hand or as an undo step."""
        with self._changing() as state:
            return tuple(state.commands)

    def fail(
        self, op: str, times: int = 1, error: Exception | None = None, *, after: bool = False
    ) -> None:
        """Let the next ``times`` calls of ``op`` fail.

        Args:
            op: ``processes.signal``, ``links.add``, ``list_slots``, ``run_step``, one kind of
                step (``RemoveToxic``), ``inject`` (whatever changes something, undo apart)
                or ``look`` (whatever does not).
            times: How often.
            error: What to raise; by default a `SandboxError`.
            after: Raise only after the call has done its work.
        """
        failure = error or SandboxError(f"the fake sandbox was told to fail at {op}")
        self._troubles.append(_Trouble(op, times, failure, after))

    def slow(self, op: str, seconds: float, times: int = 1) -> None:
        """Let the next ``times`` calls of ``op`` (as in `fail`) wait first; `math.inf` hangs."""
        self._troubles.append(_Trouble(op, times, seconds=seconds))

    # The sandbox.

    def now(self) -> float:
        """The time on its clock."""
        return self._clock()

    def lacks(self) -> Mapping[str, str]:
        """What it was told to lack."""
        return self._lacks

    async def list_slots(self) -> tuple[Slot, ...]:
        """Every slot, by service as declared, then by number."""
        async with self.operation("list_slots") as state:
            slots = [show_slot(state, slot) for slot in state.slots.values() if not slot.removed]
        order = list(dict.fromkeys(slot.service for slot in slots))
        slots.sort(key=lambda slot: (order.index(slot.service), int(slot.name.rpartition("-")[2])))
        return tuple(slots)

    async def list_links(self) -> tuple[Link, ...]:
        """Every link, as first made."""
        async with self.operation("list_links") as state:
            return tuple(Link(link.name, link.source, link.target) for link in state.links.values())

    async def run_step(self, step: Step) -> StepResult:
        """Carry out one undo step, idempotently."""
        async with self.operation(f"run_step.{type(step).__name__}", writes=True) as state:
            return fake_steps.run(state, step, self._clock())

    async def fingerprint(self, slot: str) -> Mapping[str, str]:
        """Of a slot, or of a link: what a fault could have changed, without identity."""
        async with self.operation("fingerprint") as state:
            if slot in state.links:
                return {"toxics": show_toxics(state.links[slot].toxics)}
            slot, colon, path = slot.partition(":")
            held = state.slot(slot)
            if colon:
                ours = [*held.corrupted.values(), *held.denied.values()]
                ours += [CLOCK_FILE for _ in held.skewed]
                return {"file": "as it was" if path not in ours else "not as it was"}
            return fingerprint(state, held)

    def changes(self) -> AsyncIterator[Change]:
        """What happens from this call on, as it happens."""
        with self._changing() as state:
            return self._follow(len(state.changes))

    async def _follow(self, position: int) -> AsyncIterator[Change]:
        while True:
            with self._changing() as state:
                fresh, position = state.changes[position:], len(state.changes)
                due = state.next_due()
            for change in fresh:
                yield change
            if fresh:
                continue
            wait = math.inf if due is None else max(due[0] - self._clock(), 0.001)
            with anyio.move_on_after(wait if self._file is None else _POLL):
                await self._news.wait()

    # How operations reach the state.

    @asynccontextmanager
    async def operation(self, op: str, *, writes: bool = False) -> AsyncIterator[FakeState]:
        """The state for one operation, in order, with whatever a test ordered to go wrong."""
        late: Exception | None = None
        for trouble in [t for t in self._troubles if t.meets(op, writes)]:
            trouble.times -= 1
            if trouble.seconds == math.inf:
                await anyio.sleep_forever()
            if trouble.seconds:
                await anyio.sleep(trouble.seconds)
            if trouble.error is not None and not trouble.after:
                raise trouble.error
            late = late or trouble.error
        with self._changing() as state:
            yield state
        if late is not None:
            raise late

    @contextmanager
    def _changing(self) -> Iterator[FakeState]:
        with self._locked():
            self._load()
            count = len(self._state.changes)
            self._state.settle(self._clock())
            yield self._state
            self._state.settle(self._clock())
            self._save()
            if len(self._state.changes) > count:
                self._news.set()
                self._news = anyio.Event()

    @contextmanager
    def _locked(self) -> Iterator[None]:
        if self._file is None:
            yield
            return
        with self._file.with_suffix(".lock").open("a") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            yield

    def _load(self) -> None:
        if self._file is None:
            return
        try:
            self._state = msgspec.json.decode(self._file.read_bytes(), type=FakeState)
        except (OSError, *UNREADABLE) as error:
            raise SandboxGone(f"the fake sandbox {self._file} cannot be read: {error}") from error

    def _save(self) -> None:
        if self._file is not None:
            fresh = self._file.with_suffix(".new")
            fresh.write_bytes(msgspec.json.encode(self._state))
            fresh.replace(self._file)


def _route(link: str, services: Mapping[str, int]) -> tuple[str, str]:
    source, arrow, target = (part.strip() for part in link.partition("->"))
    if not arrow or source not in services or target not in services:
        raise UsageError(
            f"{link!r} is no link between services of the fake sandbox",
            hint=f"Write it as api->store. There are: {', '.join(services)}.",
        )
    return source, target
