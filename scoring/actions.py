"""Action items proposed from the evidence: each with a type, an owner's role, a due date and, where possible, its proof.

They are proposals: people strike out, merge and take over. None speaks of a person.
"""

from __future__ import annotations

import datetime
import math
from collections.abc import Iterator

from gameday.scenarios.expressions import names_of, parse_comparison
from gameday.scoring.case import Case, listed, quoted, what_was_done
from gameday.scoring.checks import judge
from gameday.scoring.document import ActionItem
from gameday.scoring.render import figures
from gameday.scoring.score import AlertScore, Incident, State, Timing, Verdict

__all__ = ["action_items", "due_date"]

_ON_CALL = "on-call team"
_MONITORING = "owner of the monitoring"
_FOR_PEOPLE = "No expectation of a scenario can prove this; people must judge whether it is done."
_PRIORITIES = ("high", "medium", "low")


def due_date(severity: str, date: datetime.date) -> datetime.date:
    """Critical incidents: within 24 hours; major ones: 3 days; all others: a week."""
    days = {"SEV-0": 1, "SEV-1": 1, "P1": 1, "SEV-2": 3, "P2": 3}.get(severity, 7)
    return date + datetime.timedelta(days=days)


def action_items(case: Case) -> tuple[ActionItem, ...]:
    """What to do about what was seen, most urgent first; at most one item for each cause."""
    if case.whole_control and not case.findings("poorly", "lucky", "surprise", "validity"):
        return ()
    items: dict[str, ActionItem] = {}
    for rule in _RULES:
        for item in rule(case):
            items.setdefault(item.id, item)
    return tuple(sorted(items.values(), key=lambda item: _PRIORITIES.index(item.priority)))


def _proof(identity: str, claim: str, expect: str) -> str:
    """A hypothesis for the scenario file; none without an expectation."""
    if not expect:
        return ""
    return f'- id: {identity}\n  claim: {claim}\n  expect: "{expect}"\n'


def _judged(expect: str) -> str:
    """What stands in place of a proof."""
    return "" if expect else f" {_FOR_PEOPLE}"


def _item(
    case: Case,
    identity: str,
    title: str,
    *,
    kind: str,
    owner: str,
    priority: str,
    why: str,
    proof: str = "",
) -> ActionItem:
    return ActionItem(
        id=f"{case.scenario.name}/{identity}",
        title=title,
        type=kind,
        owner=owner,
        due=due_date(case.scenario.severity, case.date).isoformat(),
        priority=priority,
        why=why,
        proof=proof,
    )


def _expected(case: Case, timing: str, default: str) -> str:
    """The scenario's own expectation of a timing, else a proposal of ours; empty if this drill has met both.

    What holds already, before anything is mended, proves nothing.
    """
    met = {h.id for h in case.verdicts(Verdict.SUPPORTED)}
    own = [h for h in case.scenario.hypotheses if h.comparison.name == timing]
    for hypothesis in own:
        if hypothesis.id not in met:
            return hypothesis.expect
    expect = f"{timing} {default}"
    found = [i.timings[timing] for i in case.score.incidents if timing in i.timings]
    known = [t for t in found if t.state is not State.NOT_APPLICABLE]
    bound = parse_comparison(expect)
    holds = bool(known) and all(judge(t, bound) is Verdict.SUPPORTED for t in known)
    return "" if holds else expect


def _not_put_back(case: Case) -> Iterator[ActionItem]:
    for injection in case.score.injections:
        if injection.how == "failed":
            yield _item(
                case,
                f"put-back-{injection.id}",
                f"Put {injection.target} back by hand, and find out why the undo of {injection.fault} did not",
                kind="respond",
                owner="facilitator",
                priority="high",
                why=f"{injection.fault} on {injection.target} could not be put back. {injection.detail}".strip(),
            )
        elif not injection.healthy:
            yield _item(
                case,
                f"recovery-{injection.target}",
                f"Find out why {injection.target} did not come back as it was after {injection.fault} ended",
                kind="prevent",
                owner=case.owner,
                priority="high",
                why=f"The fault was taken back, and the target was not as before. {injection.detail}".strip(),
            )


