"""The director decides what happens next in a drill. It is pure.

`observe` takes in what happened; `advance` says what to do now and when to ask
again. Neither touches a clock, a file or a process, so the same drill can be
played in virtual time, thousands of times over. Times are seconds since the
drill's start, on the axis of the journal.
"""

from __future__ import annotations

import math
from random import Random

import msgspec

from gameday.scenarios.model import Scenario
from gameday.scoring.events import (
    AbortAsked,
    AlertFired,
    AlertResolved,
    Event,
    InjectCalled,
    InjectFailed,
    InjectionUndone,
    LoadStarted,
    Looked,
    Said,
    SliBroke,
)

__all__ = [
    "Begin",
    "Command",
    "Direction",
    "End",
    "FireAlert",
    "Inject",
    "Revert",
    "SendReport",
    "advance",
    "lots",
    "observe",
]

STEADY_TIMEOUT = 60.0
"""Seconds that a sandbox has to reach its steady state before the drill is called off."""
_SLACK = 1e-6
"""Seconds by which a wake-up may be early: less than any clock of ours can tell."""


def lots(seed: int, entry: int) -> Random:
    """What chooses the targets of that entry of ``faults``.

    Each entry draws its own: a plan is the same whatever runs beside it, and in a dry run.
    """
    return Random(f"{seed}/{entry}")


class Begin(msgspec.Struct, frozen=True):
    """The steady state holds: the scenario's clock starts."""


class Inject(msgspec.Struct, frozen=True):
    """Inject the fault of that entry of ``faults``."""

    entry: int


class Revert(msgspec.Struct, frozen=True):
    """Put back what that entry of ``faults`` did: its ``lasts`` is over."""

    entry: int


class FireAlert(msgspec.Struct, frozen=True):
    """Fire the synthetic alert of that entry of ``alerts``."""

    entry: int


class SendReport(msgspec.Struct, frozen=True):
    """Pass on that entry of ``reports``."""

    entry: int


class End(msgspec.Struct, frozen=True):
    """Stop, put everything back. ``why`` as in `DrillEnded`."""

    why: str


Command = Begin | Inject | Revert | FireAlert | SendReport | End


class Direction(msgspec.Struct, frozen=True):
    """What the director knows.

    Attributes:
        scenario: What is played.
        started: When the waiting for the steady state began.
        loaded: When load was first offered; None before.
        begun: When the scenario's clock started; None before.
        issued: Commands that were given; none is given twice.
        steady: By SLI: since when it is inside the steady state; None while outside or unknown.
        open_pages: Pages that fire.
        closed: When fixers last said that it is over; None if they did not, or we broke
            something or fired an alert since.
        verb: The word by which they did: ``resolve`` or ``all-clear``.
        challenged: When the last fault or synthetic alert was due.
        in_force: Injections in force.
        calm: When the last of them ended.
        abort: Who asked to stop.
        ended: The `End` was given.
    """

    scenario: Scenario
    started: float = 0.0
    loaded: float | None = None
    begun: float | None = None
    issued: frozenset[Command] = frozenset()
    steady: dict[str, float | None] = msgspec.field(default_factory=dict)
    open_pages: frozenset[str] = frozenset()
    closed: float | None = None
    verb: str = ""
    challenged: float = 0.0
    in_force: frozenset[str] = frozenset()
    calm: float = 0.0
    abort: str = ""
    ended: bool = False

    @property
    def steady_since(self) -> float | None:
        """Since when every SLI of the steady state is inside it; None if one is not."""
        since = [self.steady.get(bound.name) for bound in self.scenario.steady_bounds]
        known = [instant for instant in since if instant is not None]
        return max(known) if len(known) == len(since) else None

    @property
    def is_control(self) -> bool:
        """Is there nothing to respond to?"""
        return not (
            self.scenario.faults or any(alert.at is not None for alert in self.scenario.alerts)
        )


def observe(state: Direction, event: Event) -> Direction:
    """Take in an event of the journal."""
    match event:
        case SliBroke(bounds="steady"):
            return msgspec.structs.replace(
                state, steady=state.steady | {event.sli: event.at if event.inside else None}
            )
        case LoadStarted():
            return msgspec.structs.replace(
                state, loaded=event.at if state.loaded is None else state.loaded
            )
        case AlertFired():
            return msgspec.structs.replace(state, open_pages=state.open_pages | {event.page})
        case AlertResolved():
            return msgspec.structs.replace(state, open_pages=state.open_pages - {event.page})
        case InjectCalled():
            return msgspec.structs.replace(
                state, in_force=state.in_force | {event.injection}, closed=None
            )
        case Looked(in_force=False, took_effect=True):
            return _ended(state, event.injection, event.at)
        case InjectionUndone(outcome="put-back" | "taken-over" | "nothing") | InjectFailed():
            return _ended(state, event.injection, event.at)
        case Said(verb="resolve" | "all-clear"):
            return msgspec.structs.replace(state, closed=event.at, verb=event.verb)
        case AbortAsked():
            return msgspec.structs.replace(
                state, abort=state.abort or event.why or "no reason was given"
            )
        case _:
            return state


