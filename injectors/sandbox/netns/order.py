"""What the helper of a fault is told by whoever starts it."""

from __future__ import annotations

import msgspec

from gameday.injectors.undo import ProcessId

__all__ = ["Order"]


class Order(msgspec.Struct, frozen=True):
    """What a helper is to do.

    Attributes:
        tag: The fault's.
        serves: The process whose namespace it lives in.
        owners: It ends when all of these have; none: when it is told to.
    """

    kind: str
    tag: str
    parameters: dict[str, float]
    serves: ProcessId
    owners: tuple[ProcessId, ...] = ()
