"""A journal, read once and put in order for scoring: nothing here is a judgement yet.

Total: any sequence of valid events gives facts, also a journal cut off anywhere.
"""

from __future__ import annotations

from collections.abc import Sequence

import msgspec

from gameday.injectors.fault import Injection
from gameday.scenarios.model import Scenario
from gameday.scoring.events import (
    AbortAsked,
    AlertDelivered,
    AlertFailed,
    AlertFired,
    AlertResolved,
    DrillEnded,
    DrillStarted,
    Event,
    InjectCalled,
    InjectFailed,
    InjectionArmed,
    InjectionUndone,
    LoadBucket,
    Looked,
    PhaseBegan,
    Problem,
    Reported,
    Said,
    Sample,
    SandboxChanged,
    Suspended,
    TargetChecked,
    why_not_started,
)
from gameday.scoring.instants import Cut, instant
from gameday.scoring.samples import Track
from gameday.scoring.score import InjectionScore, Instant

__all__ = ["AlertFacts", "Facts", "InjectionFacts", "is_responder", "read"]

_Told = InjectCalled | InjectFailed | Looked | InjectionUndone | TargetChecked
_NOT_RESPONDING = frozenset({"observer", "facilitator", "breaker", "customer", "gameday"})
_NOBODY = frozenset({"", "gameday", "sandbox", "breaker"})
_CUT_REASONS = {
    "hard-stop": "the hard stop",
    "aborted": "the abort",
    "resolved": "the drill's end",
    "all-clear": "the drill's end",
    "control-over": "the drill's end",
    "unhealthy-start": "the unhealthy start",
    "refused": "the refusal",
    "failed": "a fault of Gameday's own",
    "died": "the end of the journal",
}


def is_responder(said: Said) -> bool:
    """Did somebody who responds say it? Observers and the breakers do not."""
    return said.role not in _NOT_RESPONDING


class InjectionFacts(msgspec.Struct):
    """All that the journal says of one injection."""

    injection: Injection
    entry: int
    called: float | None = None
    failed: str = ""
    took_effect: Instant | None = None
    gone: Instant | None = None
    seen: str = ""
    undone: InjectionUndone | None = None
    checked: TargetChecked | None = None

    @property
    def ended(self) -> Instant | None:
        """When it was out of force; None if it never was seen to be, or never took effect."""
        if self.took_effect is None:
            return None
        if self.gone is not None:
            return self.gone
        if self.undone is None or self.undone.outcome == "failed":
            return None
        low = self.took_effect.low if self.undone.outcome == "taken-over" else self.undone.called
        return instant(min(low, self.undone.at), self.undone.at, self.undone.by)

    def look(self, event: Looked) -> None:
        """Take in a look; that a fault took effect is never unlearnt."""
        self.seen = event.seen or self.seen
        # A look knows only that something changed since the look before it.
        since = max(event.previous, self.called if self.called is not None else event.previous)
        if event.took_effect and self.took_effect is None:
            self.took_effect = instant(min(since, event.at), event.at)
        if event.in_force:
            self.gone = None
        elif self.took_effect is not None and self.gone is None:
            self.gone = instant(min(since, event.at), event.at)

    def in_force(self, at: float) -> bool:
        """Is it certain that it was in force then?"""
        return (
            self.took_effect is not None
            and self.took_effect.high <= at
            and (self.ended is None or at < self.ended.low)
        )

    def may_act(self, low: float, high: float) -> bool:
        """May it have been in force somewhere in ``[low, high]``?"""
        if self.called is None or self.took_effect is None or self.called > high:
            return False
        return self.ended is None or self.ended.high >= low

    def put_back_by_us(self, before: float) -> float | None:
        """When we took it back ourselves, in force, earlier than ``before``; None if we did not."""
        undone = self.undone
        if undone is None or undone.outcome != "put-back" or undone.called >= before:
            return None
        if self.gone is not None and self.gone.high <= undone.called:
            return None
        return undone.called

    @property
    def _detail(self) -> str:
        if self.undone is not None and self.undone.outcome == "failed" and self.undone.detail:
            return self.undone.detail  # with the way to do it by hand
        checked = self.checked.detail if self.checked and not self.checked.equal else ""
        return checked or (self.undone.detail if self.undone else "") or self.failed

    def scored(self) -> InjectionScore:
        """For the score."""
        undone = self.undone
        return InjectionScore(
            id=self.injection.id,
            fault=self.injection.fault,
            target=self.injection.target,
            called=self.called,
            took_effect=self.took_effect,
            ended=self.ended,
            how=undone.outcome if undone else ("unknown" if self.called is not None else "nothing"),
            by=undone.by if undone else "",
            seen=self.seen,
            detail=self._detail,
            healthy=self.checked is None or self.checked.equal,
        )


