"""Latency: what the server sends reaches the client later."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from gameday.injectors.sandbox.proxy.behaviour import parameter
from gameday.injectors.sandbox.proxy.stage import Stage

if TYPE_CHECKING:
    from gameday.injectors.sandbox.proxy.connection import Connection

__all__ = ["Latency"]

# Held for each connection before its server is no longer read: a wide TCP window.
_ROOM = 4 << 20


@dataclass(eq=False)
class Latency:
    """Each piece of data from server to client is held for ``delay`` ± ``jitter``, evenly drawn.

    One way only, so that a request and its answer together take ``delay`` longer,
    once. The order of bytes is kept: a piece never overtakes an earlier one, which
    with jitter lifts the mean a little. The end of a stream is delayed as data is;
    connecting is not. Where jitter exceeds the delay, less than nothing is nothing.
    """

    kind: ClassVar[str] = "latency"
    delay: float = parameter("s")
    jitter: float = parameter("s", default=0.0)

    def hit(self, connection: Connection) -> None:
        """Hold what goes to the client."""
        random = connection.random

        def due(arrived: float, size: int) -> float:
            jitter = random.uniform(-self.jitter, self.jitter) if self.jitter else 0.0
            return arrived + max(0.0, self.delay + jitter)

        connection.down.insert(self, Stage(connection.loop, due, room=_ROOM))

    def lift(self, connection: Connection) -> None:
        """Let it go on."""
        connection.down.remove(self)
