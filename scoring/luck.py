"""Findings about verdicts: what went well, by how much, what was luck, and what nobody spoke of."""

from __future__ import annotations

from collections.abc import Iterator

from gameday.injectors.units import show_share
from gameday.scenarios.model import TIMINGS, Hypothesis
from gameday.scoring.checks import show_value, worst_value
from gameday.scoring.evidence import Evidence
from gameday.scoring.impact import counted_points
from gameday.scoring.score import Finding, State, Timing, Verdict

__all__ = ["RULES"]

NARROW_MARGIN = 0.10
"""Share of what was allowed below which a hypothesis only just held."""


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
    shares = [sli.worst for sli in e.slis if e.facts.scenario.slis[sli.name].quantile is None]
    if not any(worst for worst in shares if worst is not None):
        # Nothing answered any more: there was no other replica to lose.
        return
    by_group: dict[str, list[str]] = {}
    for known in e.facts.called:
        entries = e.facts.scenario.faults
        if known.took_effect is None or not 0 <= known.entry < len(entries):
            continue
        target = entries[known.entry].breaks.target
        group = getattr(target, "service", None) or getattr(target, "label", None)
        if group and target.share is None and target.count in (None, 1):
            by_group.setdefault(group, []).append(known.injection.target)
    for group, targets in by_group.items():
        if len(set(targets)) == 1:
            yield Finding(
                "one-target",
                "lucky",
                f"Only {targets[0]} was hit; nothing is known of losing more of {group} at once.",
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


def _unwatched_endpoints(e: Evidence) -> Iterator[Finding]:
    slis = e.facts.scenario.slis.values()
    probed = {sli.path.split("?")[0] for sli in slis if sli.probe == "http"}
    unwatched = {}
    for name, count in e.impact.errors.items():
        endpoint = name.partition(": ")[0]
        path = endpoint.split(" ")[-1].split("?")[0]
        if path.startswith("/") and path not in probed:
            unwatched[endpoint] = count
    if unwatched:
        most = sorted(unwatched.items(), key=lambda item: (-item[1], item[0]))
        shown = ", ".join(f"{endpoint} ({count:,})" for endpoint, count in most[:5])
        more = f" and {len(most) - 5} more" if len(most) > 5 else ""
        yield Finding(
            "unwatched-endpoint",
            "surprise",
            f"Requests failed where no SLI watches: {shown}{more}.",
        )


RULES = (_verdicts, _narrow_blow, _unwatched, _unwatched_endpoints)
