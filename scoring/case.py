"""What the debrief works from: a drill's scenario, journal and score, with the questions that all sections ask of them."""

from __future__ import annotations

import bisect
import datetime
import functools
import itertools
import math
import re
from collections.abc import Iterable, Sequence
from typing import TypeVar

import msgspec

from gameday.injectors.fault import SlotTarget
from gameday.scenarios.model import AlertRule, Scenario
from gameday.scoring.events import (
    DrillEnded,
    DrillStarted,
    Event,
    InjectionArmed,
    LoadStarted,
    Noted,
    PhaseBegan,
    Reported,
    Said,
    SandboxChanged,
)
from gameday.scoring.narration import OURS
from gameday.scoring.render.figures import clock, figure, instant, single
from gameday.scoring.score import (
    Finding,
    HypothesisScore,
    Impact,
    Incident,
    InjectionScore,
    Instant,
    Score,
    State,
    Timing,
    Verdict,
)

__all__ = ["Case", "Service", "listed", "quoted", "span", "what_was_done"]

E = TypeVar("E")

_KNOWING = ("declare", "ack", "identify", "update", "mitigate", "resolve")
"""Who says this knows of something."""

_TAKEN_AWAY = {"drain": "drained", "stop": "stopped", "disconnect": "off a network"}
_PUT_BACK = {"undrain": "drained", "started": "stopped", "connect": "off a network"}
_CONSEQUENCES = ("started", "exited", "health")


_DONE = {
    "process.kill": "the process of {} was killed",
    "process.pause": "the process of {} was paused",
    "process.crashloop": "the process of {} was kept from staying up",
    "cpu.burn": "the process of {} was starved of CPU",
    "memory.hog": "the process of {} was squeezed for memory",
    "disk.fill": "the disk of {} was filled",
    "net.latency": "the link {} was slowed",
    "net.blackhole": "the link {} swallowed all traffic",
    "net.reset": "the connections on the link {} were reset",
    "net.bandwidth": "the link {} was throttled",
    "net.loss": "the link {} lost packets",
    "net.corrupt": "packets on the link {} were corrupted",
    "net.duplicate": "packets on the link {} were duplicated",
    "net.partition": "the link {} was cut",
    "net.disconnect": "{} was taken off its network",
    "dns.fail": "{} could look up no names",
    "cpu.limit": "{} was limited in its CPU",
    "memory.limit": "{} was limited in its memory",
    "container.stop": "the container of {} was stopped",
    "container.remove": "the container of {} was removed",
    "file.corrupt": "a file of {} was corrupted",
    "file.deny": "a file of {} could not be opened",
    "clock.skew": "the wall clock of {} was wrong",
}


def what_was_done(injection: InjectionScore) -> str:
    """An injection in words: ``api-2 was killed``."""
    return _DONE.get(injection.fault, injection.fault + " was injected on {}").format(
        injection.target
    )


def time_outside(impact: Impact) -> str:
    """How long users were outside the steady state; open where we ended it, or the drill did."""
    low, high = impact.outside
    if impact.open:
        return f"at least {single(low, way='down')}, to the end of what counts"
    return figure(low, high)


def listed(parts: Iterable[str]) -> str:
    """``a``, ``a and b``, ``a, b and c``."""
    words = list(parts)
    return (
        words[0] if len(words) == 1 else f"{', '.join(words[:-1])} and {words[-1]}" if words else ""
    )


def quoted(claim: str) -> str:
    """A claim inside a sentence of ours: on one line, in quotation marks, without its full stop."""
    return f"“{' '.join(claim.split()).removesuffix('.')}”"


def span(first: Instant, last: Instant) -> Timing:
    """The duration from one instant to a later one."""
    low, high = max(0.0, last.low - first.high), max(0.0, last.high - first.low)
    return Timing(State.MEASURED, (low + high) / 2, low, high)


class Service(msgspec.Struct, frozen=True):
    """A service concerned; ``hit`` if a fault acted on it or on a link of it."""

    name: str
    owner: str
    tier: str
    hit: bool


