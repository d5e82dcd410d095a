"""The runner carries out what the director decides, and always puts everything back.

It works on ports (`Stage`): the sandbox, the journal, the undo log, pages,
probes, the inbox. With the real ones it is a drill; with the fake sandbox and a
virtual clock it is a simulation of one. Time is `anyio.current_time`, which is
CLOCK_MONOTONIC on a real event loop.

Here are the phases, and what keeps them safe: whatever fails is an event and ends
the drill, and reverting is a phase of its own after everything that could still break
something has ended: shielded, errors collected and not fatal. How a fault is
injected and undone is in `injections`, how people are paged in `alerts`.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterator, Sequence
from functools import partial

import anyio
import msgspec

from gameday.drills import director
from gameday.drills.alerts import Alerts
from gameday.drills.director import Begin, Command, Direction, End, FireAlert, Inject, Revert
from gameday.drills.errands import Errands
from gameday.drills.injections import Injections
from gameday.drills.monitor import Cleared, Crossed, Fired, GuardBroken, Monitor, Signal
from gameday.drills.ports import Emit, Journal, Pages, UndoBook
from gameday.injectors.errors import GamedayError
from gameday.injectors.fault import Injection
from gameday.injectors.sandbox.base import Sandbox
from gameday.scenarios.model import Scenario
from gameday.scoring import events

__all__ = ["Runner", "Stage", "each_error"]

VERIFY_TIMEOUT = 10.0
"""Seconds that the steady state has to hold again after everything was put back."""
UNDO_AGAIN = (0.3, 1.0)
"""Seconds before each further round over what could not be undone; then the watchdog goes on."""
_UNDO_PATIENCE = 5.0
"""Seconds of undoing after which no further round is begun here."""
HURRIED_VERIFY = 3.0
"""As `VERIFY_TIMEOUT`, where somebody asked to stop and waits, or something is not put back."""


async def _all_well() -> str:
    return ""


class Stage(msgspec.Struct):
    """Everything that the runner acts through.

    Attributes:
        watchers: Coroutines that run beside the drill until its end (probes, load, the
            watchdog's heartbeat), by name; one that fails aborts the drill.
        actors: Coroutines that act in the drill (the inbox, scripted fixers); they end before
            anything is put back.
        keep_off: Told which CPUs faults burn now, so that we do not measure from there.
        allow: Passes what an entry of ``faults`` is about to hit, or raises; says what has changed
            since the plan was made.
    """

    box: Sandbox
    journal: Journal
    undo: UndoBook
    pages: Pages
    watchers: dict[str, Callable[[Runner], Awaitable[None]]]
    actors: dict[str, Callable[[Runner], Awaitable[None]]] = msgspec.field(default_factory=dict)
    keep_off: Callable[[frozenset[int]], None] = lambda cpus: None
    allow: Callable[[int, Sequence[Injection]], Awaitable[str]] = lambda entry, planned: _all_well()
    listeners: list[Emit] = msgspec.field(default_factory=list)


class Runner:
    """One drill.

    Args:
        scenario: What is played.
        stage: What it acts through.
        seed: Chooses the targets; the same seed plans the same drill.
        zero: `anyio.current_time` at the start of the axis.
    """

    def __init__(self, scenario: Scenario, stage: Stage, *, seed: int, zero: float) -> None:
        self.scenario = scenario
        self.stage = stage
        self.zero = zero
        self.monitor = Monitor(scenario)
        self.direction = Direction(scenario)
        self.failed = False
        self.steady_after: bool | None = None
        self._reverted = False
        self._listeners = list(stage.listeners)
        self._news = anyio.Event()
        self._errands = errands = Errands(self.own_fault)
        self.alerts = Alerts(
            stage.pages,
            stage.undo,
            stage.box.ref,
            emit=self.emit,
            now=self.now,
            errands=errands,
        )
        self.injections = Injections(
            scenario.faults,
            seed=seed,
            box=stage.box,
            undo=stage.undo,
            keep_off=stage.keep_off,
            emit=self.emit,
            now=self.now,
            errands=errands,
            allow=stage.allow,
            over=lambda: self.direction.ended or bool(self.direction.abort),
        )

    def now(self) -> float:
        """Seconds since the drill's start."""
        return anyio.current_time() - self.zero

    @property
    def began(self) -> float | None:
        """When the scenario's clock started."""
        return self.direction.begun

    def emit(self, event: events.Event) -> None:
        """Journal an event, and let director, monitor and listeners know of it."""
        event = self.stage.journal.append(event)
        self.direction = director.observe(self.direction, event)
        for listener in list(self._listeners):
            self._let_know(listener, event)
        if isinstance(event, events.Sample):
            for signal in self.monitor.observe(event):
                self._act_on(signal)
        else:
            self._news.set()

    def _let_know(self, listener: Emit, event: events.Event) -> None:
        """A listener that fails is let go: nobody who looks on may hold up the undo."""
        try:
            listener(event)
        except Exception as error:
            if listener in self._listeners:
                self._listeners.remove(listener)
                self.own_fault("listener", error)

    def abort(self, by: str, why: str) -> None:
        """End the drill as soon as possible; everything is put back."""
        self.emit(events.AbortAsked(at=self.now(), by=by, why=why))

    async def run(self) -> str:
        """Play the scenario, put everything back, look whether it is well again; why it ended."""
        why = "failed"
        try:
            async with anyio.create_task_group() as watchers:
                for name, watch in self.stage.watchers.items():
                    watchers.start_soon(self._errands.carry, name, partial(watch, self))
                why = await self._play()
                with anyio.CancelScope(shield=True):
                    await self._put_back(why)
                    await self._errands.carry("verify", self._verify)
                watchers.cancel_scope.cancel()
        finally:
            # Only where the lines above did not get that far: cancelled from outside, or our bug.
            if not self._reverted:
                with anyio.CancelScope(shield=True):
                    await self._put_back("failed")
        return "failed" if self.failed else why

    def own_fault(self, where: str, error: Exception) -> None:
        """Whatever fails beside the drill is an event and ends it; it never skips the undo."""
        for each in each_error(error):
            what = str(each) if isinstance(each, GamedayError) else f"{type(each).__name__}: {each}"
            self.failed = self.failed or not isinstance(each, GamedayError)
            self.emit(events.Problem(at=self.now(), where=where, what=what))
            if not self.direction.ended and not self.direction.abort:
                self.abort("gameday", f"{where}: {what}")

    async def _play(self) -> str:
        self._phase("steadying")
        self.direction = msgspec.structs.replace(self.direction, started=self.now())
        async with self._errands.accepted():
            for name, act in self.stage.actors.items():
                self._errands.start(name, partial(act, self))
            return await self._direct()

    async def _direct(self) -> str:
        while True:
            self._news = anyio.Event()
            self.direction, commands, wakeup = director.advance(self.direction, self.now())
            if self.direction.ended:
                self._errands.close()
            for command in commands:
                if isinstance(command, End):
                    return command.why
                self._carry_out(command)
            with anyio.move_on_after(max(0.0, wakeup - self.now())):
                await self._news.wait()

    def _carry_out(self, command: Command) -> None:
        match command:
            case Begin():
                self._phase("running")
            case Inject():
                self.injections.inject(command.entry)
            case Revert():
                self.injections.revert(command.entry)
            case FireAlert():
                rule = self.scenario.alerts[command.entry]
                self.alerts.fire(rule, "synthetic", self.now(), "")
            case director.SendReport():
                report = self.scenario.reports[command.entry]
                said = events.Reported(at=self.now(), sender=report.sender, text=report.text)
                self.emit(said)
                self._errands.start("report", self.stage.pages.report, said)

    def _phase(self, phase: str, why: str = "") -> None:
        self.emit(events.PhaseBegan(at=self.now(), phase=phase, why=why))

    def _act_on(self, signal: Signal) -> None:
        match signal:
            case Crossed():
                self.emit(
                    events.SliBroke(
                        at=self.now(),
                        sli=signal.sli,
                        bounds=signal.bounds,
                        inside=signal.inside,
                        value=signal.value,
                    )
                )
            case Fired():
                rule = self.scenario.alerts[signal.entry]
                self.alerts.fire(rule, "monitoring", signal.since, signal.value)
            case Cleared():
                self.alerts.clear(self.scenario.alerts[signal.entry])
            case GuardBroken():
                waiting = self.began is not None and not self.direction.ended
                if waiting and not self.direction.abort:
                    self.abort("guard-rail", signal.why)

    async def _put_back(self, why: str) -> None:
        self._phase("reverting", why)
        began = self.now()
        await self.injections.undo_all()
        await self.alerts.resolve_all()
        for pause in UNDO_AGAIN:
            if self.injections.outstanding and self.now() - began < _UNDO_PATIENCE:
                await anyio.sleep(pause)
                await self.injections.undo_all()
        self._reverted = True

    async def _verify(self) -> None:
        """Is every target as it was, and does the steady state hold again?"""
        if not self.injections.any_armed:
            return
        self._phase("verifying")
        patience = partial(self._patience, self.now())
        await self.injections.compare(patience)
        while self.direction.steady_since is None and patience() > 0:
            self._news = anyio.Event()
            with anyio.move_on_after(patience()):
                await self._news.wait()
        self.steady_after = self.direction.steady_since is not None

    def _patience(self, began: float) -> float:
        """Seconds that are left for it; fewer once somebody asks to stop."""
        hurry = (
            self.direction.abort or self.injections.outstanding
        )  # then it is the watchdog's turn
        limit = HURRIED_VERIFY if hurry else VERIFY_TIMEOUT
        return began + limit - self.now()


def each_error(error: Exception) -> Iterator[Exception]:
    """The errors themselves, out of the groups in which task groups raise them."""
    if isinstance(error, ExceptionGroup):
        for each in error.exceptions:
            yield from each_error(each)
    else:
        yield error
