"""The runner carries out what the director decides, and always puts everything back.

It works on ports (`Stage`): the sandbox, the journal, the undo log, pages,
probes, the inbox. With the real ones it is a drill; with the fake sandbox and a
virtual clock it is a simulation of one. Time is `anyio.current_time`, which is
CLOCK_MONOTONIC on a real event loop.

The order of safety, for each injection: plan, arm (fsync), inject, look,
journal. Reverting is a phase of its own after everything that could still break
something has ended: newest first, shielded, errors collected and not fatal.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import aclosing
from dataclasses import dataclass, field
from random import Random
from typing import Any, Protocol

import anyio
import anyio.abc

from gameday.drills import director
from gameday.drills.director import Begin, Command, Direction, End, FireAlert, Inject, Revert
from gameday.drills.monitor import Cleared, Crossed, Fired, GuardBroken, Monitor, Signal
from gameday.injectors.errors import GamedayError
from gameday.injectors.fault import Evidence, Fault, Injection
from gameday.injectors.sandbox.base import Sandbox
from gameday.injectors.undo import Armed, Outcome, ResolvePage, Undone
from gameday.scenarios.model import AlertRule, Scenario
from gameday.scoring import events

__all__ = ["Clock", "Journal", "Pages", "Runner", "Stage", "UndoBook"]

Emit = Callable[[events.Event], None]

EFFECT_TIMEOUT = 5.0
"""Seconds in which an injection must be seen to take effect; after that it is looked at still."""
FIRST_LOOK, LOOK_EVERY = 0.005, 0.2
VERIFY_TIMEOUT = 10.0
"""Seconds that the steady state has to hold again after everything was put back."""
HURRIED_VERIFY = 3.0
"""As `VERIFY_TIMEOUT`, where somebody asked to stop and waits."""


class Journal(Protocol):
    """Where events go."""

    def append(self, event: events.Event) -> events.Event:
        """Number and stamp the event, and write it (soon)."""
        ...

    async def sync(self) -> None:
        """Return when everything so far is on disk."""
        ...


class UndoBook(Protocol):
    """Where undo steps are armed before anything is changed."""

    async def arm(self, record: Armed) -> None:
        """Return when the record is on disk; raise if it cannot be written."""
        ...

    async def undone(self, record: Undone) -> None:
        """Note that an armed change was undone."""
        ...

    async def undo(self, record: Armed, box: Sandbox) -> Undone:
        """Run the record's steps, with a time limit and retries; never raises for a failed step."""
        ...


class Pages(Protocol):
    """What tells people."""

    @property
    def channels(self) -> tuple[str, ...]:
        """Names of the channels that a page goes to."""
        ...

    async def fire(self, page: str, rule: AlertRule, value: str, emit: Emit) -> None:
        """Deliver the page on every channel, emitting what became of it."""
        ...

    async def resolve(self, page: str, rule: AlertRule, why: str) -> Undone:
        """Tell every channel that took the page that it is over. Never raises for a channel."""
        ...

    async def report(self, report: events.Reported) -> None:
        """Pass on a customer's report or a stakeholder's question."""
        ...


class Clock(Protocol):
    """Wall-clock time, for display only."""

    def __call__(self) -> float: ...


@dataclass(slots=True)
class Stage:
    """Everything that the runner acts through.

    Attributes:
        watchers: Coroutines that run beside the drill until its end (probes, load, the
            watchdog's heartbeat), by name; one that fails aborts the drill.
        actors: Coroutines that act in the drill (the inbox, scripted fixers); they end before
            anything is put back.
        keep_off: Told which CPUs a fault burns, so that we do not measure from there.
    """

    box: Sandbox
    journal: Journal
    undo: UndoBook
    pages: Pages
    watchers: dict[str, Callable[[Runner], Awaitable[None]]]
    actors: dict[str, Callable[[Runner], Awaitable[None]]] = field(default_factory=dict)
    keep_off: Callable[[frozenset[int]], None] = lambda cpus: None
    listeners: list[Emit] = field(default_factory=list)


