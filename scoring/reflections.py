"""Sections of the debrief to learn from.

What the evidence shows is said; what only people can know is asked.
"""

from __future__ import annotations

from collections.abc import Sequence

from gameday.scoring.accounts import causes, measured, reached
from gameday.scoring.case import Case, listed, quoted, span, time_outside
from gameday.scoring.document import (
    ActionItem,
    Actions,
    Block,
    Bullets,
    Cell,
    Questions,
    Section,
    Table,
    Why,
    Whys,
)
from gameday.scoring.render import figures
from gameday.scoring.score import Finding, Incident, State, Verdict

__all__ = ["reflections"]


def reflections(case: Case, items: Sequence[ActionItem]) -> list[Section]:
    """The sections that have something to say, or one question to ask."""
    sections = (
        _findings(case, "well", "What went well"),
        _findings(case, "poorly", "What went poorly"),
        _findings(case, "lucky", "Where we got lucky"),
        surprises(case),
        factors(case),
        five_whys(case),
        lessons(case),
        Section("actions", "Action items", (Actions(tuple(items)),)) if items else None,
        questions(case),
    )
    return [section for section in sections if section is not None]


def _line(case: Case, finding: Finding) -> str:
    at = "" if finding.at is None else f"{case.clock(finding.at)}  "
    return at + finding.text


def _findings(case: Case, kind: str, name: str) -> Section | None:
    everything = case.findings(kind)
    # Verdicts stand in a table of their own; here they would only be said twice.
    found = [finding for finding in everything if finding.id not in ("supported", "refuted")]
    found = found or everything
    if not found:
        return None
    return Section(kind, name, (Bullets(tuple(_line(case, finding) for finding in found)),))


def surprises(case: Case) -> Section | None:
    """What surprised us, and what was not known at the time."""
    blocks: list[Block] = []
    found = case.findings("surprise")
    if found:
        blocks.append(Bullets(tuple(_line(case, finding) for finding in found)))
    unknown = [line for incident in case.score.incidents for line in _unknown_then(case, incident)]
    if unknown:
        blocks.append(Bullets(tuple(unknown), "Not known at the time"))
    if not blocks:
        return None
    return Section("surprises", "What surprised us, what was not known at the time", tuple(blocks))


def _unknown_then(case: Case, incident: Incident) -> list[Cell]:
    """Which knowledge was missing, and for how long."""
    which = f" of incident {incident.number}" if len(case.score.incidents) > 1 else ""
    when = incident.instants
    lines: list[Cell] = []
    if incident.kind == "false-alarm":
        if {"alert", "all_clear"} <= when.keys():
            length = figures.timing(span(when["alert"], when["all_clear"]))
            lines.append(f"For {length}{which}, it was not known that nothing was broken.")
        return lines
    if {"onset", "detect"} <= when.keys():
        length = figures.timing(span(when["onset"], when["detect"]))
        early = any(at < when["detect"].low for at in case.told(incident))
        how = "it was not detected" if early else "nothing told anybody"
        lines.append(f"For {length} from the onset{which}, {how}.")
    elif "onset" in when and incident.kind == "impact" and not case.told(incident):
        end = "its end" if "restore" in when else "the end of the drill"
        lines.append(f"From the onset{which} to {end}, nothing told anybody.")
    if {"detect", "identify"} <= when.keys():
        length = figures.timing(span(when["detect"], when["identify"]))
        lines.append(f"For another {length} the symptom was known and the cause was not.")
    elif "detect" in when and case.anyone:
        lines.append(
            f"{_no_diagnosis(case, which)}: whether the cause was known, the journal does not say."
        )
    return lines


def _no_diagnosis(case: Case, which: str = "") -> str:
    """That none was recorded; or only one before there was anything to diagnose."""
    noticed = [i.instants["detect"].low for i in case.impacts if "detect" in i.instants]
    early = [said.at for said in case.verbs("identify") if said.at < min(noticed, default=0.0)]
    if not early:
        return f"No diagnosis was recorded{which}"
    at = case.clock(early[-1])
    return f"The only diagnosis{which} was recorded at {at}, before anything was noticed"


