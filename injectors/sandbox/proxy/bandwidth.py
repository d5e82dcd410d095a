"""Bandwidth: each way over the link carries so many bits in a second."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, ClassVar

from gameday.injectors.sandbox.proxy.behaviour import parameter
from gameday.injectors.sandbox.proxy.stage import Stage

if TYPE_CHECKING:
    from gameday.injectors.sandbox.proxy.connection import Connection

__all__ = ["Bandwidth", "Wire"]

# A connection has the wire for this long, in seconds; then the next one has its turn.
_TURN = 0.01
_LEAST_ROOM, _MOST_ROOM = 1 << 16, 4 << 20


class Wire:
    """One direction of the link: carries one piece at a time, whosever it is, at ``rate`` bit/s."""

    def __init__(self, rate: float) -> None:
        self.rate = rate
        self._free_at = 0.0

    def carry(self, arrived: float, size: int) -> float:
        """When the last bit of ``size`` bytes that ``arrived`` then has left the wire.

        Nothing is saved up while the wire is idle, so there is no burst after a pause.
        """
        self._free_at = max(self._free_at, arrived) + size * 8 / self.rate
        return self._free_at


@dataclass(eq=False)
class Bandwidth:
    """``rate`` bits per second each way, shared by all connections of the link.

    Connections take turns of at most 10 ms. Whoever sends faster is no longer read,
    and so is held back by TCP, once what it may leave with us is full.
    """

    kind: ClassVar[str] = "bandwidth"
    rate: float = parameter("bit/s", above=0.0)
    _up: Wire = field(init=False)
    _down: Wire = field(init=False)

    def __post_init__(self) -> None:
        self._up, self._down = Wire(self.rate), Wire(self.rate)

    def hit(self, connection: Connection) -> None:
        """Make both directions wait for their wire."""
        turn = max(1, int(min(self.rate / 8 * _TURN, _MOST_ROOM)))
        room = min(max(_LEAST_ROOM, 4 * turn), _MOST_ROOM)
        for pipe, wire in ((connection.up, self._up), (connection.down, self._down)):
            pipe.insert(self, Stage(connection.loop, wire.carry, room=room, piece=turn))

    def lift(self, connection: Connection) -> None:
        """Let both go on."""
        connection.up.remove(self)
        connection.down.remove(self)