@dataclass(slots=True)
class _Live:
    """An injection that was armed and not yet undone."""

    fault: Fault
    injection: Injection
    record: Armed
    entry: int
    before: Mapping[str, str]
    took_effect: bool = False
    undone: bool = False


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
        self.rng = Random(seed)
        self.monitor = Monitor(scenario)
        self.direction = Direction(scenario)
        self.open_pages: dict[str, tuple[AlertRule, Armed]] = {}
        self.failed = False
        self.steady_after: bool | None = None
        self._live: list[_Live] = []
        self._news = anyio.Event()
        self._pages = 0
        self._actors: anyio.abc.TaskGroup | None = None

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
        for listener in self.stage.listeners:
            listener(event)
        if isinstance(event, events.Sample):
            for signal in self.monitor.observe(event):
                self._act_on(signal)
        else:
            self._wake()

    def abort(self, by: str, why: str) -> None:
        """End the drill as soon as possible; everything is put back."""
        self.emit(events.AbortAsked(at=self.now(), by=by, why=why))

    async def run(self) -> str:
        """Play the scenario, put everything back, look whether it is well again; why it ended."""
        why = "failed"
        try:
            async with anyio.create_task_group() as watchers:
                for name, watch in self.stage.watchers.items():
                    watchers.start_soon(self._guarded, name, watch)
                why = await self._play()
                with anyio.CancelScope(shield=True):
                    await self._put_back(why)
                    await self._verify()
                watchers.cancel_scope.cancel()
        finally:
            # Only where the lines above did not get that far: cancelled from outside, or our bug.
            if any(not live.undone for live in self._live) or self.open_pages:
                with anyio.CancelScope(shield=True):
                    await self._put_back("failed")
        return "failed" if self.failed else why

    def _wake(self) -> None:
        self._news.set()

    async def _guarded(self, name: str, work: Callable[[Runner], Awaitable[None]]) -> None:
        """Whatever fails beside the drill is an event and ends it; it never skips the undo."""
        try:
            await work(self)
        except Exception as error:
            self._own_fault(name, error)

    def _own_fault(self, where: str, error: Exception) -> None:
        what = str(error) if isinstance(error, GamedayError) else f"{type(error).__name__}: {error}"
        self.failed = self.failed or not isinstance(error, GamedayError)
        self.emit(events.Problem(at=self.now(), where=where, what=what))
        self.abort("gameday", f"{where}: {what}")

    async def _play(self) -> str:
        self._phase("steadying")
        self.direction = Direction(self.scenario, started=self.now(), steady=self.direction.steady)
        async with anyio.create_task_group() as self._actors:
            for name, act in self.stage.actors.items():
                self._actors.start_soon(self._guarded, name, act)
            why = await self._direct()
            self._actors.cancel_scope.cancel()
        return why

    async def _direct(self) -> str:
        while True:
            self._news = anyio.Event()
            self.direction, commands, wakeup = director.advance(self.direction, self.now())
            for command in commands:
                if isinstance(command, End):
                    return command.why
                self._carry_out(command)
            with anyio.move_on_after(max(0.0, wakeup - self.now())):
                await self._news.wait()

    def _carry_out(self, command: Command) -> None:
        assert self._actors is not None
        match command:
            case Begin():
                self._phase("running")
            case Inject():
                self._actors.start_soon(self._inject, command.entry)
            case Revert():
                self._actors.start_soon(self._revert_entry, command.entry)
            case FireAlert():
                self._page(self.scenario.alerts[command.entry], "synthetic", self.now(), "")
            case director.SendReport():
                report = self.scenario.reports[command.entry]
                said = events.Reported(at=self.now(), sender=report.sender, text=report.text)
                self.emit(said)
                self._actors.start_soon(self.stage.pages.report, said)

    def _phase(self, phase: str, why: str = "") -> None:
        self.emit(events.PhaseBegan(at=self.now(), phase=phase, why=why))

    # Alerts

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
                if self._actors is not None and not self.direction.ended:
                    rule = self.scenario.alerts[signal.entry]
                    self._page(rule, "monitoring", signal.since, signal.value)
            case Cleared():
                for page, (rule, _) in list(self.open_pages.items()):
                    if rule is self.scenario.alerts[signal.entry] and self._actors is not None:
                        self._actors.start_soon(self._resolve, page, "monitoring")
            case GuardBroken():
                if self.began is not None and not self.direction.abort:
                    self.abort("guard-rail", signal.why)

    def _page(self, rule: AlertRule, source: str, since: float, value: str) -> None:
        assert self._actors is not None
        self._pages += 1
        page = f"{rule.name}-{self._pages}"
        self._actors.start_soon(self._fire, page, rule, source, since, value)

    async def _fire(
        self, page: str, rule: AlertRule, source: str, since: float, value: str
    ) -> None:
        fired = self.now()
        step = ResolvePage(page=page, alert=rule.name, channels=self.stage.pages.channels)
        record = Armed(
            id=page, what=f"the alert {rule.name}", sandbox=self.stage.box.ref, steps=(step,)
        )
        try:
            await self.stage.undo.arm(record)
            self.open_pages[page] = (rule, record)
            self.emit(
                events.AlertFired(
                    at=fired,
                    page=page,
                    alert=rule.name,
                    tier=rule.tier,
                    source=source,
                    summary=rule.summary,
                    since=since,
                    value=value,
                )
            )
            await self.stage.pages.fire(page, rule, value, self.emit)
        except Exception as error:
            self._own_fault("alert", error)

    async def _resolve(self, page: str, by: str) -> None:
        entry = self.open_pages.pop(page, None)
        if entry is None:
            return
        rule, _ = entry
        with anyio.CancelScope(shield=True):
            self.emit(events.AlertResolved(at=self.now(), page=page, by=by))
            await self.stage.undo.undone(await self.stage.pages.resolve(page, rule, by))

    # Faults

    async def _inject(self, entry: int) -> None:
        fault = self.scenario.faults[entry].breaks
        try:
            planned = await fault.plan(self.stage.box, self.rng)
            async with anyio.create_task_group() as together:
                for injection in planned:
                    together.start_soon(self._inject_one, fault, injection, entry)
        except Exception as error:
            self._own_fault(f"fault {fault.kind}", error)

    async def _inject_one(self, fault: Fault, injection: Injection, entry: int) -> None:
        box = self.stage.box
        before = await box.fingerprint(injection.target)
        record = Armed(
            id=injection.id,
            what=f"{injection.fault} on {injection.target}",
            sandbox=box.ref,
            steps=injection.undo,
        )
        live = _Live(fault, injection, record, entry, before)
        self._live.append(live)
        await self.stage.undo.arm(record)
        self.emit(events.InjectionArmed(at=self.now(), injection=injection, entry=entry))
        called = self.now()
        self.emit(events.InjectCalled(at=called, injection=injection.id))
        try:
            await fault.inject(box, injection)
        except GamedayError as error:
            failure = events.InjectFailed(at=self.now(), injection=injection.id, error=str(error))
            self.emit(failure)
            return
        assert self._actors is not None
        self._actors.start_soon(self._follow, live, called)

    async def _follow(self, live: _Live, called: float) -> None:
        """Look at the target until the fault is over, noting what each look adds."""
        try:
            await self._look_on(live, called)
        except Exception as error:
            self._own_fault(f"look at {live.injection.target}", error)

    async def _look_on(self, live: _Live, called: float) -> None:
        previous, pause, in_force = called, FIRST_LOOK, False
        while not live.undone:
            asked = self.now()
            evidence = await live.fault.look(self.stage.box, live.injection)
            news = evidence.took_effect and not live.took_effect
            over = live.took_effect and in_force and not evidence.in_force
            if news or over or (live.took_effect and evidence.in_force != in_force):
                live.took_effect = True
                self._looked(live, evidence, previous)
            in_force = evidence.in_force
            if live.took_effect and not in_force:
                return
            if self.now() - called > EFFECT_TIMEOUT and not live.took_effect:
                self._looked(live, evidence, previous)
                called = float("inf")
            previous = asked
            await anyio.sleep(pause)
            pause = min(LOOK_EVERY, pause * 2)

    def _looked(self, live: _Live, evidence: Evidence, previous: float) -> None:
        if live.took_effect:
            self.stage.keep_off(burnt_cpus(live.injection))
        self.emit(
            events.Looked(
                at=self.now(),
                injection=live.injection.id,
                took_effect=live.took_effect,
                in_force=evidence.in_force,
                seen=evidence.seen,
                previous=previous,
            )
        )

    async def _revert_entry(self, entry: int) -> None:
        with anyio.CancelScope(shield=True):
            for live in reversed([live for live in self._live if live.entry == entry]):
                await self._undo(live)

    # Putting back

    async def _put_back(self, why: str) -> None:
        self._phase("reverting", why)
        for live in reversed(self._live):
            await self._undo(live)
        for page in reversed(list(self.open_pages)):
            await self._resolve(page, "gameday")

    async def _undo(self, live: _Live) -> None:
        if live.undone:
            return
        live.undone = True
        called = self.now()
        result = await self.stage.undo.undo(live.record, self.stage.box)
        if result.outcome is not Outcome.FAILED:
            result = await self._confirm(live, result)
        self.emit(
            events.InjectionUndone(
                at=self.now(),
                injection=live.injection.id,
                outcome=result.outcome.value,
                called=called,
                detail=result.detail,
                by=result.by,
            )
        )
        if result.outcome is not Outcome.FAILED:
            await self.stage.undo.undone(result)

    async def _confirm(self, live: _Live, result: Undone) -> Undone:
        """The undo counts when a look shows that the fault is no longer in force."""
        evidence = None
        with anyio.move_on_after(EFFECT_TIMEOUT):
            pause = FIRST_LOOK
            while True:
                try:
                    evidence = await live.fault.look(self.stage.box, live.injection)
                except GamedayError as error:
                    return _failed(result, str(error))
                if not evidence.in_force:
                    return result
                await anyio.sleep(pause)
                pause = min(LOOK_EVERY, pause * 2)
        return _failed(
            result, f"still in force: {evidence.seen if evidence else 'no look succeeded'}"
        )

    async def _verify(self) -> None:
        """Is every target as it was, and does the steady state hold again?"""
        touched = [live for live in self._live if live.undone]
        if not touched:
            return
        self._phase("verifying")
        patience = HURRIED_VERIFY if self.direction.abort else VERIFY_TIMEOUT
        deadline = self.now() + patience
        for live in touched:
            difference = await self._difference(live, deadline)
            self.emit(
                events.TargetChecked(
                    at=self.now(),
                    injection=live.injection.id,
                    equal=not difference,
                    detail=difference,
                )
            )
        with anyio.move_on_after(max(0.0, deadline - self.now())):
            while self.direction.steady_since is None:
                self._news = anyio.Event()
                await self._news.wait()
        self.steady_after = self.direction.steady_since is not None

    async def _difference(self, live: _Live, deadline: float) -> str:
        while True:
            try:
                after = await self.stage.box.fingerprint(live.injection.target)
            except GamedayError as error:
                return str(error)
            wrong = [
                f"{key} was {live.before.get(key, 'absent')}, is {after.get(key, 'absent')}"
                for key in sorted({*live.before, *after})
                if live.before.get(key) != after.get(key)
            ]
            if not wrong or self.now() >= deadline:
                return "; ".join(wrong)
            await anyio.sleep(0.05)


def _failed(result: Undone, detail: str) -> Undone:
    return Undone(id=result.id, outcome=Outcome.FAILED, detail=detail, by=result.by)


def burnt_cpus(injection: Injection) -> frozenset[int]:
    """The CPU that a fault pins its target to, if it does."""
    cpu: Any = injection.parameters.get("cpu")
    return frozenset([cpu]) if isinstance(cpu, int) else frozenset()


async def watch_changes(runner: Runner) -> None:
    """Journal what happens in the sandbox, as it happens."""
    stream: AsyncIterator[Any] = runner.stage.box.changes()
    async with aclosing(stream) as changes:  # type: ignore[type-var]
        async for change in changes:
            runner.emit(
                events.SandboxChanged(
                    at=change.at - runner.zero,
                    action=change.action,
                    slot=change.slot,
                    by=change.by,
                    detail=change.detail,
                )
            )
