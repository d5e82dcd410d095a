"""``debrief.json``: an interface for other programs, versioned; documented in ``docs/debrief-json.md``.

All instants are seconds since ``drill.started``; all durations are seconds.
"""

from __future__ import annotations

from typing import Any

import msgspec

from gameday.scoring.document import ActionItem, Debrief
from gameday.scoring.render.figures import iso
from gameday.scoring.score import Finding, HypothesisScore, Impact, Incident, InjectionScore

__all__ = ["JSON_VERSION", "Interface", "json_schema", "to_json"]

JSON_VERSION = 1
_DIGITS = 6  # microseconds: more is noise of binary fractions


class Service(msgspec.Struct, frozen=True):
    """A service concerned."""

    name: str
    owner: str
    tier: str
    hit: bool


class Drill(msgspec.Struct, frozen=True):
    """What was run. ``clock``: when the scenario's own clock started, seconds since ``started``."""

    id: str
    scenario: str
    title: str
    started: str
    ended: str
    duration: float
    clock: float
    outcome: str
    exit_code: int
    severity: str
    incident_type: str
    control: bool
    services: tuple[Service, ...]
    roles: dict[str, str]
    gameday: str
    seed: int


class TimelineEntry(msgspec.Struct, frozen=True):
    """One thing that happened; ``low`` and ``high`` are None where ``at`` is exact."""

    at: float
    time: str
    lane: str
    kind: str
    text: str
    quote: str
    low: float | None
    high: float | None


class Interface(msgspec.Struct, frozen=True):
    """The whole of ``debrief.json``."""

    version: int
    exercise: bool
    drill: Drill
    summary: tuple[str, str]
    incidents: tuple[Incident, ...]
    hypotheses: tuple[HypothesisScore, ...]
    injections: tuple[InjectionScore, ...]
    impact: Impact
    findings: tuple[Finding, ...]
    action_items: tuple[ActionItem, ...]
    timeline: tuple[TimelineEntry, ...]


def to_json(debrief: Debrief) -> str:
    """The document, indented, with a line feed at its end."""
    plain = _rounded(msgspec.to_builtins(interface(debrief)))
    return msgspec.json.format(msgspec.json.encode(plain), indent=2).decode() + "\n"


def json_schema() -> dict[str, Any]:
    """JSON Schema of ``debrief.json``."""
    return msgspec.json.schema(Interface)


def interface(debrief: Debrief) -> Interface:
    """What other programs may rely on."""
    return Interface(
        version=JSON_VERSION,
        exercise=True,
        drill=_drill(debrief),
        summary=debrief.summary,
        incidents=debrief.incidents,
        hypotheses=debrief.hypotheses,
        injections=debrief.injections,
        impact=debrief.impact,
        findings=debrief.findings,
        action_items=debrief.action_items,
        timeline=_timeline(debrief),
    )


def _drill(debrief: Debrief) -> Drill:
    drill = debrief.drill
    return Drill(
        id=drill.id,
        scenario=drill.scenario,
        title=drill.title,
        started=drill.started,
        ended=drill.ended,
        duration=drill.duration,
        clock=debrief.zero,
        outcome=drill.outcome,
        exit_code=drill.exit_code,
        severity=drill.severity,
        incident_type=drill.incident_type,
        control=drill.control,
        services=tuple(Service(*service) for service in drill.services),
        roles=dict(drill.roles),
        gameday=drill.gameday,
        seed=drill.seed,
    )


def _timeline(debrief: Debrief) -> tuple[TimelineEntry, ...]:
    return tuple(
        TimelineEntry(
            at=entry.at + debrief.zero,
            time=iso(entry.wall),
            lane=entry.lane,
            kind=entry.kind,
            text=entry.text,
            quote=entry.quote,
            low=None if entry.low is None else entry.low + debrief.zero,
            high=None if entry.high is None else entry.high + debrief.zero,
        )
        for entry in debrief.timeline
    )


def _rounded(value: Any) -> Any:
    if isinstance(value, float):
        return round(value, _DIGITS)
    if isinstance(value, dict):
        return {key: _rounded(inner) for key, inner in value.items()}
    if isinstance(value, list | tuple):
        return [_rounded(inner) for inner in value]
    return value
