"""Findings: what the evidence shows that people should talk about.

Each is one plain sentence with its figures, about systems and processes. None
names a person, and declaring on suspicion is never one. A drill in which
nothing was broken and nothing happened has none.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import groupby

from gameday.injectors.units import show_duration, show_share
from gameday.scenarios.expressions import names_of
from gameday.scenarios.model import TIMINGS, AlertRule, Hypothesis
from gameday.scoring.checks import VOID_LIMIT, show_value, worst_value
from gameday.scoring.events import Said
from gameday.scoring.facts import Facts
from gameday.scoring.impact import counted_points
from gameday.scoring.incidents import Draft
from gameday.scoring.instants import show_timing
from gameday.scoring.score import (
    AlertScore,
    Claim,
    Finding,
    HypothesisScore,
    Impact,
    Incident,
    Instant,
    SliScore,
    State,
    Timing,
    Verdict,
)

__all__ = ["Evidence", "findings"]

OWN_CPU_LIMIT = 0.10
NARROW_MARGIN = 0.10
LATE_DELIVERY = 10.0
QUICK_ACK = 60.0


@dataclass(frozen=True, slots=True)
class Evidence:
    """What findings are drawn from."""

    facts: Facts
    drafts: Sequence[Draft]
    incidents: tuple[Incident, ...]
    hypotheses: tuple[HypothesisScore, ...]
    alerts: tuple[AlertScore, ...]
    claims: tuple[Claim, ...]
    slis: tuple[SliScore, ...]
    impact: Impact
    ambiguous: Sequence[Said]
    own_cpu_share: float | None

    @property
    def felt(self) -> list[Incident]:
        """Incidents that users could feel."""
        return [incident for incident in self.incidents if incident.kind == "impact"]


def findings(evidence: Evidence) -> tuple[Finding, ...]:
    """All findings: first what concerns the drill itself, then in the order of the course of an incident."""
    return tuple(finding for rule in _RULES for finding in rule(evidence))


# The drill itself.


def _start(e: Evidence) -> Iterator[Finding]:
    facts = e.facts
    if facts.ended == "unhealthy-start":
        yield _validity(
            "unhealthy-start",
            "The steady state did not hold at the start, so nothing was injected.",
        )
    elif facts.ended == "died":
        yield _validity(
            "died",
            f"The journal just stops at {_s(facts.end)}: the runner did not end this drill itself.",
            facts.end,
        )
    elif facts.ended == "failed":
        yield _validity("failed", "The drill ended by a fault of Gameday's own.", facts.end)
    elif facts.ended == "aborted" and facts.aborts:
        abort = facts.aborts[0]
        yield _validity("aborted", f"The drill was aborted ({abort.by}): {abort.why}.", abort.at)


def _measuring(e: Evidence) -> Iterator[Finding]:
    for suspend in e.facts.suspends:
        yield _validity(
            "suspended",
            f"The machine slept for {_s(suspend.seconds)}; durations across it are void.",
            suspend.at,
        )
    for sli in e.slis:
        if sli.samples and sli.void / sli.samples > VOID_LIMIT:
            yield _validity(
                "void-samples",
                f"{sli.void} of {sli.samples} samples of {sli.name} were sent too late to count.",
            )
    if e.own_cpu_share is not None and e.own_cpu_share > OWN_CPU_LIMIT:
        yield _validity(
            "own-cpu",
            f"Gameday itself used {show_share(round(e.own_cpu_share, 3))} of the CPU time that was used; it is part of what was disturbed.",
        )
    for said in e.ambiguous:
        yield _validity(
            "ambiguous-action",
            f"More than one incident was open when “{said.verb}” was said, so it counts for none.",
            said.at,
        )
    problems = sorted(e.facts.problems, key=lambda p: p.where)
    for where, group in groupby(problems, key=lambda p: p.where):
        known = list(group)
        times = "" if len(known) == 1 else f" ({len(known)} times; the first is shown)"
        yield _validity(
            "own-problem",
            f"Something of Gameday's own did not work, in {where}{times}: {known[0].what.rstrip('.')}.",
            known[0].at,
        )


def _injecting(e: Evidence) -> Iterator[Finding]:
    for known in e.facts.called:
        name = f"{known.injection.fault} on {known.injection.target}"
        if known.took_effect is None:
            why = f": {known.failed.rstrip('.')}" if known.failed else ""
            yield _validity(
                "no-effect", f"{name} was never seen to take effect{why}.", known.called
            )
        if known.undone is not None and known.undone.outcome == "failed":
            yield _validity(
                "not-put-back",
                f"{name} could not be put back: {(known.undone.detail or 'no reason is known').rstrip('.')}.",
                known.undone.at,
            )
        if known.checked is not None and not known.checked.equal:
            yield _validity(
                "put-back-unhealthy",
                f"{name} was put back, but the target is not as it was: {(known.checked.detail or 'it differs').rstrip('.')}.",
                known.checked.at,
            )
    if e.facts.drill is not None and e.facts.drill.steady_after is False:
        yield _validity(
            "unsteady-after",
            "Everything was put back, but the steady state did not hold again.",
            e.facts.drill.at,
        )
    for alert in e.alerts:
        if alert.pre_existing:
            yield _validity(
                "pre-existing-alert",
                f"{alert.alert} fired before the first fault; it is not counted as detection.",
                alert.fired.high,
            )


# Detection.


def _reports(e: Evidence) -> Iterator[Finding]:
    for incident in e.felt:
        detect, impact = incident.instants.get("detect"), incident.instants["impact"]
        report = next(
            (r.at for r in e.facts.reports if r.sender == "customer" and r.at >= impact.low), None
        )
        alert = incident.instants.get("alert")
        if detect is not None and detect.source == "customer":
            yield Finding(
                "customer-first",
                "poorly",
                f"A customer's report was the first to tell of the incident, {_from(impact, detect)} after the steady state was left.",
                detect.high,
                incident.number,
            )
        elif report is not None and alert is not None and alert.high < report:
            yield Finding(
                "alert-before-report",
                "well",
                f"The first alert fired {_s(report - alert.high)} before the first customer's report.",
                alert.high,
                incident.number,
            )
        elif report is not None and alert is not None and alert.low > report:
            yield Finding(
                "alert-after-report",
                "poorly",
                f"The first alert fired {_s(alert.low - report)} after the first customer's report.",
                alert.high,
                incident.number,
            )


def _detection(e: Evidence) -> Iterator[Finding]:
    for incident in e.felt:
        if "detect" in incident.instants:
            continue
        timing = incident.timings["time_to_detect"]
        if timing.state is State.CENSORED:
            yield Finding(
                "not-detected",
                "poorly",
                f"Nothing told of the impact: not detected within {_s(timing.low or 0.0)}.",
                incident.instants["impact"].high,
                incident.number,
            )


def _silent_alerts(e: Evidence) -> Iterator[Finding]:
    fired = {alert.alert for alert in e.alerts}
    if not e.felt:
        return
    for rule in e.facts.scenario.alerts:
        if rule.rule is None or rule.name in fired:
            continue
        held = _longest(e, rule)
        if held is None:
            continue
        if held >= rule.rule.hold + _evaluation(e, rule) and held > 0:
            yield Finding(
                "alert-missed",
                "poorly",
                f"{rule.name} did not fire, although its condition ({rule.rule}) held for {_s(held)}.",
            )
        else:
            yield Finding(
                "alert-silent",
                "surprise",
                f"{rule.name} did not fire: its condition ({rule.rule}) held for {_s(held)} at most.",
            )


def _evaluation(e: Evidence, rule: AlertRule) -> float:
    """A rule is looked at when samples arrive: allow two intervals."""
    names = names_of(rule.rule.condition) if rule.rule else ()
    return 2 * max((e.facts.tracks[n].sli.every for n in names if n in e.facts.tracks), default=0.0)


def _longest(e: Evidence, rule: AlertRule) -> float | None:
    """The longest time for which the rule's condition held, by the samples; None without data."""
    if rule.rule is None:
        return None
    names = [name for name in names_of(rule.rule.condition) if name in e.facts.tracks]
    points = sorted(
        (
            (p.clock, name, p.value)
            for name in names
            for p in e.facts.tracks[name].points
            if p.settled
        ),
        key=lambda item: item[0],
    )
    points = [p for p in points if p[0] <= e.facts.cut.at]
    if not points:
        return None
    values: dict[str, float] = {}
    longest, since = 0.0, None
    for clock, name, value in points:
        values[name] = value
        if not rule.rule.condition.evaluate(values):
            since = None
            continue
        since = clock if since is None else since
        longest = max(longest, clock - since)
    return longest


