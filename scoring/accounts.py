"""Sections of the debrief that say what happened: what was believed and seen, timings, impact, and the way through the incident."""

from __future__ import annotations

import itertools
from collections import Counter

from gameday.injectors.units import show_duration
from gameday.scenarios.model import Sli
from gameday.scoring.blame import blame
from gameday.scoring.case import Case, listed, span, time_outside, what_was_done
from gameday.scoring.document import (
    Block,
    Bullets,
    Cell,
    Facts,
    Mono,
    Paragraph,
    Quote,
    Section,
    Table,
    table,
)
from gameday.scoring.events import Said
from gameday.scoring.narration import changed, spoken
from gameday.scoring.render import figures
from gameday.scoring.score import AlertScore, Incident, Instant, SliScore, State, Timing, Verdict
from gameday.scoring.timings import FROM_IMPACT

__all__ = ["TIMING_NAMES", "accounts", "causes", "measured", "reached", "verdict_counts"]

TIMING_NAMES = (
    ("time_to_detect", "Time to detect", "onset", "detect"),
    ("time_to_detect_from_impact", "the same, from impact", "impact", "detect"),
    ("time_to_acknowledge", "Time to acknowledge", "alert", "ack"),
    ("time_to_identify", "Time to identify", "detect", "identify"),
    ("time_to_mitigate", "Time to mitigate", "detect", "mitigate"),
    ("time_to_restore", "Time to restore", "detect", "restore"),
    ("time_to_all_clear", "Time to all-clear", "alert", "all_clear"),
)
_DECISIONS = (
    "note",
    "declare",
    "update",
    "identify",
    "mitigate",
    "resolve",
    "all-clear",
    "hand-over",
    "hint",
)
_SHOWN = 40  # decisions in the section; all of them are in the appendix
_STEPS = (
    ("onset", "from onset"),
    ("detect", "until it was detected"),
    ("ack", "until the page was acknowledged"),
    ("identify", "until the diagnosis was recorded"),
    ("mitigate", "until it was mitigated"),
    ("restore", "until it was restored"),
)


_TIMED = {
    "detect": "time_to_detect",
    "ack": "time_to_acknowledge",
    "identify": "time_to_identify",
    "mitigate": "time_to_mitigate",
    "restore": "time_to_restore",
    "all_clear": "time_to_all_clear",
}


def measured(incident: Incident, step: str) -> bool:
    """Was the time to a step (``detect``, ``mitigate`` …) measured?"""
    timing = incident.timings.get(_TIMED[step])
    return timing is not None and timing.state is State.MEASURED


def reached(case: Case, incident: Incident, step: str, done: str, *, since: str = "") -> str:
    """As a clause, when a step was done, also where no duration to it can be known."""
    timing, when = incident.timings.get(_TIMED[step]), incident.instants.get(step)
    if timing is not None and timing.state is not State.UNKNOWN:
        return figures.to_timing(done, timing, since=since)
    if when is not None and when.source != "self-healed":
        return f"{done} at {case.clock((when.low + when.high) / 2)}"
    note = f": {timing.note}" if timing is not None and timing.note else ""
    if step == "detect" or case.score.ended == "died":
        return f"not known whether it was {done}{note}"
    return f"not {done} within the drill{note}"


def accounts(case: Case) -> list[Section]:
    """The sections that have something to say."""
    sections = (
        believed(case),
        timings(case),
        impact(case),
        detection(case),
        response(case),
        decisions(case),
        mitigation(case),
        resolution(case),
        recovery(case),
    )
    return [section for section in sections if section is not None]


def verdict_counts(case: Case) -> str:
    """``1 of 3 hypotheses was refuted and 2 were supported``."""
    total = len(case.score.hypotheses)
    if not total:
        return "the scenario states no hypothesis"
    counts = Counter(score.verdict for score in case.score.hypotheses)
    words = {
        Verdict.REFUTED: "refuted",
        Verdict.SUPPORTED: "supported",
        Verdict.INCONCLUSIVE: "left open",
    }
    if len(counts) == 1:
        word = words[next(iter(counts))]
        return (
            f"{'the one hypothesis was' if total == 1 else f'all {total} hypotheses were'} {word}"
        )
    parts = [(counts[verdict], word) for verdict, word in words.items() if counts[verdict]]
    first, *rest = parts
    more = [f"{number} {'was' if number == 1 else 'were'} {word}" for number, word in rest]
    return listed(
        [f"{first[0]} of {total} hypotheses {'was' if first[0] == 1 else 'were'} {first[1]}", *more]
    )


