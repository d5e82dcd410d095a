"""Whole drills on virtual time: the real director and runner, the fake sandbox, a known truth.

Nothing here re-implements the engine. Only what surrounds it is made up: a
probe whose samples fail exactly while the sandbox is down, and fixers who act at
instants that were drawn beforehand.
"""

from __future__ import annotations

import math
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from random import Random
from typing import Any

import anyio
import msgspec
import trio.testing

from gameday.drills.runner import Runner, Stage
from gameday.drills.undoing import undo_one
from gameday.drills.watchers import watch_changes
from gameday.injectors.sandbox.base import Sandbox
from gameday.injectors.sandbox.fake import FakeSandbox
from gameday.injectors.sandbox.fake_state import FakeState
from gameday.injectors.undo import Armed, Outcome, Undone
from gameday.scenarios.model import AlertRule, Scenario
from gameday.scoring import events

EVERY = 0.1
ANSWER = 0.03


class MemoryJournal:
    """A journal that keeps what it is given."""

    def __init__(self) -> None:
        self.events: list[events.Event] = []

    def append(self, event: events.Event) -> events.Event:
        stamped = msgspec.structs.replace(event, seq=len(self.events) + 1, wall=1e9 + event.at)
        self.events.append(stamped)
        return stamped

    async def sync(self) -> None:
        return


class MemoryUndo:
    """An undo log that keeps what it is given."""

    def __init__(self) -> None:
        self.armed: dict[str, Armed] = {}
        self.ended: list[Undone] = []

    async def arm(self, record: Armed) -> None:
        self.armed[record.id] = record

    async def undone(self, record: Undone) -> None:
        if record.outcome is not Outcome.FAILED:
            self.armed.pop(record.id, None)
        self.ended.append(record)

    async def undo(self, record: Armed, box: Sandbox) -> Undone:
        return await undo_one(record, box)


class MemoryPages:
    """A channel that takes everything at once."""

    channels = ("memory",)

    def __init__(self, now: Callable[[], float]) -> None:
        self.now = now

    async def fire(
        self, page: str, rule: AlertRule, value: str, emit: Callable[[events.Event], None]
    ) -> None:
        emit(events.AlertDelivered(at=self.now(), page=page, channel="memory"))

    async def resolve(self, page: str, rule: AlertRule, why: str) -> Undone:
        return Undone(page, Outcome.PUT_BACK)

    async def report(self, report: events.Reported) -> None:
        return


@dataclass
class Action:
    """What a made-up fixer does, so many seconds after the scenario's start."""

    at: float
    verb: str = ""
    restart: str = ""


@dataclass
class Simulation:
    """One drill to be simulated.

    Attributes:
        trouble: Makes operations of the sandbox fail: called with it before the drill.
        outages: Filled in: true intervals in which the entry did not serve, on the axis.
    """

    scenario: Scenario
    services: dict[str, int]
    links: list[str]
    actions: list[Action] = field(default_factory=list)
    seed: int = 0
    heals_after: float | None = None
    trouble: Callable[[FakeSandbox], None] = lambda box: None
    journal: MemoryJournal = field(default_factory=MemoryJournal)
    undo: MemoryUndo = field(default_factory=MemoryUndo)
    outages: list[tuple[float, float]] = field(default_factory=list)
    box: FakeSandbox | None = None

    def run(self) -> Simulation:
        """Play it, on virtual time."""
        clock = trio.testing.MockClock(autojump_threshold=0)
        anyio.run(self._run, backend="trio", backend_options={"clock": clock})
        return self

    async def _run(self) -> None:
        zero = anyio.current_time()
        self.box = box = _Observed(
            self.services,
            self.links,
            clock=anyio.current_time,
            heals_after=self.heals_after,
            drill="sim",
        )
        box.observe(self.outages, zero)
        self.trouble(box)
        watchers: dict[str, Callable[[Runner], Awaitable[None]]] = {
            "sandbox": watch_changes,
        }
        for name in self.scenario.slis:
            watchers[f"probe {name}"] = _Prober(name, box, Random(self.seed)).run
        stage = Stage(
            box=box,
            journal=self.journal,
            undo=self.undo,
            pages=MemoryPages(lambda: anyio.current_time() - zero),
            watchers=watchers,
            actors={"fixer": self._act},
        )
        runner = Runner(self.scenario, stage, seed=self.seed, zero=zero)
        runner.emit(
            events.DrillStarted(at=0.0, id="sim", scenario=self.scenario.name, gameday="0", seed=0)
        )
        why = await runner.run()
        now = runner.now()
        runner.emit(events.DrillEnded(at=now, why=why, steady_after=runner.steady_after))

    async def _act(self, runner: Runner) -> None:
        assert self.box is not None
        while runner.began is None:  # noqa: ASYNC110 - on virtual time it costs nothing
            await anyio.sleep(0.05)
        for action in sorted(self.actions, key=lambda each: each.at):
            await anyio.sleep(max(0.0, runner.began + action.at - runner.now()))
            if action.restart:
                await self.box.hands.restart(action.restart, by="fixer")
            else:
                runner.emit(events.Said(at=runner.now(), verb=action.verb, role="fixer"))