class AlertFacts(msgspec.Struct):
    """One firing of one alert."""

    fired: AlertFired
    delivered: float | None = None
    resolved: float | None = None
    resolved_by: str = ""
    failed_channels: list[str] = msgspec.field(default_factory=list)
    acknowledged: float | None = None

    @property
    def instant(self) -> Instant:
        """When it fired: not before the deciding sample was sent."""
        event = self.fired
        low = event.since if 0 < event.since <= event.at else event.at
        return instant(low, event.at, event.source)

    def open_at(self, at: float) -> bool:
        """Does it fire then?"""
        return self.fired.at <= at and (self.resolved is None or at < self.resolved)


class Facts(msgspec.Struct):
    """What happened.

    Attributes:
        begun: When the scenario's clock started.
        reverting: When we began to put things back.
        cut: Where observation ended: what is open then is censored.
        sequence: ``seq`` of the events that findings quote, by what they are.
    """

    scenario: Scenario
    tracks: dict[str, Track] = msgspec.field(default_factory=dict)
    injections: dict[str, InjectionFacts] = msgspec.field(default_factory=dict)
    alerts: dict[str, AlertFacts] = msgspec.field(default_factory=dict)
    said: list[Said] = msgspec.field(default_factory=list)
    reports: list[Reported] = msgspec.field(default_factory=list)
    changes: list[SandboxChanged] = msgspec.field(default_factory=list)
    buckets: list[LoadBucket] = msgspec.field(default_factory=list)
    problems: list[Problem] = msgspec.field(default_factory=list)
    suspends: list[Suspended] = msgspec.field(default_factory=list)
    aborts: list[AbortAsked] = msgspec.field(default_factory=list)
    begun: float | None = None
    not_started: str = ""
    reverting: float | None = None
    verifying: float | None = None
    drill: DrillEnded | None = None
    control: bool = False
    end: float = 0.0
    cut: Cut = msgspec.field(default_factory=lambda: Cut(0.0, ""))

    @property
    def ended(self) -> str:
        """Why the drill ended; ``died`` if its journal just stops."""
        return self.drill.why if self.drill else "died"

    @property
    def called(self) -> list[InjectionFacts]:
        """The injections that were called, in order."""
        known = [i for i in self.injections.values() if i.called is not None]
        return sorted(known, key=lambda i: i.called or 0.0)

    @property
    def first_inject(self) -> float | None:
        """When the first injection was called."""
        return self.called[0].called if self.called else None

    def acts(self, low: float, high: float) -> list[SandboxChanged]:
        """What people, or the scripted fixer, did to the sandbox in ``[low, high]``."""
        return [c for c in self.changes if low <= c.at <= high and c.by not in _NOBODY]