def _sentence(text: str) -> str:
    return text[:1].upper() + text[1:]


def believed(case: Case) -> Section | None:
    """Hypotheses beside verdicts and evidence."""
    if not case.score.hypotheses:
        return None
    rows: list[tuple[Cell, ...]] = [
        (" ".join(score.claim.split()), Mono(score.expect), score.verdict.value, score.evidence)
        for score in case.score.hypotheses
    ]
    shown = table(
        "Hypotheses and verdicts", ("We believed", "Expected", "Verdict", "We saw"), tuple(rows)
    )
    return Section(
        "believed", "What we believed, what we saw", (shown,), _sentence(verdict_counts(case))
    )


def timings(case: Case) -> Section | None:
    """Each duration with its bound."""
    tables = tuple(
        _timing_table(case, incident) for incident in case.score.incidents if incident.timings
    )
    return Section("timings", "Timings", tables) if tables else None


def _timing_table(case: Case, incident: Incident) -> Table:
    rows: list[tuple[Cell, ...]] = []
    for name, title, first, last in TIMING_NAMES:
        timing = incident.timings.get(name)
        if timing is None or _pointless(name, incident):
            continue
        if timing.note == FROM_IMPACT:
            first = "impact"
        begin, end = incident.instants.get(first), incident.instants.get(last)
        rows.append(
            (
                title,
                figures.timing(timing),
                _from_to(case, begin, end if timing.state is State.MEASURED else None),
                " · ".join(part for part in (timing.source, timing.note) if part),
            )
        )
    heading = f"Incident {incident.number}" if len(case.score.incidents) > 1 else ""
    kind = {"no-impact": ", without impact", "false-alarm": ", a false alarm"}.get(
        incident.kind, ""
    )
    return Table(
        f"Timings of incident {incident.number}",
        ("Duration", "Measured", "From – to", "Decided by"),
        tuple(rows),
        heading + kind if heading else "",
    )


def _pointless(name: str, incident: Incident) -> bool:
    """A row that says nothing: what only a false alarm has in an incident that was none, or the reverse."""
    timing = incident.timings[name]
    return timing.state is State.NOT_APPLICABLE and (
        incident.kind == "false-alarm"
        or name in ("time_to_all_clear", "time_to_detect_from_impact")
    )


def _from_to(case: Case, begin: Instant | None, end: Instant | None) -> str:
    if begin is None:
        return ""
    middle = (begin.low + begin.high) / 2
    if end is None:
        return f"from {case.clock(middle)}"
    return f"{case.clock(middle)} – {case.clock((end.low + end.high) / 2)}"


def impact(case: Case) -> Section | None:
    """What it cost users: failed requests, seconds outside, error budget."""
    score = case.score.impact
    rows: list[tuple[str, Cell]] = []
    if score.requests or (case.loaded and case.injected):
        rows.append(("Requests failed", _failed(score.failed, score.requests)))
    if case.score.slis and (case.injected or score.outside[1]):
        rows.append(("Outside the steady state", time_outside(score)))
    for name, burnt in sorted(score.error_budget.items()):
        rows.append((f"Error budget of {name}", _burnt(burnt)))
    for sli in case.score.slis:
        if sli.worst is not None:
            rows.append((f"Worst {sli.name}", _worst(case, sli)))
    if not rows:
        return None
    blocks: list[Block] = [Facts(tuple(rows))]
    if score.errors:
        errors = sorted(score.errors.items(), key=lambda item: (-item[1], item[0]))
        shown: list[tuple[Cell, ...]] = [
            (Mono(name), f"{number:,}") for name, number in errors[:20]
        ]
        blocks.append(table("What users met", ("Error", "Count"), tuple(shown), "What users met"))
    if not case.loaded and case.injected:
        blocks.append(
            Paragraph("No load ran in this drill; impact is known from the probes alone.")
        )
    return Section("impact", "Impact", tuple(blocks), _impact_finding(case))


def _failed(failed: int, requests: int) -> str:
    share = f" ({figures.share(failed / requests, samples=requests)})" if requests else ""
    return f"{failed:,} of {requests:,}{share}"


def _burnt(burnt: float) -> str:
    if burnt >= 2:
        return f"burnt {burnt:.1f} times over, for the length of this drill".replace(
            ".0 times", " times"
        )
    return f"{figures.share(burnt)} burnt, for the length of this drill"