class _Observed(FakeSandbox):
    """Notes each instant at which the entry begins and ceases to serve, whatever caused it."""

    _outages: list[tuple[float, float]] | None = None
    _zero = 0.0

    def observe(self, outages: list[tuple[float, float]], zero: float) -> None:
        self._outages, self._zero = outages, zero

    @contextmanager
    def _changing(self) -> Iterator[FakeState]:
        with super()._changing() as state:
            yield state
        if self._outages is None:
            return
        outages, self._outages = self._outages, None  # asking for availability comes here, too
        now = self.now() - self._zero
        down = bool(outages) and outages[-1][1] == math.inf
        if (self.availability() < 1.0) is not down:
            if down:
                outages[-1] = (outages[-1][0], now)
            else:
                outages.append((now, math.inf))
        self._outages = outages


class _Prober:
    """Samples fail exactly while the entry does not serve at the instant they are sent."""

    def __init__(self, sli: str, box: FakeSandbox, rng: Random) -> None:
        self.sli = sli
        self.box = box
        self.rng = rng

    async def run(self, runner: Runner) -> None:
        start = runner.now()
        async with anyio.create_task_group() as flights:
            number = 0
            while True:
                due = start + number * EVERY
                await anyio.sleep(max(0.0, due - runner.now()))
                flights.start_soon(self._take, runner, due)
                number += 1

    async def _take(self, runner: Runner, due: float) -> None:
        sent = runner.now()
        good = self.box.availability() == 1.0
        await anyio.sleep(self.rng.uniform(0.001, ANSWER))
        done = runner.now()
        runner.emit(
            events.Sample(
                at=done,
                sli=self.sli,
                due=due,
                sent=sent,
                done=done,
                good=good,
                status=200 if good else 503,
            )
        )


def scenario(**changes: Any) -> Scenario:
    """A scenario on the gateway of a small cluster; ``changes`` replace its keys."""
    base: dict[str, Any] = {
        "apiVersion": "gameday/v1",
        "name": "simulated",
        "title": "Simulated",
        "duration": "60s",
        "stabilise": "3s",
        "sandbox": {"kind": "local", "app": "shop"},
        "slis": {
            "availability": {
                "every": "100ms",
                "timeout": "500ms",
                "good": "status < 500",
                "over": "1s",
            }
        },
        "steady_state": {"availability": ">= 99%"},
        "hypotheses": [
            {"id": "detected", "claim": "It is detected.", "expect": "time_to_detect <= 5s"},
            {"id": "mitigated", "claim": "It is mitigated.", "expect": "time_to_mitigate <= 20s"},
        ],
        "alerts": [{"name": "Down", "when": "availability < 90% for 1s", "summary": "It is down."}],
    }
    return Scenario.model_validate(base | changes)


SERVICES = {"gateway": 1, "api": 2}
LINKS = ["gateway->api"]
