"""A packet queue of the kernel: it hands packets to this process, which gives them back.

Speaks netfilter's queue protocol (linux/netfilter/nfnetlink_queue.h) over netlink, for the
network namespace in which it is opened. The PyPI package NetfilterQueue does the same, but
has to be compiled against a C library on each machine, and can neither leave the packets in
the kernel nor let them pass when the queue is full; this needs nothing.
"""

from __future__ import annotations

import errno
import os
import socket
import struct
from collections.abc import Iterator
from typing import NamedTuple

__all__ = ["MOST_WAITING", "NUMBERS", "Packet", "PacketQueue"]

_NETLINK_NETFILTER = 12
_QUEUE = 3 << 8  # NFNL_SUBSYS_QUEUE
_PACKET, _VERDICT, _CONFIG = _QUEUE | 0, _QUEUE | 1, _QUEUE | 2
_REQUEST, _ACK = 1, 4
_CFG_CMD, _CFG_PARAMS, _CFG_MAXLEN, _CFG_MASK, _CFG_FLAGS = 1, 2, 3, 4, 5
_BIND, _COPY_META, _COPY_PACKET = 1, 1, 2
_FAIL_OPEN, _GSO = 1, 4
_PACKET_HDR, _VERDICT_HDR, _PAYLOAD = 1, 2, 10
_ACCEPT = 1
_HEADER = struct.Struct("=IHHII")
MOST_WAITING = 16384
"""Packets that wait at most; more pass at once."""
_BUFFER = 32 << 20
NUMBERS = range(47_000, 47_512)
"""Of packet queues that we may take; one process each has one."""


class Packet(NamedTuple):
    """A packet that waits in the kernel.

    Attributes:
        hook: Where in the stack it waits; packets of one direction have the same.
        payload: From its IP header on; empty unless packets are copied.
    """

    id: int
    hook: int
    payload: bytes


class PacketQueue:
    """One queue of this network namespace, with a number that nobody else has.

    Args:
        copy: Whether packets are copied to here; else they are in the kernel only, and pass
            whole, as the network card would have got them.

    Raises:
        OSError: if it cannot be had.
    """

    def __init__(self, *, copy: bool) -> None:
        self._socket = socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, _NETLINK_NETFILTER)
        self._socket.bind((0, 0))
        try:
            self._socket.setsockopt(socket.SOL_SOCKET, 33, _BUFFER)  # SO_RCVBUFFORCE
        except PermissionError:
            self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, _BUFFER)
        self.number = self._take_number()
        mode = _COPY_PACKET if copy else _COPY_META
        self._configure(_CFG_PARAMS, struct.pack("!IB", 0xFFFF if copy else 0, mode))
        self._configure(_CFG_MAXLEN, struct.pack("!I", MOST_WAITING))
        flags = struct.pack("!I", _FAIL_OPEN if copy else _FAIL_OPEN | _GSO)
        self._configure(_CFG_FLAGS, flags, _attribute(_CFG_MASK, flags))
        self._socket.setblocking(False)

    def bind(self, number: int) -> None:
        """Be the one that packets come to which are led to the queue of that number.

        Raises:
            OSError: if another process is.
        """
        self.number = number
        self._configure(_CFG_CMD, struct.pack("!BxH", _BIND, 0))

    def fileno(self) -> int:
        """For `select`: readable when packets have come."""
        return self._socket.fileno()

    def close(self) -> None:
        """Give it up: what waits in it goes on."""
        self._socket.close()

    def taken(self) -> Iterator[Packet]:
        """The packets that have come since."""
        while True:
            try:
                data = self._socket.recv(1 << 17)
            except BlockingIOError:
                return
            except OSError:  # more came than the buffer holds: those have passed
                continue
            at = 0
            while at + _HEADER.size <= len(data):
                length, kind, *_ = _HEADER.unpack_from(data, at)
                if kind == _PACKET:
                    yield _packet(data, at + _HEADER.size + 4, at + length)
                at += max((length + 3) & ~3, _HEADER.size)

    def give_back(self, packet: int, payload: bytes = b"") -> None:
        """Let a packet go on; with ``payload`` in its place, if given."""
        body = _attribute(_VERDICT_HDR, struct.pack("!II", _ACCEPT, packet))
        if payload:
            body += _attribute(_PAYLOAD, payload)
        self._send(_VERDICT, body)

    def _take_number(self) -> int:
        for number in NUMBERS:
            try:
                self.bind(number)
            except OSError as error:
                # Another process has this one; or we may have none at all.
                if error.errno not in (errno.EBUSY, errno.EPERM) or number == NUMBERS[-1]:
                    raise
            else:
                break
        return self.number

    def _configure(self, kind: int, value: bytes, more: bytes = b"") -> None:
        self._send(_CONFIG, _attribute(kind, value) + more, _REQUEST | _ACK)
        while True:
            answer = self._socket.recv(1 << 17)
            _, what, *_ = _HEADER.unpack_from(answer)
            if what == 2:  # NLMSG_ERROR, which also says that all is well
                break
        (code,) = struct.unpack_from("=i", answer, _HEADER.size)
        if code:
            raise OSError(-code, os.strerror(-code))

    def _send(self, kind: int, body: bytes, flags: int = _REQUEST) -> None:
        family = struct.pack("!BBH", 0, 0, self.number)
        length = _HEADER.size + len(family) + len(body)
        self._socket.send(_HEADER.pack(length, kind, flags, 0, 0) + family + body)


def _attribute(kind: int, value: bytes) -> bytes:
    return struct.pack("=HH", len(value) + 4, kind) + value + b"\0" * (-len(value) % 4)


def _packet(data: bytes, at: int, end: int) -> Packet:
    number = hook = 0
    payload = b""
    while at + 4 <= end:
        length, kind = struct.unpack_from("=HH", data, at)
        if kind & 0x3FFF == _PACKET_HDR:
            number, hook = struct.unpack_from("!IxxB", data, at + 4)
        elif kind & 0x3FFF == _PAYLOAD:
            payload = data[at + 4 : at + length]
        at += max((length + 3) & ~3, 4)
    return Packet(number, hook, payload)
