"""Network faults in network namespaces: what traffic meets, on real networks."""

from __future__ import annotations

import contextlib
import os
import statistics
import threading
import time
from collections.abc import Iterator

import pytest

from gameday.injectors.sandbox.base import Toxic
from gameday.injectors.sandbox.netns.namespace import Namespace
from tests.namespaces import (
    FAR,
    FAR_6,
    NEAR,
    NEAR_6,
    OTHER,
    Pair,
    connect,
    listen,
    sh_in,
    udp,
)
from tests.network_faults import (
    USERS,
    anyio_backend,
    arrivals,
    cannot,
    echo,
    joined,
    mine,
    pair,
    tag,
    throughput,
    toxic,
    way,
)

pytestmark = [pytest.mark.anyio, pytest.mark.sandbox]
__all__ = ["anyio_backend", "cannot", "pair", "way"]


@pytest.mark.alone
@pytest.mark.short_form(f"queue-{FAR_6}-False", f"proxy-{FAR}-False")
@pytest.mark.parametrize(("address", "everybody"), [(FAR, False), (FAR_6, False), (FAR, True)])
async def test_latency_is_what_was_asked(
    address: str, everybody: bool, pair: Pair, way: str
) -> None:
    namespace = Namespace(pair.near, mine())
    with echo(pair, address) as ask, echo(pair, OTHER) as ask_other:
        usual = statistics.median(ask() for _ in range(50))
        await namespace.add(toxic("latency", delay=0.05), () if everybody else [address])
        added = statistics.median(ask() for _ in range(100)) - usual
        print(f"50 ms asked, {added * 1000:.2f} ms measured")
        assert added == pytest.approx(0.05, rel=0.1)
        assert (statistics.median(ask_other() for _ in range(50)) > 0.04) is everybody
    with listen(pair.far, address) as door:  # connecting is not delayed, an answer is
        took = []
        for _ in range(9):
            began = time.perf_counter()
            with connect(pair.near, door) as near:
                took.append(time.perf_counter() - began)
                far, _ = door.accept()
                with far:
                    far.sendall(b"x")
                    near.recv(1)
                    answered = time.perf_counter() - began
        assert statistics.median(took) < 0.04
        assert answered > 0.045


@pytest.mark.alone
@pytest.mark.parametrize("direction", ["in", "out"])
async def test_loss_is_what_was_asked_and_nobody_is_told(direction: str, pair: Pair) -> None:
    namespace = Namespace(pair.near)
    near, far, other = udp(pair.near, NEAR), udp(pair.far, FAR), udp(pair.far, OTHER)
    with near, far, other:
        await namespace.add(toxic("loss", share=0.1), [FAR])
        ways = {"in": (far, near), "out": (near, far)}
        lost = 1 - len(arrivals(*ways[direction], 20_000)) / 20_000
        print(f"10 % asked, {lost:.2%} of 20,000 lost")
        assert lost == pytest.approx(0.1, rel=0.1)
        assert len(arrivals(near, other, 1000)) == 1000


@pytest.mark.alone
@pytest.mark.short_form("in")
@pytest.mark.parametrize("direction", ["in", "out"])
async def test_bandwidth_is_what_was_asked_each_way(direction: str, pair: Pair) -> None:
    sh_in(pair.near, USERS)
    namespace, one = Namespace(pair.near), toxic("bandwidth", rate=1e6)
    await namespace.add(one, [FAR, FAR_6])
    with joined(pair) as (near, far):
        sender, receiver = (far, near) if direction == "in" else (near, far)
        rate = throughput(sender, receiver, 8)
        print(f"1 Mbit/s asked, {rate / 1e6:.3f} Mbit/s of payload measured")
        assert rate == pytest.approx(1e6, rel=0.1)
    with joined(pair, OTHER) as (near, far):
        assert throughput(near, far, 1) > 50e6
    assert await namespace.remove(one.tag)
    with joined(pair) as (near, far):
        assert throughput(near, far, 1) > 50e6


