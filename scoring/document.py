"""The debrief as a document: plain data, the same for every renderer.

A `Debrief` is a head, a summary, a picture and sections made of a few kinds of
block. All text is plain text: renderers escape it. What other programs read
(``debrief.json``) comes from the typed fields, never from the prose.
"""

from __future__ import annotations

from collections.abc import Sequence

import msgspec

from gameday.scoring.score import (
    AlertScore,
    Claim,
    Finding,
    HypothesisScore,
    Impact,
    Incident,
    InjectionScore,
)

__all__ = [
    "ActionItem",
    "Actions",
    "Axis",
    "Bar",
    "Block",
    "Bullets",
    "Cell",
    "Code",
    "Debrief",
    "DrillFacts",
    "Entry",
    "Facts",
    "Line",
    "Mark",
    "Mono",
    "Paragraph",
    "Picture",
    "Questions",
    "Quote",
    "Section",
    "Table",
    "Why",
    "Whys",
    "table",
]


class _Block(msgspec.Struct, frozen=True, tag_field="block", tag=str.lower):
    pass


class Mono(_Block, frozen=True):
    """Something a machine reads: an expression, a command, a name."""

    text: str


class Quote(_Block, frozen=True):
    """What a person typed, as typed."""

    text: str


Cell = str | Mono | Quote


class Paragraph(_Block, frozen=True):
    """A paragraph of ours."""

    text: str


class Facts(_Block, frozen=True):
    """Terms and their values."""

    rows: tuple[tuple[str, Cell], ...]


class Table(_Block, frozen=True):
    """A table. ``caption`` says what it shows; ``heading`` stands above it where there are several."""

    caption: str
    columns: tuple[str, ...]
    rows: tuple[tuple[Cell, ...], ...]
    heading: str = ""


def table(
    caption: str, columns: Sequence[str], rows: Sequence[Sequence[Cell]], heading: str = ""
) -> Table:
    """A table without the columns in which nothing stands."""
    kept = [n for n in range(len(columns)) if any(row[n] not in ("", "–") for row in rows)]
    return Table(
        caption,
        tuple(columns[n] for n in kept),
        tuple(tuple(row[n] for n in kept) for row in rows),
        heading,
    )


class Bullets(_Block, frozen=True):
    """A list; each item may begin with where it is on the axis."""

    items: tuple[Cell, ...]
    heading: str = ""


class Questions(_Block, frozen=True):
    """What only people can answer; renderers leave room for it."""

    items: tuple[str, ...]
    heading: str = ""


class Code(_Block, frozen=True):
    """Text for machines, as it is."""

    text: str
    language: str = ""
    heading: str = ""


class Why(msgspec.Struct, frozen=True):
    """One of the whys: a question and the evidence at hand."""

    question: str
    evidence: str


class Whys(_Block, frozen=True):
    """A chain of whys."""

    items: tuple[Why, ...]


class ActionItem(msgspec.Struct, frozen=True):
    """A follow-up, proposed from the evidence.

    Attributes:
        id: Stable for the same scenario and the same evidence.
        type: ``prevent``, ``detect`` or ``respond``.
        owner: A role, suggested.
        due: ISO date (UTC).
        priority: ``high``, ``medium`` or ``low``.
        why: The evidence, in a sentence.
        proof: A hypothesis, as YAML for the scenario file, that would prove it; empty if none can.
    """

    id: str
    title: str
    type: str
    owner: str
    due: str
    priority: str
    why: str
    proof: str = ""
    status: str = "Not Started"


class Actions(_Block, frozen=True):
    """The action items, at this place in the document."""

    items: tuple[ActionItem, ...]


Block = Paragraph | Facts | Table | Bullets | Questions | Code | Whys | Actions | Mono | Quote


class Section(msgspec.Struct, frozen=True):
    """One section: its standard name, and the finding as its heading where there is one."""

    id: str
    name: str
    blocks: tuple[Block, ...]
    finding: str = ""