def _refuted_slis(case: Case) -> Iterator[ActionItem]:
    done = [what_was_done(injection) for injection in case.injected]
    cause = "another cause than ours" if not done else done[0]
    for score in case.verdicts(Verdict.REFUTED):
        hypothesis = next((h for h in case.scenario.hypotheses if h.id == score.id), None)
        if hypothesis is None or hypothesis.comparison.name not in case.scenario.slis:
            continue
        yield _item(
            case,
            f"hold-{score.id}",
            f"Keep {hypothesis.comparison} when {_again(case, cause)}",
            kind="prevent",
            owner=case.owner,
            priority="high",
            why=score.evidence,
            proof=_proof(score.id, _yaml(score.claim), score.expect),
        )


def _again(case: Case, cause: str) -> str:
    return (
        cause.replace(" was ", " is ")
        .replace(" were ", " are ")
        .replace(" swallowed ", " swallows ")
    )


def _yaml(text: str) -> str:
    """A text as a YAML scalar in double quotes, on one line."""
    flat = " ".join(text.split())
    return '"' + flat.replace("\\", "\\\\").replace('"', '\\"') + '"'


def _impact_first(case: Case) -> Iterator[ActionItem]:
    """Nothing of the team's own saw the impact, or somebody else saw it first."""
    for incident in case.impacts:
        timing = incident.timings.get("time_to_detect")
        detect = incident.instants.get("detect")
        if timing is not None and timing.state is State.CENSORED:
            late = figures.to_timing("detected", timing)
            name = case.named(incident)
            why = (
                f"{name[:1].upper()}{name[1:]} was {late}."
                if case.told(incident)
                else f"Nothing told of {name}: {late}."
            )
        elif detect is not None and detect.source and detect.source not in ("monitoring", "alert"):
            why = f"The {detect.source} noticed {case.named(incident)} before any alert on an SLI did."
        else:
            continue
        page = _page_that_fired(case, incident)
        if page is not None:
            yield _fire_sooner(case, incident, page, why)
            continue
        expect = _expected(case, "time_to_detect", "<= 15s") or _sooner(timing)
        slis = ", ".join(case.scenario.steady_state)
        yield _item(
            case,
            "alert-on-impact",
            f"Alert when users are hit: a page on {slis} leaving the steady state",
            kind="detect",
            owner=_MONITORING,
            priority="high",
            why=why + _judged(expect),
            proof=_proof("impact-is-detected", "Impact is detected in time.", expect),
        )


def _page_that_fired(case: Case, incident: Incident) -> AlertScore | None:
    """The first page of a rule on an SLI of the steady state that fired in that incident."""
    rules = {
        rule.name
        for rule in case.scenario.alerts
        if rule.rule is not None
        and not case.scenario.steady_state.keys().isdisjoint(names_of(rule.rule.condition))
    }
    fired = [
        alert
        for alert in case.score.alerts
        if alert.alert in rules and alert.tier == "page" and alert.incident == incident.number
    ]
    return min(fired, key=lambda alert: alert.fired.high, default=None)


def _fire_sooner(case: Case, incident: Incident, page: AlertScore, why: str) -> ActionItem:
    detect = incident.timings.get("time_to_detect")
    users = detect is not None and detect.source == "customer"
    expect = _sooner(detect)
    return _item(
        case,
        f"sooner-{page.alert.lower()}",
        f"Let {page.alert} fire before {'users report' if users else 'people notice'}: "
        "lower its hold time or its threshold",
        kind="detect",
        owner=_MONITORING,
        priority="high",
        why=f"{why} {page.alert} fired at {case.instant(page.fired)}.{_judged(expect)}",
        proof=_proof(
            "page-comes-first",
            f"{page.alert} fires before {'the first report of a user' if users else 'people notice'}.",
            expect,
        ),
    )


def _sooner(timing: Timing | None) -> str:
    """An expectation in whole seconds that this drill surely did not meet; empty if there is none."""
    if timing is None or timing.state is not State.MEASURED or timing.low is None:
        return ""
    bound = math.ceil(timing.low) - 1
    return f"time_to_detect <= {bound}s" if bound > 0 else ""


def _slow_detection(case: Case) -> Iterator[ActionItem]:
    yield from _late(
        case,
        "time_to_detect",
        "Shorten the way from impact to alert: the rule’s window, its hold time and its threshold",
        "detect",
        _MONITORING,
    )


