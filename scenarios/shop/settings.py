"""Settings from the environment, each with its unit and a default."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TypeVar

from gameday.injectors import units
from gameday.injectors.errors import UsageError

__all__ = ["Settings"]

T = TypeVar("T")

_SWITCH = {"1": True, "true": True, "on": True, "yes": True}
_SWITCH |= {"0": False, "false": False, "off": False, "no": False}


def _seconds(text: str) -> float:
    try:
        value = float(text)
    except ValueError:
        return units.parse_duration(text)
    if not math.isfinite(value) or value < 0:
        raise ValueError(f"{text!r} is not a duration")
    return value


def _whole(text: str) -> int:
    if not (text.isascii() and text.isdigit()):
        raise ValueError(f"{text!r} is not a whole number")
    return int(text)


def _switch(text: str) -> bool:
    try:
        return _SWITCH[text.lower()]
    except KeyError:
        raise ValueError(f"{text!r} is neither 1 nor 0") from None


class Settings:
    """Reads what one process is told; an empty variable counts as not set.

    Every method raises UsageError, naming the variable, for a value that it cannot read.
    """

    def __init__(self, environ: Mapping[str, str]) -> None:
        self._environ = environ
        self.used: dict[str, object] = {}

    def text(self, name: str, default: str) -> str:
        return self._read(name, default, str)

    def secret(self, name: str, default: str) -> str:
        """A text that is not shown in ``used``, hence not logged."""
        value = self.text(name, default)
        self.used[name] = "(hidden)"
        return value

    def seconds(self, name: str, default: float) -> float:
        """A duration as ``400ms`` or in plain seconds."""
        return self._read(name, default, _seconds)

    def whole(self, name: str, default: int) -> int:
        return self._read(name, default, _whole)

    def share(self, name: str, default: float) -> float:
        """A share as ``20%`` or ``0.2``."""
        return self._read(name, default, units.parse_share)

    def switch(self, name: str, default: bool) -> bool:
        return self._read(name, default, _switch)

    def path(self, name: str) -> Path | None:
        return self._read(name, None, Path)

    def _read(self, name: str, default: T, parse: Callable[[str], T]) -> T:
        text = self._environ.get(name, "").strip()
        try:
            value = parse(text) if text else default
        except ValueError as error:
            raise UsageError(f"{name}: {error}") from None
        self.used[name] = value
        return value
