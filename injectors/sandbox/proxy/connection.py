"""One client's connection over a link: two sockets, and a pipe each way."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import struct
from random import Random
from typing import TYPE_CHECKING

from gameday.injectors.sandbox.proxy.pipe import Pipe

if TYPE_CHECKING:
    from gameday.injectors.sandbox.proxy.link import LinkProxy

__all__ = ["Connection"]

_NO_LINGER = struct.pack("ii", 1, 0)


class Connection:
    """A connection of a link; what the link's faults act on.

    Attributes:
        up: From client to server.
        down: From server to client.
        loop: For timers.
        random: The link's source of chance.
        closed: True once both sockets are closed.
    """

    def __init__(
        self,
        link: LinkProxy,
        loop: asyncio.AbstractEventLoop,
        client: socket.socket,
        buffer: memoryview,
        random: Random,
    ) -> None:
        self.loop = loop
        self.random = random
        self.closed = False
        self.up = Pipe(loop, self, buffer)
        self.down = Pipe(loop, self, buffer)
        self._link = link
        self._client = client
        self._server: socket.socket | None = None
        self._connecting: socket.socket | None = None
        self._cuts = 0
        _prepare(client)
        self.up.open(source=client)
        self.down.open(sink=client)

    def connect(self) -> None:
        """Connect to the server, unless the connection is cut, closed, or has one already."""
        if self.closed or self._cuts or self._server is not None or self._connecting is not None:
            return
        address = self._link.upstream()
        if address is None:
            self._refuse()
            return
        try:
            family = socket.AF_INET6 if ":" in address[0] else socket.AF_INET
            server = socket.socket(family, socket.SOCK_STREAM)
        except OSError:
            self._refuse()
            return
        self._connecting = server
        try:
            _prepare(server)
            server.connect(address)
        except (BlockingIOError, InterruptedError):
            self.loop.add_writer(server, self._connected)
        except OSError:
            self._not_connected()
        else:
            self._connected()

    def reset(self) -> None:
        """Close both sockets with a reset (RST); harmless if closed."""
        if self.closed:
            return
        for end in (self._client, self._server):
            if end is not None:
                with contextlib.suppress(OSError):
                    end.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _NO_LINGER)
        self._link.count_reset()
        self.close()

    def close(self) -> None:
        """Close both sockets, cancel every timer; harmless if closed."""
        if self.closed:
            return
        self.closed = True
        self.up.stop()
        self.down.stop()
        self._client.close()
        if self._server is not None:
            self._server.close()
        self._drop_connecting()
        self._link.forget(self)

    def cut(self) -> None:
        """Let everything vanish, both ways, until as many times mended."""
        self._cuts += 1
        if self._cuts == 1 and not self.closed:
            self.up.cut()
            self.down.cut()

    def mend(self) -> None:
        """Let data flow again; if any was lost, reset instead."""
        self._cuts -= 1
        if self._cuts or self.closed:
            return
        if self.up.lost or self.down.lost:
            self.reset()
            return
        self.up.mend()
        self.down.mend()
        self.connect()

    def ended(self, pipe: Pipe) -> None:
        """One way has ended in order; with the other, so has the connection."""
        if self.up.finished and self.down.finished:
            self.close()

    def broken(self, pipe: Pipe) -> None:
        """One side was reset, and all that it had sent was handed on: reset the other."""
        self.reset()

    def sink_broke(self, pipe: Pipe) -> None:
        """One side was reset, which its sending pipe noticed first; see what it had sent."""
        other = self.down if pipe is self.up else self.up
        if other.stopped:
            self.reset()
        else:
            other.doom()

    def end_vanished(self, pipe: Pipe) -> None:
        """One side ended while cut. If the server never knew of it, only the client holds it open."""
        if self._server is None and self._connecting is None:
            self._link.count_orphan(self)

    def _connected(self) -> None:
        server = self._connecting
        assert server is not None
        self.loop.remove_writer(server)
        if server.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR) or _met_itself(server):
            self._not_connected()
            return
        self._connecting, self._server = None, server
        self.up.open(sink=server)
        self.down.open(source=server)

    def _not_connected(self) -> None:
        self._drop_connecting()
        if not self._cuts:
            self._refuse()

    def _drop_connecting(self) -> None:
        if self._connecting is not None:
            self.loop.remove_writer(self._connecting)
            self._connecting.close()
            self._connecting = None

    def _refuse(self) -> None:
        self._link.count_refused()
        self.reset()


def _prepare(end: socket.socket) -> None:
    end.setblocking(False)
    with contextlib.suppress(OSError):  # a client that is gone already is noticed when read
        end.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)


def _met_itself(server: socket.socket) -> bool:
    """A free port of this machine may be drawn as our own, and TCP then connects to itself."""
    try:
        return bool(server.getsockname() == server.getpeername())
    except OSError:
        return True