def _slow_response(case: Case) -> Iterator[ActionItem]:
    yield from _late(
        case,
        "time_to_acknowledge",
        "Check how pages reach on-call: channel, device, repeat and escalation",
        "respond",
        _ON_CALL,
    )
    yield from _late(
        case,
        "time_to_identify",
        "Put into the page what led to the diagnosis in this drill",
        "respond",
        _ON_CALL,
    )
    yield from _late(
        case,
        "time_to_mitigate",
        "Make the step that helped one command, at the top of the runbook, or let the system take it itself"
        if any(
            i.instants["mitigate"].source == "fixers"
            for i in case.impacts
            if "mitigate" in i.instants
        )
        else "Find the step that cuts such an impact, and put it at the top of the runbook",
        "respond",
        case.owner,
    )
    yield from _late(
        case,
        "time_to_all_clear",
        "Let the page say how to tell in a minute that nothing is broken",
        "respond",
        _MONITORING,
    )


def _late(case: Case, timing: str, title: str, kind: str, owner: str) -> Iterator[ActionItem]:
    for score in case.verdicts(Verdict.REFUTED):
        hypothesis = next((h for h in case.scenario.hypotheses if h.id == score.id), None)
        if hypothesis is None or hypothesis.comparison.name != timing:
            continue
        nobody = not case.anyone and timing != "time_to_detect"
        yield _item(
            case,
            timing.replace("_", "-"),
            "Run this drill again with fixers" if nobody else title,
            kind=kind,
            owner="facilitator" if nobody else owner,
            priority="medium",
            why=f"{score.evidence} Nobody responded in this drill." if nobody else score.evidence,
            proof=_proof(score.id, _yaml(score.claim), score.expect),
        )


def _silent(case: Case) -> Iterator[ActionItem]:
    """A rule on an SLI stayed silent while users were outside the steady state."""
    if not case.unalerted:
        return
    expect = _expected(case, "time_to_detect", "<= 15s")
    for rule in case.silent_rules:
        yield _item(
            case,
            f"silent-{rule.name.lower()}",
            f"Let {rule.name} fire on an incident such as this, or remove it",
            kind="detect",
            owner=_MONITORING,
            priority="medium",
            why=f"It did not fire although the steady state was left; its rule is: {rule.when}."
            + _judged(expect),
            proof=_proof(
                "paged-in-time",
                "On-call is told in time.",
                expect,
            ),
        )


def _undelivered(case: Case) -> Iterator[ActionItem]:
    failed = sorted({name for alert in case.score.alerts for name in alert.failed_channels})
    expect = _expected(case, "time_to_acknowledge", "<= 60s")
    for channel in failed:
        yield _item(
            case,
            f"channel-{channel}",
            f"Repair the channel {channel}, and page over a second one that shares nothing with it",
            kind="respond",
            owner=_MONITORING,
            priority="high",
            why=f"{channel} did not accept a page, after all retries.{_judged(expect)}",
            proof=_proof(
                "page-acknowledged",
                "A page is acknowledged in time.",
                expect,
            ),
        )


def _claims(case: Case) -> Iterator[ActionItem]:
    for claim in case.score.claims:
        if claim.held is False:
            yield _item(
                case,
                f"see-before-{claim.verb}",
                f"Show the SLIs, the open alerts and the steady state where “{claim.verb}” is said",
                kind="respond",
                owner=_ON_CALL,
                priority="medium",
                why=f"“{claim.verb}” at {case.clock(claim.at)} did not agree with the measurement: {claim.seen}",
            )


def _relapses(case: Case) -> Iterator[ActionItem]:
    for incident in case.score.incidents:
        if incident.relapses:
            yield _item(
                case,
                "relapse",
                "Find out what brought the impact back after it had been mitigated",
                kind="prevent",
                owner=case.owner,
                priority="high",
                why=f"In {case.named(incident)}, an SLI left its bounds again after a mitigation, "
                f"{figures.count(incident.relapses, 'time')}.",
            )


