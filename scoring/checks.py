"""Hypotheses against the evidence: supported, refuted or inconclusive.

What makes a verdict inconclusive, whatever was measured: the scenario never
began; nothing was injected, or no fault was seen to take effect; the host slept,
or the runner stood still.
Where only part of what was planned came about (one of two faults, a drill cut
short), a breach still refutes, but the absence of one supports nothing.
"""

from __future__ import annotations

from collections.abc import Sequence

import msgspec

from gameday.scenarios.expressions import Comparison
from gameday.scenarios.model import TIMINGS, Hypothesis
from gameday.scoring.facts import Facts
from gameday.scoring.instants import show_suspends, show_timing
from gameday.scoring.render import figures
from gameday.scoring.samples import Excursion, Point, excursions
from gameday.scoring.score import HypothesisScore, Incident, Instant, State, Timing, Verdict

__all__ = ["Ground", "check", "ground", "judge", "show_value"]

VOID_LIMIT = 0.10
"""Share of void samples above which an SLI says nothing."""

COVERAGE = 0.5
"""Share of the planned samples below which an SLI says nothing."""

_SUPPORTED, _REFUTED, _INCONCLUSIVE = Verdict.SUPPORTED, Verdict.REFUTED, Verdict.INCONCLUSIVE


class Ground(msgspec.Struct, frozen=True):
    """What verdicts can rest on.

    Attributes:
        period: What hypotheses on SLIs count over; None if the scenario never began.
        void: Why nothing can be concluded; empty if something can.
        partial: Why nothing can be supported; empty if something can.
    """

    period: tuple[float, float] | None
    void: str = ""
    partial: str = ""


def ground(facts: Facts, period: tuple[float, float] | None) -> Ground:
    """What the drill's course allows to conclude."""
    if facts.not_started:
        return Ground(None, "The sandbox did not start.")
    if facts.ended == "refused":
        return Ground(None, "The drill was refused before anything was started.")
    if facts.begun is None or period is None:
        return Ground(None, "The steady state never held, so the scenario did not begin.")
    across = [s for s in facts.suspends if s.at > facts.begun and s.at <= facts.cut.at]
    if across:
        why = f"During the drill {show_suspends(across)}; nothing across it counts."
        return Ground(period, why)
    return Ground(period, _nothing_happened(facts), _cut_short(facts))


def _nothing_happened(facts: Facts) -> str:
    if not facts.scenario.faults:
        return ""
    if not facts.called:
        return "No fault was injected."
    if all(i.took_effect is None for i in facts.called):
        return "No fault was seen to take effect."
    return ""


def _cut_short(facts: Facts) -> str:
    if facts.ended == "died":
        return "The drill's journal just stops."
    if facts.ended in ("aborted", "failed"):
        return f"The drill was cut short by {facts.cut.why}."
    idle = [i for i in facts.called if i.took_effect is None]
    if idle:
        names = ", ".join(f"{i.injection.fault} on {i.injection.target}" for i in idle)
        return f"Not seen to take effect: {names}."
    entries = {i.entry for i in facts.called}
    if len(entries) < len(facts.scenario.faults):
        return f"Only {len(entries)} of {len(facts.scenario.faults)} faults were injected."
    return ""


def check(
    facts: Facts, base: Ground, hypothesis: Hypothesis, incidents: Sequence[Incident]
) -> HypothesisScore:
    """The verdict on one hypothesis. A check that crashes is inconclusive, never a lost debrief."""
    try:
        return _check(facts, base, hypothesis, incidents)
    except (ArithmeticError, LookupError, ValueError) as error:
        why = f"This check failed, which is a fault of Gameday's own: {error!r}."
        return _score(hypothesis, _INCONCLUSIVE, why)


