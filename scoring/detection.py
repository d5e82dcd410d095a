"""Findings about detection: who told first, what did not fire, and what did not arrive."""

from __future__ import annotations

from collections.abc import Iterator

from gameday.scenarios.expressions import names_of
from gameday.scenarios.model import AlertRule
from gameday.scoring.evidence import Evidence, between, seconds
from gameday.scoring.score import Finding, State

__all__ = ["RULES"]

LATE_DELIVERY = 10.0
"""Seconds from fired to delivered above which it is a finding."""


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
                f"A customer's report was the first to tell of the incident, {between(impact, detect)} after the steady state was left.",
                detect.high,
                incident.number,
            )
        elif report is not None and alert is not None and alert.high < report:
            yield Finding(
                "alert-before-report",
                "well",
                f"The first alert fired {seconds(report - alert.high)} before the first customer's report.",
                alert.high,
                incident.number,
            )
        elif report is not None and alert is not None and alert.low > report:
            yield Finding(
                "alert-after-report",
                "poorly",
                f"The first alert fired {seconds(alert.low - report)} after the first customer's report.",
                alert.high,
                incident.number,
            )


def _detection(e: Evidence) -> Iterator[Finding]:
    for incident in e.felt:
        if "detect" in incident.instants:
            continue
        timing = incident.timings["time_to_detect"]
        lasted = incident.instants.get("restore") is None or (
            (timing.low or 0.0) >= e.facts.scenario.stabilise
        )
        if timing.state is State.CENSORED and lasted:
            yield Finding(
                "not-detected",
                "poorly",
                f"Nothing told of the impact: not detected within {seconds(timing.low or 0.0)}.",
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
                f"{rule.name} did not fire, although its condition ({rule.rule}) held for {seconds(held)}.",
            )
        else:
            yield Finding(
                "alert-silent",
                "surprise",
                f"{rule.name} did not fire: its condition ({rule.rule}) held for {seconds(held)} at most.",
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
                f"The alert {alert.alert} was delivered {seconds(late)} after it fired.",
                alert.delivered,
                alert.incident,
            )


RULES = (_reports, _detection, _silent_alerts, _delivery)