def _delivery(e: Evidence) -> Iterator[Finding]:
    for alert in e.alerts:
        for channel in dict.fromkeys(alert.failed_channels):
            yield Finding(
                "channel-failed",
                "poorly",
                f"The channel {channel} did not take the alert {alert.alert}.",
                alert.fired.high,
                alert.incident,
            )
        if alert.delivered is None:
            if alert.failed_channels:
                yield Finding(
                    "undelivered",
                    "poorly",
                    f"No channel took the alert {alert.alert}.",
                    alert.fired.high,
                    alert.incident,
                )
            continue
        late = alert.delivered - alert.fired.high
        if late > LATE_DELIVERY:
            yield Finding(
                "late-delivery",
                "poorly",
                f"The alert {alert.alert} was delivered {_s(late)} after it fired.",
                alert.delivered,
                alert.incident,
            )


# Response.


def _acknowledging(e: Evidence) -> Iterator[Finding]:
    for alert in e.alerts:
        if alert.tier != "page" or alert.pre_existing or not alert.incident:
            continue
        timing = alert.to_acknowledge
        if timing.state is State.CENSORED:
            yield Finding(
                "unacknowledged",
                "poorly",
                f"The page {alert.alert} was not acknowledged within {_s(timing.low or 0.0)}.",
                alert.fired.high,
                alert.incident,
            )
        elif timing.state is State.MEASURED and (timing.high or 0.0) <= QUICK_ACK:
            yield Finding(
                "quick-ack",
                "well",
                f"The page {alert.alert} was acknowledged after {show_timing(timing)}.",
                alert.acknowledged,
                alert.incident,
            )
    for incident in e.incidents:
        if incident.timings["time_to_acknowledge"].note == "noticed first":
            yield Finding(
                "noticed-first",
                "well",
                "The incident was noticed before any alert fired.",
                _at(incident, "ack"),
                incident.number,
            )