@pytest.mark.parametrize("kind", ["blackhole", "partition"])
async def test_what_vanishes_vanishes_silently_and_comes_again(kind: str, pair: Pair) -> None:
    namespace, one = Namespace(pair.near), Toxic(kind, tag())
    near_udp, far_udp = udp(pair.near, NEAR), udp(pair.far, FAR)
    with near_udp, far_udp, joined(pair) as (near, far), joined(pair, OTHER) as (a, b):
        await namespace.add(one, [FAR])
        assert arrivals(near_udp, far_udp, 10) == []  # and sending is no error
        assert arrivals(far_udp, near_udp, 10) == []
        near.sendall(b"question")
        far.sendall(b"word")
        for end in (near, far):
            end.settimeout(0.3)
            with pytest.raises(TimeoutError):
                end.recv(99)
        with listen(pair.far, FAR) as door, pytest.raises(TimeoutError):
            connect(pair.near, door, within=0.3)
        a.sendall(b"x")
        assert b.recv(9) == b"x"
        assert await namespace.remove(one.tag)
        near.settimeout(10)
        far.settimeout(10)
        assert far.recv(99) == b"question"
        assert near.recv(99) == b"word"


async def test_a_partition_can_be_one_way(pair: Pair) -> None:
    namespace = Namespace(pair.near)
    near, far = udp(pair.near, NEAR), udp(pair.far, FAR)
    with near, far:
        one = Toxic("partition", tag(), {"one_way": 1})
        await namespace.add(one, [FAR])
        assert (len(arrivals(near, far, 10)), len(arrivals(far, near, 10))) == (0, 10)
        await namespace.remove(one.tag)
        await namespace.add(Toxic("partition", tag()), [FAR], direction="in")
        assert (len(arrivals(near, far, 10)), len(arrivals(far, near, 10))) == (10, 0)


@pytest.mark.parametrize("address", [FAR, FAR_6])
@pytest.mark.parametrize("everybody", [False, True])
async def test_reset_breaks_open_connections_and_new_ones(
    everybody: bool, address: str, pair: Pair
) -> None:
    namespace, one = Namespace(pair.near), Toxic("reset", tag())
    with joined(pair, address) as (near, far), joined(pair, OTHER) as (a, b):
        with listen(pair.near, "127.0.0.1") as local, connect(pair.near, local) as own:
            await namespace.add(one, () if everybody else [address])
            for end in (near, far):  # idle as they are
                with pytest.raises((ConnectionResetError, ConnectionAbortedError)):
                    end.recv(9)
            own.sendall(b"x")  # loopback is not hit
        with listen(pair.far, address) as door, pytest.raises(ConnectionRefusedError):
            connect(pair.near, door)
        own_address = NEAR_6 if ":" in address else NEAR
        with listen(pair.near, own_address) as door, pytest.raises(ConnectionError):
            connect(pair.far, door)
        if not everybody:
            a.sendall(b"x")
            assert b.recv(9) == b"x"
    assert await namespace.remove(one.tag)
    with joined(pair, address) as (near, far):
        near.sendall(b"x")
        assert far.recv(9) == b"x"


@pytest.mark.short_form(f"in-{FAR_6}", f"out-{FAR}")
@pytest.mark.parametrize("address", [FAR, FAR_6])
@pytest.mark.parametrize("direction", ["in", "out"])
async def test_corrupt_packets_are_found_out_by_their_receiver(
    direction: str, address: str, pair: Pair
) -> None:
    near, far = udp(pair.near, NEAR_6 if ":" in address else NEAR), udp(pair.far, address)
    with near, far:
        await Namespace(pair.near, mine()).add(
            toxic("corrupt", share=0.2), [address], direction=direction
        )
        ways = {"in": (far, near), "out": (near, far)}
        arrived = arrivals(*ways[direction], 5000)
        assert 1 - len(arrived) / 5000 == pytest.approx(0.2, rel=0.2)
        assert arrived == sorted(arrived)
        assert len(arrivals(*reversed(ways[direction]), 500)) == 500
    with joined(pair, address) as (a, b):  # TCP sends again
        text = os.urandom(20_000)
        a.sendall(text)
        got = b""
        b.settimeout(20)
        while len(got) < len(text):
            got += b.recv(1 << 16)
        assert got == text