def _worst(case: Case, sli: SliScore) -> str:
    assert sli.worst is not None
    declared = case.scenario.slis.get(sli.name)
    if declared is not None and declared.quantile is not None:
        return show_duration(sli.worst)
    window = round(declared.over / declared.every) if declared else None
    return figures.share(sli.worst, samples=window)


def _impact_finding(case: Case) -> str:
    score = case.score.impact
    if not case.impacts:
        return "No SLI left its steady state" if case.score.slis else ""
    if score.requests and score.failed:
        return f"{score.failed:,} of {score.requests:,} requests failed; users were outside the steady state for {time_outside(score)}"
    return f"Users were outside the steady state for {time_outside(score)}"


def detection(case: Case) -> Section | None:
    """Was it timely, what fired, what did not, and the rules behind it."""
    blocks: list[Block] = []
    if case.score.alerts:
        blocks.append(_alert_table(case))
    if case.reports:
        items = tuple(f"{case.clock(r.at)}  {r.sender}: “{r.text}”" for r in case.reports)
        blocks.append(Bullets(items, "People who spoke up"))
    if case.impacts and case.silent_rules:
        silent: list[tuple[Cell, ...]] = [
            (rule.name, rule.tier, Mono(str(rule.rule))) for rule in case.silent_rules
        ]
        blocks.append(
            table(
                "What did not fire", ("Alert", "Tier", "Rule"), tuple(silent), "What did not fire"
            )
        )
    elif case.impacts and not case.scenario.alerts and not case.score.alerts:
        blocks.append(Paragraph("The scenario has no alert; nothing could fire."))
    if not blocks:
        return None
    rules: list[tuple[Cell, ...]] = [
        (
            rule.name,
            Mono(str(rule.rule)) if rule.rule else f"synthetic, at {show_duration(rule.at or 0)}",
        )
        for rule in case.scenario.alerts
    ]
    rules += [(name, Mono(_query(sli))) for name, sli in case.scenario.slis.items()]
    blocks.append(
        table(
            "Rules and queries",
            ("Name", "Rule or query"),
            tuple(rules),
            "The rules and queries behind it",
        )
    )
    return Section("detection", "Detection", tuple(blocks), _detection_finding(case))


def _query(sli: Sli) -> str:
    where = f" {sli.path}" if sli.probe == "http" else ""
    service = f" of {sli.service}" if sli.service else ""
    what = (
        "share of good samples" if sli.quantile is None else f"quantile {sli.quantile:g} of latency"
    )
    return (
        f"{what} over {show_duration(sli.over)}; probe {sli.probe}{where}{service} "
        f"every {show_duration(sli.every)}; good: {sli.good}"
    )


def _alert_table(case: Case) -> Table:
    rows: list[tuple[Cell, ...]] = [
        (
            alert.alert,
            f"{alert.tier}, {alert.source}",
            case.instant(alert.fired),
            _delivered(case, alert),
            "–" if alert.acknowledged is None else case.clock(alert.acknowledged),
            "–" if alert.resolved is None else case.clock(alert.resolved),
        )
        for alert in case.score.alerts
    ]
    columns = ("Alert", "Tier, source", "Fired", "Delivered", "Acknowledged", "Resolved")
    return Table("What fired", columns, tuple(rows), "What fired")


def _delivered(case: Case, alert: AlertScore) -> str:
    text = "no" if alert.delivered is None else case.clock(alert.delivered)
    return f"{text} (not by {listed(alert.failed_channels)})" if alert.failed_channels else text


def _detection_finding(case: Case) -> str:
    if not case.impacts:
        return "An alert fired, and nothing was broken" if _false_alarm(case) else ""
    incident = case.impacts[0]
    timing = incident.timings.get("time_to_detect")
    if timing is None or len(case.impacts) > 1:
        return ""
    if timing.state is not State.MEASURED:
        return _sentence(reached(case, incident, "detect", "detected"))
    left, detect = incident.instants.get("impact"), incident.instants.get("detect")
    if left and detect and detect.high < left.low:
        lead = figures.timing(span(detect, left))
        return f"{_sentence(_source(timing))} told of it {lead} before users were hit"
    return f"{_sentence(_source(timing))} told of it {figures.timing(timing)} after the onset"


def _false_alarm(case: Case) -> bool:
    return any(incident.kind == "false-alarm" for incident in case.score.incidents)


def _source(timing: Timing) -> str:
    names = {
        "customer": "a customer",
        "declaration": "a declaration",
        "fixers": "the fixers",
        "ack": "an acknowledgement",
    }
    return names.get(timing.source, timing.source or "somebody")


