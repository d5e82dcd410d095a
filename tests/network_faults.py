"""What tests of network faults share: two networks where faults can be made, and traffic between them."""

from __future__ import annotations

import contextlib
import itertools
import os
import socket
import threading
import time
from collections.abc import Callable, Iterator

import pytest

from gameday.injectors.sandbox import process
from gameday.injectors.sandbox.base import Toxic
from gameday.injectors.sandbox.netns import kinds
from gameday.injectors.sandbox.netns.preflight import lacks
from tests.namespaces import (
    FAR,
    NEAR,
    NEAR_6,
    Pair,
    connect,
    listen,
    no_packet_queue,
    udp,
)

__all__ = [
    "FIGURES",
    "USERS",
    "anyio_backend",
    "arrivals",
    "cannot",
    "echo",
    "joined",
    "mine",
    "pair",
    "tag",
    "throughput",
    "toxic",
    "way",
]

FIGURES = {"delay": 0.05, "jitter": 0.01, "rate": 1e6, "share": 0.1, "refused": 1.0, "one_way": 1.0}
USERS = """
iptables -A INPUT -s 192.0.2.7 -m comment --comment "the user's own; gameday" -j DROP
iptables -t mangle -A OUTPUT -p tcp --dport 81 -j MARK --set-mark 7
iptables -N MINE
iptables -P FORWARD DROP
ip6tables -A OUTPUT -d 2001:db8::7 -j REJECT
tc qdisc add dev eth0 root handle 1: htb default 1
tc class add dev eth0 parent 1: classid 1:1 htb rate 1gbit
tc filter add dev eth0 parent 1: protocol ip prio 3 u32 match ip dport 81 0xffff flowid 1:1
tc qdisc add dev eth0 clsact
tc filter add dev eth0 egress protocol ip pref 7 u32 match ip dport 82 0xffff action mirred egress redirect dev lo
"""

_counter = itertools.count()


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


@pytest.fixture(scope="module")
def cannot() -> dict[str, str]:
    return lacks()


@pytest.fixture
def pair(needs: Callable[[bool, str], None], cannot: dict[str, str]) -> Iterator[Pair]:
    needs(not cannot, f"network faults cannot be made here: {cannot}")
    made = Pair()
    try:
        yield made
    finally:
        made.close()


@pytest.fixture(params=["queue", "proxy"])
def way(request: pytest.FixtureRequest, pair: Pair) -> Iterator[str]:
    """How packets are held: by a packet queue or, where none is to be had, by a proxy."""
    with no_packet_queue(pair.near) if request.param == "proxy" else contextlib.nullcontext():
        yield request.param


def tag() -> str:
    return f"gameday-test-{os.getpid()}-{next(_counter):08x}"


def toxic(kind: str, **parameters: float) -> Toxic:
    declared = kinds.KINDS[kind].parameters
    return Toxic(kind, tag(), parameters or {name: FIGURES[name] for name in declared})


def mine() -> list[process.ProcessId]:
    found = process.process_id(os.getpid())
    assert found is not None
    return [found]


@contextlib.contextmanager
def echo(pair: Pair, address: str) -> Iterator[Callable[[], float]]:
    """Somebody at the far end who answers each datagram; and how long one takes, in seconds."""
    far, near = udp(pair.far, address), udp(pair.near, NEAR_6 if ":" in address else NEAR)
    over = threading.Event()
    far.settimeout(0.1)

    def answer() -> None:
        while not over.is_set():
            with contextlib.suppress(TimeoutError):
                far.sendto(*far.recvfrom(2048))

    def ask() -> float:
        began = time.perf_counter()
        near.sendto(b"x", far.getsockname())
        near.recv(9)
        return time.perf_counter() - began

    thread = threading.Thread(target=answer)
    thread.start()
    try:
        with far, near:
            ask()
            yield ask
            over.set()
            thread.join()
    finally:
        over.set()


@contextlib.contextmanager
def joined(pair: Pair, address: str = FAR) -> Iterator[tuple[socket.socket, socket.socket]]:
    """Both ends of a TCP connection."""
    with listen(pair.far, address) as door, connect(pair.near, door) as near:
        far, _ = door.accept()
        with far:
            near.settimeout(3)
            far.settimeout(3)
            yield near, far


def arrivals(sender: socket.socket, receiver: socket.socket, count: int) -> list[int]:
    """Send numbered datagrams, slowly enough for any receiver; the numbers that arrived."""
    arrived: list[int] = []

    def receive() -> None:
        receiver.settimeout(1)
        with contextlib.suppress(TimeoutError):
            while True:
                arrived.append(int.from_bytes(receiver.recv(100)[:4], "big"))

    thread = threading.Thread(target=receive)
    thread.start()
    for number in range(count):
        sender.sendto(number.to_bytes(4, "big") + b"gameday" * 4, receiver.getsockname())
        if number % 50 == 49:
            time.sleep(0.001)
    thread.join()
    return arrived


def throughput(sender: socket.socket, receiver: socket.socket, seconds: float) -> float:
    """Bits of payload per second, from the first second on: TCP finds its pace."""
    over = threading.Event()

    def send() -> None:
        with contextlib.suppress(OSError):
            while not over.is_set():
                sender.send(b"x" * 8192)

    thread = threading.Thread(target=send, daemon=True)
    thread.start()
    began = time.monotonic()
    skip = min(1.0, seconds / 4)
    size, counted = 0, 0.0
    while (now := time.monotonic()) < began + seconds:
        got = len(receiver.recv(1 << 16))
        if now > began + skip:
            counted = counted or now
            size += got
    rate = size * 8 / (time.monotonic() - counted)
    over.set()
    for end in (receiver, sender):
        with contextlib.suppress(OSError):  # the other's end may have come already
            end.shutdown(socket.SHUT_RDWR)
    thread.join(5)
    return rate
