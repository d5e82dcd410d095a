"""The instants and durations of one incident (DESIGN §2)."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

import msgspec

from gameday.scoring.facts import AlertFacts, Facts, InjectionFacts
from gameday.scoring.incidents import Draft, Spell
from gameday.scoring.instants import instant, not_applicable, unknown
from gameday.scoring.samples import Excursion, breaks
from gameday.scoring.score import AlertScore, Incident, Instant, State, Timing

__all__ = ["FROM_IMPACT", "alert_score", "incident"]

NOTICED_FIRST = "noticed first"
FROM_IMPACT = "from impact"
"""Counted from there, because it was over before it was detected."""
NOTHING_TO_MITIGATE = "nothing to mitigate"
HANDLED_AS_REAL = "it was handled as a real incident"
OWN_UNDO = "our own undo of the fault"


class _Mitigation(msgspec.Struct, frozen=True):
    """``at`` is None where it never held; ``stopped`` is when we took the fault back ourselves.

    ``reverted``: when we did, if the return to the steady state is owed to that.
    """

    at: Instant | None = None
    stopped: float | None = None
    reverted: float | None = None
    relapses: int = 0


def incident(facts: Facts, draft: Draft) -> Incident:
    """Everything that can be said of the incident."""
    mitigation = _mitigation(facts, draft)
    instants = _instants(facts, draft, mitigation)
    return Incident(
        number=draft.number,
        kind=draft.kind,
        instants=instants,
        timings=_timings(facts, draft, instants, mitigation),
        injections=tuple(i.injection.id for i in draft.injections),
        relapses=mitigation.relapses,
    )


def _instants(facts: Facts, draft: Draft, mitigation: _Mitigation) -> dict[str, Instant]:
    alert = _alert(draft)
    delivered = [a.delivered for a in draft.alerts if a.delivered is not None]
    found = {
        "onset": draft.onset,
        "impact": draft.impact,
        "alert": alert.instant if alert else None,
        "delivered": instant(min(delivered)) if delivered else None,
        "detect": _detect(facts, draft),
        "ack": _ack(draft),
        "identify": _said(draft, "identify", last=False),
        "mitigate": mitigation.at,
        "restore": _sourced_restore(facts, draft, mitigation),
        "resolve": _said(draft, "resolve", last=True),
        "all_clear": _said(draft, "all-clear", last=True),
    }
    return {name: when for name, when in found.items() if when is not None}


def _alert(draft: Draft) -> AlertFacts | None:
    """The first page; without one, the first alert."""
    pages = [alert for alert in draft.alerts if alert.fired.tier == "page"]
    return min(pages or draft.alerts, key=lambda a: a.fired.at, default=None)


def _said(draft: Draft, verb: str, *, last: bool) -> Instant | None:
    said = draft.verbs(verb)
    return instant(said[-1 if last else 0].at, source="fixers") if said else None


def _ack(draft: Draft) -> Instant | None:
    known = [a.acknowledged for a in draft.alerts if a.acknowledged is not None]
    known += [said.at for said in draft.verbs("ack")]
    return instant(min(known), source="fixers") if known else None


def _detect(facts: Facts, draft: Draft) -> Instant | None:
    """First of: a monitoring alert, a declaration, a customer's report; see DESIGN §2."""
    begun, over = draft.opened, draft.closed
    known = [a.instant for a in draft.alerts if a.fired.source != "synthetic"]
    known += [instant(said.at, source="fixers") for said in draft.verbs("declare")]
    known += [
        instant(alert.acknowledged, source="fixers")
        for alert in draft.alerts
        if alert.fired.source == "synthetic" and alert.acknowledged is not None
    ]
    if draft.kind != "false-alarm":
        known += [
            instant(report.at, source="customer")
            for report in facts.reports
            if report.sender == "customer" and begun <= report.at <= min(over, facts.cut.at)
        ]
    known = [when for when in known if when.high >= begun]
    return min(known, key=lambda i: (i.high, i.low)) if known else None


