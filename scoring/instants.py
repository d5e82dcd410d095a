"""Arithmetic of instants and durations: every instant is an interval, every duration follows.

A duration is measured only if both its ends are known and no suspend lies
across it; what was still open when we put things back is censored.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import msgspec

from gameday.scoring.render import figures
from gameday.scoring.score import Instant, State, Timing

__all__ = [
    "Cut",
    "earliest",
    "instant",
    "latest",
    "not_applicable",
    "show_timing",
    "unknown",
]

_DIGITS = 6


def instant(low: float, high: float | None = None, source: str = "") -> Instant:
    """``[low, high]``, the bounds put in order; a point without ``high``."""
    high = low if high is None else high
    return Instant(min(low, high), max(low, high), source)


def earliest(instants: Iterable[Instant]) -> Instant:
    """When the first of several things happened; carries the source of the likeliest."""
    known = list(instants)
    first = min(known, key=lambda i: (i.high, i.low))
    return Instant(min(i.low for i in known), first.high, first.source)


def latest(instants: Iterable[Instant]) -> Instant:
    """When the last of several things had happened."""
    known = list(instants)
    last = max(known, key=lambda i: (i.low, i.high))
    return Instant(last.low, max(i.high for i in known), last.source)


def unknown(note: str, source: str = "") -> Timing:
    """It cannot be known, and why."""
    return Timing(State.UNKNOWN, source=source, note=note)


def not_applicable(note: str, source: str = "") -> Timing:
    """There was nothing to do, and why."""
    return Timing(State.NOT_APPLICABLE, source=source, note=note)


class Cut(msgspec.Struct, frozen=True):
    """Where observation ended: our revert, an abort, or the end of the journal.

    Attributes:
        at: Seconds; what is still open then is censored.
        why: For people: ``the hard stop``.
        suspends: ``(at, seconds)`` of each time the host slept.
    """

    at: float
    why: str
    suspends: Sequence[tuple[float, float]] = ()

    def measured(self, start: Instant, end: Instant, note: str = "") -> Timing:
        """From ``start`` to ``end``; never below zero."""
        if slept := self._slept(start.low, end.high):
            return slept
        low = round(max(0.0, end.low - start.high), _DIGITS)
        high = round(max(0.0, end.high - start.low), _DIGITS)
        value = round((low + high) / 2, _DIGITS)
        return Timing(State.MEASURED, value, low, high, end.source, note)

    def censored(self, start: Instant, at: float | None = None, why: str = "") -> Timing:
        """Still open when it was ended, at ``at`` (default: the cut) by ``why``."""
        stop = self.at if at is None else at
        if slept := self._slept(start.low, stop):
            return slept
        elapsed = round(max(0.0, stop - start.high), _DIGITS)
        return Timing(State.CENSORED, elapsed, elapsed, None, note=f"until {why or self.why}")

    def _slept(self, low: float, high: float) -> Timing | None:
        total = sum(seconds for at, seconds in self.suspends if low < at <= high)
        if not any(low < at <= high for at, _ in self.suspends):
            return None
        return unknown(f"void: the machine slept for {figures.single(max(total, 0.0))} meanwhile")


def show_timing(timing: Timing) -> str:
    """A timing for people, with its bound, and why it is no number where it is none."""
    if timing.state is State.CENSORED and timing.low is not None:
        elapsed = figures.single(timing.low, way="down")
        return f"longer than {elapsed} ({timing.note})" if timing.note else f"longer than {elapsed}"
    if timing.state is not State.MEASURED and timing.note:
        return timing.note
    return figures.timing(timing)