def response(case: Case) -> Section | None:
    """Who took it up, when, and where the time went."""
    blocks: list[Block] = []
    acknowledgements = [
        (
            f"{alert.alert}, fired {case.clock(alert.fired.high)}",
            figures.timing(alert.to_acknowledge),
            figures.timing(alert.to_acknowledge_delivered),
            alert.to_acknowledge.note,
        )
        for alert in case.score.alerts
        if alert.tier == "page" and not alert.pre_existing
    ]
    if acknowledgements and case.anyone:
        columns = ("Page", "Acknowledged, from fired", "from delivered", "Remark")
        blocks.append(table("Acknowledgements", columns, tuple(acknowledgements)))
    for incident in case.impacts:
        steps = _where_time_went(incident)
        if len(steps) > 1:
            heading = "Where the time went" + (
                f" in incident {incident.number}" if len(case.impacts) > 1 else ""
            )
            blocks.append(table(heading, ("Step", "Duration"), tuple(steps), heading))
    if case.hands:
        done: tuple[Cell, ...] = tuple(
            f"{case.clock(c.at)}  {changed(c)}" for c in case.hands[:_SHOWN]
        )
        blocks.append(Bullets(done, "What was done to the system"))
    if not case.anyone and case.score.incidents:
        blocks.append(Paragraph("No fixer took part in this drill."))
    return (
        Section("response", "Response", tuple(blocks), _response_finding(case)) if blocks else None
    )


def _where_time_went(incident: Incident) -> list[tuple[Cell, ...]]:
    """The steps whose time was measured, as long as they come in this order."""
    known = [
        (incident.instants[name], words)
        for name, words in _STEPS
        if name in incident.instants and (name == "onset" or measured(incident, name))
    ]
    steps: list[tuple[Cell, ...]] = []
    for (begin, _), (end, words) in itertools.pairwise(known):
        if end.high < begin.low:
            return []
        if (begin.low, begin.high) == (end.low, end.high):
            continue
        steps.append((_sentence(words), figures.timing(span(begin, end))))
    return steps


def _response_finding(case: Case) -> str:
    pages = [a for a in case.score.alerts if a.tier == "page" and not a.pre_existing]
    if not case.anyone:
        return ""
    if len(pages) == 1 and pages[0].to_acknowledge.state in (State.MEASURED, State.CENSORED):
        return f"The page was {figures.to_timing('acknowledged', pages[0].to_acknowledge)}"
    return ""


def decisions(case: Case) -> Section | None:
    """What people said, as they said it; wording that blames is pointed out, never changed."""
    said = [s for s in case.verbs(*_DECISIONS) if s.text or s.verb != "note"]
    if not said:
        return None
    rows: list[tuple[Cell, ...]] = [
        (case.clock(s.at), _sentence(spoken(s)), Quote(s.text) if s.text else "")
        for s in said[:_SHOWN]
    ]
    blocks: list[Block] = [
        table("Decisions as they were made", ("At", "Who", "In their words"), tuple(rows))
    ]
    if len(said) > _SHOWN:
        blocks.append(Paragraph(f"And {len(said) - _SHOWN} more, in the appendix."))
    remarks = _remarks(case, said)
    if remarks:
        blocks.append(Bullets(tuple(remarks), "On wording"))
    return Section("decisions", "Decisions as they were made", tuple(blocks))


def _remarks(case: Case, said: list[Said]) -> list[Cell]:
    remarks: list[Cell] = [
        f"{case.clock(s.at)}  “{found.found}”: {found.why} {found.proposal}"
        for s in said
        for found in blame(s.text)
    ]
    return remarks[:10]


def mitigation(case: Case) -> Section | None:
    """When impact was cut, by whom, and what was claimed."""
    rows: list[tuple[str, Cell]] = []
    for incident in case.impacts:
        timing = incident.timings.get("time_to_mitigate")
        if timing is None:
            continue
        prefix = f"Incident {incident.number}" if len(case.impacts) > 1 else "Measured"
        when = incident.instants.get("mitigate")
        text = _sentence(reached(case, incident, "mitigate", "mitigated"))
        if when is not None and timing.state is State.MEASURED:
            text = f"inside acceptable bounds from {case.instant(when)} on"
        source = f", by {timing.source}" if timing.source and timing.state is State.MEASURED else ""
        said = not timing.note or text.endswith(timing.note)
        note = "" if said else f". {_sentence(timing.note)}"
        rows.append((prefix, f"{text}{source.replace('by self-healed', 'self-healed')}{note}"))
        if incident.relapses:
            rows.append(("Relapses", figures.count(incident.relapses, "time")))
    blocks: list[Block] = [Facts(tuple(rows))] if rows else []
    blocks += _claims(case, "mitigate")
    if not blocks:
        return None
    return Section(
        "mitigation", "Mitigation", tuple(blocks), _timed(case, "time_to_mitigate", "mitigated")
    )


