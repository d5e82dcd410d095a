"""Whole drills on virtual time: the real director and runner, the fake sandbox, a known truth.

Nothing here re-implements the engine. Only what surrounds it is made up: a
probe whose samples fail exactly while the sandbox is down, fixers who act at
instants that were drawn beforehand, and one operation that fails when its turn comes
(`Failure`).
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
from trio._core import _run as trio_run

from gameday.drills.runner import Runner, Stage
from gameday.drills.undoing import undo_one
from gameday.drills.watchers import watch_changes
from gameday.injectors.sandbox.base import Sandbox
from gameday.injectors.sandbox.fake import FakeSandbox
from gameday.injectors.sandbox.fake_state import FakeState
from gameday.injectors.undo import Armed, Outcome, ResolvePage, Undone
from gameday.scenarios.model import AlertRule, Scenario
from gameday.scoring import events

EVERY = 0.1
ANSWER = 0.03


@dataclass
class Failure:
    """One thing that goes wrong in a drill.

    Attributes:
        where: The operation: of the sandbox (``box.run_step``, ``box.inject`` … as in
            `FakeSandbox.fail`), or of what surrounds the engine (``journal.append``,
            ``undo.arm``, ``pages.fire``, ``watcher``, ``actor``, ``listener``, ``cancel`` …).
        error: What is raised; None: it hangs.
        at: Seconds on the drill's axis from which on it happens.
        times: How often.
        after: It happens once the operation has done its work.
        happened: How often it did.
    """

    where: str
    error: Exception | None = None
    at: float = 0.0
    times: int = 1
    after: bool = False
    happened: int = 0

    def due(self, where: str, now: float) -> bool:
        """Whether it happens now; counts it."""
        if where != self.where or now < self.at or self.happened >= self.times:
            return False
        self.happened += 1
        return True

    def strike(self, where: str, now: float) -> None:
        """Raise, if it is due."""
        if self.due(where, now):
            assert self.error is not None
            raise self.error

    async def meet(self, where: str, now: float) -> None:
        """Raise or hang, if it is due."""
        if self.due(where, now):
            if self.error is None:
                await anyio.sleep_forever()
            raise self.error or AssertionError


NOTHING = Failure("nothing")


class MemoryJournal:
    """A journal that keeps what it is given."""

    def __init__(self, failure: Failure = NOTHING) -> None:
        self.events: list[events.Event] = []
        self.failure = failure

    def append(self, event: events.Event) -> events.Event:
        self.failure.strike("journal.append", event.at)
        stamped = msgspec.structs.replace(event, seq=len(self.events) + 1, wall=1e9 + event.at)
        self.events.append(stamped)
        return stamped

    async def sync(self) -> None:
        return


class MemoryUndo:
    """An undo log that keeps what it is given.

    Attributes:
        armed: What is outstanding, by id.
        ever: The ids of all that was armed.
    """

    def __init__(self, failure: Failure = NOTHING) -> None:
        self.armed: dict[str, Armed] = {}
        self.ever: set[str] = set()
        self.ended: list[Undone] = []
        self.failure = failure

    async def arm(self, record: Armed) -> None:
        await self.failure.meet("undo.arm", anyio.current_time())
        self.armed[record.id] = record
        self.ever.add(record.id)

    async def undone(self, record: Undone) -> None:
        await self.failure.meet("undo.undone", anyio.current_time())
        if record.outcome is not Outcome.FAILED:
            self.armed.pop(record.id, None)
        self.ended.append(record)

    async def undo(self, record: Armed, box: Sandbox) -> Undone:
        await self.failure.meet("undo.undo", anyio.current_time())
        return await undo_one(record, box)


class MemoryPages:
    """A channel that takes everything at once."""

    channels = ("memory",)

    def __init__(self, now: Callable[[], float], failure: Failure = NOTHING) -> None:
        self.now = now
        self.failure = failure

    async def fire(
        self, page: str, rule: AlertRule, value: str, emit: Callable[[events.Event], None]
    ) -> None:
        await self.failure.meet("pages.fire", self.now())
        emit(events.AlertDelivered(at=self.now(), page=page, channel="memory"))

    async def resolve(self, page: str, rule: AlertRule, why: str) -> Undone:
        await self.failure.meet("pages.resolve", self.now())
        return Undone(page, Outcome.PUT_BACK)

    async def report(self, report: events.Reported) -> None:
        await self.failure.meet("pages.report", self.now())


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
        failure: What goes wrong.
        aborts_at: When somebody asks to stop, on the axis.
        outages: Filled in: true intervals in which the entry did not serve, on the axis.
        before: Filled in: each slot's and link's fingerprint before the drill.
        runner: Filled in: the runner as it was at the end.
        acted: Filled in: how many of the actions were carried out.
    """

    scenario: Scenario
    services: dict[str, int]
    links: list[str]
    actions: list[Action] = field(default_factory=list)
    seed: int = 0
    heals_after: float | None = None
    failure: Failure = field(default_factory=lambda: Failure("nothing"))
    aborts_at: float | None = None
    outages: list[tuple[float, float]] = field(default_factory=list)
    before: dict[str, dict[str, str]] = field(default_factory=dict)
    acted: int = 0
    runner: Runner | None = None
    box: _Observed | None = None

    def __post_init__(self) -> None:
        self.journal = MemoryJournal(self.failure)
        self.undo = MemoryUndo(self.failure)

    def run(self) -> Simulation:
        """Play it, on virtual time; the seed also draws which of several tasks goes first."""
        vars(trio_run)["_ALLOW_DETERMINISTIC_SCHEDULING"] = True  # as it offers to test tools
        trio_run._r.seed(self.seed)
        clock = trio.testing.MockClock(autojump_threshold=0)
        anyio.run(self._run, backend="trio", backend_options={"clock": clock})
        return self

    async def recover(self) -> None:
        """What `gameday recover` does afterwards, with everything in order again."""
        assert self.box is not None
        self.box.trouble_free()
        for record in [*self.undo.armed.values()]:
            if any(isinstance(step, ResolvePage) for step in record.steps):
                self.undo.armed.pop(record.id)
                continue
            result = await undo_one(record, self.box)
            assert result.outcome is not Outcome.FAILED, result
            self.undo.ended.append(result)
            self.undo.armed.pop(record.id)

    async def fingerprints(self) -> dict[str, dict[str, str]]:
        """Of every slot and link."""
        assert self.box is not None
        names = [slot.name for slot in await self.box.list_slots()]
        names += [link.name for link in await self.box.list_links()]
        return {name: dict(await self.box.fingerprint(name)) for name in names}

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
        self.before = await self.fingerprints()
        self._order_trouble(box)
        watchers: dict[str, Callable[[Runner], Awaitable[None]]] = {
            "sandbox": watch_changes,
            "failing": self._watch,
        }
        for name in self.scenario.slis:
            watchers[f"probe {name}"] = _Prober(name, box, Random(self.seed), self.failure).run
        stage = Stage(
            box=box,
            journal=self.journal,
            undo=self.undo,
            pages=MemoryPages(lambda: anyio.current_time() - zero, self.failure),
            watchers=watchers,
            actors={"fixer": self._act, "inbox": self._fail_as_actor},
            keep_off=lambda cpus: self.failure.strike("keep_off", anyio.current_time() - zero),
            listeners=[lambda event: self.failure.strike("listener", event.at)],
        )
        self.runner = runner = Runner(self.scenario, stage, seed=self.seed, zero=zero)
        runner.emit(
            events.DrillStarted(at=0.0, id="sim", scenario=self.scenario.name, gameday="0", seed=0)
        )
        why = "failed"
        try:
            with anyio.CancelScope() as scope:
                async with anyio.create_task_group() as outside:
                    outside.start_soon(self._cancel, scope)
                    why = await runner.run()
                    outside.cancel_scope.cancel()
        except* RuntimeError:  # a bug of ours that was injected, where nothing can catch it
            assert self.failure.where == "journal.append"
        now = runner.now()
        runner.emit(events.DrillEnded(at=now, why=why, steady_after=runner.steady_after))

    def _order_trouble(self, box: FakeSandbox) -> None:
        failure = self.failure
        if not failure.where.startswith("box."):
            return
        op = failure.where.removeprefix("box.")
        if failure.error is None:
            box.slow(op, math.inf, failure.times)
        else:
            box.fail(op, failure.times, failure.error, after=failure.after)

    async def _act(self, runner: Runner) -> None:
        assert self.box is not None
        while runner.began is None:  # noqa: ASYNC110 - on virtual time it costs nothing
            await anyio.sleep(0.05)
        for action in sorted(self.actions, key=lambda each: each.at):
            await anyio.sleep(max(0.0, runner.began + action.at - runner.now()))
            self.acted += 1
            if action.restart:
                await self.box.hands.restart(action.restart, by="fixer")
            else:
                runner.emit(events.Said(at=runner.now(), verb=action.verb, role="fixer"))

    async def _watch(self, runner: Runner) -> None:
        """Beside the drill: somebody who asks to stop, and what fails there (load, heartbeat)."""
        async with anyio.create_task_group() as both:
            both.start_soon(self._abort, runner)
            await anyio.sleep(max(0.0, self.failure.at - runner.now()))
            await self.failure.meet("watcher", runner.now())

    async def _abort(self, runner: Runner) -> None:
        if self.aborts_at is not None:
            await anyio.sleep(max(0.0, self.aborts_at - runner.now()))
            runner.abort("facilitator", "that is enough")

    async def _fail_as_actor(self, runner: Runner) -> None:
        await anyio.sleep(max(0.0, self.failure.at - runner.now()))
        await self.failure.meet("actor", runner.now())

    async def _cancel(self, scope: anyio.CancelScope) -> None:
        await anyio.sleep(self.failure.at)
        if self.failure.due("cancel", self.failure.at):
            scope.cancel()


class _Observed(FakeSandbox):
    """Notes each instant at which the entry begins and ceases to serve, whatever caused it."""

    _outages: list[tuple[float, float]] | None = None
    _zero = 0.0

    @property
    def troubles(self) -> int:
        """How many of the ordered failures have not happened yet."""
        return sum(trouble.times for trouble in self._troubles)

    def trouble_free(self) -> None:
        """Let nothing fail any more."""
        self._troubles.clear()

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

    def __init__(self, sli: str, box: FakeSandbox, rng: Random, failure: Failure = NOTHING) -> None:
        self.sli = sli
        self.box = box
        self.rng = rng
        self.failure = failure

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
        self.failure.strike("probe", sent)
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
    return Scenario.of(base | changes)


SERVICES = {"gateway": 1, "api": 2}
LINKS = ["gateway->api"]