def factors(case: Case) -> Section | None:
    """Contributing factors: several, of systems and processes."""
    if not case.score.incidents:
        return None
    items = [*_trigger(case), *_propagation(case), *_delays(case), *_pages(case)]
    if not items:
        return None
    return Section("factors", "Contributing factors (root causes)", (Bullets(tuple(items)),))


def _trigger(case: Case) -> list[Cell]:
    if causes(case):
        lines: list[Cell] = [f"The trigger was this drill’s own: {causes(case)}."]
    elif any(i.kind == "false-alarm" for i in case.score.incidents):
        lines = ["An alert that nothing in the system had caused."]
    else:
        lines = ["No fault of this drill’s: the cause is not known from the journal."]
    lines += [
        f"Users were hit in incident {i.number} without a fault of ours in force."
        for i in case.impacts
        if not i.injections and case.injected
    ]
    return lines


def _propagation(case: Case) -> list[Cell]:
    """What carried the trigger to users."""
    errors = sorted(case.score.impact.errors.items(), key=lambda item: (-item[1], item[0]))
    lines: list[Cell] = [
        f"It reached users as {name} ({figures.count(number, 'time')}): what stands between, such as health "
        "checks, timeouts and retries, let it through."
        for name, number in errors[:1]
    ]
    lines += [
        f"The belief {quoted(score.claim)} did not hold."
        for score in case.verdicts(Verdict.REFUTED)
        if _is_sli(case, score.expect)
    ]
    return lines


def _is_sli(case: Case, expect: str) -> bool:
    return any(expect.strip().startswith(name) for name in case.scenario.slis)


def _delays(case: Case) -> list[Cell]:
    """What made it last."""
    lines: list[Cell] = []
    for incident in case.impacts:
        name = case.named(incident)
        detect = incident.timings.get("time_to_detect")
        if detect is not None and detect.state is State.CENSORED:
            lines.append(
                f"No alert on an SLI, declaration or customer told of {name}."
                if case.told(incident)
                else f"Nothing detected {name}: alerts, declarations and reports were all absent."
            )
        elif (
            detect is not None
            and detect.state is State.MEASURED
            and _share(incident, "onset", "detect") > 0.3
        ):
            lines.append(f"Detection took {figures.timing(detect)} of {name}.")
        if measured(incident, "mitigate") and _share(incident, "identify", "mitigate") > 0.3:
            length = figures.timing(
                span(incident.instants["identify"], incident.instants["mitigate"])
            )
            lines.append(f"From the diagnosis to the mitigation of {name} it took {length}.")
        if incident.relapses:
            lines.append(f"A mitigation of {name} did not hold.")
    silent = [rule.name for rule in case.silent_rules] if case.unalerted else []
    if silent:
        verb = "rule" if len(silent) == 1 else "rules"
        lines.append(f"The {verb} of {listed(silent)} did not match what happened.")
    return lines


def _share(incident: Incident, first: str, last: str) -> float:
    """The share of the time to mitigated that one step took."""
    when = incident.instants
    if not {"onset", "mitigate", first, last} <= when.keys():
        return 0.0
    whole = span(when["onset"], when["mitigate"]).value or 0.0
    part = span(when[first], when[last]).value or 0.0
    return part / whole if whole > 0 else 0.0


def _pages(case: Case) -> list[Cell]:
    fired = {alert.alert for alert in case.score.alerts}
    bare = [
        r.name for r in case.scenario.alerts if r.name in fired and not (r.first_step and r.verify)
    ]
    lines: list[Cell] = [
        f"The page {name} did not say where to verify it, or what to try first." for name in bare
    ]
    failed = sorted({name for alert in case.score.alerts for name in alert.failed_channels})
    lines += [f"The channel {name} did not deliver." for name in failed]
    if case.hints:
        given = figures.count(len(case.hints), "hint")
        lines.append(f"What was needed stood in no runbook: {given} given.")
    return lines