def _timed(case: Case, timing: str, word: str) -> str:
    if len(case.impacts) != 1:
        return ""
    found = case.impacts[0].timings.get(timing)
    if found is None or found.state not in (State.MEASURED, State.CENSORED):
        return ""
    by = f", {found.source}" if found.source == "self-healed" else ""
    since = "after impact" if found.note == FROM_IMPACT else "after detection"
    return _sentence(figures.to_timing(word, found, since=since)) + by


def _claims(case: Case, *verbs: str) -> list[Block]:
    rows: list[tuple[Cell, ...]] = [
        (
            case.clock(claim.at),
            f"{claim.role}: {claim.verb}",
            claim.seen,
            {True: "yes", False: "no", None: "cannot tell"}[claim.held],
        )
        for claim in case.score.claims
        if claim.verb in verbs
    ]
    if not rows:
        return []
    return [
        table("Claims beside measurements", ("At", "Said", "Measured then", "Agrees"), tuple(rows))
    ]


def resolution(case: Case) -> Section | None:
    """What was said to be over, beside what was measured."""
    blocks = _claims(case, "resolve", "all-clear")
    finding = ""
    ends = [claim for claim in case.score.claims if claim.verb in ("resolve", "all-clear")]
    if ends and any(claim.held is False for claim in ends):
        finding = "It was declared over while something still was not"
    if not blocks and case.anyone and case.impacts:
        blocks = [
            Paragraph("Nobody said that it was over: neither resolve nor all-clear was recorded.")
        ]
    return Section("resolution", "Resolution", tuple(blocks), finding) if blocks else None


def recovery(case: Case) -> Section | None:
    """How each injection ended, and whether the steady state came back."""
    if not case.score.injections:
        return _recovery_of_others(case)
    rows: list[tuple[Cell, ...]] = [
        (
            Mono(injection.fault),
            injection.target,
            "never" if injection.called is None else case.clock(injection.called),
            "never seen" if injection.took_effect is None else case.instant(injection.took_effect),
            "–" if injection.ended is None else case.instant(injection.ended),
            _how(injection.how, injection.by, injection.healthy)
            + (f". {injection.detail}" if injection.detail else ""),
        )
        for injection in case.score.injections
    ]
    columns = ("Fault", "Target", "Called", "Took effect", "Ended", "How")
    blocks: list[Block] = [table("What was injected, and how it ended", columns, tuple(rows))]
    restored = _timed(case, "time_to_restore", "restored")
    if case.ended is not None and case.ended.steady_after is not None:
        again = "held again" if case.ended.steady_after else "did not hold again"
        left = listed(case.left_behind) if not case.ended.steady_after else ""
        why = f" Left behind by people, and not ours to take back: {left}." if left else ""
        blocks.append(
            Paragraph(f"After everything of ours was put back, the steady state {again}.{why}")
        )
    failed = [i for i in case.score.injections if i.how == "failed"]
    if failed:
        restored = f"What was done to {listed(i.target for i in failed)} could not be put back"
    return Section("recovery", "Recovery", tuple(blocks), restored)


def _recovery_of_others(case: Case) -> Section | None:
    """Nothing was injected, but people's own changes outlasted the drill."""
    left = listed(case.left_behind)
    if not left or case.ended is None or case.ended.steady_after is not False:
        return None
    text = f"The steady state did not hold at the end. Left behind by people: {left}."
    return Section("recovery", "Recovery", (Paragraph(text),))


def _how(how: str, by: str, healthy: bool) -> str:
    text = {
        "put-back": "put back by us",
        "taken-over": f"undone by {by or 'somebody else'} before we did",
        "nothing": "nothing to undo",
        "failed": "could not be put back",
    }.get(how, how)
    return text if healthy else f"{text}, but not healthy"


def causes(case: Case) -> str:
    """What was done to the system, in one phrase; empty if nothing was."""
    return listed(dict.fromkeys(what_was_done(i) for i in case.injected))