def _mitigation(facts: Facts, draft: Draft) -> _Mitigation:
    reverted = _reverted(facts, draft)
    if not draft.worse:
        return _Mitigation(reverted=reverted)
    relapses = _relapses(facts, draft)
    end, onset = draft.worse[-1].end, draft.worse[0].onset
    stopped = _taken_back(facts, draft, draft.worse[-1])
    if stopped is not None:
        return _Mitigation(None, stopped, reverted, relapses)
    if end is None or end.high + facts.scenario.stabilise > facts.cut.at:
        return _Mitigation(None, None, reverted, relapses)
    when, until = _seen_late(facts, draft, end)
    at = instant(when.low, when.high, _source(facts, draft, onset.low, until))
    return _Mitigation(at, None, reverted, relapses)


def _reverted(facts: Facts, draft: Draft) -> float | None:
    """When we took a fault back in mid-drill, if the restoration is owed to that."""
    if not draft.spells:
        return None
    ours = [i.put_back_by_us(facts.cut.at) for i in draft.injections]
    if draft.restored is not None and draft.restored.source == "gameday":
        # The last that stood against it was a fault that we took back.
        return max((at for at in ours if at is not None), default=None)
    return _taken_back(facts, draft, draft.spells[-1])


def _seen_late(facts: Facts, draft: Draft, end: Instant) -> tuple[Instant, float]:
    """The end of an impact, and until when somebody may have acted who ended it.

    If only some requests felt it, one in three say, the last failure seen may come two
    requests before whatever ended it. So an act within the longest gap that such requests
    had left before may be what ended it, and the interval reaches to that act. If all of
    them felt it, an act within one interval may be told after its effect: an engine says
    that it let a container go on once it has done so.
    """
    parts = draft.worse[-1].parts
    gap = max((_longest_gap(facts, part) for part in parts), default=0.0)
    lag = max((facts.tracks[part.sli].sli.every for part in parts), default=0.0)
    acts = [act.at for act in facts.acts(end.high, end.high + max(gap, lag))]
    until = min(acts, default=end.high)
    return instant(end.low, until if until <= end.high + gap else end.high), until


def _longest_gap(facts: Facts, excursion: Excursion) -> float:
    """The longest time between two samples against the bound that had others between them; else 0."""
    track = facts.tracks[excursion.sli]
    against = breaks(track.sli, excursion.bound)
    first, last = excursion.first.sent, excursion.last.sent
    felt = sorted(
        (p.sample for p in track.points if first <= p.sample.sent <= last), key=lambda s: s.sent
    )
    places = [place for place, sample in enumerate(felt) if against(sample)]
    gaps = (felt[b].sent - felt[a].sent for a, b in pairwise(places) if b > a + 1)
    return max(gaps, default=0.0)


def _relapses(facts: Facts, draft: Draft) -> int:
    """Times outside ``acceptable`` again after a return that held, or that fixers had called mitigated."""
    claimed = [said.at for said in draft.verbs("mitigate")]
    count = 0
    for before, after in zip(draft.worse, draft.worse[1:], strict=False):
        if before.end is None:
            continue
        held = after.onset.low - before.end.high >= facts.scenario.stabilise
        low, high = before.end.low, after.onset.high
        count += held or any(low <= at <= high for at in claimed)
    return count


def _taken_back(facts: Facts, draft: Draft, spell: Spell) -> float | None:
    """When we took a fault back in mid-drill, if the end of this spell may be owed to that."""
    end = spell.end
    settled = facts.cut.at if end is None else end.high + facts.scenario.stabilise
    ours = [i.put_back_by_us(facts.cut.at) for i in draft.injections]
    calls = [at for at in ours if at is not None and spell.onset.low < at < settled]
    for at in sorted(calls):
        if end is None or not facts.acts(at, end.high):
            return at
    return None


def _source(facts: Facts, draft: Draft, low: float, high: float) -> str:
    """``fixers`` if anybody acted on the sandbox before, or took an injection over; else ``self-healed``."""
    if facts.acts(min(low, draft.onset.low), high):
        return "fixers"
    for injection in draft.injections:
        undone, ended = injection.undone, injection.ended
        if undone is None or undone.outcome != "taken-over" or ended is None or ended.low > high:
            continue
        # Without a name, only somebody who was already at work can have been it.
        if undone.by not in ("", "gameday", "sandbox") or any(s.at <= high for s in draft.said):
            return "fixers"
    return "self-healed"


def _sourced_restore(facts: Facts, draft: Draft, mitigation: _Mitigation) -> Instant | None:
    when = draft.restored
    if when is None or when.source == "gameday":
        return when
    source = _source(facts, draft, draft.onset.low, when.high)
    if mitigation.at is not None and when.low <= mitigation.at.high:
        high, source = max(when.high, mitigation.at.high), mitigation.at.source
        when = instant(when.low, high)
    return instant(when.low, when.high, source if mitigation.reverted is None else "gameday")