def _check(
    facts: Facts, base: Ground, hypothesis: Hypothesis, incidents: Sequence[Incident]
) -> HypothesisScore:
    expect = hypothesis.comparison
    if base.void:
        return _score(hypothesis, _INCONCLUSIVE, base.void)
    if expect.name in TIMINGS:
        found = _check_timing(hypothesis, incidents)
    elif expect.name in facts.tracks:
        found = _check_sli(facts, base, hypothesis)
    else:
        return _score(hypothesis, _INCONCLUSIVE, f"Nothing called {expect.name} was measured.")
    if found.verdict is _SUPPORTED and base.partial:
        evidence = f"{base.partial} As far as it went: {found.evidence}"
        return _score(hypothesis, _INCONCLUSIVE, evidence, found.at)
    return found


def _score(
    hypothesis: Hypothesis, verdict: Verdict, evidence: str, at: tuple[Instant, ...] = ()
) -> HypothesisScore:
    return HypothesisScore(
        hypothesis.id, hypothesis.claim, hypothesis.expect, verdict, evidence, at
    )


def judge(timing: Timing, bound: Comparison) -> Verdict:
    """The three-valued rule: does a duration in [low, high] satisfy the bound?"""
    if timing.low is None or timing.state not in (State.MEASURED, State.CENSORED):
        return _INCONCLUSIVE
    low = timing.low
    high = float("inf") if timing.high is None else timing.high
    if bound.op in ("==", "!="):
        return _judge_equal(low, high, bound)
    at_low, at_high = bound.holds(low), bound.holds(high)
    if at_low and at_high:
        return _SUPPORTED
    return _INCONCLUSIVE if at_low or at_high else _REFUTED


def _judge_equal(low: float, high: float, bound: Comparison) -> Verdict:
    if low < high and low <= bound.value <= high:
        return _INCONCLUSIVE
    if low == high:
        return _SUPPORTED if bound.holds(low) else _REFUTED
    return _SUPPORTED if bound.op == "!=" else _REFUTED


_RANK = {_SUPPORTED: 0, _INCONCLUSIVE: 1, _REFUTED: 2}


def _check_timing(hypothesis: Hypothesis, incidents: Sequence[Incident]) -> HypothesisScore:
    """The worst of all incidents to which the timing applies."""
    bound = hypothesis.comparison
    found = [(i, i.timings[bound.name]) for i in incidents if bound.name in i.timings]
    if not found:
        return _score(hypothesis, _INCONCLUSIVE, "There was no incident to time.")
    applying = [(i, t) for i, t in found if t.state is not State.NOT_APPLICABLE]
    if not applying:
        notes = " ".join(dict.fromkeys(_sentence(t.note or "not applicable") for _, t in found))
        return _score(hypothesis, _INCONCLUSIVE, notes)
    # An incident of another cause counts if it refutes; that it was over too soon to tell does not.
    ours = [(i, t) for i, t in applying if i.injections]
    if ours:
        applying = ours + [
            (i, t) for i, t in applying if not i.injections and judge(t, bound) is _REFUTED
        ]
    incident, timing = max(applying, key=lambda it: (_RANK[judge(it[1], bound)], it[1].value or 0))
    verdict = judge(timing, bound)
    where = f" in incident {incident.number}" if len(incidents) > 1 else ""
    evidence = (
        f"{_words(bound.name)}{where}: {show_timing(timing)}; expected {bound.op} {bound.shown}."
    )
    marks = (incident.instants.get(_MARKS[bound.name]),)
    return _score(hypothesis, verdict, evidence, tuple(m for m in marks if m is not None))


_MARKS = {
    "time_to_detect": "detect",
    "time_to_acknowledge": "ack",
    "time_to_identify": "identify",
    "time_to_mitigate": "mitigate",
    "time_to_restore": "restore",
    "time_to_all_clear": "all_clear",
}


def _words(name: str) -> str:
    return _sentence(name.replace("_", " ")).removesuffix(".")


def _sentence(text: str) -> str:
    return f"{text[:1].upper()}{text[1:].removesuffix('.')}."


