"""Figures for people: a unit, a bound, and never more digits than the bound allows.

::

    measured  12.4 s (12.3–12.5)
    censored  not within 4 min 12 s
    exact     12.4 s

A shown interval is rounded outwards, so it always contains the measured one.
"""

from __future__ import annotations

import datetime
import math
import re

from gameday.scoring.score import Instant, State, Timing

__all__ = [
    "clock",
    "count",
    "figure",
    "instant",
    "iso",
    "share",
    "single",
    "timing",
    "to_timing",
    "utc",
    "utc_date",
]

_STEPS = (0.001, 0.01, 0.1, 1.0, 10.0, 60.0, 600.0, 3600.0)
_LONG = 120.0  # from here on, minutes read better than seconds
_EXACT = 1e-3  # a receiver's stamp: known better than anybody reads
_SLACK = 1e-9  # binary fractions: 0.3 / 0.1 is not 3


def _step(width: float, size: float) -> float:
    """The place of the last digit: one significant digit of the bound, or what the size deserves."""
    least = 1.0 if size >= _LONG else 0.1 if size >= 1.0 else 0.001
    wanted = max(width, least)
    return max(step for step in _STEPS if step <= wanted * (1 + _SLACK))


def _shown(seconds: float, step: float, size: float) -> tuple[str, str]:
    """A multiple of ``step`` as number and unit, in the unit that suits ``size``."""
    if size < 0.9995 and step < 0.1:
        return f"{seconds * 1000:.0f}", "ms"
    if size < _LONG:
        digits = max(0, -math.floor(math.log10(step) + _SLACK)) if step < 1 else 0
        return f"{seconds:.{digits}f}", "s"
    whole = round(seconds)
    hours, minutes, rest = whole // 3600, whole // 60 % 60, whole % 60
    parts = [(hours, "h"), (minutes, "min"), (rest, "s")]
    return " ".join(f"{number} {unit}" for number, unit in parts if number) or "0 s", ""


def _text(number: str, unit: str) -> str:
    return f"{number} {unit}".strip()


def _grid(seconds: float, step: float, way: str) -> float:
    places = seconds / step
    near = round(places)
    if way == "near" or abs(places - near) < _SLACK * max(1.0, abs(places)):
        return near * step
    return (math.floor(places) if way == "down" else math.ceil(places)) * step


def figure(low: float, high: float | None = None, *, value: float | None = None) -> str:
    """A duration known to lie in ``[low, high]`` seconds; without ``high``, exactly ``low``.

    ``figure(12.31, 12.47)`` is ``12.4 s (12.3–12.5)``. The figure is ``value``, by default
    the middle of the interval.
    """
    if low < 0:
        return _negative(low, high)
    high = low if high is None else max(low, high)
    middle = (low + high) / 2 if value is None else value
    width = high - low
    step = _step(width, middle)
    main = _shown(_grid(middle, step, "near"), step, middle)
    if width <= _EXACT:
        return _text(*main)
    ends = [
        _shown(_grid(low, step, "down"), step, middle),
        _shown(_grid(high, step, "up"), step, middle),
    ]
    if ends[0] == ends[1] == main:
        return _text(*main)
    if all(unit == main[1] != "" for _, unit in ends):
        return f"{_text(*main)} ({ends[0][0]}–{ends[1][0]})"
    return f"{_text(*main)} ({_text(*ends[0])} to {_text(*ends[1])})"


def _negative(low: float, high: float | None) -> str:
    high = low if high is None else max(low, high)
    if high <= 0:
        return f"{figure(-high, -low)} before"
    return f"between {single(-low, way='up')} before and {single(high, way='up')} after"


def single(seconds: float, *, way: str = "near") -> str:
    """One duration with the digits that its size deserves; ``way``: ``near``, ``down`` or ``up``."""
    if seconds < 0:
        return f"−{single(-seconds)}"
    step = _step(0.0, seconds)
    return _text(*_shown(_grid(seconds, step, way), step, seconds)) if seconds else "0 s"