def _timings(
    facts: Facts, draft: Draft, at: dict[str, Instant], mitigation: _Mitigation
) -> dict[str, Timing]:
    return {
        "time_to_detect": _to_detect(facts, draft, at),
        "time_to_detect_from_impact": _from_impact(facts, draft, at),
        "time_to_acknowledge": _to_acknowledge(facts, draft, at),
        "time_to_identify": _to_identify(facts, draft, at),
        "time_to_mitigate": _to_mitigate(facts, draft, at, mitigation),
        "time_to_restore": _to_restore(facts, at, mitigation),
        "time_to_all_clear": _to_all_clear(facts, draft, at),
    }


def _to_detect(facts: Facts, draft: Draft, at: dict[str, Instant]) -> Timing:
    if "detect" in at:
        return facts.cut.measured(at["onset"], at["detect"])
    masked = [a for a in facts.alerts.values() if a.open_at(draft.onset.low)]
    if draft.kind != "false-alarm" and any(a not in draft.alerts for a in masked):
        return unknown("an alert was already firing before the onset")
    return _undetected(facts, draft, at["onset"])


def _undetected(facts: Facts, draft: Draft, start: Instant) -> Timing:
    """What is over can no longer be detected: the wait ended with the incident, or with our undo."""
    last = _last_ended(facts, draft)
    if draft.kind == "no-impact" and last is not None:
        return unknown("the fault ended before anything told of it, and was never felt")
    ours = last.put_back_by_us(facts.cut.at) if last is not None else None
    if ours is not None:
        return facts.cut.censored(start, ours, OWN_UNDO)
    if draft.restored is not None:
        return facts.cut.censored(start, draft.restored.high, "it ended")
    return facts.cut.censored(start)


def _last_ended(facts: Facts, draft: Draft) -> InjectionFacts | None:
    """The injection that was the last to end, if all had ended before the cut."""
    ends = [(i.ended.high, i) for i in draft.injections if i.ended is not None]
    if not ends or len(ends) < len(draft.injections):
        return None
    at, last = max(ends, key=lambda end: end[0])
    return last if at < facts.cut.at else None


def _from_impact(facts: Facts, draft: Draft, at: dict[str, Instant]) -> Timing:
    if "impact" not in at:
        return not_applicable("")
    if "detect" not in at:
        missing = _to_detect(facts, draft, at)
        measurable = missing.state is State.CENSORED
        return _undetected(facts, draft, at["impact"]) if measurable else missing
    if at["detect"].high < at["impact"].low:
        return not_applicable("detected before the steady state was left", at["detect"].source)
    return facts.cut.measured(at["impact"], at["detect"])


def _to_acknowledge(facts: Facts, draft: Draft, at: dict[str, Instant]) -> Timing:
    alert = _alert(draft)
    if alert is None:
        return unknown(NOTICED_FIRST) if "ack" in at else not_applicable("no alert fired")
    if "ack" in at and at["ack"].high < alert.instant.low:
        return unknown(NOTICED_FIRST)
    acknowledged = [a.acknowledged for a in draft.alerts if a.acknowledged is not None]
    if acknowledged:
        return facts.cut.measured(alert.instant, instant(min(acknowledged), source="fixers"))
    return _unacknowledged(facts, alert, alert.instant)


def _unacknowledged(facts: Facts, alert: AlertFacts, start: Instant) -> Timing:
    if alert.resolved is not None and alert.resolved < facts.cut.at:
        return facts.cut.censored(start, alert.resolved, "the alert was over")
    return facts.cut.censored(start)


def _to_identify(facts: Facts, draft: Draft, at: dict[str, Instant]) -> Timing:
    if "identify" in at:
        if "detect" not in at or at["identify"].high < at["detect"].low:
            return unknown(NOTICED_FIRST)
        return facts.cut.measured(at["detect"], at["identify"])
    if draft.kind == "false-alarm":
        return not_applicable("nothing was broken")
    if "detect" not in at:
        return unknown("it was never detected")
    return facts.cut.censored(at["detect"])


