"""From a scenario, its journal and its score to the debrief: a pure function, the same bytes every time.

The debrief speaks of roles and systems, not of persons. What the evidence shows
is said with its figures; what only people can answer is a question for them;
a section with nothing to say is left out.
"""

from __future__ import annotations

from collections.abc import Sequence

from gameday.scenarios.model import Scenario
from gameday.scoring.accounts import accounts, causes, verdict_counts
from gameday.scoring.actions import action_items
from gameday.scoring.appendix import appendix
from gameday.scoring.blame import Blame, blame
from gameday.scoring.case import Case, listed, time_outside
from gameday.scoring.document import Cell, Debrief, DrillFacts, Facts, Mono
from gameday.scoring.events import Event, why_not_started
from gameday.scoring.picture import picture
from gameday.scoring.redaction import clean_document, people, without_names
from gameday.scoring.reflections import reflections
from gameday.scoring.render import figures
from gameday.scoring.score import Incident, Score, State
from gameday.scoring.storyline import storyline

__all__ = ["Blame", "Debrief", "blame", "debrief"]

_OUTCOMES = {
    "resolved": "resolved by the fixers",
    "all-clear": "all-clear given by the fixers",
    "hard-stop": "ended at its hard stop",
    "control-over": "control, over",
    "aborted": "aborted",
    "unhealthy-start": "not begun: the steady state did not hold",
    "refused": "not begun: it was refused",
    "failed": "ended by a fault of Gameday’s own",
    "died": "cut short: the runner died",
}
_NOT_BEGUN = {
    "failed": "Gameday itself failed",
    "aborted": "the drill was aborted",
    "refused": "the drill was refused",
}


def debrief(
    scenario: Scenario, events: Sequence[Event], score: Score, *, names: bool = False
) -> Debrief:
    """The debrief of one drill.

    Args:
        names: Show who spoke. By default roles stand in place of names, in what people typed too.
    """
    known = people(events)
    if not names:
        events, score = without_names(events, score, known)
    case = Case(scenario, events, score)
    items = action_items(case)
    timeline = storyline(case)
    document = Debrief(
        drill=_facts(case),
        head=_head(case),
        summary=_summary(case),
        picture=picture(case),
        sections=(*accounts(case), *reflections(case, items), *appendix(case, timeline)),
        incidents=score.incidents,
        hypotheses=score.hypotheses,
        injections=score.injections,
        alerts=score.alerts,
        claims=score.claims,
        impact=score.impact,
        findings=score.findings,
        action_items=items,
        timeline=timeline,
        counted=score.counted,
        zero=case.zero,
    )
    return clean_document(document)


def _facts(case: Case) -> DrillFacts:
    started, scenario = case.started, case.scenario
    return DrillFacts(
        id=started.id if started else "unknown",
        scenario=scenario.name,
        title=" ".join(scenario.title.split()),
        started=figures.iso(case.wall(0.0)),
        ended=figures.iso(case.wall(case.score.end)),
        duration=case.score.end,
        severity=scenario.severity,
        severity_scheme=scenario.severity_scheme or "",
        incident_type=scenario.incident_type,
        outcome=case.score.ended,
        exit_code=case.score.exit_code,
        gameday=started.gameday if started else "",
        seed=started.seed if started else 0,
        control=bool(started and started.control),
        services=tuple((s.name, s.owner, s.tier, s.hit) for s in case.services),
        roles=tuple(sorted(scenario.roles.items())),
        objectives=tuple(" ".join(text.split()) for text in scenario.objectives),
    )


def _head(case: Case) -> Facts:
    scenario, end = case.scenario, case.score.end
    severity = scenario.severity
    if scenario.severity_scheme:
        severity += f" (scheme {scenario.severity_scheme})"
    rows: list[tuple[str, Cell]] = [
        ("Scenario", Mono(scenario.name)),
        ("Drill", Mono(case.started.id if case.started else "unknown")),
        ("Date", figures.utc_date(case.wall(0.0))),
        (
            "From – to",
            f"{figures.utc(case.wall(0.0))} – {figures.utc(case.wall(end))} UTC, {figures.single(end)}",
        ),
        ("Severity", f"{severity}, {scenario.incident_type.replace('-', ' ')}"),
    ]
    if case.services:
        rows.append(
            ("Services", listed(_service(s.name, s.owner, s.tier, s.hit) for s in case.services))
        )
    if scenario.roles:
        roles = [f"{role}: {who}" for role, who in sorted(scenario.roles.items())]
        rows.append(("Roles", "; ".join(roles)))
    rows.append(("Outcome", _outcome(case)))
    return Facts(tuple(rows))


