"""What each fault of the link proxy does to real sockets on loopback, and which faults it refuses."""

from __future__ import annotations

import asyncio
import dataclasses
import socket
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gameday.injectors.errors import UsageError
from gameday.injectors.sandbox.base import Toxic
from gameday.injectors.sandbox.proxy import BEHAVIOURS, LinkProxy, build
from gameday.injectors.sandbox.proxy.bandwidth import Wire
from tests.proxied_link import (
    BLACKHOLE,
    RESET,
    bandwidth,
    break_off,
    echo,
    latency,
    receive,
    receive_all,
    receive_exactly,
    run,
    send,
    silent,
    until,
    world,
)

SLACK = 2.0  # seconds by which a busy machine may be late; early is never allowed


# --- what is refused ----------------------------------------------------------------------


@pytest.mark.parametrize(
    "toxic",
    [
        Toxic("fog", "t"),
        Toxic("latency", "t"),
        Toxic("latency", "t", {"delay": -1}),
        Toxic("latency", "t", {"delay": float("nan")}),
        Toxic("latency", "t", {"delay": float("inf")}),
        Toxic("latency", "t", {"delay": True}),
        Toxic("latency", "t", {"delay": "1s"}),  # type: ignore[dict-item]
        Toxic("latency", "t", {"delay": 1, "jitters": 1}),
        Toxic("bandwidth", "t", {"rate": 0}),
        Toxic("bandwidth", "t", {}),
        Toxic("blackhole", "t", {"delay": 1}),
        Toxic("reset", "t", {"_up": 1}),
    ],
    ids=repr,
)
def test_unusable_toxics_are_refused_and_change_nothing(toxic: Toxic) -> None:
    proxy = LinkProxy("a->b", upstream=lambda: None)
    proxy.add(latency(0.1, tag="t"))
    with pytest.raises(UsageError) as refused:
        proxy.add(toxic)
    assert refused.value.hint
    assert proxy.toxics == (latency(0.1, tag="t"),)


def test_every_behaviour_declares_itself() -> None:
    kinds = [behaviour.kind for behaviour in BEHAVIOURS]
    assert sorted(kinds) == ["bandwidth", "blackhole", "latency", "reset"]
    for behaviour in BEHAVIOURS:
        assert behaviour.__doc__
        declared = [each for each in dataclasses.fields(behaviour) if each.init]
        assert all(each.metadata["unit"] for each in declared)
        built = build(Toxic(behaviour.kind, "t", {each.name: 1.0 for each in declared}))
        assert type(built) is behaviour


# --- latency ------------------------------------------------------------------------------


async def round_trip(end: socket.socket) -> float:
    start = time.monotonic()
    await send(end, b"ping")
    assert await receive(end) == b"ping"
    return time.monotonic() - start


def test_latency_is_added_once_and_only_towards_the_client() -> None:
    async def test() -> None:
        async with world() as here:
            here.proxy.add(latency(0.08))
            client, server = await here.pair()
            start = time.monotonic()
            await send(client, b"question")
            assert await receive(server) == b"question"
            assert time.monotonic() - start < 0.08
            await send(server, b"answer")
            assert await receive(client) == b"answer"
            assert 0.08 <= time.monotonic() - start < 0.08 + SLACK
            here.proxy.remove("latency")
            start = time.monotonic()
            await send(server, b"x")
            assert await receive(client) == b"x"
            assert time.monotonic() - start < 0.08

    # the two upper bounds of 80 ms: a busy machine may need another go
    for attempt in range(3):
        try:
            run(test)
            break
        except AssertionError:
            if attempt == 2:
                raise


def test_jitter_stays_in_its_bounds_and_varies() -> None:
    async def test() -> None:
        async with world(echo, latency(0.02, 0.015)) as here:
            end = await here.connect()
            times = [await round_trip(end) for _ in range(25)]
            assert min(times) >= 0.005
            assert max(times) - min(times) > 0.004
            assert sorted(times)[12] < 0.035 + SLACK

    run(test)