def _check_sli(facts: Facts, base: Ground, hypothesis: Hypothesis) -> HypothesisScore:
    bound = hypothesis.comparison
    track = facts.tracks[bound.name]
    begin, end = base.period or (0.0, 0.0)
    known = track.until(end)
    counted = [p for p in known if p.sample.sent >= begin]
    reason = _no_data(facts, bound.name, counted, begin, end)
    if reason:
        return _score(hypothesis, _INCONCLUSIVE, reason)
    found = excursions(track, bound, known)
    # A request in flight when the fault struck was sent before it.
    breaches = [e for e in found if e.onset.high >= begin]
    if not breaches and any(e.end is None or e.end.high > begin for e in found):
        return _score(
            hypothesis,
            _INCONCLUSIVE,
            f"{bound.name} was already outside {bound.op} {bound.shown} before anything was injected.",
        )
    if not breaches:
        # A breach that was over before still is in the first windows.
        clear = [p for p in counted if not found or p.clock >= begin + track.sli.over]
        return _score(hypothesis, _SUPPORTED, _kept(bound, facts, clear or counted))
    # What the breach was is judged up to the end of counting; when it ended, by all that was
    # sent before our revert.
    ended = {e.first.sent: e for e in excursions(track, bound, cut=facts.cut.at)}
    breaches = [ended.get(e.first.sent, e) for e in breaches]
    return _score(
        hypothesis,
        _REFUTED,
        _broken(bound, facts, breaches),
        tuple(w for e in breaches for w in (e.onset, e.end) if w),
    )


def _no_data(facts: Facts, name: str, counted: Sequence[Point], begin: float, end: float) -> str:
    track = facts.tracks[name]
    planned = int((end - begin) / track.sli.every)
    total = len(track.points) + track.void
    if not counted:
        return f"There are no samples of {name} after the first fault."
    if total and track.void / total > VOID_LIMIT:
        return (
            f"{track.void} of {total} samples of {name} were sent too late to count; "
            "the machine was too busy to measure."
        )
    if len(counted) < planned * COVERAGE:
        return f"Only {len(counted)} of {planned} planned samples of {name} came back in time."
    return ""


def show_value(facts: Facts, name: str, value: float) -> str:
    """An SLI's value for people."""
    if facts.scenario.slis[name].quantile is not None:
        return figures.single(value)
    return figures.share(value)


def worst_value(bound: Comparison, counted: Sequence[Point]) -> float | None:
    """The value nearest to breaking the bound, or farthest beyond."""
    values = [p.value for p in counted if p.settled] or [p.value for p in counted]
    if not values:
        return None
    return min(values) if bound.op in (">=", ">") else max(values)


def _kept(bound: Comparison, facts: Facts, counted: Sequence[Point]) -> str:
    worst = worst_value(bound, counted)
    shown = "unknown" if worst is None else show_value(facts, bound.name, worst)
    return (
        f"{bound.name} was at worst {shown} in {len(counted)} samples; "
        f"expected {bound.op} {bound.shown}."
    )


def _broken(bound: Comparison, facts: Facts, found: Sequence[Excursion]) -> str:
    pick = min if bound.op in (">=", ">") else max
    worst = show_value(facts, bound.name, pick(e.worst for e in found))
    first = found[0]
    begin = (first.onset.low + first.onset.high) / 2 - (facts.begun or 0.0)
    until = (
        f"and was still outside at {facts.cut.why}"
        if first.end is None or first.end.high > facts.cut.at
        else f"for {figures.single((first.end.low + first.end.high - first.onset.low - first.onset.high) / 2)}"
    )
    times = f", {len(found)} times in all" if len(found) > 1 else ""
    return (
        f"{bound.name} was {worst} at worst; it left {bound.op} {bound.shown} "
        f"{figures.single(begin)} into the drill {until}{times}."
    )
