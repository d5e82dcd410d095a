"""Blackhole: nothing arrives, and nobody is told."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

if TYPE_CHECKING:
    from gameday.injectors.sandbox.proxy.connection import Connection

__all__ = ["Blackhole"]


@dataclass(eq=False)
class Blackhole:
    """Data vanishes both ways, ends of streams too; connections stay open.

    New connections are accepted, as nobody answers for the server, and stay silent;
    the server does not see them. When it is lifted, a connection that lost something
    is reset, for its stream has a hole; one that was idle lives on, and a new one
    that had not yet said anything is connected.
    """

    kind: ClassVar[str] = "blackhole"

    def hit(self, connection: Connection) -> None:
        """Cut it."""
        connection.cut()

    def lift(self, connection: Connection) -> None:
        """Mend it, or reset it if it lost something."""
        connection.mend()