def test_same_seed_same_jitter() -> None:
    def draws(name: str, seed: int) -> list[float]:
        proxy = LinkProxy(name, upstream=lambda: None, seed=seed)
        return [proxy._random.random() for _ in range(3)]

    assert draws("a->b", 1) == draws("a->b", 1) != draws("a->b", 2) != draws("a->c", 2)


def test_latency_delays_but_does_not_serialise() -> None:
    async def test() -> None:
        async with world(None, latency(0.2)) as here:
            client, server = await here.pair()
            start = time.monotonic()
            for number in range(40):
                await send(server, bytes([number]))
                await asyncio.sleep(0.002)
            assert await receive_exactly(client, 40) == bytes(range(40))
            assert 0.2 <= time.monotonic() - start < 0.3 + SLACK

    run(test)


@pytest.mark.parametrize(
    "toxic", [latency(60.0, tag="t"), bandwidth(800.0, tag="t")], ids=["latency", "bandwidth"]
)
def test_removal_lets_all_go_on_at_once_in_order(toxic: Toxic) -> None:
    async def test() -> None:
        async with world(None, toxic) as here:
            client, server = await here.pair()
            pieces = [bytes([65 + number]) * 100 for number in range(20)]
            for piece in pieces:
                await send(server, piece)
                await asyncio.sleep(0.001)
            server.shutdown(socket.SHUT_WR)
            await asyncio.sleep(0.02)
            assert here.proxy.stats.bytes_down < 200
            start = time.monotonic()
            assert here.proxy.remove("t")
            assert not here.proxy.remove("t")
            assert await receive_all(client) == b"".join(pieces)
            assert time.monotonic() - start < SLACK

    run(test)


# --- bandwidth ----------------------------------------------------------------------------


async def transfer(source: socket.socket, sink: socket.socket, size: int) -> float:
    start = time.monotonic()
    sender = asyncio.create_task(send(source, bytes(size)))
    await receive_exactly(sink, size)
    await sender
    return time.monotonic() - start


def about(seconds: float, asked: float) -> bool:
    return asked * 0.95 <= seconds <= asked * 1.1 + SLACK


def test_bandwidth_each_way_by_itself() -> None:
    async def test() -> None:
        async with world(None, bandwidth(4e6)) as here:
            client, server = await here.pair()
            both = (transfer(client, server, 150_000), transfer(server, client, 150_000))
            for seconds in await asyncio.gather(*both):
                assert about(seconds, 0.3)

    run(test)


def test_bandwidth_is_shared_fairly_by_the_connections_of_a_link() -> None:
    async def test() -> None:
        async with world(None, bandwidth(4e6)) as here:
            pairs = [await here.pair() for _ in range(3)]
            times = await asyncio.gather(*(transfer(c, s, 50_000) for c, s in pairs))
            assert about(max(times), 0.3)
            assert min(times) > 0.25

    run(test)


