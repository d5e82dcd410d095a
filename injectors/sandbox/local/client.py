"""The driver's end of the supervisor's socket: one connection for each order."""

from __future__ import annotations

import array
import errno
import os
import signal
import socket
import struct
from collections.abc import AsyncIterator
from pathlib import Path
from typing import TypeVar

import anyio
import msgspec

from gameday.injectors.errors import SandboxError, SandboxGone, UsageError
from gameday.injectors.sandbox import process
from gameday.injectors.sandbox.base import Change
from gameday.injectors.sandbox.local import orders
from gameday.injectors.sandbox.local.orders import Answer, Order
from gameday.injectors.undo import ProcessId

__all__ = ["Client"]

A = TypeVar("A", bound=Answer)

_SILENT = 0.2
"""Seconds without a word, after which we look whether the supervisor was stopped."""
_GONE = {errno.ECONNREFUSED, errno.ENOENT, errno.ECONNRESET, errno.EPIPE}
_encode = msgspec.json.Encoder().encode
_answers = msgspec.json.Decoder(Answer)


def _refuse_stranger(peer: socket.socket) -> None:
    """Give no orders, and none of our files, to whom another user has put in the sandbox's place.

    Raises:
        SandboxError: if neither we nor root listen there.
    """
    if not hasattr(socket, "SO_PEERCRED"):
        return
    _, uid, _ = struct.unpack("3i", peer.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, 12))
    if uid not in (os.geteuid(), 0):
        peer.close()
        raise SandboxError(f"another user (uid {uid}) answers in the sandbox's place")


def _wake(peer: socket.socket, run: str) -> None:
    """Let a supervisor that somebody stopped go on: everything is put back through it.

    No fault of ours stops a supervisor, so nothing is undone by that.
    """
    if not hasattr(socket, "SO_PEERCRED"):
        return
    pid, _, _ = struct.unpack("3i", peer.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, 12))
    listens = process.process_id(pid) if pid > 0 else None
    if listens is not None and process.variables(listens, orders.SUPERVISES) == (run,):
        supervisors: tuple[ProcessId, ...] = (listens,)
    else:  # whoever started it: it is still about to take the socket over
        supervisors = process.find_by_environment(orders.SUPERVISES, run)
    for supervisor in filter(process.is_stopped, supervisors):
        process.signal_process(supervisor, signal.SIGCONT)


class Client:
    """Gives orders to the supervisor whose socket is in a run folder."""

    def __init__(self, run: Path) -> None:
        self._run, self._path = str(run), str(run / orders.SOCKET)

    async def ask(self, order: Order, expected: type[A], *, within: float = 10.0) -> A:
        """Give an order; its answer.

        Raises:
            UsageError: if it names what does not exist.
            SandboxGone: if nobody answers any more.
            SandboxError: if it could not be done, or not ``within`` seconds.
        """
        try:
            with anyio.fail_after(within):
                with self._connect() as peer:
                    await self._send(peer, order)
                    return self._expect(await self._line(peer, bytearray()), expected)
        except TimeoutError:
            raise SandboxError(
                f"the sandbox's supervisor did not answer within {within:g} s",
                hint="`gameday sandbox down` ends it, whatever its state.",
            ) from None

    async def execute(self, order: orders.Execute, stdio: tuple[int, int, int]) -> int:
        """Have a command run with these files; its exit code. Ended early, the command ends too."""
        with self._connect() as peer:
            await self._send(peer, order, stdio)
            return self._expect(await self._line(peer, bytearray()), orders.Ended).code

    async def watch(self) -> AsyncIterator[Change]:
        """What happens from now on; ends when the sandbox does."""
        with self._connect() as peer:
            rest = bytearray()
            await self._send(peer, orders.Watch())
            self._expect(await self._line(peer, rest), orders.Done)
            while True:
                try:
                    line = await self._line(peer, rest)
                except SandboxGone:
                    return
                yield self._expect(line, orders.ChangeSeen).change

    async def until_closed(self, order: Order, *, within: float) -> bool:
        """Give an order and wait until the supervisor has gone; False if it has not."""
        with anyio.move_on_after(within):
            try:
                with self._connect() as peer:
                    await self._send(peer, order)
                    rest = bytearray()
                    while True:
                        await self._line(peer, rest)
            except SandboxGone:
                return True
        return False

    def _connect(self) -> socket.socket:
        peer = socket.socket(socket.AF_UNIX)
        peer.setblocking(False)
        try:
            peer.connect(self._path)
            _refuse_stranger(peer)
        except OSError as error:
            peer.close()
            if error.errno in _GONE:
                raise SandboxGone(
                    "the sandbox no longer runs", hint="`gameday sandbox up` starts one."
                ) from None
            raise SandboxError(f"the sandbox cannot be reached: {error.strerror}") from error
        return peer

    async def _send(self, peer: socket.socket, order: Order, files: tuple[int, ...] = ()) -> None:
        data = _encode(order) + b"\n"
        rights = array.array("i", files)
        beside = [(socket.SOL_SOCKET, socket.SCM_RIGHTS, rights)] if files else []
        try:
            while data:
                try:
                    sent = peer.sendmsg([data], beside)
                except BlockingIOError:
                    await anyio.wait_writable(peer)
                    continue
                data, beside = data[sent:], []
        except (BrokenPipeError, ConnectionResetError):
            raise SandboxGone("the sandbox has ended") from None

    async def _line(self, peer: socket.socket, rest: bytearray) -> bytes:
        while b"\n" not in rest:
            with anyio.move_on_after(_SILENT) as silence:
                await anyio.wait_readable(peer)
            if silence.cancelled_caught:
                _wake(peer, self._run)
                continue
            try:
                data = peer.recv(65536)
            except ConnectionResetError:
                data = b""
            if not data:
                raise SandboxGone("the sandbox ended before it answered")
            rest += data
        line, _, tail = bytes(rest).partition(b"\n")
        rest[:] = tail
        return line

    def _expect(self, line: bytes, expected: type[A]) -> A:
        answer = _answers.decode(line)
        if isinstance(answer, orders.Failed):
            kind = UsageError if answer.usage else SandboxError
            raise kind(answer.message, hint=answer.hint)
        if not isinstance(answer, expected):
            raise SandboxError(f"the supervisor answered {type(answer).__name__} to an order")
        return answer
