"""Durations, shares, sizes and rates as people write them, and back again.

Inside, everything is SI: seconds, shares in [0, 1], bytes, bits per second.
"""

from __future__ import annotations

import math
import re

__all__ = [
    "parse_duration",
    "parse_rate",
    "parse_share",
    "parse_size",
    "show_duration",
    "show_rate",
    "show_share",
    "show_size",
]

_SECONDS = {
    "us": 1e-6,
    "µs": 1e-6,
    "ms": 1e-3,
    "s": 1.0,
    "m": 60.0,
    "min": 60.0,
    "h": 3600.0,
    "d": 86400.0,
}
_BYTES = {"": 1, "B": 1} | {
    prefix + suffix: factor**power
    for suffix, factor in (("B", 1000), ("iB", 1024))
    for power, prefix in enumerate(("k", "M", "G", "T"), start=1)
}
_BYTES |= {"KB": 1000, "KiB": 1024}
_BITS = {"bit/s": 1.0, "kbit/s": 1e3, "Mbit/s": 1e6, "Gbit/s": 1e9}
_NUMBER = r"(\d+(?:\.\d+)?)"
_DURATION_PART = re.compile(_NUMBER + r"\s*(us|µs|ms|min|s|m|h|d)\s*")


def parse_duration(text: str) -> float:
    """Seconds in ``"3m"``, ``"1m30s"``, ``"500ms"``, ``"1.5 s"``.

    Raises:
        ValueError: if it is no duration; a bare number is refused because its unit is a guess.
    """
    position, total = 0, 0.0
    stripped = text.strip()
    while position < len(stripped):
        part = _DURATION_PART.match(stripped, position)
        if part is None:
            break
        total += float(part[1]) * _SECONDS[part[2]]
        position = part.end()
    if position == 0 and stripped[:1] in ("-", "\N{MINUS SIGN}"):
        raise ValueError(f"{text!r} is negative; write it as 500ms, 10s, 3m or 1m30s")
    if not stripped or position < len(stripped) or not math.isfinite(total):
        raise ValueError(f"{text!r} is not a duration; write it as 500ms, 10s, 3m or 1m30s")
    return total


def parse_share(text: str) -> float:
    """The share in ``"95%"`` or ``"0.95"``, in [0, 1].

    Raises:
        ValueError: if it is no share, or outside [0, 1].
    """
    match = re.fullmatch(_NUMBER + r"\s*(%?)", text.strip())
    value = math.nan if match is None else float(match[1]) / (100.0 if match[2] else 1.0)
    if not 0.0 <= value <= 1.0:
        raise ValueError(f"{text!r} is not a share; write it as 95% or 0.95")
    return value


def parse_size(text: str) -> int:
    """Bytes in ``"64MiB"``, ``"10 MB"``, ``"512"``.

    Raises:
        ValueError: if it is no size.
    """
    match = re.fullmatch(_NUMBER + r"\s*([A-Za-z]*)", text.strip())
    if match is None or match[2] not in _BYTES:
        raise ValueError(f"{text!r} is not a size; write it as 512kB, 64MiB or 1GiB")
    size = float(match[1]) * _BYTES[match[2]]
    if not math.isfinite(size):
        raise ValueError(f"{text[:20]!r}… is too large for a size")
    return int(size)


def parse_rate(text: str) -> float:
    """Bits per second in ``"1Mbit/s"``.

    Raises:
        ValueError: if it is no rate.
    """
    match = re.fullmatch(_NUMBER + r"\s*([A-Za-z]+/s)", text.strip())
    if match is None or match[2] not in _BITS:
        raise ValueError(f"{text!r} is not a rate; write it as 64kbit/s or 1Mbit/s")
    rate = float(match[1]) * _BITS[match[2]]
    if not math.isfinite(rate):
        raise ValueError(f"{text[:20]!r}… is too large for a rate")
    return rate


def _plain(value: float, digits: int) -> str:
    text = f"{value:.{digits}f}"
    return text.rstrip("0").rstrip(".") if "." in text else text


def show_duration(seconds: float, *, digits: int = 1) -> str:
    """Seconds for people: ``350 ms``, ``12.4 s``, ``4 min 12 s``; ``digits`` after the point of seconds."""
    if seconds < 0:
        return "-" + show_duration(-seconds, digits=digits)
    if seconds == 0:
        return "0 s"
    if seconds < 0.9995:
        return f"{_plain(seconds * 1000, 0 if seconds >= 0.01 else 1)} ms"
    if seconds < 59.95:
        return f"{_plain(seconds, digits)} s"
    whole = round(seconds)
    hours, minutes, rest = whole // 3600, whole // 60 % 60, whole % 60
    parts = [(hours, "h"), (minutes, "min"), (rest, "s")]
    return " ".join(f"{count} {unit}" for count, unit in parts if count)


def show_share(share: float) -> str:
    """A share for people: ``99.5 %``."""
    return f"{_plain(share * 100, 2)} %"


def show_size(size: int) -> str:
    """Bytes for people, in powers of 1024: ``64 MiB``."""
    value, unit = float(size), "B"
    for bigger in ("KiB", "MiB", "GiB", "TiB"):
        if round(value, 1) < 1024:
            break
        value, unit = value / 1024, bigger
    return f"{_plain(value, 1)} {unit}"


def show_rate(bits: float) -> str:
    """Bits per second for people: ``1 Mbit/s``."""
    value, unit = bits, "bit/s"
    for bigger in ("kbit/s", "Mbit/s", "Gbit/s"):
        if round(value, 1) < 1000:
            break
        value, unit = value / 1000, bigger
    return f"{_plain(value, 1)} {unit}"