def test_bandwidth_is_paced() -> None:
    async def test() -> None:
        async with world(None, bandwidth(4e5)) as here:
            client, server = await here.pair()
            await send(client, bytes(20_000))
            seen: list[int] = []
            while sum(seen) < 20_000:
                seen.append(len(await receive(server)))
            assert sorted(seen)[len(seen) // 2] <= 2 * 500  # 10 ms carry 500 bytes

    run(test)


def test_latency_and_bandwidth_add_up() -> None:
    async def test() -> None:
        for toxics in ((latency(0.15), bandwidth(4e6)), (bandwidth(4e6), latency(0.15))):
            async with world(None, *toxics) as here:
                client, server = await here.pair()
                assert about(await transfer(server, client, 100_000), 0.35)

    run(test)


@given(
    rate=st.floats(1e3, 1e9),
    sizes=st.lists(st.integers(0, 100_000), min_size=1),
    pauses=st.lists(st.floats(0, 10), min_size=1),
)
def test_a_wire_is_never_quicker_than_its_rate_and_saves_nothing(
    rate: float, sizes: list[int], pauses: list[float]
) -> None:
    wire, now, last = Wire(rate), 1.0, 0.0
    for size, pause in zip(sizes, pauses, strict=False):
        now += pause
        due = wire.carry(now, size)
        assert due == pytest.approx(max(now, last) + size * 8 / rate)
        last = due


# --- blackhole and reset ------------------------------------------------------------------


def test_blackhole_swallows_both_ways_and_tells_nobody() -> None:
    async def test() -> None:
        async with world() as here:
            client, server = await here.pair()
            idle, idle_server = await here.pair()
            here.proxy.add(BLACKHOLE)
            await send(client, bytes(1 << 20))
            await send(server, b"lost")
            fresh = await here.connect()
            speaks = await here.connect()
            await send(speaks, b"hello?")
            for quiet in (client, server, fresh, speaks):
                assert await silent(quiet, 0.05)
            assert len(here.served) == 2
            ended, ended_server = idle, idle_server

            here.proxy.remove("blackhole")
            for hurt in (client, server, speaks):
                with pytest.raises(ConnectionResetError):
                    await receive(hurt)
            await send(ended, b"alive")
            assert await receive(ended_server) == b"alive"
            await until(lambda: len(here.served) == 3)
            await send(fresh, b"at last")
            assert await receive(here.served[2]) == b"at last"
            new, new_server = await here.pair()
            await send(new, b"new")
            assert await receive(new_server) == b"new"

    run(test)


def test_blackhole_hides_ends_and_resets_too() -> None:
    async def test() -> None:
        async with world() as here:
            first, first_server = await here.pair()
            second, second_server = await here.pair()
            here.proxy.add(BLACKHOLE)
            first.shutdown(socket.SHUT_WR)
            break_off(second_server)
            assert await silent(first_server, 0.05)
            assert await silent(second, 0.05)
            here.proxy.remove("blackhole")
            for end in (first, first_server, second):
                with pytest.raises(ConnectionResetError):
                    await receive(end)

    run(test)


def test_blackhole_takes_what_was_still_held() -> None:
    async def test() -> None:
        async with world(None, latency(60)) as here:
            client, server = await here.pair()
            await send(server, b"under way")
            await asyncio.sleep(0.02)
            here.proxy.add(BLACKHOLE)
            here.proxy.remove("latency")
            assert await silent(client, 0.05)
            here.proxy.remove("blackhole")
            with pytest.raises(ConnectionResetError):
                await receive(client)

    run(test)


def test_two_blackholes_are_lifted_one_by_one() -> None:
    async def test() -> None:
        async with world(echo, BLACKHOLE, Toxic("blackhole", "other")) as here:
            end = await here.connect()
            here.proxy.remove("other")
            assert await silent(end, 0.05)
            assert not here.served
            here.proxy.remove("blackhole")
            assert await round_trip(end) < SLACK

    run(test)


def test_clients_that_gave_up_in_a_blackhole_do_not_pile_up() -> None:
    async def test() -> None:
        async with world(None, BLACKHOLE) as here:
            for _ in range(300):
                (await here.connect()).close()
            await until(lambda: here.proxy.stats.total == 300)
            await until(lambda: here.proxy.stats.open <= 128)
            here.proxy.remove("blackhole")
            assert here.proxy.stats.open == 0

    run(test)


def test_reset_hits_open_and_new_connections_only_while_in_force() -> None:
    async def test() -> None:
        async with world() as here:
            client, server = await here.pair()
            here.proxy.add(RESET)
            here.proxy.add(RESET)
            assert here.proxy.toxics == (RESET,)
            for end in (client, server):
                with pytest.raises(ConnectionResetError):
                    await receive(end)
            with pytest.raises(ConnectionResetError):
                await receive(await here.connect())
            assert here.proxy.stats.resets == 2
            assert len(here.served) == 1
            here.proxy.remove("reset")
            client, server = await here.pair()
            await send(client, b"well")
            assert await receive(server) == b"well"

    run(test)
