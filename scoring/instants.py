"""Arithmetic of instants and durations: every instant is an interval, every duration follows.

A duration is measured only if both its ends are known and nothing stood still
across it; what was still open when we put things back is censored.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import msgspec

from gameday.scoring.events import Suspended
from gameday.scoring.render import figures
from gameday.scoring.score import Instant, State, Timing

__all__ = [
    "Cut",
    "earliest",
    "instant",
    "latest",
    "not_applicable",
    "show_suspends",
    "show_timing",
    "tell_suspend",
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
        suspends: Each time that the host slept, or the runner stood still.
    """

    at: float
    why: str
    suspends: Sequence[Suspended] = ()

    def measured(self, start: Instant, end: Instant, note: str = "") -> Timing:
        """From ``start`` to ``end``; never below zero."""
        if void := self._void(start.low, end.high):
            return void
        low = round(max(0.0, end.low - start.high), _DIGITS)
        high = round(max(0.0, end.high - start.low), _DIGITS)
        value = round((low + high) / 2, _DIGITS)
        return Timing(State.MEASURED, value, low, high, end.source, note)

    def censored(self, start: Instant, at: float | None = None, why: str = "") -> Timing:
        """Still open when it was ended, at ``at`` (default: the cut) by ``why``."""
        stop = self.at if at is None else at
        if void := self._void(start.low, stop):
            return void
        elapsed = round(max(0.0, stop - start.high), _DIGITS)
        return Timing(State.CENSORED, elapsed, elapsed, None, note=f"until {why or self.why}")

    def _void(self, low: float, high: float) -> Timing | None:
        across = [each for each in self.suspends if low < each.at <= high]
        return unknown(f"void: {show_suspends(across)} meanwhile") if across else None


def show_suspends(suspends: Sequence[Suspended]) -> str:
    """What stood still, each for how long altogether: ``the machine slept for 2 min 0 s``."""
    slept = [each.seconds for each in suspends if each.who != "runner"]
    held = [each.seconds for each in suspends if each.who == "runner"]
    parts = [f"the machine slept for {figures.single(max(sum(slept), 0.0))}"] if slept else []
    if held:
        total = figures.single(max(sum(held), 0.0))
        parts.append(f"the runner stood still for {total} (stopped, or the machine too busy)")
    return " and ".join(parts)


def tell_suspend(suspend: Suspended) -> str:
    """One of them, as a sentence."""
    what = show_suspends([suspend])
    return f"{what[0].upper()}{what[1:]}; durations across it are void."


def show_timing(timing: Timing) -> str:
    """A timing for people, with its bound, and why it is no number where it is none."""
    if timing.state is State.CENSORED and timing.low is not None:
        elapsed = figures.single(timing.low, way="down")
        return f"longer than {elapsed} ({timing.note})" if timing.note else f"longer than {elapsed}"
    if timing.state is not State.MEASURED and timing.note:
        return timing.note
    return figures.timing(timing)
