"""Incidents: what the fixers respond to, with every instant and duration of DESIGN §2.

An incident is found in three ways: the steady state is left (``impact``), a
fault took effect and nothing was felt (``no-impact``), or an alert fires and
nothing is wrong (``false-alarm``).

**Which impact belongs to which incident.** An incident is open from its onset
to restored: inside the steady state for ``stabilise`` with no fault in force.
Impact while it is open belongs to it (a relapse, if it was mitigated, or said
to be); impact after it begins a new one. So does impact that follows a full
``stabilise`` inside the bounds and a fault injected since.

**Which fault caused it.** The latest batch of injections (called less than
``stabilise`` apart) that took effect and may have been in force when the steady
state was left, or less than ``stabilise`` before. Injections that follow while
the incident is open join it. A batch that never led to impact is an incident of
its own, without impact.

**To which incident actions belong.** To the one that is unrestored; else to the
one that nobody has called over yet; else to the latest. Two of a kind: ambiguous.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence

import msgspec

from gameday.scenarios.expressions import Comparison
from gameday.scoring.events import Said
from gameday.scoring.facts import AlertFacts, Facts, InjectionFacts, is_responder
from gameday.scoring.instants import earliest, instant, latest
from gameday.scoring.samples import Excursion, excursions
from gameday.scoring.score import Instant

__all__ = ["Draft", "Spell", "find", "outside", "spells"]

ENDINGS = ("resolve", "all-clear")


class Spell(msgspec.Struct, frozen=True):
    """A time in which at least one SLI was outside; ``end`` is None if it never came back."""

    onset: Instant
    end: Instant | None
    parts: tuple[Excursion, ...]

    def covers(self, at: float) -> bool | None:
        """Was it outside then? None: within the uncertainty."""
        if at <= self.onset.low or (self.end is not None and at > self.end.high):
            return False
        if at >= self.onset.high and (self.end is None or at <= self.end.low):
            return True
        return None


class Draft(msgspec.Struct):
    """An incident in the making.

    Attributes:
        onset: As of DESIGN §2.
        spells: Outside the steady state.
        worse: Outside ``acceptable``.
        restored: From here all was well; None if that was never so before the cut.
        closed: No alert or impact after this belongs to it any more; ``inf`` while it is open.
    """

    kind: str
    onset: Instant
    spells: list[Spell] = msgspec.field(default_factory=list)
    worse: list[Spell] = msgspec.field(default_factory=list)
    injections: list[InjectionFacts] = msgspec.field(default_factory=list)
    alerts: list[AlertFacts] = msgspec.field(default_factory=list)
    said: list[Said] = msgspec.field(default_factory=list)
    restored: Instant | None = None
    closed: float = float("inf")
    number: int = 0

    @property
    def impact(self) -> Instant | None:
        """When the steady state was left."""
        return self.spells[0].onset if self.spells else None

    @property
    def opened(self) -> float:
        """From here on something can be said of it: the inject was called, or the onset."""
        return min([self.onset.low, *(i.called for i in self.injections if i.called is not None)])

    def verbs(self, *verbs: str) -> list[Said]:
        """What was said of it, by verb."""
        return [said for said in self.said if said.verb in verbs]


def spells(facts: Facts, bounds: Iterable[Comparison]) -> list[Spell]:
    """When the SLIs were outside these bounds while the scenario ran, overlaps joined, in order."""
    if facts.begun is None:
        return []
    found = [
        excursion
        for bound in bounds
        if bound.name in facts.tracks
        for excursion in excursions(facts.tracks[bound.name], bound, cut=facts.cut.at)
        if excursion.first.sent < facts.cut.at
        and (excursion.end is None or excursion.end.high > facts.begun)
    ]
    return _join(sorted(found, key=lambda e: (e.onset.low, e.onset.high)))


def _join(found: Sequence[Excursion]) -> list[Spell]:
    joined: list[Spell] = []
    for excursion in found:
        last = joined[-1] if joined else None
        if last is None or (last.end is not None and excursion.onset.low > last.end.high):
            joined.append(Spell(excursion.onset, excursion.end, (excursion,)))
            continue
        ends = [last.end, excursion.end]
        known = [end for end in ends if end is not None]
        joined[-1] = Spell(
            earliest([last.onset, excursion.onset]),
            latest(known) if len(known) == len(ends) else None,
            (*last.parts, excursion),
        )
    return joined


def outside(among: Iterable[Spell], at: float) -> bool | None:
    """Was any SLI outside then? None: within the uncertainty."""
    answers = [spell.covers(at) for spell in among]
    return True if True in answers else None if None in answers else False


def find(
    facts: Facts, steady: Sequence[Spell], acceptable: Sequence[Spell]
) -> tuple[list[Draft], list[Said], list[AlertFacts]]:
    """All incidents in order, with what belongs to them.

    Returns:
        The incidents; what was said that is ambiguous between several; alerts of none.
    """
    drafts = _impacts(facts, steady)
    _share_injections(facts, drafts)
    drafts += _without_impact(facts, drafts)
    for draft in drafts:
        draft.restored = _restored(facts, draft, steady)
        draft.closed = _closed(facts, draft)
    drafts.sort(key=lambda d: (d.onset.low, d.onset.high))
    stray = _share_alerts(facts, drafts)
    drafts.sort(key=lambda d: (d.onset.low, d.onset.high))
    for number, draft in enumerate(drafts, start=1):
        draft.number = number
    _share_worse(drafts, acceptable)
    return drafts, _share_said(facts, drafts), stray


def _impacts(facts: Facts, steady: Sequence[Spell]) -> list[Draft]:
    drafts: list[Draft] = []
    for spell in steady:
        if drafts and _same(facts, drafts[-1], spell):
            drafts[-1].spells.append(spell)
        else:
            drafts.append(Draft("impact", spell.onset, [spell]))
    return drafts


def _same(facts: Facts, draft: Draft, spell: Spell) -> bool:
    """Was the incident still open when the steady state was left again?"""
    end = draft.spells[-1].end
    stabilise = facts.scenario.stabilise
    if end is None or spell.onset.low < end.high + stabilise:
        return True
    if any(end.high < (i.called or 0.0) <= spell.onset.high for i in _effective(facts)):
        return False
    over = end.high
    for injection in _effective(facts):
        if (injection.called or 0.0) <= end.high:
            if injection.ended is None:
                return True
            over = max(over, injection.ended.high)
    return spell.onset.low < over + stabilise


def _effective(facts: Facts) -> list[InjectionFacts]:
    """Injections that were seen to take effect, in the order of the calls."""
    return [i for i in facts.called if i.took_effect is not None]


def _batches(facts: Facts) -> list[list[InjectionFacts]]:
    batches: list[list[InjectionFacts]] = []
    for injection in _effective(facts):
        called = injection.called or 0.0
        if batches and called - (batches[-1][-1].called or 0.0) < facts.scenario.stabilise:
            batches[-1].append(injection)
        else:
            batches.append([injection])
    return batches


def _share_injections(facts: Facts, drafts: Sequence[Draft]) -> None:
    stabilise = facts.scenario.stabilise
    taken: set[str] = set()
    for index, draft in enumerate(drafts):
        impact = draft.spells[0].onset
        until = drafts[index + 1].onset.low if index + 1 < len(drafts) else facts.cut.at
        causes: list[InjectionFacts] = []
        for batch in _batches(facts):
            new = [i for i in batch if i.injection.id not in taken]
            able = [i for i in new if i.may_act(impact.low - stabilise, impact.high)]
            if able:
                causes = able
        joined = [
            i
            for i in _effective(facts)
            if impact.high < (i.called or 0.0) < until
            and (i.called or 0.0) <= _open_until(draft, facts)
            and i not in causes
        ]
        draft.injections = causes + joined
        taken.update(i.injection.id for i in draft.injections)
        if causes:
            draft.onset = _onset(causes, impact)
            # What a fault causes does not come before it.
            spell = draft.spells[0]
            after = instant(max(impact.low, draft.onset.low), impact.high, impact.source)
            draft.spells[0] = Spell(after, spell.end, spell.parts)


def _onset(causes: Sequence[InjectionFacts], impact: Instant | None) -> Instant:
    """When the first of them took effect: after the call, by when it was seen, and before its impact.

    Where impact was seen first, a look that saw nothing yet was too early to tell: then the
    call is the lower bound.
    """
    first = earliest(i.took_effect for i in causes if i.took_effect is not None)
    called = min(i.called for i in causes if i.called is not None)
    if impact is None:
        return instant(max(first.low, called), max(first.high, called), "injection")
    low = first.low if called <= first.low <= impact.low else called
    return instant(low, max(low, min(first.high, impact.high)), "injection")


def _open_until(draft: Draft, facts: Facts) -> float:
    end = draft.spells[-1].end
    return facts.cut.at if end is None else end.high + facts.scenario.stabilise


def _without_impact(facts: Facts, drafts: Sequence[Draft]) -> list[Draft]:
    taken = {i.injection.id for draft in drafts for i in draft.injections}
    found: list[Draft] = []
    for batch in _batches(facts):
        left = [i for i in batch if i.injection.id not in taken]
        if left:
            found.append(Draft("no-impact", _onset(left, None), injections=left))
    return found


def _restored(facts: Facts, draft: Draft, steady: Sequence[Spell]) -> Instant | None:
    """From here every SLI was inside for ``stabilise`` and no fault was in force, before the cut."""
    if not draft.spells or draft.spells[-1].end is None:
        return None
    at, stabilise = draft.spells[-1].end, facts.scenario.stabilise
    for _ in range(len(steady) + len(facts.injections) + 1):
        later = _not_before(facts, at, steady)
        if later is None:
            return None
        if later == at:
            break
        at = later
    return at if at.high + stabilise <= facts.cut.at else None


def _not_before(facts: Facts, at: Instant, steady: Sequence[Spell]) -> Instant | None:
    """``at``, or the later instant at which what stood against it had ended; None if it did not end."""
    stabilise = facts.scenario.stabilise
    for injection in _effective(facts):
        if (injection.called or 0.0) <= at.high:
            if injection.ended is None:
                return None
            if injection.ended.high > at.high:
                return latest([at, _named_end(facts, injection)])
    for spell in steady:
        if spell.onset.low < at.high + stabilise:
            if spell.end is None:
                return None
            if spell.end.high > at.high:
                return spell.end
    return at


def _named_end(facts: Facts, injection: InjectionFacts) -> Instant:
    ended = injection.ended or instant(facts.cut.at)
    ours = injection.put_back_by_us(facts.cut.at) is not None
    return instant(ended.low, ended.high, "gameday" if ours else ended.source)


def _closed(facts: Facts, draft: Draft) -> float:
    """Alerts lag: they still belong to the incident for a window and ``stabilise`` after its end."""
    lag = facts.scenario.stabilise + max(sli.over for sli in facts.scenario.slis.values())
    if draft.spells:
        return float("inf") if draft.restored is None else draft.restored.high + lag
    ends = [i.ended for i in draft.injections]
    if any(end is None for end in ends):
        return float("inf")
    return max(end.high for end in ends if end is not None) + lag


def _share_alerts(facts: Facts, drafts: list[Draft]) -> list[AlertFacts]:
    """Each alert to the incident then open; one that fires while nothing is wrong is a false alarm."""
    stray: list[AlertFacts] = []
    alarms: list[Draft] = []
    for alert in sorted(facts.alerts.values(), key=lambda a: a.fired.at):
        fired = alert.instant
        among = [d for d in drafts if d.opened <= fired.high and fired.low <= d.closed]
        if facts.begun is None or alert.fired.at > facts.cut.at:
            stray.append(alert)
        elif among:
            felt = [d for d in among if d.kind == "impact"]
            (felt or among)[-1].alerts.append(alert)
        elif _pre_existing(facts, alert):
            stray.append(alert)
        elif alarms and fired.low <= alarms[-1].closed:
            alarms[-1].alerts.append(alert)
        else:
            alarm = Draft("false-alarm", instant(fired.low, fired.high, "alert"), alerts=[alert])
            ends = [s.at for s in facts.said if s.verb in ENDINGS and s.at >= fired.high]
            alarm.closed = min(ends, default=float("inf"))
            alarms.append(alarm)
    drafts += alarms
    return stray


def _pre_existing(facts: Facts, alert: AlertFacts) -> bool:
    first = facts.first_inject
    return first is not None and alert.fired.at < first and alert.fired.source != "synthetic"


def _share_worse(drafts: Sequence[Draft], acceptable: Sequence[Spell]) -> None:
    felt = [draft for draft in drafts if draft.spells]
    for spell in acceptable:
        owners = [d for d in felt if d.spells[0].onset.low <= spell.onset.high]
        if owners:
            owners[-1].worse.append(spell)


def _share_said(facts: Facts, drafts: Sequence[Draft]) -> list[Said]:
    """What fixers said, to the incident that they can have meant; returns what is ambiguous."""
    ambiguous: list[Said] = []
    for said in facts.said:
        if not is_responder(said) or said.at > facts.cut.at:
            continue
        paged = [d for d in drafts if said.page and said.page in {a.fired.page for a in d.alerts}]
        meant = paged[:1] or _meant(drafts, said)
        if len(meant) == 1:
            meant[0].said.append(said)
        elif meant and said.verb not in ("note", "update", "ack", "hint", "hand-over"):
            ambiguous.append(said)
    return ambiguous


def _meant(drafts: Sequence[Draft], said: Said) -> list[Draft]:
    begun = [d for d in drafts if d.opened <= said.at]
    ranks: tuple[Callable[[Draft], bool], ...] = (
        lambda d: d.kind == "impact" and (d.restored is None or said.at <= d.restored.low),
        lambda d: d.kind != "impact" and bool(d.alerts) and not d.verbs(*ENDINGS),
        lambda d: not d.verbs(*ENDINGS),
    )
    for rank in ranks:
        found = [draft for draft in begun if rank(draft)]
        if found:
            return found
    return begun[-1:]