def _process(e: Evidence) -> Iterator[Finding]:
    for draft in e.drafts:
        responded = bool(draft.said)
        if draft.kind == "impact" and responded and not draft.verbs("declare"):
            yield Finding(
                "not-declared",
                "surprise",
                "No declaration was recorded: ask whether the process makes declaring easy enough.",
                None,
                draft.number,
            )
    hints = [said for said in e.facts.said if said.verb == "hint"]
    if hints:
        count = "A hint was" if len(hints) == 1 else f"{len(hints)} hints were"
        yield Finding(
            "hints",
            "surprise",
            f"{count} asked for: what page and runbook say did not lead to the next step.",
            hints[0].at,
        )


def _claimed(e: Evidence) -> Iterator[Finding]:
    for claim in e.claims:
        if claim.held is not False:
            continue
        if claim.verb == "mitigate":
            yield Finding(
                "mitigated-while-outside",
                "poorly",
                f"Mitigated was said while {claim.seen}.",
                claim.at,
                claim.incident,
            )
        else:
            word = "Resolved" if claim.verb == "resolve" else "All clear"
            yield Finding(
                "resolved-while-outside",
                "poorly",
                f"{word} was said too early to be true: {claim.seen}.",
                claim.at,
                claim.incident,
            )


def _course(e: Evidence) -> Iterator[Finding]:
    for incident in e.felt:
        mitigate = incident.timings["time_to_mitigate"]
        if incident.relapses:
            times = "once" if incident.relapses == 1 else f"{incident.relapses} times"
            yield Finding(
                "relapse",
                "poorly",
                f"After a mitigation the SLIs left their bounds again, {times}.",
                None,
                incident.number,
            )
        if mitigate.source == "self-healed":
            yield Finding(
                "self-healed",
                "lucky",
                f"The impact ended before anybody acted, {_from(incident.instants['impact'], incident.instants['mitigate'])} after it began.",
                _at(incident, "mitigate"),
                incident.number,
            )
        elif mitigate.state is State.MEASURED and not incident.relapses:
            yield Finding(
                "mitigation-held",
                "well",
                f"The mitigation held at the first attempt, {show_timing(mitigate)} after detection.",
                _at(incident, "mitigate"),
                incident.number,
            )
        if not incident.injections:
            yield Finding(
                "cause-not-ours",
                "surprise",
                "The steady state was left without a fault of ours that took effect.",
                _at(incident, "impact"),
                incident.number,
            )
    for incident in e.incidents:
        cleared = incident.timings["time_to_all_clear"]
        if incident.kind == "false-alarm" and cleared.state is State.MEASURED:
            yield Finding(
                "false-alarm-cleared",
                "well",
                f"The false alarm was recognised and cleared after {show_timing(cleared)}.",
                _at(incident, "all_clear"),
                incident.number,
            )
        if incident.kind == "no-impact":
            targets = ", ".join(
                i.injection.target for i in e.facts.called if i.injection.id in incident.injections
            )
            yield Finding(
                "no-impact",
                "lucky",
                f"The fault on {targets} never reached the users: no SLI left its steady state.",
                incident.instants["onset"].high,
                incident.number,
            )


# Luck, surprise, and what went well.