def five_whys(case: Case) -> Section | None:
    """Questions, with the evidence at hand; the answers are for the people concerned."""
    if case.impacts:
        items = _whys_of_impact(case)
    elif any(i.kind == "false-alarm" for i in case.score.incidents):
        items = _whys_of_false_alarm(case)
    else:
        return None
    return Section("whys", "Five whys", (Whys(tuple(items)),))


def _whys_of_impact(case: Case) -> list[Why]:
    incident = case.impacts[0]
    cause = causes(case)
    errors = sorted(case.score.impact.errors.items(), key=lambda item: (-item[1], item[0]))
    seen = f"{errors[0][0]}, {figures.count(errors[0][1], 'time')}" if errors else ""
    silent = listed(rule.name for rule in case.silent_rules) if case.unalerted else ""
    detect = incident.timings.get("time_to_detect")
    tested = listed(quoted(s.claim) for s in case.verdicts(Verdict.REFUTED))
    return [
        Why(
            f"Why did users notice{' that ' + cause if cause else ''}?",
            f"Outside the steady state for {time_outside(case.score.impact).rstrip(',')}.",
        ),
        Why(
            "Why did what stands between them and the fault let it through?",
            f"Users met {seen}."
            if seen
            else "What users met is not known: the probes alone tell of it.",
        ),
        Why(
            "Why was it noticed when it was, and not earlier?",
            _capital(reached(case, incident, "detect", "detected"))
            + (f", by {detect.source}" if detect and detect.source else "")
            + (f"; silent: {silent}" if silent else "")
            + ".",
        ),
        Why(
            "Why did it take as long as it did to cut the impact?",
            f"{_capital(reached(case, incident, 'mitigate', 'mitigated', since='after detection'))}."
            + _asked(case),
        ),
        Why(
            "Why did nothing show this before the drill?",
            f"Until today we believed: {tested}."
            if tested
            else "Which test, review or alert would show it the next time?",
        ),
    ]


def _capital(text: str) -> str:
    return text[:1].upper() + text[1:]


def _asked(case: Case) -> str:
    return f" {_capital(case.about_hints)}." if case.about_hints else ""


def _whys_of_false_alarm(case: Case) -> list[Why]:
    alerts = [alert for alert in case.score.alerts if alert.incident]
    names = listed(dict.fromkeys(alert.alert for alert in alerts)) or "an alert"
    incident = next(i for i in case.score.incidents if i.kind == "false-alarm")
    return [
        Why(
            f"Why could {names} fire while nothing was broken?",
            "No fault was in force, and no SLI left its steady state.",
        ),
        Why(
            "Why was the page taken for real, or not?",
            f"{_capital(reached(case, incident, 'ack', 'acknowledged'))}.",
        ),
        Why(
            "Why did it take as long as it did to know that nothing was broken?",
            f"{_capital(reached(case, incident, 'all_clear', 'cleared'))}.",
        ),
        Why("Why does the page not say how to tell?", _verify(case)),
        Why(
            "Why would the next false alarm be recognised sooner?",
            "What changed in the page, the rule or the runbook since?",
        ),
    ]


def _verify(case: Case) -> str:
    told = [rule.verify for rule in case.scenario.alerts if rule.verify]
    return f"It says: “{told[0]}”" if told else "The page does not say where to verify it."


def lessons(case: Case) -> Section | None:
    """Lessons about systems, processes and people: what the evidence says, and what it cannot."""
    if not case.score.incidents:
        return None
    rows: list[tuple[Cell, ...]] = [
        ("Systems", _system_lesson(case), "Where else would the same thing happen?"),
        (
            "Processes",
            _process_lesson(case),
            "Which step would you do differently, and what would make it the easy one?",
        ),
        ("People", _people_lesson(case), "What did somebody know that is written nowhere?"),
    ]
    return Section(
        "lessons",
        "Lessons",
        (Table("Lessons", ("About", "The evidence", "For you to answer"), tuple(rows)),),
    )