@pytest.mark.short_form(f"in-{FAR_6}-True", f"out-{FAR}-False")
@pytest.mark.parametrize("peers", [True, False])
@pytest.mark.parametrize("address", [FAR, FAR_6])
@pytest.mark.parametrize("direction", ["in", "out"])
async def test_duplicates_arrive(direction: str, address: str, peers: bool, pair: Pair) -> None:
    near, far = udp(pair.near, NEAR_6 if ":" in address else NEAR), udp(pair.far, address)
    with near, far:
        await Namespace(pair.near, mine()).add(
            toxic("duplicate", share=0.2), [address] if peers else (), direction=direction
        )
        ways = {"in": (far, near), "out": (near, far)}
        arrived = arrivals(*ways[direction], 5000)
        assert len(set(arrived)) == 5000
        assert len(arrived) / 5000 == pytest.approx(1.2, rel=0.04)
        assert len(arrivals(*reversed(ways[direction]), 500)) == 500


async def test_faults_on_the_same_packets_all_hit_them(pair: Pair) -> None:
    namespace = Namespace(pair.near, mine())
    near, far = udp(pair.near, NEAR), udp(pair.far, FAR)
    with near, far:
        await namespace.add(toxic("latency", delay=0.2), [FAR], direction="in")
        await namespace.add(toxic("corrupt", share=0.3), [FAR], direction="in")
        await namespace.add(toxic("duplicate", share=1.0), (), direction="in")
        await namespace.add(toxic("loss", share=0.5), [FAR])
        began = time.perf_counter()
        arrived = arrivals(far, near, 4000)
        assert time.perf_counter() - began > 0.2
        assert len(set(arrived)) < 0.6 * 4000
        assert len(arrived) > 1.1 * len(set(arrived))


# Names


def _ask_name(pid: int, server: str, within: float = 0.5) -> str:
    """What becomes of a query for a name: ``answered``, ``refused`` or ``silent``."""
    with udp(pid, "0.0.0.0") as resolver:
        resolver.connect((server, 53))
        resolver.settimeout(within)
        try:
            resolver.send(b"a query")
            resolver.recv(99)
        except TimeoutError:
            return "silent"
        except (ConnectionRefusedError, PermissionError):
            return "refused"
    return "answered"


@contextlib.contextmanager
def _name_server(pid: int, address: str, port: int) -> Iterator[None]:
    over = threading.Event()
    with udp(pid, address, port) as server:
        server.settimeout(0.1)

        def answer() -> None:
            while not over.is_set():
                with contextlib.suppress(TimeoutError):
                    server.sendto(*server.recvfrom(2048))

        thread = threading.Thread(target=answer)
        thread.start()
        try:
            yield
        finally:
            over.set()
            thread.join()


@pytest.mark.parametrize(("refused", "becomes"), [(0.0, "silent"), (1.0, "refused")])
async def test_queries_for_names_fail(refused: float, becomes: str, pair: Pair) -> None:
    # As Docker's own name server does: it listens on another port of loopback.
    sh_in(
        pair.near,
        "iptables -t nat -A OUTPUT -d 127.0.0.11 -p udp --dport 53 -j DNAT --to 127.0.0.11:40053\n"
        "iptables -t nat -A POSTROUTING -s 127.0.0.11 -p udp --sport 40053 -j SNAT --to :53",
    )
    namespace, one = Namespace(pair.near), toxic("dns", refused=refused)
    with (
        _name_server(pair.near, "127.0.0.11", 40053),
        _name_server(pair.far, FAR, 53),
        _name_server(pair.far, OTHER, 53),
    ):
        servers = ("127.0.0.11", FAR, OTHER)
        assert [_ask_name(pair.near, server) for server in servers] == ["answered"] * 3
        await namespace.add(one, ())
        assert [_ask_name(pair.near, server) for server in servers] == [becomes] * 3
        with udp(pair.near, NEAR) as near, udp(pair.far, FAR) as far:
            assert len(arrivals(near, far, 10)) == 10
        await namespace.remove(one.tag)
        assert [_ask_name(pair.near, server) for server in servers] == ["answered"] * 3
        await namespace.add(toxic("dns", refused=refused), [FAR])
        assert [_ask_name(pair.near, server) for server in servers] == [
            "answered",
            becomes,
            "answered",
        ]
    with listen(pair.far, OTHER, 53) as door:
        with connect(pair.near, door):
            pass
        await namespace.add(toxic("dns", refused=refused), [OTHER])
        with pytest.raises(ConnectionRefusedError if refused else TimeoutError):
            connect(pair.near, door, within=0.5)