def _to_mitigate(
    facts: Facts, draft: Draft, at: dict[str, Instant], mitigation: _Mitigation
) -> Timing:
    if draft.kind == "false-alarm":
        return not_applicable("nothing was broken")
    if not draft.worse:
        return not_applicable(f"{NOTHING_TO_MITIGATE}: no SLI left its acceptable bounds")
    when = mitigation.at
    if when is not None and when.source == "self-healed":
        return not_applicable(f"{NOTHING_TO_MITIGATE}: it healed before anyone acted", when.source)
    if "detect" not in at:
        return unknown("it was never detected")
    if mitigation.stopped is not None:
        return facts.cut.censored(at["detect"], mitigation.stopped, OWN_UNDO)
    if when is None:
        return facts.cut.censored(at["detect"])
    if when.high < at["detect"].low:
        return unknown(NOTICED_FIRST, when.source)
    return facts.cut.measured(at["detect"], when)


def _to_restore(facts: Facts, at: dict[str, Instant], mitigation: _Mitigation) -> Timing:
    if "impact" not in at:
        return not_applicable("the steady state was never left")
    detect, when = at.get("detect"), at.get("restore")
    if mitigation.reverted is not None:
        return facts.cut.censored(detect or at["impact"], mitigation.reverted, OWN_UNDO)
    if when is None:
        return facts.cut.censored(detect or at["impact"])
    early = detect is None or when.high < detect.low
    if early or when.source == "self-healed":
        return facts.cut.measured(at["impact"], when, FROM_IMPACT)
    return facts.cut.measured(detect or at["impact"], when)


def _to_all_clear(facts: Facts, draft: Draft, at: dict[str, Instant]) -> Timing:
    """Of a false alarm: until it was called one, or closed with nothing changed."""
    alert = _alert(draft)
    if draft.kind != "false-alarm" or alert is None:
        return not_applicable("")
    said = at.get("all_clear") or at.get("resolve")
    if said is None:
        return facts.cut.censored(alert.instant)
    if said.high < alert.instant.low:
        return unknown("said before the alert")
    if "all_clear" not in at and _acted_on(facts, draft, alert.instant.low, said.high):
        return unknown(HANDLED_AS_REAL)
    return facts.cut.measured(alert.instant, said)


def _acted_on(facts: Facts, draft: Draft, low: float, high: float) -> bool:
    """Was it handled as if something were broken: the sandbox changed, or a mitigation claimed?"""
    claimed = any(low <= said.at <= high for said in draft.verbs("mitigate"))
    return claimed or bool(facts.acts(low, high))


def alert_score(facts: Facts, alert: AlertFacts, drafts: Sequence[Draft]) -> AlertScore:
    """One firing, with the times to its acknowledgement."""
    owner = next((draft for draft in drafts if alert in draft.alerts), None)
    fired, first = alert.instant, facts.first_inject
    early = owner is None and first is not None and alert.fired.at < first
    noticed = owner is not None and any(
        said.at < fired.low and said.at >= owner.onset.low for said in owner.verbs("ack")
    )
    return AlertScore(
        page=alert.fired.page,
        alert=alert.fired.alert,
        tier=alert.fired.tier,
        source=alert.fired.source,
        fired=fired,
        incident=owner.number if owner else 0,
        delivered=alert.delivered,
        acknowledged=alert.acknowledged,
        resolved=alert.resolved,
        to_acknowledge=_from_fired(facts, alert, noticed),
        to_acknowledge_delivered=_from_delivered(facts, alert, noticed),
        pre_existing=early,
        failed_channels=tuple(alert.failed_channels),
    )


def _from_fired(facts: Facts, alert: AlertFacts, noticed: bool) -> Timing:
    if noticed:
        return unknown(NOTICED_FIRST)
    if alert.acknowledged is None:
        return _unacknowledged(facts, alert, alert.instant)
    return facts.cut.measured(alert.instant, instant(alert.acknowledged, source="fixers"))


def _from_delivered(facts: Facts, alert: AlertFacts, noticed: bool) -> Timing:
    if alert.delivered is None:
        return unknown("no channel is known to have taken the page")
    if noticed:
        return unknown(NOTICED_FIRST)
    start = instant(alert.delivered)
    if alert.acknowledged is None:
        return _unacknowledged(facts, alert, start)
    if alert.acknowledged < alert.delivered:
        return unknown("acknowledged before a channel had confirmed it")
    return facts.cut.measured(start, instant(alert.acknowledged, source="fixers"))