def read(scenario: Scenario, events: Sequence[Event]) -> Facts:
    """Sort the events out."""
    facts = Facts(scenario)
    samples: dict[str, list[Sample]] = {name: [] for name in scenario.slis}
    for event in events:
        if isinstance(event, Sample):
            if event.sli in samples:
                samples[event.sli].append(event)
        elif isinstance(event, LoadBucket):
            facts.buckets.append(event)
        else:
            _take(facts, event)
        facts.end = max(facts.end, event.at)
    facts.tracks = {name: Track.of(name, sli, samples[name]) for name, sli in scenario.slis.items()}
    facts.not_started = why_not_started(events)
    facts.cut = _cut(facts)
    _acknowledge(facts)
    return facts


def _take(facts: Facts, event: Event) -> None:
    match event:
        case DrillStarted():
            facts.control = event.control
        case PhaseBegan(phase="running"):
            facts.begun = event.at if facts.begun is None else facts.begun
        case PhaseBegan(phase="reverting"):
            facts.reverting = event.at if facts.reverting is None else facts.reverting
        case PhaseBegan(phase="verifying"):
            facts.verifying = event.at
        case Said():
            facts.said.append(event)
        case Reported():
            facts.reports.append(event)
        case SandboxChanged():
            facts.changes.append(event)
        case Problem():
            facts.problems.append(event)
        case Suspended():
            facts.suspends.append(event)
        case AbortAsked():
            facts.aborts.append(event)
        case DrillEnded():
            facts.drill = event
        case _:
            _take_injection(facts, event)


def _take_injection(facts: Facts, event: Event) -> None:
    match event:
        case InjectionArmed():
            facts.injections.setdefault(
                event.injection.id, InjectionFacts(event.injection, event.entry)
            )
        case InjectCalled() | InjectFailed() | Looked() | InjectionUndone() | TargetChecked():
            known = facts.injections.get(event.injection)
            if known is not None:
                _tell(known, event)
        case _:
            _take_alert(facts, event)


def _tell(known: InjectionFacts, event: _Told) -> None:
    match event:
        case InjectCalled():
            known.called = event.at if known.called is None else known.called
        case InjectFailed():
            known.failed = event.error
        case Looked():
            known.look(event)
        case InjectionUndone() if known.undone is None or event.outcome != "failed":
            known.undone = event  # a failure gives way to a later success, to nothing else
        case TargetChecked():
            known.checked = event


def _take_alert(facts: Facts, event: Event) -> None:
    if isinstance(event, AlertFired):
        facts.alerts.setdefault(event.page, AlertFacts(event))
        return
    if not isinstance(event, AlertDelivered | AlertFailed | AlertResolved):
        return
    alert = facts.alerts.get(event.page)
    if alert is None:
        return
    match event:
        case AlertDelivered():
            alert.delivered = event.at if alert.delivered is None else alert.delivered
        case AlertFailed():
            alert.failed_channels.append(event.channel)
        case AlertResolved() if alert.resolved is None:
            alert.resolved, alert.resolved_by = event.at, event.by


def _cut(facts: Facts) -> Cut:
    candidates = [
        at for at in (facts.reverting, facts.drill.at if facts.drill else None) if at is not None
    ]
    at = min(candidates, default=facts.end)
    asked = [abort.at for abort in facts.aborts if abort.at <= at]
    if asked and facts.ended in ("aborted", "died", "failed"):
        at = min(asked)
    why = _CUT_REASONS.get(facts.ended, "our revert")
    if facts.ended == "died" and facts.reverting is not None:
        why = "our revert"
    return Cut(at, why, tuple(facts.suspends))


def _acknowledge(facts: Facts) -> None:
    """An acknowledgement without a page counts for every page then open; after the cut, for none."""
    acks = [
        said
        for said in facts.said
        if said.verb == "ack" and is_responder(said) and said.at <= facts.cut.at
    ]
    for ack in acks:
        for alert in facts.alerts.values():
            meant = ack.page == alert.fired.page if ack.page else alert.open_at(ack.at)
            if meant and alert.acknowledged is None and ack.at >= alert.fired.at:
                alert.acknowledged = ack.at