def timing(timing: Timing) -> str:
    """A timing as one short phrase: a figure, ``not within 4 min 12 s``, ``unknown`` or ``nothing to do``."""
    if timing.state is State.CENSORED:
        elapsed = timing.low if timing.low is not None else timing.value
        return "not within the drill" if elapsed is None else f"not within {_at_least(elapsed)}"
    if timing.state is State.MEASURED:
        low = timing.low if timing.low is not None else timing.value
        return "unknown" if low is None else figure(low, timing.high, value=timing.value)
    return "unknown" if timing.state is State.UNKNOWN else "not applicable"


def _at_least(seconds: float) -> str:
    return single(seconds, way="down")


def to_timing(done: str, timing_: Timing, *, since: str = "") -> str:
    """As a clause: ``mitigated after 12.4 s (12.3–12.5)``, ``not mitigated within 4 min 12 s``.

    Args:
        since: What it is counted from, if that is to be said: ``mitigated 12.4 s after detection``.
    """
    if timing_.state is State.CENSORED:
        return f"not {done} {timing(timing_).removeprefix('not ')} {since}".strip()
    if timing_.state is State.MEASURED:
        shown = timing(timing_)
        early = shown.endswith("before") or shown.startswith("between")
        return f"{done} {shown} {since}" if since and not early else f"{done} after {shown}"
    if timing_.state is State.UNKNOWN:
        return f"not known when {done}"
    return f"nothing to be {done}"


def clock(at: float, *, tenths: bool = True) -> str:
    """An instant on the drill's axis: ``01:23.4``; ``−00:04.0`` before zero; ``1:02:03.4`` from an hour on."""
    # Tenths are whole numbers from here: 59.96 must become 01:00.0, never 00:60.0.
    units = round(abs(at) * 10) if tenths else round(abs(at)) * 10
    sign = "−" if at < 0 and units else ""
    whole, tenth = divmod(units, 10)
    hours, minutes, seconds = whole // 3600, whole // 60 % 60, whole % 60
    text = f"{hours}:{minutes:02}:{seconds:02}" if hours else f"{minutes:02}:{seconds:02}"
    return f"{sign}{text}.{tenth}" if tenths else f"{sign}{text}"


def instant(instant: Instant, zero: float) -> str:
    """An instant with its bound, on the axis that starts at ``zero``: ``00:10.1 (00:10.0–00:10.2)``."""
    low, high = instant.low - zero, instant.high - zero
    if high - low < 0.05:
        return clock((low + high) / 2)
    return f"{clock((low + high) / 2)} ({clock(math.floor(low * 10) / 10)}–{clock(math.ceil(high * 10) / 10)})"


def share(value: float, *, samples: int | None = None) -> str:
    """A share for people: ``99.5 %``; with fewer than a thousand samples behind it, one digit at most."""
    if not math.isfinite(value):
        return "unknown"
    digits = 2 if samples is not None and samples >= 1000 and value >= 0.99 else 1
    text = f"{value * 100:.{digits}f}"
    if value < 1 and float(text) >= 100:  # a failure is not rounded away
        text = f"{math.floor(value * 10 ** (digits + 2)) / 10**digits:.{digits}f}"
    if value > 0 and float(text) == 0:
        return f"under {10.0**-digits:.{digits}f} %"
    return re.sub(r"\.0+$", "", text) + " %"


def count(number: int, one: str, many: str = "") -> str:
    """``1 request``, ``4,820 requests``."""
    return f"{number:,} {one if number == 1 else many or one + 's'}"


def utc(wall: float) -> str:
    """Unix time as ``17:07:26``, UTC."""
    return _moment(wall).strftime("%H:%M:%S")


def utc_date(wall: float) -> str:
    """Unix time as ``2026-11-22``, UTC."""
    return _moment(wall).strftime("%Y-%m-%d")


def iso(wall: float) -> str:
    """Unix time as ``2026-11-22T17:07:26.123Z``."""
    return _moment(wall).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def _moment(wall: float) -> datetime.datetime:
    # A journal is data: a wall clock far outside the calendar must not end the debrief.
    bounded = min(max(wall, 0.0), 253_402_300_799.0) if math.isfinite(wall) else 0.0
    return datetime.datetime.fromtimestamp(bounded, datetime.UTC)
