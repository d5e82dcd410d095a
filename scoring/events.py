"""The journal's closed vocabulary.

``journal.jsonl`` holds one event on each line. Every event carries ``seq`` (from
1, without gaps), ``at`` (seconds of CLOCK_MONOTONIC since the drill's start) and
``wall`` (Unix time, for display only). All other instants inside events
(``sent``, ``done``, ``called`` …) are on the same axis as ``at``.

The vocabulary is closed: what scoring depends on is here and is validated when
it is read. `Noted` alone is open; it is shown and never scored.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

import msgspec

from gameday.injectors.fault import Injection

__all__ = [
    "JOURNAL_VERSION",
    "AbortAsked",
    "AlertDelivered",
    "AlertFailed",
    "AlertFired",
    "AlertResolved",
    "DrillEnded",
    "DrillStarted",
    "Event",
    "InjectCalled",
    "InjectFailed",
    "InjectionArmed",
    "InjectionUndone",
    "LoadBucket",
    "LoadStarted",
    "Looked",
    "Noted",
    "PhaseBegan",
    "Problem",
    "Reported",
    "Said",
    "Sample",
    "SandboxChanged",
    "SliBroke",
    "Suspended",
    "TargetChecked",
    "decode",
    "encode",
    "why_not_started",
]

JOURNAL_VERSION = 1


class _Event(
    msgspec.Struct,
    frozen=True,
    kw_only=True,
    tag_field="event",
    tag=lambda name: name,
    omit_defaults=True,
):
    seq: int = 0
    at: float
    wall: float = 0.0


class DrillStarted(_Event, frozen=True, kw_only=True):
    """The first event. ``clock`` is the absolute CLOCK_MONOTONIC of zero on the axis."""

    id: str
    scenario: str
    gameday: str
    seed: int
    boot_id: str = ""
    clock: float = 0.0
    host: dict[str, str] = {}
    control: bool = False
    version: int = JOURNAL_VERSION


class PhaseBegan(_Event, frozen=True, kw_only=True):
    """``starting`` (sandbox, load, probes), ``steadying`` (waiting for the steady state),
    ``running`` (times of the scenario count from here), ``reverting``, ``verifying`` (does the
    steady state hold again?), ``ended``.
    """

    phase: str
    why: str = ""


class Sample(_Event, frozen=True, kw_only=True):
    """One probe of one SLI.

    Attributes:
        due: When its schedule wanted it sent.
        sent, done: When it was sent, and when the answer, error or deadline came.
        good: As the scenario's condition says.
        status: HTTP status; 0 without an answer.
        error: Short and stable (``refused``, ``reset``, ``timeout``, …); empty with an answer.
    """

    sli: str
    due: float
    sent: float
    done: float
    good: bool
    status: int = 0
    error: str = ""


class LoadStarted(_Event, frozen=True, kw_only=True):
    """Load is being offered."""

    journey: str
    users: int


class LoadBucket(_Event, frozen=True, kw_only=True):
    """What the load met at one endpoint in 100 ms from ``start``: exact counts.

    Attributes:
        endpoint: ``GET /products``.
        ok, failed: Requests that ended in the bucket, by outcome.
        latency: Histogram: upper bound in ms (as text) to count, all outcomes.
        errors: The first of each new error, by its short name: the message.
    """

    start: float
    endpoint: str
    ok: int
    failed: int = 0
    latency: dict[str, int] = {}
    errors: dict[str, str] = {}


class InjectionArmed(_Event, frozen=True, kw_only=True):
    """The undo is on disk; from now on the injection may be made. ``entry``: index in ``faults``."""

    injection: Injection
    entry: int = 0


class InjectCalled(_Event, frozen=True, kw_only=True):
    """``at`` is just before the call."""

    injection: str


class InjectFailed(_Event, frozen=True, kw_only=True):
    """The call failed; the undo runs all the same."""

    injection: str
    error: str


class Looked(_Event, frozen=True, kw_only=True):
    """A look at the target that showed something new. ``at`` is when it was looked.

    Attributes:
        previous: When the look before this one was made (or inject was called): a change
            that this look shows happened in (previous, at].
    """

    injection: str
    took_effect: bool
    in_force: bool
    seen: str
    previous: float


class InjectionUndone(_Event, frozen=True, kw_only=True):
    """The injection ended: ``put-back``, ``taken-over`` (``by`` whom), ``nothing`` or ``failed``.

    Attributes:
        called: When the undo was called; ``at`` is when a look showed it to be out of force.
    """

    injection: str
    outcome: str
    called: float
    detail: str = ""
    by: str = ""


class TargetChecked(_Event, frozen=True, kw_only=True):
    """After the undo: is the target as it was before (its fingerprint, without identity)?

    ``detail`` names the difference; not equal is "put back but unhealthy".
    """

    injection: str
    equal: bool
    detail: str = ""


class AlertFired(_Event, frozen=True, kw_only=True):
    """An alert fires. ``at`` is when its condition was found to hold, or its time came.

    Attributes:
        page: Unique id of this firing.
        source: ``monitoring`` (rules on SLIs, or the team's own system) or ``synthetic``.
        since: The earliest instant at which it can have fired: with our own rules when the deciding
            sample was done, with a system that is polled the poll before.
        value: The measured value that fired it, for people.
    """

    page: str
    alert: str
    tier: str
    source: str
    summary: str = ""
    since: float = 0.0
    value: str = ""


class AlertDelivered(_Event, frozen=True, kw_only=True):
    """A channel accepted the page."""

    page: str
    channel: str


class AlertFailed(_Event, frozen=True, kw_only=True):
    """A channel did not take the page, after all retries."""

    page: str
    channel: str
    error: str


class AlertResolved(_Event, frozen=True, kw_only=True):
    """The alert no longer fires. ``by``: ``monitoring`` (the condition ended) or ``gameday`` (at the end)."""

    page: str
    by: str


class Said(_Event, frozen=True, kw_only=True):
    """What a person, or the scripted fixer, said through the inbox. ``at`` is the receiver's stamp.

    Attributes:
        verb: ``ack``, ``declare``, ``note``, ``update``, ``identify``, ``mitigate``, ``resolve``,
            ``all-clear``, ``hand-over``, ``hint``, ``abort``.
        role: ``fixer``, ``incident-commander``, ``observer``, ….
        name: Who; shown only if asked for.
        page: For ``ack``: the page; empty: every page then open.
        scripted: The scripted fixer said it.
    """

    verb: str
    role: str
    name: str = ""
    text: str = ""
    page: str = ""
    scripted: bool = False


class Reported(_Event, frozen=True, kw_only=True):
    """A customer's report or a stakeholder's question, from the scenario."""

    sender: str
    text: str


class SandboxChanged(_Event, frozen=True, kw_only=True):
    """Something happened in the sandbox (`gameday.injectors.sandbox.base.Change`)."""

    action: str
    slot: str = ""
    by: str = ""
    detail: str = ""


class SliBroke(_Event, frozen=True, kw_only=True):
    """What the runner saw live: an SLI left (``inside`` False) or regained a set of bounds.

    For the reader of the journal; scoring computes its own from the samples.
    """

    sli: str
    bounds: str
    inside: bool
    value: float


class Suspended(_Event, frozen=True, kw_only=True):
    """Something stood still for ``seconds``: durations across it are void.

    Attributes:
        who: The ``host``, which slept, or only the ``runner``: it was stopped, or held up.
    """

    seconds: float
    who: str = "host"


class AbortAsked(_Event, frozen=True, kw_only=True):
    """By ``guard-rail``, ``person``, ``signal``, ``watchdog-lost``, ``sandbox-lost`` or ``gameday``."""

    by: str
    why: str


class Problem(_Event, frozen=True, kw_only=True):
    """Something did not work: ``where`` (``probe``, ``load``, ``channel`` …) and what.

    Before ``steadying`` begins, ``sandbox`` means that it did not start, which is no fault of
    ours; all else is (`why_not_started`).
    """

    where: str
    what: str


class Noted(_Event, frozen=True, kw_only=True):
    """The open event: for people, never scored."""

    kind: str
    text: str = ""
    data: dict[str, Any] = {}


class DrillEnded(_Event, frozen=True, kw_only=True):
    """The last event.

    Attributes:
        why: ``resolved``, ``all-clear``, ``hard-stop``, ``control-over``, ``aborted``,
            ``unhealthy-start`` (the sandbox did not start, or the steady state never held),
            ``refused`` (before anything was started) or ``failed``.
        steady_after: Did the steady state hold again after everything was put back? None: it
            was not looked, because nothing was broken.
        own_cpu: CPU seconds that the runner and its helpers used.
        host_cpu: CPU seconds that the whole host used meanwhile.
    """

    why: str
    steady_after: bool | None = None
    own_cpu: float = 0.0
    host_cpu: float = 0.0


Event = (
    DrillStarted
    | PhaseBegan
    | Sample
    | LoadStarted
    | LoadBucket
    | InjectionArmed
    | InjectCalled
    | InjectFailed
    | Looked
    | InjectionUndone
    | TargetChecked
    | AlertFired
    | AlertDelivered
    | AlertFailed
    | AlertResolved
    | Said
    | Reported
    | SandboxChanged
    | SliBroke
    | Suspended
    | AbortAsked
    | Problem
    | Noted
    | DrillEnded
)


def why_not_started(events: Iterable[Event]) -> str:
    """Why the sandbox did not start, with what it printed last; empty if it did."""
    for event in events:
        if isinstance(event, PhaseBegan) and event.phase != "starting":
            return ""
        if isinstance(event, Problem) and event.where == "sandbox":
            return event.what
    return ""


_encoder = msgspec.json.Encoder()
_decoder: msgspec.json.Decoder[Event] = msgspec.json.Decoder(Event)


def encode(event: Event) -> bytes:
    """One line of the journal, without the line feed."""
    return _encoder.encode(event)


def decode(lines: Iterable[bytes]) -> Iterator[Event]:
    """The events of a journal's whole lines.

    Raises:
        msgspec.DecodeError: if a line is no event; the caller knows its number.
    """
    for line in lines:
        yield _decoder.decode(line)