def _pages(case: Case) -> Iterator[ActionItem]:
    """Pages that fired without what a person needs in the first seconds."""
    fired = {alert.alert for alert in case.score.alerts if alert.tier == "page"}
    fields = {
        "impact": "who feels it",
        "verify": "where to verify it",
        "first_step": "what to try first",
        "escalate": "whom to call",
        "runbook": "the runbook",
    }
    for rule in case.scenario.alerts:
        missing = [words for field, words in fields.items() if not getattr(rule, field)]
        if rule.name in fired and missing:
            yield _item(
                case,
                f"page-{rule.name.lower()}",
                f"Complete the page {rule.name}: {', '.join(missing)}",
                kind="respond",
                owner=_MONITORING,
                priority="low",
                why=f"The page did not say {', '.join(missing)}.",
            )


def _hints(case: Case) -> Iterator[ActionItem]:
    if case.hints:
        expect = _expected(case, "time_to_identify", "<= 60s")
        yield _item(
            case,
            "hints-to-runbook",
            "Write into the runbook what the hints gave away",
            kind="respond",
            owner=_ON_CALL,
            priority="medium",
            why=f"{figures.count(len(case.hints), 'hint')} given, the first at {case.clock(case.hints[0].at)}."
            + _judged(expect),
            proof=_proof(
                "identified-in-time",
                "On-call finds the cause without a hint.",
                expect,
            ),
        )


def _noise(case: Case) -> Iterator[ActionItem]:
    names = sorted({alert.alert for alert in case.score.alerts if alert.pre_existing})
    for name in names:
        yield _item(
            case,
            f"noise-{name.lower()}",
            f"Find out why {name} fired while nothing was broken",
            kind="detect",
            owner=_MONITORING,
            priority="low",
            why=f"{name} fired before the first fault.",
        )


def _open_incident(case: Case) -> Iterator[ActionItem]:
    """Impact that is not ours to explain."""
    for incident in case.impacts:
        if not incident.injections and case.injected:
            yield _item(
                case,
                "unexplained-impact",
                "Explain the impact that no fault of this drill caused",
                kind="prevent",
                owner=case.owner,
                priority="high",
                why=_unexplained(case, incident),
            )


def _unexplained(case: Case, incident: Incident) -> str:
    impact = incident.instants.get("impact")
    when = f" at {case.instant(impact)}" if impact else ""
    return f"In {case.named(incident)} the steady state was left{when}, and no injection accounts for it."


def _inconclusive(case: Case) -> Iterator[ActionItem]:
    for score in case.verdicts(Verdict.INCONCLUSIVE):
        if case.whole_control and score.expect.startswith("time_to_"):
            continue  # without an incident there was nothing to time, and nothing is amiss
        yield _item(
            case,
            f"measure-{score.id}",
            f"Make {quoted(score.claim)} measurable, and run the drill again",
            kind="detect",
            owner="facilitator",
            priority="low",
            why=score.evidence,
            proof=_proof(score.id, _yaml(score.claim), score.expect),
        )


_FOUND = {
    "alert-missed": (
        "Find out why an alert stayed silent although its condition held",
        "detect",
        _MONITORING,
        "high",
    ),
    "unwatched-endpoint": (
        "Watch with an SLI and an alert what users met and nothing measured",
        "detect",
        _MONITORING,
        "medium",
    ),
    "unexpected-sli": (
        "State what is expected of the SLI that moved and that no hypothesis speaks of",
        "detect",
        "facilitator",
        "low",
    ),
    "late-delivery": (
        "Find out what held the page up between firing and delivery",
        "respond",
        _MONITORING,
        "medium",
    ),
    "unsteady-after": (
        "Find out why the steady state did not hold after everything was put back",
        "prevent",
        "",
        "high",
    ),
}


def _found(case: Case) -> Iterator[ActionItem]:
    """Findings that call for the same step wherever they turn up."""
    for finding in case.score.findings:
        if finding.id in _FOUND:
            title, kind, owner, priority = _FOUND[finding.id]
            why = finding.text
            if finding.id == "unsteady-after" and case.left_behind:
                title = "Take back what people changed in this drill, or make it part of the system"
                why += f" Of what people changed, {listed(case.left_behind)}."
            yield _item(
                case,
                finding.id,
                title,
                kind=kind,
                owner=owner or case.owner,
                priority=priority,
                why=why,
            )


_RULES = (
    _not_put_back,
    _refuted_slis,
    _open_incident,
    _impact_first,
    _relapses,
    _undelivered,
    _slow_detection,
    _slow_response,
    _silent,
    _claims,
    _hints,
    _pages,
    _noise,
    _found,
    _inconclusive,
)
