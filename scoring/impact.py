"""What the drill cost its users: requests, seconds, error budget; and each SLI over the drill."""

from __future__ import annotations

from collections.abc import Sequence

from gameday.scenarios.expressions import Comparison
from gameday.scoring.checks import worst_value
from gameday.scoring.events import LoadBucket
from gameday.scoring.facts import Facts
from gameday.scoring.incidents import Spell
from gameday.scoring.samples import Point, Track, excursions
from gameday.scoring.score import Impact, SliScore

__all__ = ["impact", "seconds_outside", "sli_score"]

BUCKET = 0.1
"""Seconds in a bucket of the load."""


def seconds_outside(spells: Sequence[Spell], until: float) -> tuple[float, float]:
    """Seconds outside the bounds up to ``until``, low and high.

    What had not come back by then was outside at least up to its last sample against the bound.
    """
    low = high = 0.0
    for spell in spells:
        last = max(part.last.sent for part in spell.parts)
        end_low = min(last if spell.end is None else spell.end.low, until)
        end_high = until if spell.end is None else min(spell.end.high, until)
        low += max(0.0, end_low - spell.onset.high)
        high += max(0.0, end_high - spell.onset.low)
    return round(low, 6), round(high, 6)


def impact(facts: Facts, period: tuple[float, float] | None, steady: Sequence[Spell]) -> Impact:
    """Over the period that counts: from the first inject to restored or our own revert."""
    if period is None:
        return Impact(0, 0, (0.0, 0.0), {})
    begin, end = period
    inside = [b for b in facts.buckets if _counts(b, begin, end)]
    failed = sum(max(0, b.failed) for b in inside)
    return Impact(
        requests=failed + sum(max(0, b.ok) for b in inside),
        failed=failed,
        outside=seconds_outside(steady, facts.cut.at),
        error_budget=_budgets(facts),
        errors=_errors(facts, inside),
        open=any(spell.end is None for spell in steady),
    )


def _counts(bucket: LoadBucket, begin: float, end: float) -> bool:
    """Each bucket is in or out as a whole.

    The one in which the fault struck is in: what failed in it cannot have failed before.
    At the end its middle decides.
    """
    return begin < bucket.start + BUCKET and bucket.start + BUCKET / 2 < end


def _budgets(facts: Facts) -> dict[str, float]:
    """Bad samples over the allowance of the whole drill, so that who mitigates sooner burns less."""
    begin, end = facts.cut.at if facts.begun is None else facts.begun, facts.cut.at
    found: dict[str, float] = {}
    for bound in facts.scenario.steady_bounds:
        track = facts.tracks.get(bound.name)
        if track is None or track.sli.quantile is not None or bound.op not in (">=", ">"):
            continue
        counted = counted_points(track, begin, end)
        allowed = 1.0 - bound.value
        if counted and allowed > 1e-9:
            bad = sum(not p.sample.good for p in counted)
            found[bound.name] = round(bad / len(counted) / allowed, 6)
    return found


def _errors(facts: Facts, inside: Sequence[LoadBucket]) -> dict[str, int]:
    """Failed requests by endpoint, with the names of the errors met there.

    An error stands only in the first bucket that met it, which may lie outside the period.
    """
    failed: dict[str, int] = {}
    for bucket in inside:
        if bucket.failed > 0:
            failed[bucket.endpoint] = failed.get(bucket.endpoint, 0) + bucket.failed
    names: dict[str, set[str]] = {}
    for bucket in facts.buckets:
        names.setdefault(bucket.endpoint, set()).update(bucket.errors)
    return {
        f"{endpoint}: {', '.join(sorted(names[endpoint]))}".removesuffix(": "): count
        for endpoint, count in sorted(failed.items())
    }


def counted_points(track: Track, begin: float, end: float) -> list[Point]:
    """The points sent since ``begin`` and answered by ``end``."""
    return [p for p in track.until(end) if p.sample.sent >= begin]


def sli_score(facts: Facts, track: Track, period: tuple[float, float] | None) -> SliScore:
    """One SLI: its series for the picture, and when it was outside the steady state."""
    bounds = [b for b in facts.scenario.steady_bounds if b.name == track.name]
    found = [e for bound in bounds for e in excursions(track, bound, cut=facts.cut.at)]
    # Windows that end after it still hold what was met in it.
    counted = counted_points(track, period[0], period[1] + track.sli.over) if period else []
    towards = bounds[0] if bounds else _default_bound(track)
    return SliScore(
        name=track.name,
        bounds=tuple(f"{b.op} {b.shown}" for b in bounds),
        series=tuple((p.clock, p.value if p.settled else None) for p in track.points),
        outside=tuple((e.onset, e.end) for e in found),
        samples=len(track.points) + track.void,
        good=sum(p.sample.good for p in track.points),
        void=track.void,
        q=track.q,
        worst=worst_value(towards, counted),
    )


def _default_bound(track: Track) -> Comparison:
    if track.sli.quantile is None:
        return Comparison(track.name, ">=", 1.0, "share")
    return Comparison(track.name, "<=", 0.0, "duration")
