"""What scoring says about a drill: plain data, the same for debrief, JUnit and JSON.

All instants are seconds since the drill's start, as intervals ``[low, high]``;
all durations follow from them (DESIGN §2). ``gameday.scoring.scorer.score``
computes it from a scenario and its journal.
"""

from __future__ import annotations

import enum

import msgspec

__all__ = [
    "AlertScore",
    "Claim",
    "Finding",
    "HypothesisScore",
    "Impact",
    "Incident",
    "InjectionScore",
    "Instant",
    "Score",
    "SliScore",
    "State",
    "Timing",
    "Verdict",
]


class State(enum.Enum):
    """Whether a duration is a number."""

    MEASURED = "measured"
    CENSORED = "censored"  # it lasted longer than we let it: [elapsed, ∞)
    UNKNOWN = "unknown"  # it cannot be known
    NOT_APPLICABLE = "not-applicable"  # there was nothing to do


class Verdict(enum.Enum):
    """What the evidence says of a hypothesis."""

    SUPPORTED = "supported"
    REFUTED = "refuted"
    INCONCLUSIVE = "inconclusive"


class Instant(msgspec.Struct, frozen=True):
    """When something happened: somewhere in ``[low, high]``, as ``source`` says."""

    low: float
    high: float
    source: str = ""


class Timing(msgspec.Struct, frozen=True):
    """A duration.

    Attributes:
        value: The middle of the interval, if measured; the elapsed time, if censored.
        low, high: Its bounds in seconds; ``high`` is None where there is none.
        source: What decided it: ``fixers``, ``self-healed``, ``monitoring``, ``customer`` ….
        note: A sentence for people, where the state needs one ("noticed before any alert").
    """

    state: State
    value: float | None = None
    low: float | None = None
    high: float | None = None
    source: str = ""
    note: str = ""


class AlertScore(msgspec.Struct, frozen=True):
    """One firing of one alert.

    Attributes:
        incident: Number of the incident it belongs to; 0: pre-existing or ambiguous.
        pre_existing: It fired before the first inject.
        to_acknowledge: From fired; ``to_acknowledge_delivered``: from the first delivery.
    """

    page: str
    alert: str
    tier: str
    source: str
    fired: Instant
    incident: int
    delivered: float | None
    acknowledged: float | None
    resolved: float | None
    to_acknowledge: Timing
    to_acknowledge_delivered: Timing
    pre_existing: bool = False
    failed_channels: tuple[str, ...] = ()


class Claim(msgspec.Struct, frozen=True):
    """What fixers said (``mitigate``, ``resolve``, ``all-clear``), beside what was measured then.

    Attributes:
        held: True if the measurements agree; None if they cannot tell.
        seen: What was measured then, for people.
    """

    verb: str
    at: float
    role: str
    held: bool | None
    seen: str
    incident: int = 0
    text: str = ""


class Incident(msgspec.Struct, frozen=True):
    """What the fixers responded to, from onset to restored.

    Attributes:
        number: From 1.
        kind: ``impact`` (the steady state was left), ``no-impact`` (a fault without impact)
            or ``false-alarm``.
        instants: ``onset``, ``impact``, ``alert``, ``delivered``, ``detect``, ``ack``, ``identify``,
            ``mitigate``, ``restore``, ``resolve``, ``all_clear``; missing if it did not happen.
        timings: ``time_to_detect``, ``_acknowledge``, ``_identify``, ``_mitigate``, ``_restore``,
            ``_all_clear``, and ``time_to_detect_from_impact``.
        injections: Ids of the injections that caused it; empty where the cause is not ours.
        relapses: How often an SLI left the bounds again after a mitigation.
    """

    number: int
    kind: str
    instants: dict[str, Instant]
    timings: dict[str, Timing]
    injections: tuple[str, ...] = ()
    relapses: int = 0


class HypothesisScore(msgspec.Struct, frozen=True):
    """The verdict on one hypothesis.

    Attributes:
        evidence: A sentence: what was measured, when, against which bound.
        at: The instants that decided it (a breach of an SLI, say), for the timeline.
    """

    id: str
    claim: str
    expect: str
    verdict: Verdict
    evidence: str
    at: tuple[Instant, ...] = ()


class InjectionScore(msgspec.Struct, frozen=True):
    """One injection: called; seen to have taken effect in ``took_effect``; ended, and how."""

    id: str
    fault: str
    target: str
    called: float | None
    took_effect: Instant | None
    ended: Instant | None
    how: str
    by: str = ""
    seen: str = ""
    detail: str = ""
    healthy: bool = True


class SliScore(msgspec.Struct, frozen=True):
    """One SLI over the drill.

    Attributes:
        series: ``(at, value)`` at each sample, for the picture; value None where unknown.
        outside: Intervals outside the steady state.
        q: The p99 duration of good samples, seconds (DESIGN §2).
        worst: The worst value between the first inject and the end of counting.
    """

    name: str
    bounds: tuple[str, ...]
    series: tuple[tuple[float, float | None], ...]
    outside: tuple[tuple[Instant, Instant | None], ...]
    samples: int
    good: int
    void: int
    q: float
    worst: float | None


class Impact(msgspec.Struct, frozen=True):
    """What the drill cost its users.

    Attributes:
        requests, failed: Requests of the load from the first inject to restored or our revert.
        outside: Seconds outside the steady state, low and high.
        error_budget: Bad samples over what the steady state allows from the scenario's start to the
            drill's end, per SLI: 1.0 is the whole budget of the drill's length. Only shares with a lower bound
            under 100 % have one.
        errors: Failed requests by endpoint, with the short names of the errors met there.
        open: Still outside at the hard stop, or whatever ended observation: ``outside`` counts
            only up to there.
    """

    requests: int
    failed: int
    outside: tuple[float, float]
    error_budget: dict[str, float]
    errors: dict[str, int] = {}
    open: bool = False


class Finding(msgspec.Struct, frozen=True):
    """Something the evidence shows that people should talk about; never about a person.

    Attributes:
        id: Stable: ``customer-first``, ``resolved-while-outside`` ….
        kind: ``well``, ``poorly``, ``lucky``, ``surprise`` or ``validity`` (about the drill itself).
        text: One sentence, with the figures.
        at: Where on the axis, if anywhere.
        incident: 0 if it concerns none.
    """

    id: str
    kind: str
    text: str
    at: float | None = None
    incident: int = 0
    evidence: tuple[int, ...] = ()


class Score(msgspec.Struct, frozen=True):
    """All that scoring says.

    Attributes:
        exit_code: As of DESIGN §7, from verdicts, outcome and undo.
        counted: From the first inject to restored or our own revert; None without inject.
        end: ``at`` of the last event.
        ended: Why the drill ended; ``died`` if its journal just stops.
        begun: When the scenario's clock started; None if it never did.
    """

    exit_code: int
    ended: str
    begun: float | None
    counted: tuple[float, float] | None
    end: float
    incidents: tuple[Incident, ...]
    hypotheses: tuple[HypothesisScore, ...]
    injections: tuple[InjectionScore, ...]
    alerts: tuple[AlertScore, ...]
    claims: tuple[Claim, ...]
    slis: tuple[SliScore, ...]
    impact: Impact
    findings: tuple[Finding, ...]
    own_cpu_share: float | None = None
