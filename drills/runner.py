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

from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Mapping
from contextlib import aclosing
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any, Protocol, TypeVarTuple

import anyio
import anyio.abc
import anyio.lowlevel

from gameday.drills import director
from gameday.drills.director import Begin, Command, Direction, End, FireAlert, Inject, Revert
from gameday.drills.monitor import Cleared, Crossed, Fired, GuardBroken, Monitor, Signal
from gameday.injectors.errors import GamedayError, SandboxGone
from gameday.injectors.fault import Evidence, Fault, Injection
from gameday.injectors.sandbox.base import Sandbox
from gameday.injectors.undo import Armed, Outcome, ResolvePage, Undone
from gameday.scenarios.model import AlertRule, Scenario
from gameday.scoring import events

__all__ = ["Clock", "Journal", "Pages", "Runner", "Stage", "UndoBook"]

Emit = Callable[[events.Event], None]
_Arguments = TypeVarTuple("_Arguments")

EFFECT_TIMEOUT = 5.0
"""Seconds in which an injection must be seen to take effect; after that it is looked at still."""
FIRST_LOOK, LOOK_EVERY = 0.005, 0.2
VERIFY_TIMEOUT = 10.0
"""Seconds that the steady state has to hold again after everything was put back."""
HURRIED_VERIFY = 3.0
"""As `VERIFY_TIMEOUT`, where somebody asked to stop and waits."""
CPU_LIMIT = 2.0
"""Seconds for asking which CPUs burn."""
RESOLVE_LIMIT = 12.0
"""Seconds for telling every channel that a page is over; after that it stays outstanding."""


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
        keep_off: Told which CPUs faults burn now, so that we do not measure from there.
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
    undoing: bool = False
    ended: bool = False

    @property
    def name(self) -> str:
        return f"{self.injection.fault} on {self.injection.target}"


@dataclass(slots=True)
class _Breaking:
    """An entry of ``faults`` that is being injected: whoever takes it back waits for its end."""

    scope: anyio.CancelScope = field(default_factory=anyio.CancelScope)
    over: anyio.Event = field(default_factory=anyio.Event)


