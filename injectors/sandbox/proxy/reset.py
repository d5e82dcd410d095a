"""Reset: connections are broken off, and both sides are told."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

if TYPE_CHECKING:
    from gameday.injectors.sandbox.proxy.connection import Connection

__all__ = ["Reset"]


@dataclass(eq=False)
class Reset:
    """Open connections are reset (RST) towards client and server, new ones as soon as accepted."""

    kind: ClassVar[str] = "reset"

    def hit(self, connection: Connection) -> None:
        """Reset it."""
        connection.reset()

    def lift(self, connection: Connection) -> None:
        """Nothing is left of it."""
