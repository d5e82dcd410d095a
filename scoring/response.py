"""Findings about the response and its course: claims, relapses, mitigations that held."""

from __future__ import annotations

from collections.abc import Iterator

from gameday.scoring.evidence import Evidence, between, moment, seconds
from gameday.scoring.facts import is_responder
from gameday.scoring.incidents import Draft
from gameday.scoring.instants import show_timing
from gameday.scoring.narration import changed
from gameday.scoring.score import Finding, Incident, State

__all__ = ["RULES"]

QUICK_ACK = 60.0
"""Seconds within which an acknowledgement is worth a good word."""

JUST_BEFORE = 1.0
"""Seconds before an impact within which what somebody changed is named beside it."""


def _acknowledging(e: Evidence) -> Iterator[Finding]:
    for alert in e.alerts:
        if alert.tier != "page" or alert.pre_existing or not alert.incident:
            continue
        timing = alert.to_acknowledge
        if timing.state is State.CENSORED:
            yield Finding(
                "unacknowledged",
                "poorly",
                f"The page {alert.alert} was not acknowledged within {seconds(timing.low or 0.0)}.",
                alert.fired.high,
                alert.incident,
            )
        elif timing.state is State.MEASURED and (timing.high or 0.0) <= QUICK_ACK:
            yield Finding(
                "quick-ack",
                "well",
                f"The page {alert.alert} was acknowledged after {show_timing(timing)}.",
                alert.acknowledged,
                alert.incident,
            )
    for incident in e.incidents:
        if incident.timings["time_to_acknowledge"].note == "noticed first":
            yield Finding(
                "noticed-first",
                "well",
                "The incident was noticed before any alert fired.",
                moment(incident, "ack"),
                incident.number,
            )


def _process(e: Evidence) -> Iterator[Finding]:
    for draft in e.drafts:
        responded = any(not said.scripted for said in draft.said)
        if draft.kind == "impact" and responded and not _declared(e, draft):
            yield Finding(
                "not-declared",
                "surprise",
                "No declaration was recorded: ask whether the process makes declaring easy enough.",
                None,
                draft.number,
            )
    hints = [said for said in e.facts.said if said.verb == "hint"]
    if hints:
        count = "A hint was" if len(hints) == 1 else f"{len(hints)} hints were"
        yield Finding(
            "hints",
            "surprise",
            f"{count} asked for: what page and runbook say did not lead to the next step.",
            hints[0].at,
        )


def _declared(e: Evidence, draft: Draft) -> bool:
    """Was anything declared in the stretch in which this or an incident overlapping it was open?"""
    since = draft.opened
    for other in sorted(e.drafts, key=lambda d: d.opened, reverse=True):
        if other.opened <= since <= other.closed:
            since = other.opened
    until = min(draft.closed, e.facts.cut.at)
    return any(
        said.verb == "declare" and is_responder(said) and since <= said.at <= until
        for said in e.facts.said
    )


def _claimed(e: Evidence) -> Iterator[Finding]:
    words = {"mitigate": "mitigated", "resolve": "resolved", "all-clear": "all clear"}
    for claim in e.claims:
        if claim.held is not False:
            continue
        text = f"When it was called {words[claim.verb]}, this was measured: {claim.seen}."
        if claim.verb == "mitigate":
            identity, kind = "mitigated-while-outside", "poorly"
        elif claim.seen.startswith("in force: "):
            # Users are well again, only the fault is still there: a workaround, not a mistake.
            identity, kind = "resolved-with-fault-in-force", "surprise"
        else:
            identity, kind = "resolved-while-outside", "poorly"
        yield Finding(identity, kind, text, claim.at, claim.incident)


def _before(e: Evidence, incident: Incident) -> str:
    """What somebody did to the sandbox just before it, if anybody did."""
    impact = incident.instants["impact"]
    known = e.facts.acts(impact.low - JUST_BEFORE, impact.high)
    acts = [act for act in known if act.action not in ("started", "exited", "health")]
    if not acts:
        return ""
    ago = impact.low - acts[-1].at
    # Inside the interval of the impact no figure is known.
    when = f"{seconds(ago)} before" if ago > 0 else "just then"
    return f"; {changed(acts[-1])} {when}"


def _course(e: Evidence) -> Iterator[Finding]:
    straight = {draft.number for draft in e.drafts if len(draft.worse) == 1}
    for incident in e.felt:
        mitigate = incident.timings["time_to_mitigate"]
        if incident.relapses:
            times = "once" if incident.relapses == 1 else f"{incident.relapses} times"
            yield Finding(
                "relapse",
                "poorly",
                f"After a mitigation the SLIs left their bounds again, {times}.",
                None,
                incident.number,
            )
        if mitigate.source == "self-healed":
            yield Finding(
                "self-healed",
                "lucky",
                f"The impact ended before anybody acted, {between(incident.instants['impact'], incident.instants['mitigate'])} after it began.",
                moment(incident, "mitigate"),
                incident.number,
            )
        elif mitigate.state is State.MEASURED and incident.number in straight:
            yield Finding(
                "mitigation-held",
                "well",
                f"The mitigation held at the first attempt, {show_timing(mitigate)} after detection.",
                moment(incident, "mitigate"),
                incident.number,
            )
        if not incident.injections:
            yield Finding(
                "cause-not-ours",
                "surprise",
                f"The steady state was left without a fault of ours that took effect{_before(e, incident)}.",
                moment(incident, "impact"),
                incident.number,
            )
    for incident in e.incidents:
        cleared = incident.timings["time_to_all_clear"]
        if incident.kind == "false-alarm" and cleared.state is State.MEASURED:
            called = "all_clear" in incident.instants
            how = "recognised and cleared" if called else "closed, with nothing changed,"
            yield Finding(
                "false-alarm-cleared",
                "well",
                f"The false alarm was {how} after {show_timing(cleared)}.",
                moment(incident, "all_clear" if called else "resolve"),
                incident.number,
            )
        if incident.kind == "no-impact":
            targets = ", ".join(
                i.injection.target for i in e.facts.called if i.injection.id in incident.injections
            )
            yield Finding(
                "no-impact",
                "lucky",
                f"The fault on {targets} never reached the users: no SLI left its steady state.",
                incident.instants["onset"].high,
                incident.number,
            )


RULES = (_acknowledging, _process, _claimed, _course)
