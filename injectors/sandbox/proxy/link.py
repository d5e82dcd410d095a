"""The proxy of one link: a listener, its connections, and the faults on them."""

from __future__ import annotations

import asyncio
import socket
from collections import deque
from collections.abc import Callable
from random import Random

from gameday.injectors.errors import SandboxError
from gameday.injectors.sandbox.base import Toxic
from gameday.injectors.sandbox.proxy.behaviour import Behaviour
from gameday.injectors.sandbox.proxy.connection import Connection
from gameday.injectors.sandbox.proxy.registry import build
from gameday.injectors.sandbox.proxy.stats import Stats

__all__ = ["LinkProxy"]

_BACKLOG = 1024
_BUFFER = 1 << 20  # measured: in bulk a third quicker than 256 KiB, and 2 MiB is no better
_ACCEPTS = 64  # connections accepted before others get their turn
_ACCEPT_PAUSE = 0.1  # seconds, when file descriptors have run out
_ORPHANS = 128


class LinkProxy:
    """One link of a sandbox: listens, forwards each connection, and breaks it as its toxics say.

    All methods belong to the thread of the event loop in which `start` was awaited.

    Args:
        name: The link's name; with ``seed`` it decides what chance does.
        upstream: Asked for the server's numeric address for each new connection; None
            refuses it. Must not raise.
        seed: Same seed and name, same jitter.

    Attributes:
        name: The link's name.
        upstream: As given; may be replaced.
        address: Where it listens; None before `start` and after `close`.
    """

    def __init__(
        self, name: str, *, upstream: Callable[[], tuple[str, int] | None], seed: int = 0
    ) -> None:
        self.name = name
        self.upstream = upstream
        self.address: tuple[str, int] | None = None
        self._random = Random(f"{seed}:{name}")
        self._toxics: dict[str, tuple[Toxic, Behaviour]] = {}
        self._connections: dict[Connection, None] = {}
        self._orphans: deque[Connection] = deque()
        self._buffer = memoryview(bytearray(_BUFFER))
        self._loop: asyncio.AbstractEventLoop | None = None
        self._listener: socket.socket | None = None
        self._pause: asyncio.TimerHandle | None = None
        self._total = self._refused = self._resets = self._up = self._down = 0

    async def start(self, host: str = "127.0.0.1", port: int = 0) -> tuple[str, int]:
        """Listen, on a free port unless one is given.

        Returns:
            The numeric host, and the port.

        Raises:
            SandboxError: if it cannot listen there.
        """
        if self.address is not None:
            return self.address
        family = socket.AF_INET6 if ":" in host else socket.AF_INET
        try:
            listener = socket.create_server((host, port), family=family, backlog=_BACKLOG)
        except OSError as error:
            raise SandboxError(
                f"link {self.name} cannot listen on {host}:{port}: {error.strerror or error}",
                hint="Leave the port to us (0), or free it.",
            ) from error
        listener.setblocking(False)
        self._listener, self._loop = listener, asyncio.get_running_loop()
        self._loop.add_reader(listener, self._accept)
        self.address = listener.getsockname()[:2]
        return self.address

    def add(self, toxic: Toxic) -> None:
        """Put a fault on the link: open and new connections are hit.

        A toxic whose tag is there already, with the same content, changes nothing;
        with another content it takes the former's place.

        Raises:
            UsageError: if its kind or a parameter cannot be used; nothing has changed then.
        """
        known = self._toxics.get(toxic.tag)
        if known is not None and known[0] == toxic:
            return
        behaviour = build(toxic)
        self.remove(toxic.tag)
        self._toxics[toxic.tag] = toxic, behaviour
        for connection in list(self._connections):
            behaviour.hit(connection)

    def remove(self, tag: str) -> bool:
        """Take a fault off the link; what it held goes on at once. False if it was not there."""
        known = self._toxics.pop(tag, None)
        if known is None:
            return False
        for connection in list(self._connections):
            known[1].lift(connection)
        return True

    @property
    def toxics(self) -> tuple[Toxic, ...]:
        """What is in force, in the order in which it was added."""
        return tuple(toxic for toxic, _ in self._toxics.values())

    @property
    def stats(self) -> Stats:
        """What the link has carried so far."""
        connections = self._connections
        return Stats(
            open=len(connections),
            total=self._total,
            refused=self._refused,
            resets=self._resets,
            bytes_up=self._up + sum(connection.up.moved for connection in connections),
            bytes_down=self._down + sum(connection.down.moved for connection in connections),
        )

    async def close(self) -> None:
        """Stop listening and reset every connection; harmless if closed."""
        if self._listener is not None and self._loop is not None:
            self._loop.remove_reader(self._listener)
            self._listener.close()
            self._listener = self.address = None
        if self._pause is not None:
            self._pause.cancel()
        for connection in list(self._connections):
            connection.reset()
        self._orphans.clear()

    def forget(self, connection: Connection) -> None:
        """A connection has closed (called by itself)."""
        del self._connections[connection]
        self._up += connection.up.moved
        self._down += connection.down.moved

    def count_reset(self) -> None:
        """A connection ends with a reset (called by itself)."""
        self._resets += 1

    def count_refused(self) -> None:
        """A connection's server could not be reached (called by itself)."""
        self._refused += 1

    def count_orphan(self, connection: Connection) -> None:
        """A client has ended its half of a connection that its server will never see.

        It may still be listening, so the connection stays open; but most have gone
        away, and a long fault would use up the file descriptors. So only the latest stay.
        """
        self._orphans.append(connection)
        if len(self._orphans) > _ORPHANS:
            self._orphans.popleft().close()

    def _accept(self) -> None:
        for _ in range(_ACCEPTS):
            if self._listener is None:
                return
            try:
                client, _address = self._listener.accept()
            except (BlockingIOError, InterruptedError, ConnectionAbortedError):
                return
            except OSError:
                self._pause_accepting()
                return
            self._open(client)

    def _open(self, client: socket.socket) -> None:
        assert self._loop is not None
        self._total += 1
        connection = Connection(self, self._loop, client, self._buffer, self._random)
        self._connections[connection] = None
        for _, behaviour in self._toxics.values():
            behaviour.hit(connection)
        connection.connect()

    def _pause_accepting(self) -> None:
        """Out of file descriptors: those who wait in the backlog are served as others leave."""
        assert self._loop is not None
        assert self._listener is not None
        self._loop.remove_reader(self._listener)
        self._pause = self._loop.call_later(
            _ACCEPT_PAUSE, self._loop.add_reader, self._listener, self._accept
        )
