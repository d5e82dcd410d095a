"""The timeline picture as data: one axis, lanes for SLIs, faults, alerts and people."""

from __future__ import annotations

import math
from collections import Counter

import msgspec

from gameday.injectors.units import show_duration
from gameday.scoring.case import Case, listed
from gameday.scoring.document import Axis, Bar, Line, Mark, Picture
from gameday.scoring.events import LoadBucket, Said, SandboxChanged
from gameday.scoring.render.figures import count, single
from gameday.scoring.score import InjectionScore, Instant, SliScore

__all__ = ["picture"]

_BEFORE = 5.0  # seconds shown before the scenario's clock starts, at least
_LABELS = {
    "ack": "ack",
    "declare": "declared",
    "identify": "diagnosis",
    "mitigate": "says mitigated",
    "resolve": "says resolved",
    "all-clear": "all-clear",
    "hand-over": "hand-over",
    "hint": "asks for a hint",
    "update": "update",
    "note": "note",
    "abort": "abort",
}
_INSTANTS = {"impact": "impact", "mitigate": "mitigated", "restore": "restored"}


def picture(case: Case) -> Picture | None:
    """What is drawn; None where nothing happened that an axis could show."""
    axis = _axis(case)
    if axis.end <= axis.start or not (case.score.slis or case.score.alerts or case.injected):
        return None
    lines = tuple(_line(case, sli) for sli in case.score.slis)
    bars = tuple(_bar(case, injection) for injection in case.injected)
    alerts = tuple(sorted([*_alerts(case), *_reports(case)], key=lambda mark: mark.at))
    people = tuple(_people(case))
    return Picture(
        axis,
        lines,
        bars,
        alerts,
        people,
        tuple(_instants(case)),
        tuple(_failures(case)),
        _description(case, axis),
    )


def _axis(case: Case) -> Axis:
    first = min((at for sli in case.score.slis for at, _ in sli.series), default=0.0)
    length = max(0.0, case.score.end - case.zero)
    start = max(min(first - case.zero, 0.0), -max(_BEFORE, 0.08 * length))
    phases = tuple(
        (name, max(begin - case.zero, start), end - case.zero)
        for name, begin, end in case.phases
        if end - case.zero > start and end > begin
    )
    reverted = None if case.reverted is None else case.reverted - case.zero
    return Axis(start, case.score.end - case.zero, phases, reverted)


def _line(case: Case, sli: SliScore) -> Line:
    bound = next((b for b in case.scenario.steady_bounds if b.name == sli.name), None)
    declared = case.scenario.slis.get(sli.name)
    share = declared is None or declared.quantile is None
    zero = case.zero
    return Line(
        name=sli.name,
        series=tuple((at - zero, value) for at, value in sli.series),
        bound=bound.value if bound and math.isfinite(bound.value) else None,
        bound_text=(f"over {show_duration(declared.over)}, " if declared else "")
        + f"steady {bound.op} {bound.shown}".replace(">=", "≥").replace("<=", "≤")
        if bound
        else "",
        share=share,
        worst=sli.worst,
        outside=tuple(
            (
                left.low - zero,
                left.high - zero,
                None if back is None else back.low - zero,
                None if back is None else back.high - zero,
            )
            for left, back in sli.outside
        ),
    )


def _interval(when: Instant | None, zero: float) -> tuple[float, float] | None:
    return None if when is None else (when.low - zero, when.high - zero)


def _bar(case: Case, injection: InjectionScore) -> Bar:
    by = injection.by or "somebody"
    end = {
        "put-back": "put back by us",
        "taken-over": f"undone by {by}",
        "failed": "not put back",
    }.get(injection.how, injection.how)
    return Bar(
        label=f"{injection.fault} {injection.target}",
        called=(injection.called or 0.0) - case.zero,
        effect=_interval(injection.took_effect, case.zero),
        ended=_interval(injection.ended, case.zero),
        by_people=injection.how == "taken-over",
        end_label=end,
    )


def _alerts(case: Case) -> list[Mark]:
    return [
        Mark(
            kind=alert.tier,
            at=alert.fired.high - case.zero,
            label=alert.alert,
            low=alert.fired.low - case.zero,
            high=alert.fired.high - case.zero,
        )
        for alert in case.score.alerts
    ]


def _reports(case: Case) -> list[Mark]:
    return [
        Mark("report", report.at - case.zero, f"{report.sender} speaks up")
        for report in case.reports
    ]


def _people(case: Case) -> list[Mark]:
    marks = [_deed(case, event) for event in case.events if isinstance(event, Said)]
    marks += [_deed(case, change) for change in case.hands]
    return sorted(marks, key=lambda mark: mark.at)


def _deed(case: Case, event: Said | SandboxChanged) -> Mark:
    at = event.at - case.zero
    if isinstance(event, Said):
        return Mark("said", at, _LABELS.get(event.verb, event.verb))
    return Mark("hands", at, f"{event.action} {event.slot}".strip())


def _instants(case: Case) -> list[Mark]:
    """Measured instants; those that are one and the same share a mark."""
    marks: dict[tuple[float | None, float | None], Mark] = {}
    for mark in _each_instant(case):
        at = (mark.low, mark.high)
        same = marks.get(at)
        marks[at] = (
            mark
            if same is None
            else msgspec.structs.replace(same, label=f"{same.label}, {mark.label}")
        )
    return list(marks.values())


def _each_instant(case: Case) -> list[Mark]:
    many = len(case.score.incidents) > 1
    return [
        Mark(
            "instant",
            (when.low + when.high) / 2 - case.zero,
            f"{label} {incident.number}" if many else label,
            when.low - case.zero,
            when.high - case.zero,
        )
        for incident in case.score.incidents
        for kind, label in _INSTANTS.items()
        if (when := incident.instants.get(kind)) is not None
    ]


def _failures(case: Case) -> list[tuple[float, int]]:
    """Failed requests of the load, by second."""
    by_second: Counter[int] = Counter()
    for bucket in case.of(LoadBucket):
        if bucket.failed:
            by_second[math.floor(bucket.start - case.zero)] += bucket.failed
    return [(float(second), number) for second, number in sorted(by_second.items())]


def _description(case: Case, axis: Axis) -> str:
    """What the picture shows, in words, for those who do not see it."""
    faults = listed(
        f"{i.fault} on {i.target} at {case.clock(i.called or 0.0)}" for i in case.injected
    )
    slis = listed(f"{sli.name} ({_outside(case, sli)})" for sli in case.score.slis)
    parts = [
        f"A timeline of {single(axis.end - axis.start)}.",
        f"SLIs: {slis}." if slis else "",
        f"Faults: {faults}." if faults else "No fault.",
        f"{count(len(case.score.alerts), 'alert')}, {count(len(case.said) + len(case.hands), 'action')} of people.",
        "Every entry is in the table of the appendix.",
    ]
    return " ".join(part for part in parts if part)


def _outside(case: Case, sli: SliScore) -> str:
    if not sli.outside:
        return "inside its steady state throughout"
    return "outside its steady state from " + listed(
        f"{case.instant(left)} to {'the end' if back is None else case.instant(back)}"
        for left, back in sli.outside
    )
