"""What a network fault is to the proxy: declared parameters, and two verbs."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING, Any, ClassVar, Protocol

if TYPE_CHECKING:
    from gameday.injectors.sandbox.proxy.connection import Connection

__all__ = ["Behaviour", "parameter"]


class Behaviour(Protocol):
    """One fault in force on one link; an instance lives from its adding to its removal.

    A dataclass whose fields, each made by `parameter`, are its parameters.
    Both verbs return at once; what takes time is left to a `Stage`.
    """

    kind: ClassVar[str]
    __dataclass_fields__: ClassVar[dict[str, dataclasses.Field[Any]]]

    def hit(self, connection: Connection) -> None:
        """Act on a connection: an open one when the fault is added, a new one before it is connected."""

    def lift(self, connection: Connection) -> None:
        """Take back what `hit` did; data that was held goes on at once, in order."""


def parameter(
    unit: str, *, default: float | None = None, above: float | None = None, least: float = 0.0
) -> Any:
    """A parameter in an SI unit; without a default it must be given.

    Args:
        unit: For people: ``s``, ``bit/s``.
        default: Its value where none is given.
        above: It must be greater than this.
        least: It must be at least this.
    """
    metadata = {"unit": unit, "above": above, "least": least}
    if default is None:
        return dataclasses.field(metadata=metadata)
    return dataclasses.field(default=default, metadata=metadata)
