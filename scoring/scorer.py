"""From a scenario and its journal to a score: a pure function, total over valid events."""

from __future__ import annotations

from collections.abc import Sequence

from gameday.scenarios.model import Scenario
from gameday.scoring.checks import check, ground
from gameday.scoring.claims import claims
from gameday.scoring.events import Event
from gameday.scoring.evidence import Evidence
from gameday.scoring.facts import Facts, read
from gameday.scoring.findings import findings
from gameday.scoring.impact import impact, sli_score
from gameday.scoring.incidents import Draft, find, spells
from gameday.scoring.score import HypothesisScore, Score, Verdict
from gameday.scoring.timings import alert_score, incident

__all__ = ["exit_code", "score"]


def score(scenario: Scenario, events: Sequence[Event]) -> Score:
    """All that can be said of a drill.

    Args:
        scenario: As it was run.
        events: The journal, in its order; it may stop anywhere.
    """
    facts = read(scenario, events)
    steady = spells(facts, scenario.steady_bounds)
    acceptable = (
        spells(facts, scenario.acceptable_bounds)
        if scenario.acceptable_bounds != scenario.steady_bounds
        else steady
    )
    drafts, ambiguous, _ = find(facts, steady, acceptable)
    incidents = tuple(incident(facts, draft) for draft in drafts)
    period = _period(facts, drafts)
    base = ground(facts, period)
    hypotheses = tuple(check(facts, base, h, incidents) for h in scenario.hypotheses)
    injections = tuple(i.scored() for i in facts.injections.values())
    alerts = tuple(alert_score(facts, alert, drafts) for alert in facts.alerts.values())
    slis = tuple(sli_score(facts, track, period) for track in facts.tracks.values())
    evidence = Evidence(
        facts=facts,
        drafts=drafts,
        incidents=incidents,
        hypotheses=hypotheses,
        alerts=alerts,
        claims=claims(facts, drafts, steady, acceptable),
        slis=slis,
        impact=impact(facts, period, steady),
        ambiguous=ambiguous,
        own_cpu_share=_own_cpu_share(facts),
    )
    return Score(
        exit_code=exit_code(facts, hypotheses),
        ended=facts.ended,
        begun=facts.begun,
        counted=period if facts.first_inject is not None else None,
        end=facts.end,
        incidents=incidents,
        hypotheses=hypotheses,
        injections=injections,
        alerts=alerts,
        claims=evidence.claims,
        slis=slis,
        impact=evidence.impact,
        findings=findings(evidence),
        own_cpu_share=evidence.own_cpu_share,
    )


def _period(facts: Facts, drafts: Sequence[Draft]) -> tuple[float, float] | None:
    """From the first inject (without one: the start) to the last restored, or our own revert."""
    if facts.begun is None:
        return None
    begin = facts.first_inject if facts.first_inject is not None else facts.begun
    end = max(facts.cut.at, begin)
    felt = [draft for draft in drafts if draft.kind == "impact"]
    if felt and felt[-1].restored is not None:
        restored = felt[-1].restored.high
        later = [i for i in facts.called if (i.called or 0.0) > restored]
        planned = len({i.entry for i in facts.called}) < len(facts.scenario.faults)
        if not later and not planned:
            end = min(end, max(restored, begin))
    return begin, end


def _own_cpu_share(facts: Facts) -> float | None:
    drill = facts.drill
    if drill is None or drill.host_cpu <= 0:
        return None
    return min(1.0, max(0.0, drill.own_cpu / drill.host_cpu))


def exit_code(facts: Facts, hypotheses: Sequence[HypothesisScore]) -> int:
    """DESIGN §7; the most dangerous wins: 5, 70, 4, 6, 1, 3.

    A target that was put back and is not as it was, or a steady state that did not
    return, supports nothing: it ends with 3 where nothing worse holds.
    """
    verdicts = {h.verdict for h in hypotheses}
    unhealthy = any(i.checked and not i.checked.equal for i in facts.injections.values())
    unsteady = facts.drill is not None and facts.drill.steady_after is False
    codes = (
        (5, any(_not_put_back(facts))),
        (70, facts.ended in ("died", "failed")),
        (4, facts.ended == "aborted"),
        (6, facts.ended == "refused"),
        (1, Verdict.REFUTED in verdicts),
        (3, Verdict.INCONCLUSIVE in verdicts or facts.begun is None or unhealthy or unsteady),
    )
    return next((code for code, holds in codes if holds), 0)


def _not_put_back(facts: Facts) -> list[bool]:
    """Undo that failed, or that a drill which came to its end never did."""
    over = facts.drill is not None
    return [
        i.undone.outcome == "failed" if i.undone else over and i.called is not None
        for i in facts.injections.values()
    ]
