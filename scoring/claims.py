"""What fixers claim, beside what was measured then. Evidence for a talk, never a mark."""

from __future__ import annotations

from collections.abc import Sequence

from gameday.scoring.events import Said
from gameday.scoring.facts import Facts
from gameday.scoring.incidents import Draft, Spell, outside
from gameday.scoring.score import Claim

__all__ = ["claims"]

CLAIMS = ("mitigate", "resolve", "all-clear")


def claims(
    facts: Facts, drafts: Sequence[Draft], steady: Sequence[Spell], acceptable: Sequence[Spell]
) -> tuple[Claim, ...]:
    """Every claim that something is over, in order."""
    owners = {id(said): draft.number for draft in drafts for said in draft.said}
    return tuple(
        _claim(facts, said, owners.get(id(said), 0), steady, acceptable)
        for said in facts.said
        if said.verb in CLAIMS and facts.begun is not None
    )


def _claim(
    facts: Facts, said: Said, incident: int, steady: Sequence[Spell], acceptable: Sequence[Spell]
) -> Claim:
    if said.verb == "mitigate":
        held, seen = _bounds(acceptable, said.at, "acceptable bounds")
    else:
        held, seen = _over(facts, steady, said.at)
    if not any(track.points for track in facts.tracks.values()):
        held, seen = None, "nothing was measured"
    return Claim(said.verb, said.at, said.role, held, seen, incident, said.text)


def _bounds(among: Sequence[Spell], at: float, name: str) -> tuple[bool | None, str]:
    away = outside(among, at)
    if away is None:
        return None, f"the SLIs were crossing the {name} at that moment"
    if not away:
        return True, f"every SLI was inside the {name}"
    names = dict.fromkeys(e.sli for s in among if s.covers(at) is True for e in s.parts)
    return False, f"{', '.join(names)} was outside the {name}"


def _over(facts: Facts, steady: Sequence[Spell], at: float) -> tuple[bool | None, str]:
    """Over means: inside the steady state, no alert of monitoring firing, no fault in force."""
    inside, seen = _bounds(steady, at, "steady state")
    against = [] if inside is not False else [seen]
    firing = [
        a.fired.alert
        for a in facts.alerts.values()
        if a.open_at(at) and a.fired.source != "synthetic"
    ]
    if firing:
        against.append(f"{', '.join(dict.fromkeys(firing))} was firing")
    faults = [i.injection for i in facts.called if i.in_force(at)]
    if faults:
        names = ", ".join(f"{i.fault} on {i.target}" for i in faults)
        against.append(f"in force: {names}")
    if against:
        return False, "; ".join(against)
    maybe = [i for i in facts.called if i.may_act(at, at)]
    if inside is None or maybe:
        return None, seen if inside is None else "a fault was just ending"
    return True, f"{seen}, no monitoring alert was firing and no fault was in force"