class Axis(msgspec.Struct, frozen=True):
    """The time axis, seconds since the start of the scenario's clock, and its phases ``(name, from, to)``."""

    start: float
    end: float
    phases: tuple[tuple[str, float, float], ...] = ()
    reverted: float | None = None


class Line(msgspec.Struct, frozen=True):
    """One SLI in the picture.

    Attributes:
        series: ``(at, value)``; value None where it is unknown.
        bound: The steady-state bound, None without one; ``bound_text`` names it.
        share: True: a share in [0, 1]; False: seconds.
        outside: ``(earliest left, latest left, earliest back, latest back)``; the last two None if it never came back.
    """

    name: str
    series: tuple[tuple[float, float | None], ...]
    bound: float | None
    bound_text: str
    share: bool
    worst: float | None
    outside: tuple[tuple[float, float, float | None, float | None], ...] = ()


class Bar(msgspec.Struct, frozen=True):
    """One injection in the picture: from called, in force from ``effect``, to ``ended`` (earliest, latest)."""

    label: str
    called: float
    effect: tuple[float, float] | None
    ended: tuple[float, float] | None
    by_people: bool
    end_label: str


class Mark(msgspec.Struct, frozen=True):
    """A point event in the picture: shape is by ``kind``.

    ``kind``: ``page``, ``ticket``, ``fyi``, ``report``; ``said``, ``hands``; ``instant``.
    """

    kind: str
    at: float
    label: str
    low: float | None = None
    high: float | None = None


class Picture(msgspec.Struct, frozen=True):
    """The timeline picture: one axis, four lanes."""

    axis: Axis
    lines: tuple[Line, ...]
    bars: tuple[Bar, ...]
    alerts: tuple[Mark, ...]
    people: tuple[Mark, ...]
    instants: tuple[Mark, ...]
    failures: tuple[tuple[float, int], ...] = ()
    description: str = ""


class Entry(msgspec.Struct, frozen=True):
    """One row of the whole timeline.

    Attributes:
        at: Seconds since the start of the scenario's clock.
        wall: Unix time.
        lane: ``drill``, ``sli``, ``fault``, ``alert``, ``people``, ``sandbox`` or ``load``.
        kind: The event's name in the journal, or the name of a measured instant.
        text: Our words.
        quote: Theirs.
        low, high: The bound, where the instant is not exact.
    """

    at: float
    wall: float
    lane: str
    kind: str
    text: str
    quote: str = ""
    low: float | None = None
    high: float | None = None


class DrillFacts(msgspec.Struct, frozen=True):
    """The head of a debrief, as data.

    Attributes:
        started, ended: ISO 8601, UTC.
        duration: Seconds.
        services: ``(name, owner, tier, was it hit?)``.
        roles: ``(role, who)``.
    """

    id: str
    scenario: str
    title: str
    started: str
    ended: str
    duration: float
    severity: str
    severity_scheme: str
    incident_type: str
    outcome: str
    exit_code: int
    gameday: str
    seed: int
    control: bool
    services: tuple[tuple[str, str, str, bool], ...] = ()
    roles: tuple[tuple[str, str], ...] = ()
    objectives: tuple[str, ...] = ()


class Debrief(msgspec.Struct, frozen=True):
    """Everything the renderers need."""

    drill: DrillFacts
    head: Facts
    summary: tuple[str, str]
    picture: Picture | None
    sections: tuple[Section, ...]
    incidents: tuple[Incident, ...]
    hypotheses: tuple[HypothesisScore, ...]
    injections: tuple[InjectionScore, ...]
    alerts: tuple[AlertScore, ...]
    claims: tuple[Claim, ...]
    impact: Impact
    findings: tuple[Finding, ...]
    action_items: tuple[ActionItem, ...]
    timeline: tuple[Entry, ...]
    counted: tuple[float, float] | None = None
    zero: float = 0.0