def _system_lesson(case: Case) -> str:
    held = [s for s in case.verdicts(Verdict.SUPPORTED) if _is_sli(case, s.expect)]
    broke = [s for s in case.verdicts(Verdict.REFUTED) if _is_sli(case, s.expect)]
    parts = []
    if broke:
        parts.append(f"Did not hold: {listed(s.expect for s in broke)}")
    if held:
        parts.append(f"Held: {listed(s.expect for s in held)}")
    return ". ".join(parts) + "." if parts else "No hypothesis on an SLI was decided."


def _process_lesson(case: Case) -> str:
    incident = case.score.incidents[0]
    words = (
        ("time_to_detect", "detected"),
        ("time_to_acknowledge", "acknowledged"),
        ("time_to_identify", "identified"),
        ("time_to_mitigate", "mitigated"),
        ("time_to_all_clear", "cleared"),
    )
    known = [
        figures.to_timing(word, timing, since=_SINCE.get(name, ""))
        for name, word in words
        if (timing := incident.timings.get(name))
        and timing.state in (State.MEASURED, State.CENSORED)
    ]
    which = f"In incident {incident.number}: " if len(case.score.incidents) > 1 else ""
    return (
        f"{which}{_capital(listed(known)) if not which else listed(known)}."
        if known
        else "No step was timed."
    )


_SINCE = {
    "time_to_detect": "after onset",
    "time_to_acknowledge": "after the page",
    "time_to_identify": "after detection",
    "time_to_mitigate": "after detection",
    "time_to_all_clear": "after the alert",
}


def _people_lesson(case: Case) -> str:
    if not case.anyone:
        return "No fixer took part."
    updates = len(case.verbs("update"))
    given = f"{figures.count(updates, 'update')} given" if updates else "No update given"
    asked = case.about_hints or "no hint asked for"
    roles = listed(dict.fromkeys(said.role for said in case.said)) or "nobody"
    scripted = all(said.scripted for said in case.said) and bool(case.said)
    who = (
        "The scripted fixer responded; nobody’s practice was tested"
        if scripted
        else f"Spoke up: {roles}"
    )
    return f"{who}. {given}, {asked}."


def questions(case: Case) -> Section:
    """For the discussion: the scenario's own, and ours from the evidence."""
    blocks: list[Block] = []
    own = tuple(" ".join(question.split()) for question in case.scenario.debrief.questions)
    if own:
        blocks.append(Questions(own, "From the scenario"))
    blocks.append(Questions(tuple(_from_evidence(case)), "From the evidence" if own else ""))
    return Section("questions", "Questions for the discussion", tuple(blocks))


def _from_evidence(case: Case) -> list[str]:
    asked: list[str] = []
    if not case.findings("well"):
        asked.append("What went well, and how do we make sure that it does so again?")
    if not case.findings("poorly") and case.score.incidents:
        asked.append("What was harder than it needed to be?")
    if not case.findings("lucky") and case.impacts:
        asked.append("What would have happened at ten times the load, or at four in the morning?")
    for score in case.verdicts(Verdict.REFUTED)[:3]:
        asked.append(f"We believed: {quoted(score.claim)}. What made us believe it?")
    for claim in case.score.claims:
        if claim.held is False:
            asked.append(
                f"At {case.clock(claim.at)} “{claim.verb}” was said while the measurements did not agree. "
                "What did it look like from where it was said?"
            )
    if (
        any("detect" in i.instants and "identify" not in i.instants for i in case.impacts)
        and case.anyone
    ):
        asked.append(f"{_no_diagnosis(case)}. How was it decided what to do?")
    if case.hints:
        asked.append("Which knowledge did the hints stand in for, and where does it belong?")
    if any(i.relapses for i in case.score.incidents):
        asked.append("How could we have seen that the first mitigation would not hold?")
    if case.impacts:
        asked.append("Who needed to know, and did not hear of it?")
    if case.score.begun is None:
        asked.append("What does this drill need before it can begin?")
    elif case.whole_control and not case.score.incidents:
        asked.append("What did the control show about the way we measure?")
    asked.append("What surprised you?")
    return list(dict.fromkeys(asked))[:10]