def _verdicts(e: Evidence) -> Iterator[Finding]:
    if not e.incidents and not e.facts.called:
        return
    hypotheses = {h.id: h for h in e.facts.scenario.hypotheses}
    for score in e.hypotheses:
        if score.verdict is Verdict.REFUTED:
            yield Finding(
                "refuted",
                "poorly",
                f"{score.claim.rstrip('.')}: refuted. {score.evidence}",
                score.at[0].high if score.at else None,
            )
        if score.verdict is not Verdict.SUPPORTED:
            continue
        yield Finding(
            "supported",
            "well",
            f"{score.claim.rstrip('.')}: supported. {score.evidence}",
            score.at[0].high if score.at else None,
        )
        margin = _margin(e, hypotheses[score.id])
        if margin is not None and margin < NARROW_MARGIN:
            yield Finding(
                "narrow-margin",
                "lucky",
                f"{score.claim.rstrip('.')}: it held by a margin of only {show_share(round(max(margin, 0.0), 3))}.",
            )


def _margin(e: Evidence, hypothesis: Hypothesis) -> float | None:
    """How much of what was allowed was left, in [0, 1]; None where nothing was used at all."""
    bound = hypothesis.comparison
    if bound.name in TIMINGS:
        highs = [
            i.timings[bound.name].high for i in e.incidents if _is_measured(i.timings[bound.name])
        ]
        used = max((high for high in highs if high is not None), default=None)
        if used is None or bound.op not in ("<", "<=") or bound.value <= 0:
            return None
        return (bound.value - used) / bound.value
    track = e.facts.tracks[bound.name]
    period = _period(e)
    worst = worst_value(bound, counted_points(track, *period)) if period else None
    if worst is None or track.sli.quantile is not None or bound.op not in (">=", ">"):
        return None
    allowed = 1.0 - bound.value
    return (worst - bound.value) / allowed if allowed > 0 and worst < 1.0 else None


def _is_measured(timing: Timing) -> bool:
    return timing.state is State.MEASURED


def _period(e: Evidence) -> tuple[float, float] | None:
    begin = e.facts.first_inject if e.facts.first_inject is not None else e.facts.begun
    return None if begin is None else (begin, max(begin, e.facts.cut.at))


def _narrow_blow(e: Evidence) -> Iterator[Finding]:
    by_service: dict[str, list[str]] = {}
    for known in e.facts.called:
        entries = e.facts.scenario.faults
        if known.took_effect is None or not 0 <= known.entry < len(entries):
            continue
        target = entries[known.entry].breaks.target
        service = getattr(target, "service", None)
        if service and target.share is None and target.count in (None, 1):
            by_service.setdefault(service, []).append(known.injection.target)
    for service, targets in by_service.items():
        if len(set(targets)) == 1:
            yield Finding(
                "one-target",
                "lucky",
                f"Only {targets[0]} was hit; nothing is known of losing more of {service} at once.",
            )


def _unwatched(e: Evidence) -> Iterator[Finding]:
    if not e.facts.called and not e.felt:
        return
    expected = {h.comparison.name for h in e.facts.scenario.hypotheses}
    for sli in e.slis:
        hit = [
            o
            for o, _ in sli.outside
            if e.facts.begun is not None and e.facts.begun <= o.high < e.facts.cut.at
        ]
        if hit and sli.name not in expected and expected & set(e.facts.tracks):
            worst = (
                ""
                if sli.worst is None
                else f", at worst {show_value(e.facts, sli.name, sli.worst)}"
            )
            yield Finding(
                "unexpected-sli",
                "surprise",
                f"{sli.name} left its steady state{worst}; no hypothesis spoke of it.",
                hit[0].high,
            )
    probed = {
        sli.path.split("?")[0] for sli in e.facts.scenario.slis.values() if sli.probe == "http"
    }
    for name, count in e.impact.errors.items():
        endpoint, _, errors = name.partition(": ")
        path = endpoint.split(" ")[-1].split("?")[0]
        if path.startswith("/") and path not in probed:
            kinds = f" ({errors})" if errors else ""
            yield Finding(
                "unwatched-endpoint",
                "surprise",
                f"{count:,} requests to {endpoint} failed{kinds}; no SLI watches that endpoint.",
            )


def _validity(identity: str, text: str, at: float | None = None) -> Finding:
    return Finding(identity, "validity", text, at)


def _s(seconds: float) -> str:
    return show_duration(max(0.0, seconds))


def _from(first: Instant, last: Instant) -> str:
    return _s((last.low + last.high - first.low - first.high) / 2)


def _at(incident: Incident, name: str) -> float | None:
    when = incident.instants.get(name)
    return when.high if when is not None else None


_RULES: tuple[Callable[[Evidence], Iterator[Finding]], ...] = (
    _start,
    _measuring,
    _injecting,
    _reports,
    _detection,
    _silent_alerts,
    _delivery,
    _acknowledging,
    _process,
    _claimed,
    _course,
    _verdicts,
    _narrow_blow,
    _unwatched,
)
