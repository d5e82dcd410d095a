"""One injection of a plan."""

from __future__ import annotations

import math

import msgspec

from gameday.injectors.fault import Injection

__all__ = ["Planned"]


class Planned(msgspec.Struct, frozen=True):
    """One injection that the drill would make.

    Attributes:
        at: Seconds after the drill's start; ``until``: when it is taken back.
        entry: Its entry of the scenario's ``faults``.
    """

    at: float
    injection: Injection
    until: float = math.inf
    entry: int = 0
