"""The helper that holds, spoils or doubles packets; it lives in the namespace, and ends with its owners.

``python -m gameday.injectors.sandbox.netns.queue ORDER``, started by `helpers` with the fault's
tag in its environment. It says which queue it got; rules then lead packets there, with
``--queue-bypass``: if this process is gone, however it ended, they pass at once. Where the kernel
gives no queue, it delays packets as a proxy (`tunnel`), with the same promise.

At SIGTERM, when all of its owners are gone, or when the process is whose namespace it serves,
it lets everything go on, in order, and ends.
"""

from __future__ import annotations

import heapq
import itertools
import os
import random
import select
import signal
import socket
import sys
import time
from collections.abc import Callable

import msgspec

from gameday.injectors.sandbox import process
from gameday.injectors.sandbox.netns import detour
from gameday.injectors.sandbox.netns.kinds import COPY_MARK, PASSED_MARK
from gameday.injectors.sandbox.netns.order import Order
from gameday.injectors.sandbox.netns.packets import Packet, PacketQueue
from gameday.injectors.sandbox.netns.tunnel import PacketTunnel
from gameday.injectors.undo import ProcessId

__all__ = ["main"]

_LOOK = 2.0
"""Seconds after which it looks at its owners anyway."""
_NICE = -10
_SO_MARK = 36


Packets = PacketQueue | PacketTunnel
Treat = Callable[[Packet, float], None]


class _Delay:
    """Holds packets; those of one direction keep their order."""

    def __init__(self, queue: Packets, delay: float, jitter: float) -> None:
        self._queue, self._delay, self._jitter = queue, delay, jitter
        self._held: list[tuple[float, int, int]] = []
        self._count = itertools.count()
        self._last: dict[int, float] = {}

    def treat(self, packet: Packet, now: float) -> None:
        jitter = random.uniform(-self._jitter, self._jitter) if self._jitter else 0.0
        due = max(now + max(0.0, self._delay + jitter), self._last.get(packet.hook, 0.0))
        self._last[packet.hook] = due
        heapq.heappush(self._held, (due, next(self._count), packet.id))

    def release(self, until: float) -> None:
        """Give back what is due by then."""
        while self._held and self._held[0][0] <= until:
            self._queue.give_back(heapq.heappop(self._held)[2])

    def wait(self, now: float) -> float:
        """Seconds until the next is due."""
        return max(0.0, self._held[0][0] - now) if self._held else _LOOK


def _corrupt(queue: Packets, share: float) -> Treat:
    def treat(packet: Packet, now: float) -> None:
        payload = packet.payload
        start = _header(payload)
        if random.random() >= share or len(payload) <= start:
            queue.give_back(packet.id)
            return
        at, spoilt = random.randrange(start, len(payload)), bytearray(payload)
        spoilt[at] ^= 1 << random.randrange(8)
        queue.give_back(packet.id, bytes(spoilt))

    return treat


def _duplicate(queue: Packets, share: float) -> Treat:
    doors = {4: (socket.AF_INET, socket.IPPROTO_RAW), 6: (socket.AF_INET6, socket.IPPROTO_RAW)}
    senders: dict[int, socket.socket] = {}

    def treat(packet: Packet, now: float) -> None:
        queue.give_back(packet.id)
        if random.random() >= share or len(packet.payload) < 20:
            return
        version = packet.payload[0] >> 4
        if version not in senders:
            family, protocol = doors[version]
            senders[version] = socket.socket(family, socket.SOCK_RAW, protocol)
            senders[version].setsockopt(socket.SOL_SOCKET, _SO_MARK, COPY_MARK)
        to = packet.payload[16:20] if version == 4 else packet.payload[24:40]
        family = doors[version][0]
        try:
            senders[version].sendto(packet.payload, (socket.inet_ntop(family, to), 0))
        except OSError:  # the copy is lost, as packets are
            pass

    return treat


def _header(payload: bytes) -> int:
    """Length of the IP header."""
    if not payload:
        return 0
    return 40 if payload[0] >> 4 == 6 else (payload[0] & 15) * 4


class _Ends:
    """What this process ends with: SIGTERM, its owners, the process that it serves."""

    def __init__(self, order: Order) -> None:
        self._order = order
        self._bell, ring = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
        signal.set_wakeup_fd(ring, warn_on_full_buffer=False)
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, lambda *_: None)
        self._pidfds: dict[int, ProcessId] = {}
        for who in {order.serves, *order.owners}:
            try:
                self._pidfds[os.pidfd_open(who.pid)] = who
            except OSError:
                continue

    def descriptors(self) -> list[int]:
        """Readable when it may be over."""
        return [self._bell, *self._pidfds]

    def over(self, readable: list[int]) -> bool:
        """Whether it is, now that these are readable."""
        if self._bell in readable:
            return True
        for fd in readable:
            if fd in self._pidfds:
                del self._pidfds[fd]
                os.close(fd)
        owners = self._order.owners
        served = process.is_alive(self._order.serves)
        return not served or (bool(owners) and not any(map(process.is_alive, owners)))


def _serve(queue: Packets, order: Order, ends: _Ends) -> None:
    delay = _Delay(queue, order.parameters.get("delay", 0.0), order.parameters.get("jitter", 0.0))
    share = order.parameters.get("share", 0.0)
    treats: dict[str, Callable[[], Treat]] = {
        "latency": lambda: delay.treat,
        "corrupt": lambda: _corrupt(queue, share),
        "duplicate": lambda: _duplicate(queue, share),
    }
    treat = treats[order.kind]()
    looked = time.monotonic()
    over = ends.over([])
    while not over:
        now = time.monotonic()
        delay.release(now)
        watched = [queue.fileno(), *ends.descriptors()]
        readable = select.select(watched, [], [], min(delay.wait(now), _LOOK))[0]
        now = time.monotonic()
        for packet in queue.taken():
            treat(packet, now)
        told = [fd for fd in readable if fd != queue.fileno()]
        if told or now - looked > _LOOK:
            looked, over = now, ends.over(told)
    delay.release(float("inf"))
    for packet in queue.taken():
        queue.give_back(packet.id)


def _packets(order: Order) -> Packets:
    """A packet queue; for latency a proxy where there is none. Without either, the process ends with the reason."""
    try:
        return PacketQueue(copy=order.kind != "latency")
    except OSError as error:
        why = f"the kernel gives no packet queue ({error.strerror})"
    if order.kind == "latency":
        try:
            return PacketTunnel(detour.device(order.tag), PASSED_MARK)
        except OSError as error:
            why += f" and no tun device ({error.strerror})"
    print(why, flush=True)
    sys.exit(1)


def main() -> None:
    """Do as ordered until it is over."""
    order = msgspec.json.decode(sys.argv[1], type=Order)
    queue = _packets(order)
    try:
        os.setpriority(os.PRIO_PROCESS, 0, _NICE)  # whatever it holds waits for it
    except PermissionError:
        pass
    ends = _Ends(order)
    print(f"queue {queue.number}" if isinstance(queue, PacketQueue) else "tunnel", flush=True)
    null = os.open(os.devnull, os.O_RDWR)
    for stream in (0, 1, 2):
        os.dup2(null, stream)
    _serve(queue, order, ends)


if __name__ == "__main__":
    main()