def _ended(state: Direction, injection: str, at: float) -> Direction:
    if injection not in state.in_force:
        return state
    return msgspec.structs.replace(
        state, in_force=state.in_force - {injection}, calm=max(state.calm, at)
    )


def advance(state: Direction, now: float) -> tuple[Direction, tuple[Command, ...], float]:
    """What to do now, and when to ask again at the latest (``inf``: when something happens)."""
    if state.ended:
        return state, (), math.inf
    if state.abort:
        return _end(state, "aborted")
    if state.begun is None:
        return _await_steady(state, now)
    return _play(state, now, state.begun)


def _end(state: Direction, why: str) -> tuple[Direction, tuple[Command, ...], float]:
    return msgspec.structs.replace(state, ended=True), (End(why),), math.inf


def _await_steady(state: Direction, now: float) -> tuple[Direction, tuple[Command, ...], float]:
    deadline, ready = state.started + STEADY_TIMEOUT, _ready_at(state)
    if ready <= now + _SLACK:
        begun = msgspec.structs.replace(state, begun=now)
        after, commands, wakeup = _play(begun, now, now)
        return after, (Begin(), *commands), wakeup
    if ready < math.inf:  # it holds, and only has to hold a while longer
        return state, (), ready
    if now >= deadline - _SLACK:
        return _end(state, "unhealthy-start")
    return state, (), deadline


def _ready_at(state: Direction) -> float:
    """When the drill may start; inf as long as the steady state does not hold.

    Under load it has to hold for the whole of ``stabilise`` with the load on: what
    breaks while users arrive is not what the scenario is about.
    """
    if state.steady_since is None:
        return math.inf
    if state.scenario.load is None:
        return state.steady_since
    if state.loaded is None:
        return math.inf
    return max(state.steady_since, state.loaded) + state.scenario.stabilise


def _play(
    state: Direction, now: float, begun: float
) -> tuple[Direction, tuple[Command, ...], float]:
    stop = begun + state.scenario.duration
    if now >= stop - _SLACK:
        return _end(state, "control-over" if state.is_control else "hard-stop")
    coming = [each for each in _schedule(state.scenario) if each[1] not in state.issued]
    due = tuple(command for at, command in coming if begun + at <= now + _SLACK)
    if due:
        state = _give(state, due, now)
    over = _over_at(state)
    if over <= now + _SLACK and not due:
        return _end(state, "all-clear" if state.verb == "all-clear" else "resolved")
    later = [begun + at for at, command in coming if command not in due]
    return state, due, max(now, min(stop, over, *later))


def _give(state: Direction, due: tuple[Command, ...], now: float) -> Direction:
    """Note what is told to do. Whoever said that it is over did not mean what comes now."""
    state = msgspec.structs.replace(state, issued=state.issued | frozenset(due))
    if any(isinstance(command, Inject | FireAlert) for command in due):
        return msgspec.structs.replace(state, challenged=now, closed=None)
    return state


def _schedule(scenario: Scenario) -> list[tuple[float, Command]]:
    """Everything that the scenario plans, in order of time."""
    plan: list[tuple[float, Command]] = []
    for index, fault in enumerate(scenario.faults):
        plan.append((fault.at, Inject(index)))
        if fault.lasts is not None:
            plan.append((fault.at + fault.lasts, Revert(index)))
    for index, alert in enumerate(scenario.alerts):
        if alert.at is not None:
            plan.append((alert.at, FireAlert(index)))
    plan += [(report.at, SendReport(index)) for index, report in enumerate(scenario.reports)]
    return sorted(plan, key=lambda item: item[0])


def _over_at(state: Direction) -> float:
    """When the drill is over because the fixers said so and the SLIs agree; inf if it is not.

    Nothing that challenges them may still be planned, and the steady state has
    to hold for the whole of ``stabilise`` after the last fault began or ended: only
    then can scoring say that it was restored, and not by us. A fault that is in
    force still does not hold up the end: they may have found a way round it.
    """
    since = state.steady_since
    if state.closed is None or since is None:
        return math.inf
    planned = {c for _, c in _schedule(state.scenario) if isinstance(c, Inject | FireAlert)}
    if planned - state.issued:
        return math.inf
    calm = max(since, state.calm, state.challenged, state.begun or 0.0)
    return max(calm + state.scenario.stabilise, state.closed)
