"""A socket that carries one message on each line and never blocks."""

from __future__ import annotations

import socket
from collections.abc import Iterable
from typing import Generic, TypeVar

import msgspec

from gameday.injectors.reading import UNREADABLE

__all__ = ["Wire"]

T = TypeVar("T")
_FILES = 8
_CLOSED_ON_EXEC = getattr(socket, "MSG_CMSG_CLOEXEC", 0)


class Wire(Generic[T]):
    """One end of a socket pair.

    Args:
        peer: The socket; it becomes non-blocking.
        decoder: What the other end says.

    Attributes:
        closed: True once the other end is gone.
        passed: File descriptors that came with messages; they are the receiver's to close.
    """

    def __init__(self, peer: socket.socket, decoder: msgspec.json.Decoder[T]) -> None:
        self.closed = False
        self.passed: list[int] = []
        self._peer = peer
        self._decoder = decoder
        self._out = b""
        self._in = b""
        peer.setblocking(False)

    def fileno(self) -> int:
        """For poll."""
        return self._peer.fileno()

    def send(self, message: msgspec.Struct, *, droppable: bool = False) -> None:
        """Send a message as soon as the other end takes it; a droppable one now or never."""
        if not (droppable and self._out):
            self._out += msgspec.json.encode(message) + b"\n"
        self.flush()

    def pass_on(self, message: msgspec.Struct, descriptors: Iterable[int]) -> None:
        """Send the first message, and open files with it."""
        self._out = msgspec.json.encode(message) + b"\n"
        try:
            sent = socket.send_fds(self._peer, [self._out], list(descriptors))
            self._out = self._out[sent:]
        except OSError:
            self._out = b""

    def flush(self) -> None:
        """Send what the other end did not take before."""
        try:
            while self._out and not self.closed:
                self._out = self._out[self._peer.send(self._out) :]
        except BlockingIOError:
            pass
        except OSError:
            self._out = b""  # it is gone: `receive` finds that out, after its last words

    def receive(self) -> list[T]:
        """Every message that has arrived; those that cannot be read are passed over."""
        try:
            while not self.closed:
                data, passed, _, _ = socket.recv_fds(self._peer, 65536, _FILES, _CLOSED_ON_EXEC)
                self.passed += passed
                self._in += data
                self.closed = not data
        except BlockingIOError:
            pass
        except OSError:
            self.closed = True
        *lines, self._in = self._in.split(b"\n")
        return [message for line in lines if (message := self._decode(line)) is not None]

    def _decode(self, line: bytes) -> T | None:
        try:
            return self._decoder.decode(line)
        except UNREADABLE:
            return None

    def close(self) -> None:
        """Close this end."""
        self.closed = True
        self._peer.close()