class Case(msgspec.Struct, frozen=True, dict=True):
    """A drill to be debriefed. All instants that it takes are on the journal's axis."""

    scenario: Scenario
    events: Sequence[Event]
    score: Score

    @functools.cached_property
    def zero(self) -> float:
        """The start of the scenario's clock on the journal's axis; the journal's own start if it never began."""
        return self.score.begun or 0.0

    @functools.cached_property
    def started(self) -> DrillStarted | None:
        """The first event."""
        return next(iter(self.of(DrillStarted)), None)

    @functools.cached_property
    def ended(self) -> DrillEnded | None:
        """The last event; None if the journal just stops."""
        return next(iter(self.of(DrillEnded)), None)

    def of(self, kind: type[E]) -> list[E]:
        """The events of one kind, in order."""
        return [event for event in self.events if isinstance(event, kind)]

    @functools.cached_property
    def _walls(self) -> tuple[list[float], list[float]]:
        known = sorted((e.at, e.wall) for e in self.events if e.wall)
        return [at for at, _ in known], [wall for _, wall in known]

    def wall(self, at: float) -> float:
        """Unix time of an instant, from the journal's nearest earlier event."""
        ats, walls = self._walls
        if not ats:
            return 0.0
        near = max(0, bisect.bisect_right(ats, at) - 1)
        return walls[near] + (at - ats[near])

    def clock(self, at: float) -> str:
        """An instant on the scenario's clock, to a tenth of a second."""
        return clock(at - self.zero)

    def instant(self, when: Instant) -> str:
        """An instant with its bound, on the scenario's clock."""
        return instant(when, self.zero)

    @functools.cached_property
    def said(self) -> list[Said]:
        """What people and the script said."""
        return self.of(Said)

    def verbs(self, *verbs: str) -> list[Said]:
        """What was said, by verb."""
        return [said for said in self.said if said.verb in verbs]

    @functools.cached_property
    def hints(self) -> list[Noted]:
        """The hints that were given; asking after the last of the scenario's gives none."""
        answers = [note for note in self.of(Noted) if note.kind == "hint"]
        return answers[: len(self.scenario.hints)]

    @functools.cached_property
    def about_hints(self) -> str:
        """What was asked for and given, in a phrase; empty if nothing was asked for."""
        asked, given = len(self.verbs("hint")), len(self.hints)
        if not asked:
            return ""
        words = f"{asked} hint{'' if asked == 1 else 's'} asked for"
        if given >= asked:
            return words
        return f"{words}, {given} given" if given else f"{words}, and there was none to give"

    @functools.cached_property
    def hands(self) -> list[SandboxChanged]:
        """What somebody other than ourselves did to the sandbox; not what followed from it."""
        return [
            change
            for change in self.of(SandboxChanged)
            if change.by not in OURS and change.action not in _CONSEQUENCES
        ]

    @functools.cached_property
    def left_behind(self) -> list[str]:
        """What people changed in the sandbox and nobody took back: ``gateway-1 is still drained``."""
        away: dict[str, str] = {}
        scaled: dict[str, tuple[str, str]] = {}
        for change in self.of(SandboxChanged):
            slot, action = change.slot or "the sandbox", change.action
            if action == "scale" and (counts := re.findall(r"\d+", change.detail)):
                if slot in scaled or change.by not in OURS:
                    before = counts[0] if len(counts) > 1 else ""
                    scaled[slot] = (scaled.get(slot, (before,))[0], counts[-1])
            elif action in _PUT_BACK:
                if away.get(slot) == _PUT_BACK[action]:
                    del away[slot]
            elif action in _TAKEN_AWAY and change.by not in OURS:
                away[slot] = _TAKEN_AWAY[action]
        left = [f"{name} was scaled to {now}" for name, (was, now) in scaled.items() if was != now]
        return left + [f"{slot} is still {how}" for slot, how in away.items()]

    @functools.cached_property
    def anyone(self) -> bool:
        """Did anybody respond, or was anybody meant to?"""
        return bool(self.said or self.hands or self.scenario.fixers.scripted)

    @functools.cached_property
    def reports(self) -> list[Reported]:
        """Customers' reports and stakeholders' questions that came."""
        return self.of(Reported)

    @functools.cached_property
    def loaded(self) -> bool:
        """Did load run?"""
        return bool(self.of(LoadStarted))

    @functools.cached_property
    def phases(self) -> list[tuple[str, float, float]]:
        """Phases with begin and end on the journal's axis."""
        begun = self.of(PhaseBegan)
        ends = [*(phase.at for phase in begun[1:]), self.score.end]
        return [(phase.phase, phase.at, end) for phase, end in zip(begun, ends, strict=False)]

    @functools.cached_property
    def reverted(self) -> float | None:
        """When our own revert began, if something of ours was then still to be put back."""
        began = next((at for name, at, _ in self.phases if name == "reverting"), None)
        ours = any(i.how == "put-back" and i.called is not None for i in self.score.injections)
        return began if ours else None

    @functools.cached_property
    def impacts(self) -> list[Incident]:
        """Incidents that users could feel."""
        return [incident for incident in self.score.incidents if incident.kind == "impact"]

    @functools.cached_property
    def injected(self) -> list[InjectionScore]:
        """Injections that were made, or attempted."""
        return [injection for injection in self.score.injections if injection.called is not None]

    def verdicts(self, verdict: Verdict) -> list[HypothesisScore]:
        """The hypotheses with a verdict."""
        return [score for score in self.score.hypotheses if score.verdict is verdict]

    def findings(self, *kinds: str) -> list[Finding]:
        """Findings by kind, in order."""
        return [finding for finding in self.score.findings if finding.kind in kinds]

    @functools.cached_property
    def unalerted(self) -> bool:
        """Were users hit without any alert from monitoring?"""
        told = any(a.source == "monitoring" and not a.pre_existing for a in self.score.alerts)
        return bool(self.impacts) and not told

    @functools.cached_property
    def silent_rules(self) -> list[AlertRule]:
        """Alert rules on SLIs that did not fire."""
        fired = {alert.alert for alert in self.score.alerts}
        return [
            rule
            for rule in self.scenario.alerts
            if rule.when is not None and rule.name not in fired
        ]

    @functools.cached_property
    def services(self) -> list[Service]:
        """The services concerned, those that were meant to be hit first; owner and tier where the journal tells."""
        known = self._declared
        hit = {n for i in self.injected for n in _services_of(i.target, known)}
        meant = [name for target in self._targets for name in _services_of(target, known)]
        probed = [sli.service for sli in self.scenario.slis.values() if sli.service]
        names = dict.fromkeys([*meant, *probed, *known])
        return [
            Service(
                name,
                known.get(name, {}).get("owner", ""),
                known.get(name, {}).get("tier", ""),
                name in hit,
            )
            for name in names
        ]

    @property
    def _targets(self) -> list[str]:
        armed = [event.injection.target for event in self.of(InjectionArmed)]
        scored = [injection.target for injection in self.score.injections]
        meant = [
            target.service or target.slot or ""
            if isinstance(target, SlotTarget)
            else str(getattr(target, "link", ""))
            for target in (getattr(entry.breaks, "target", None) for entry in self.scenario.faults)
        ]
        return [*scored, *armed, *meant]

    @functools.cached_property
    def _declared(self) -> dict[str, dict[str, str]]:
        """What the runner noted of the sandbox's services: ``Noted(kind="services", data={name: {owner, tier}})``."""
        return {
            str(name): {str(key): str(value) for key, value in facts.items()}
            for note in self.of(Noted)
            if note.kind == "services"
            for name, facts in note.data.items()
            if isinstance(facts, dict)
        }

    @functools.cached_property
    def owner(self) -> str:
        """Who would own work on what was hit: the owning team where known."""
        hit = [service for service in self.services if service.hit]
        named = next((service.owner for service in hit if service.owner), "")
        if named:
            return named
        return f"owner of {hit[0].name}" if hit else "service owner"

    @functools.cached_property
    def date(self) -> datetime.date:
        """The day of the drill, UTC."""
        wall = self.wall(0.0)
        bounded = min(max(wall, 0.0), 250_000_000_000.0) if math.isfinite(wall) else 0.0
        return datetime.datetime.fromtimestamp(bounded, datetime.UTC).date()

    def told(self, incident: Incident) -> list[float]:
        """When anything at all told of trouble while the incident was open, to whomever it is assigned."""
        onset, restore = incident.instants.get("onset"), incident.instants.get("restore")
        if onset is None:
            return []
        revert = next((at for name, at, _ in self.phases if name == "reverting"), self.score.end)
        begin, end = onset.low, restore.high if restore else revert
        alerts = [
            max(a.fired.high, begin)
            for a in self.score.alerts
            if a.fired.low <= end and (a.resolved is None or a.resolved >= begin)
        ]
        spoken = [e.at for e in (*self.reports, *self.verbs(*_KNOWING)) if begin <= e.at <= end]
        return sorted([*alerts, *spoken])

    @property
    def whole_control(self) -> bool:
        """Was it a control drill that ran to its end?"""
        return self.score.ended == "control-over" and not self.injected

    def named(self, incident: Incident) -> str:
        """How to speak of an incident: nothing more is needed where there is one."""
        return "the incident" if len(self.score.incidents) == 1 else f"incident {incident.number}"


def _services_of(target: str, known: dict[str, dict[str, str]]) -> list[str]:
    """``api-2`` is of ``api``; ``api-1->store`` is of both."""
    ends = [end.strip() for end in target.split("->") if end.strip()]
    return list(
        itertools.chain.from_iterable(
            [end] if end in known else [re.sub(r"-\d+$", "", end)] for end in ends
        )
    )
