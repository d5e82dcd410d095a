"""Delaying packets: the kernel hands each to this process, which gives it back later.

    python -m gameday.injectors.sandbox.packet_queue QUEUE DELAY JITTER OWNERS

It speaks netfilter's queue protocol (linux/netfilter/nfnetlink_queue.h) over netlink, for
the network namespace in which it was started. Only the packets' heads are copied here; the
packets themselves wait in the kernel. The rules that lead here say ``--queue-bypass``:
if this process ends, traffic flows again at once.
"""

from __future__ import annotations

import heapq
import os
import random
import select
import socket
import struct
import sys
import time
from collections.abc import Iterator

import msgspec

from gameday.injectors.sandbox.owners import Owners
from gameday.injectors.undo import ProcessId

__all__ = ["PacketQueue"]

_NETLINK_NETFILTER = 12
_SUBSYSTEM = 3 << 8  # NFNL_SUBSYS_QUEUE
_PACKET, _VERDICT, _CONFIG = _SUBSYSTEM | 0, _SUBSYSTEM | 1, _SUBSYSTEM | 2
_REQUEST, _ACK = 1, 4
_CFG_CMD, _CFG_PARAMS, _CFG_MAXLEN, _CFG_MASK, _CFG_FLAGS = 1, 2, 3, 4, 5
_BIND, _COPY_META, _FAIL_OPEN, _GSO = 1, 1, 1, 4
_PACKET_HDR, _VERDICT_HDR, _ACCEPT = 1, 2, 1
_HEADER = struct.Struct("=IHHII")
_MOST = 16384
"""Packets that wait at most; more pass without delay (the queue fails open)."""
_BUFFER = 8 << 20


class PacketQueue:
    """One queue of this network namespace.

    Raises:
        OSError: if it cannot be had: another process has it, or the kernel lacks it.
    """

    def __init__(self, number: int) -> None:
        self.number = number
        self._socket = socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, _NETLINK_NETFILTER)
        self._socket.bind((0, 0))
        self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, _BUFFER)
        self._configure(_CFG_CMD, struct.pack("!BxH", _BIND, 0))
        self._configure(_CFG_PARAMS, struct.pack("!IB", 0, _COPY_META))
        self._configure(_CFG_MAXLEN, struct.pack("!I", _MOST))
        flags = struct.pack("!I", _FAIL_OPEN | _GSO)
        self._configure(_CFG_FLAGS, flags, _attribute(_CFG_MASK, flags))
        self._socket.setblocking(False)

    def fileno(self) -> int:
        """For a poll: readable when packets have come."""
        return self._socket.fileno()

    def taken(self) -> Iterator[tuple[int, int]]:
        """The packets that have come since, by their ids, each with the hook where it came."""
        while True:
            try:
                data = self._socket.recv(1 << 16)
            except BlockingIOError:
                return
            except OSError:  # more came than the buffer holds: those have passed
                continue
            at = 0
            while at < len(data):
                length, kind, *_ = _HEADER.unpack_from(data, at)
                if kind == _PACKET:
                    yield from _packets(data[at + _HEADER.size + 4 : at + length])
                at += (length + 3) & ~3

    def give_back(self, packet: int) -> None:
        """Let a packet go on."""
        self._send(_VERDICT, _attribute(_VERDICT_HDR, struct.pack("!II", _ACCEPT, packet)))

    def _configure(self, kind: int, value: bytes, more: bytes = b"") -> None:
        self._send(_CONFIG, _attribute(kind, value) + more, _REQUEST | _ACK)
        answer = self._socket.recv(4096)
        (code,) = struct.unpack_from("=i", answer, _HEADER.size)
        if code:
            raise OSError(-code, os.strerror(-code))

    def _send(self, kind: int, body: bytes, flags: int = _REQUEST) -> None:
        family = struct.pack("!BBH", 0, 0, self.number)
        length = _HEADER.size + len(family) + len(body)
        self._socket.send(_HEADER.pack(length, kind, flags, 0, 0) + family + body)


def _attribute(kind: int, value: bytes) -> bytes:
    padding = b"\0" * (-len(value) % 4)
    return struct.pack("=HH", len(value) + 4, kind) + value + padding


def _packets(attributes: bytes) -> Iterator[tuple[int, int]]:
    at = 0
    while at + 4 <= len(attributes):
        length, kind = struct.unpack_from("=HH", attributes, at)
        if kind & 0x3FFF == _PACKET_HDR:
            packet, hook = struct.unpack_from("!IxxB", attributes, at + 4)
            yield packet, hook
        at += max((length + 3) & ~3, 4)


def _delay(queue: PacketQueue, delay: float, jitter: float, owners: Owners) -> None:
    """Give each packet back after its delay; packets of one direction do not overtake each other."""
    waiting: list[tuple[float, int]] = []
    poll = select.poll()
    poll.register(queue.fileno(), select.POLLIN)
    latest: dict[int, float] = {}
    while True:
        now = time.monotonic()
        while waiting and waiting[0][0] <= now:
            queue.give_back(heapq.heappop(waiting)[1])
        rest = waiting[0][0] - now if waiting else 0.5
        if rest > 0.0005:
            owners.check()
            poll.poll(max(0.0, rest - 0.0005) * 1000)
        now = time.monotonic()
        for packet, way in queue.taken():
            due = now + max(0.0, delay + random.uniform(-jitter, jitter))
            latest[way] = due = max(due, latest.get(way, 0.0))
            heapq.heappush(waiting, (due, packet))


def main() -> None:
    """Delay what comes, until nobody is left who would end it."""
    number, delay, jitter = int(sys.argv[1]), float(sys.argv[2]), float(sys.argv[3])
    owners = Owners(msgspec.json.decode(sys.argv[4], type=list[ProcessId]))
    queue = PacketQueue(number)
    os.write(1, b"ready\n")
    _delay(queue, delay, jitter, owners)


if __name__ == "__main__":
    main()