@dataclass(slots=True)
class _Page:
    """A page that fires. ``fired``: it is armed and journalled, or never will be."""

    rule: AlertRule
    armed: bool = False
    told: bool = False
    fired: anyio.Event = field(default_factory=anyio.Event)


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
        self.seed = seed
        self.monitor = Monitor(scenario)
        self.direction = Direction(scenario)
        self.open_pages: dict[str, _Page] = {}
        self.failed = False
        self._reverted = False
        self.steady_after: bool | None = None
        self._live: list[_Live] = []
        self._breaking: dict[int, _Breaking] = {}
        self._aiming: dict[str, anyio.Lock] = {}
        self._listeners = list(stage.listeners)
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
        for listener in list(self._listeners):
            self._let_know(listener, event)
        if isinstance(event, events.Sample):
            for signal in self.monitor.observe(event):
                self._act_on(signal)
        else:
            self._wake()

    def _let_know(self, listener: Emit, event: events.Event) -> None:
        """A listener that fails is let go: nobody who looks on may hold up the undo."""
        try:
            listener(event)
        except Exception as error:
            if listener in self._listeners:
                self._listeners.remove(listener)
                self._own_fault("listener", error)

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
                    await self._carry("verify", self._verify)
                watchers.cancel_scope.cancel()
        finally:
            # Only where the lines above did not get that far: cancelled from outside, or our bug.
            if not self._reverted:
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
        for each in _single(error):
            what = str(each) if isinstance(each, GamedayError) else f"{type(each).__name__}: {each}"
            self.failed = self.failed or not isinstance(each, GamedayError)
            self.emit(events.Problem(at=self.now(), where=where, what=what))
            if not self.direction.ended and not self.direction.abort:
                self.abort("gameday", f"{where}: {what}")

    async def _play(self) -> str:
        self._phase("steadying")
        self.direction = replace(self.direction, started=self.now())
        try:
            async with anyio.create_task_group() as self._actors:
                for name, act in self.stage.actors.items():
                    self._actors.start_soon(self._guarded, name, act)
                why = await self._direct()
                self._actors.cancel_scope.cancel()
        finally:
            self._actors = None
        return why

    def _start(
        self,
        where: str,
        act: Callable[[*_Arguments], Awaitable[None]],
        *given: *_Arguments,
    ) -> None:
        """Do something beside the rest, as long as the drill is played."""
        if self._actors is not None and not self.direction.ended:
            self._actors.start_soon(self._carry, where, partial(act, *given))

    async def _carry(self, where: str, act: Callable[[], Awaitable[None]]) -> None:
        try:
            await act()
        except Exception as error:
            self._own_fault(where, error)

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
        match command:
            case Begin():
                self._phase("running")
            case Inject():
                self._breaking[command.entry] = _Breaking()
                self._start(self._kind(command.entry), self._inject, command.entry)
            case Revert():
                self._start(self._kind(command.entry), self._revert_entry, command.entry)
            case FireAlert():
                self._page(self.scenario.alerts[command.entry], "synthetic", self.now(), "")
            case director.SendReport():
                report = self.scenario.reports[command.entry]
                said = events.Reported(at=self.now(), sender=report.sender, text=report.text)
                self.emit(said)
                self._start("report", self.stage.pages.report, said)

    def _kind(self, entry: int) -> str:
        return f"fault {self.scenario.faults[entry].breaks.kind}"

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
                rule = self.scenario.alerts[signal.entry]
                self._page(rule, "monitoring", signal.since, signal.value)
            case Cleared():
                for page, entry in list(self.open_pages.items()):
                    if entry.rule is self.scenario.alerts[signal.entry] and not entry.told:
                        self._start("alert", self._resolve, page, "monitoring")
            case GuardBroken():
                waiting = self.began is not None and not self.direction.ended
                if waiting and not self.direction.abort:
                    self.abort("guard-rail", signal.why)

    def _page(self, rule: AlertRule, source: str, since: float, value: str) -> None:
        if self._actors is None or self.direction.ended:
            return
        self._pages += 1
        page = f"{rule.name}-{self._pages}"
        # Known at once: what clears while the page is being armed resolves this very page.
        self.open_pages[page] = _Page(rule)
        fired = events.AlertFired(
            at=self.now(),
            page=page,
            alert=rule.name,
            tier=rule.tier,
            source=source,
            summary=rule.summary,
            since=since,
            value=value,
        )
        self._start("alert", self._fire, fired)

    async def _fire(self, fired: events.AlertFired) -> None:
        entry = self.open_pages[fired.page]
        try:
            await self._arm_page(fired, entry)
        finally:
            if not entry.armed:
                self.open_pages.pop(fired.page, None)
            entry.fired.set()
        await self.stage.pages.fire(fired.page, entry.rule, fired.value, self.emit)

    async def _arm_page(self, fired: events.AlertFired, entry: _Page) -> None:
        step = ResolvePage(page=fired.page, alert=fired.alert, channels=self.stage.pages.channels)
        record = Armed(
            id=fired.page,
            what=f"the alert {fired.alert}",
            sandbox=self.stage.box.ref,
            steps=(step,),
        )
        with anyio.CancelScope(shield=True):
            await self.stage.undo.arm(record)
            if self.direction.ended:
                await self.stage.undo.undone(Undone(fired.page, Outcome.NOTHING, "never sent"))
                return
            entry.armed = True
            self.emit(fired)

    async def _resolve(self, page: str, by: str) -> None:
        """Tell every channel that it is over; what did not take it is told again at the end."""
        entry = self.open_pages.get(page)
        if entry is None:
            return
        await entry.fired.wait()
        if not entry.armed:
            return
        if not entry.told:
            entry.told = True
            self.emit(events.AlertResolved(at=self.now(), page=page, by=by))
        result = Undone(page, Outcome.FAILED, f"not resolved within {RESOLVE_LIMIT:g} s")
        with anyio.move_on_after(RESOLVE_LIMIT):
            result = await self.stage.pages.resolve(page, entry.rule, by)
        if result.outcome is Outcome.FAILED:
            what = f"{entry.rule.name} is not resolved everywhere: {result.detail}"
            self.emit(events.Problem(at=self.now(), where="channel", what=what))
        else:
            self.open_pages.pop(page, None)
        with anyio.CancelScope(shield=True):
            await self.stage.undo.undone(result)

    # Faults

    async def _inject(self, entry: int) -> None:
        fault, breaking = self.scenario.faults[entry].breaks, self._breaking[entry]
        try:
            with breaking.scope:
                planned = await fault.plan(self.stage.box, director.lots(self.seed, entry))
                async with anyio.create_task_group() as together:
                    for injection in planned:
                        together.start_soon(self._inject_one, fault, injection, entry)
        finally:
            breaking.over.set()

    async def _inject_one(self, fault: Fault, injection: Injection, entry: int) -> None:
        live = await self._arm(fault, injection, entry)
        await anyio.lowlevel.checkpoint_if_cancelled()
        called = self.now()
        self.emit(events.InjectCalled(at=called, injection=injection.id))
        try:
            await fault.inject(self.stage.box, injection)
        except Exception as error:
            failure = events.InjectFailed(at=self.now(), injection=injection.id, error=str(error))
            self.emit(failure)
            if isinstance(error, GamedayError):
                return
            raise
        self._start(f"look at {injection.target}", self._look_on, live, called)

    async def _arm(self, fault: Fault, injection: Injection, entry: int) -> _Live:
        """Put the undo on disk; armed and journalled is one thing, whatever is cancelled."""
        box = self.stage.box
        async with self._aiming.setdefault(injection.target, anyio.Lock()):
            before = await self._before(injection.target)
            record = Armed(
                id=injection.id,
                what=f"{injection.fault} on {injection.target}",
                sandbox=box.ref,
                steps=injection.undo,
            )
            with anyio.CancelScope(shield=True):
                await self.stage.undo.arm(record)
                live = _Live(fault, injection, record, entry, before)
                self._live.append(live)
                self.emit(events.InjectionArmed(at=self.now(), injection=injection, entry=entry))
        return live

    async def _before(self, target: str) -> Mapping[str, str]:
        """The target without any fault of ours: as it was before the first that is there now."""
        for live in self._live:
            if live.injection.target == target and not live.ended:
                return live.before
        return await self.stage.box.fingerprint(target)

    async def _look_on(self, live: _Live, called: float) -> None:
        """Look at the target until the fault is over, noting what each look adds."""
        previous, pause, in_force = called, FIRST_LOOK, False
        while True:
            asked = self.now()
            evidence = await live.fault.look(self.stage.box, live.injection)
            if live.undoing:
                return
            news = evidence.took_effect and not live.took_effect
            if news or (live.took_effect and evidence.in_force != in_force):
                live.took_effect = True
                self._looked(live, evidence, previous)
                await self._mind_cpus(live)
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

    async def _mind_cpus(self, live: _Live) -> None:
        """Who measures keeps off the CPUs that burn, and gets them back."""
        if "cpu" not in live.fault.needs:
            return
        try:
            with anyio.move_on_after(CPU_LIMIT):
                self.stage.keep_off(frozenset(await self.stage.box.cpu.burning()))
        except (GamedayError, OSError) as error:
            self.emit(events.Problem(at=self.now(), where="cpu", what=str(error)))

    async def _revert_entry(self, entry: int) -> None:
        """Take one fault back before the end. What is still being injected is stopped first."""
        breaking = self._breaking[entry]
        breaking.scope.cancel()
        with anyio.CancelScope(shield=True):
            await breaking.over.wait()
            for live in reversed([live for live in self._live if live.entry == entry]):
                await self._undo(live)

    # Putting back

    async def _put_back(self, why: str) -> None:
        self._phase("reverting", why)
        for live in reversed(self._live):
            await self._undo(live)
        async with anyio.create_task_group() as together:
            for page in reversed(list(self.open_pages)):
                together.start_soon(self._carry, "alert", partial(self._resolve, page, "gameday"))
        self.open_pages.clear()  # what is not resolved by now is in the undo log
        self._reverted = True

    async def _undo(self, live: _Live) -> None:
        """Undo one injection; one that failed before is tried again. Never raises."""
        if live.ended:
            return
        live.undoing = True
        called = self.now()
        result = await self._undone(live)
        live.ended = result.outcome is not Outcome.FAILED
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
        await self._carry("undo log", partial(self.stage.undo.undone, result))
        await self._mind_cpus(live)

    async def _undone(self, live: _Live) -> Undone:
        """Run the steps, and look. Whatever goes wrong is a verdict; the next one is still undone."""
        try:
            result = await self.stage.undo.undo(live.record, self.stage.box)
            return result if result.outcome is Outcome.FAILED else await self._confirm(live, result)
        except Exception as error:
            what = f"{type(error).__name__}: {error}"
            self._own_fault(f"undo of {live.name}", error)
            return Undone(live.injection.id, Outcome.FAILED, what)

    async def _confirm(self, live: _Live, result: Undone) -> Undone:
        """The undo counts when a look shows that the fault is no longer in force."""
        seen, pause = "no look succeeded", FIRST_LOOK
        with anyio.move_on_after(EFFECT_TIMEOUT):
            while True:
                try:
                    evidence = await live.fault.look(self.stage.box, live.injection)
                except SandboxGone:
                    return result  # and the fault with it
                except GamedayError as error:
                    seen = error.message
                else:
                    if not evidence.in_force:
                        return result
                    seen = f"still in force: {evidence.seen}"
                await anyio.sleep(pause)
                pause = min(LOOK_EVERY, pause * 2)
        return _failed(result, seen)

    async def _verify(self) -> None:
        """Is every target as it was, and does the steady state hold again?"""
        if not self._live:
            return
        self._phase("verifying")
        began = self.now()
        for live in self._live:
            difference = await self._difference(live, began)
            self.emit(
                events.TargetChecked(
                    at=self.now(),
                    injection=live.injection.id,
                    equal=not difference,
                    detail=difference,
                )
            )
        while self.direction.steady_since is None and self._patience(began) > 0:
            self._news = anyio.Event()
            with anyio.move_on_after(self._patience(began)):
                await self._news.wait()
        self.steady_after = self.direction.steady_since is not None

    def _patience(self, began: float) -> float:
        """Seconds that are left for it; fewer once somebody asks to stop."""
        limit = HURRIED_VERIFY if self.direction.abort else VERIFY_TIMEOUT
        return began + limit - self.now()

    async def _difference(self, live: _Live, began: float) -> str:
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
            if not wrong or self._patience(began) <= 0:
                return "; ".join(wrong)
            await anyio.sleep(0.05)


def _failed(result: Undone, detail: str) -> Undone:
    return Undone(id=result.id, outcome=Outcome.FAILED, detail=detail, by=result.by)


def _single(error: Exception) -> Iterator[Exception]:
    """The errors themselves, out of the groups in which task groups raise them."""
    if isinstance(error, ExceptionGroup):
        for each in error.exceptions:
            yield from _single(each)
    else:
        yield error


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