def _service(name: str, owner: str, tier: str, hit: bool) -> str:
    facts = [owner, f"tier {tier}" if tier.isdigit() else tier, "hit by a fault" if hit else ""]
    known = ", ".join(fact for fact in facts if fact)
    return f"{name} ({known})" if known else name


def _outcome(case: Case) -> str:
    if case.score.ended == "unhealthy-start" and why_not_started(case.events):
        return "not begun: the sandbox did not start"
    return _OUTCOMES.get(case.score.ended, case.score.ended)


def _summary(case: Case) -> tuple[str, str]:
    """Two sentences: what happened to users, and what came of it."""
    return f"{_capital(_happened(case))}.", f"{_capital(_came_of_it(case))}."


def _capital(text: str) -> str:
    return text[:1].upper() + text[1:]


def _happened(case: Case) -> str:
    score = case.score
    if score.ended == "unhealthy-start":
        if why_not_started(case.events):
            return "nothing was injected, because the sandbox did not start"
        return "nothing was injected, because the steady state did not hold at the start"
    if score.ended == "died":
        cause = f", after {causes(case)}" if causes(case) else ""
        return f"the drill was cut short after {figures.single(score.end)}{cause}: the runner died"
    if case.impacts:
        return _hit(case)
    if any(incident.kind == "false-alarm" for incident in score.incidents):
        return "an alert fired while nothing was broken, and no SLI left its steady state"
    if case.injected:
        return f"{causes(case)}, and users were not hit: no SLI left its steady state"
    if score.begun is None and score.ended in _NOT_BEGUN:
        return f"nothing was injected, because {_NOT_BEGUN[score.ended]} before the scenario began"
    return f"nothing was broken, and nothing happened in {figures.single(score.end - case.zero)}"


def _hit(case: Case) -> str:
    impact = case.score.impact
    cause = causes(case)
    begin = f"{cause}, and " if cause else ""
    failed = (
        f", in which {impact.failed:,} of {impact.requests:,} requests failed"
        if impact.requests and impact.failed
        else ""
    )
    times = f" in {len(case.impacts)} incidents" if len(case.impacts) > 1 else ""
    long = time_outside(impact)
    comma = "," if impact.open and times else ""
    return f"{begin}users were outside the steady state for {long}{comma}{times}{failed}"


def _came_of_it(case: Case) -> str:
    failed = [injection.target for injection in case.score.injections if injection.how == "failed"]
    left = f"what was done to {listed(failed)} could not be put back; " if failed else ""
    verdicts = verdict_counts(case)
    if case.score.ended == "died":
        return left + verdicts
    if len(case.impacts) == 1:
        parts = _response(case.impacts[0])
        return f"{left}it was {listed(parts)}; {verdicts}" if parts else left + verdicts
    alarm = next((i for i in case.score.incidents if i.kind == "false-alarm"), None)
    if alarm is not None:
        parts = _steps(
            alarm, ("time_to_acknowledge", "acknowledged"), ("time_to_all_clear", "cleared")
        )
        return f"{left}the alert was {listed(parts)}; {verdicts}" if parts else left + verdicts
    if len(case.impacts) > 1:
        return f"{left}{_mitigated(case)}; {verdicts}"
    return left + verdicts


def _response(incident: Incident) -> list[str]:
    healed = incident.timings.get("time_to_mitigate")
    if healed is not None and healed.state is State.NOT_APPLICABLE:
        return [*_steps(incident, ("time_to_detect", "detected")), "over before anybody had to act"]
    return _steps(incident, ("time_to_detect", "detected"), ("time_to_mitigate", "mitigated"))


def _steps(incident: Incident, *steps: tuple[str, str]) -> list[str]:
    return [
        figures.to_timing(word, timing, since=_SINCE.get(name, ""))
        for name, word in steps
        if (timing := incident.timings.get(name)) is not None
        and timing.state in (State.MEASURED, State.CENSORED)
    ]


_SINCE = {"time_to_mitigate": "after that"}


def _mitigated(case: Case) -> str:
    measured = [
        incident
        for incident in case.impacts
        if (timing := incident.timings.get("time_to_mitigate")) is not None
        and timing.state is State.MEASURED
    ]
    healed = [
        incident
        for incident in case.impacts
        if (timing := incident.timings.get("time_to_mitigate")) is not None
        and timing.state is State.NOT_APPLICABLE
    ]
    more = f" and {len(healed)} ended before anybody had to act" if healed else ""
    return f"{len(measured)} of {len(case.impacts)} incidents were mitigated{more}"
