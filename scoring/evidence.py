"""What findings are drawn from, and the words that they share."""

from __future__ import annotations

from collections.abc import Sequence

import msgspec

from gameday.scoring.events import Said
from gameday.scoring.facts import Facts
from gameday.scoring.incidents import Draft
from gameday.scoring.render import figures
from gameday.scoring.score import (
    AlertScore,
    Claim,
    Finding,
    HypothesisScore,
    Impact,
    Incident,
    Instant,
    SliScore,
)

__all__ = ["Evidence", "between", "moment", "seconds", "validity"]


class Evidence(msgspec.Struct, frozen=True):
    """What findings are drawn from."""

    facts: Facts
    drafts: Sequence[Draft]
    incidents: tuple[Incident, ...]
    hypotheses: tuple[HypothesisScore, ...]
    alerts: tuple[AlertScore, ...]
    claims: tuple[Claim, ...]
    slis: tuple[SliScore, ...]
    impact: Impact
    ambiguous: Sequence[Said]
    own_cpu_share: float | None

    @property
    def felt(self) -> list[Incident]:
        """Incidents that users could feel."""
        return [incident for incident in self.incidents if incident.kind == "impact"]


def validity(identity: str, text: str, at: float | None = None) -> Finding:
    """A finding about the drill itself."""
    return Finding(identity, "validity", text, at)


def seconds(duration: float) -> str:
    """A duration for people; never below zero."""
    return figures.single(max(0.0, duration))


def between(first: Instant, last: Instant) -> str:
    """The time from one instant to a later one, by their middles, for people."""
    return seconds((last.low + last.high - first.low - first.high) / 2)


def moment(incident: Incident, name: str) -> float | None:
    """Where to show it on the axis."""
    when = incident.instants.get(name)
    return when.high if when is not None else None
