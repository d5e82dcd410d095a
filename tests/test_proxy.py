"""The link proxy: real sockets on loopback, every fault, and laws over random streams."""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import resource
import signal
import socket
import struct
import subprocess
import sys
import time
import tracemalloc
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine
from dataclasses import dataclass, field
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gameday.injectors.errors import SandboxError, UsageError
from gameday.injectors.sandbox.base import Toxic
from gameday.injectors.sandbox.proxy import BEHAVIOURS, LinkProxy, Stats, build
from gameday.injectors.sandbox.proxy.bandwidth import Wire
from gameday.injectors.sandbox.proxy.connection import _met_itself
from gameday.injectors.sandbox.proxy.stage import Chunk, Mark, Stage

HOST = "127.0.0.1"
SLACK = 2.0  # seconds by which a busy machine may be late; early is never allowed
FEW = settings(max_examples=25, deadline=None)

Handler = Callable[[socket.socket], Coroutine[Any, Any, None]]


def run(test: Callable[[], Awaitable[None]]) -> None:
    """Run a test in a loop of its own; what reaches the loop's exception handler fails it."""
    escaped: list[dict[str, Any]] = []

    async def main() -> None:
        asyncio.get_running_loop().set_exception_handler(lambda _, seen: escaped.append(seen))
        await asyncio.wait_for(test(), 30)

    asyncio.run(main())
    assert not escaped


def latency(delay: float, jitter: float = 0.0, tag: str = "latency") -> Toxic:
    return Toxic("latency", tag, {"delay": delay, "jitter": jitter})


def bandwidth(rate: float, tag: str = "bandwidth") -> Toxic:
    return Toxic("bandwidth", tag, {"rate": rate})


BLACKHOLE = Toxic("blackhole", "blackhole")
RESET = Toxic("reset", "reset")


async def send(end: socket.socket, data: bytes) -> None:
    await asyncio.get_running_loop().sock_sendall(end, data)


async def send_on(end: socket.socket) -> None:
    """Send until the other side objects."""
    for _ in range(500):
        await send(end, b"more")
        await asyncio.sleep(0.001)


async def receive(end: socket.socket, size: int = 1 << 16) -> bytes:
    return await asyncio.get_running_loop().sock_recv(end, size)


async def receive_all(end: socket.socket) -> bytes:
    got = bytearray()
    while data := await receive(end):
        got += data
    return bytes(got)


async def receive_exactly(end: socket.socket, size: int) -> bytes:
    got = bytearray()
    while len(got) < size:
        data = await receive(end, size - len(got))
        assert data, f"ended after {len(got)} of {size} bytes"
        got += data
    return bytes(got)


async def silent(end: socket.socket, seconds: float = 0.1) -> bool:
    try:
        await asyncio.wait_for(receive(end), seconds)
    except TimeoutError:
        return True
    return False


async def until(true: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 5
    while not true():
        assert time.monotonic() < deadline
        await asyncio.sleep(0.005)


def break_off(end: socket.socket) -> None:
    """Close with RST."""
    end.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    end.close()


async def echo(end: socket.socket) -> None:
    while data := await receive(end):
        await send(end, data)


async def echo_at_end(end: socket.socket) -> None:
    await send(end, await receive_all(end))


@dataclass
class World:
    """A server, a link to it, and the clients that are still open."""

    proxy: LinkProxy
    ends: contextlib.ExitStack
    served: list[socket.socket] = field(default_factory=list)

    async def connect(self) -> socket.socket:
        end = self.ends.enter_context(socket.socket())
        end.setblocking(False)
        assert self.proxy.address is not None
        await asyncio.get_running_loop().sock_connect(end, self.proxy.address)
        return end

    async def pair(self) -> tuple[socket.socket, socket.socket]:
        """A client, and its connection as the server holds it; needs a world without a handler."""
        before = len(self.served)
        client = await self.connect()
        await until(lambda: len(self.served) > before)
        return client, self.served[before]


@contextlib.asynccontextmanager
async def world(handler: Handler | None = None, *toxics: Toxic) -> AsyncIterator[World]:
    loop = asyncio.get_running_loop()
    with contextlib.ExitStack() as ends:
        listener = ends.enter_context(socket.create_server((HOST, 0), backlog=1024))
        listener.setblocking(False)
        proxy = LinkProxy("a->b", upstream=listener.getsockname)
        for toxic in toxics:
            proxy.add(toxic)
        await proxy.start()
        here = World(proxy, ends)
        tasks: set[asyncio.Task[None]] = set()

        async def serve(end: socket.socket) -> None:
            if handler is not None:
                with contextlib.suppress(OSError):
                    await handler(end)
                end.close()

        async def accept() -> None:
            while True:
                end, _ = await loop.sock_accept(listener)
                end.setblocking(False)
                here.served.append(ends.enter_context(end))
                tasks.add(asyncio.create_task(serve(end)))

        tasks.add(asyncio.create_task(accept()))
        try:
            yield here
        finally:
            await proxy.close()
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)


# --- the path without a fault, and laws ---------------------------------------------------


def sets_of_toxics() -> st.SearchStrategy[tuple[Toxic, ...]]:
    slow = st.sampled_from(
        [latency(0.0), latency(0.002, 0.004), latency(0.003, tag="other"), bandwidth(4e7)]
    )
    return st.lists(slow, max_size=3, unique_by=lambda toxic: toxic.tag).map(tuple)


@FEW
@given(
    chunks=st.lists(st.integers(1, 20_000), max_size=12),
    first=sets_of_toxics(),
    then=st.dictionaries(st.integers(0, 11), sets_of_toxics(), max_size=3),
)
def test_bytes_out_are_bytes_in(
    chunks: list[int], first: tuple[Toxic, ...], then: dict[int, tuple[Toxic, ...]]
) -> None:
    async def test() -> None:
        async with world(echo, *first) as here:
            end = await here.connect()
            sent = bytearray()
            back = asyncio.create_task(receive_all(end))
            for number, size in enumerate(chunks):
                piece = bytes((number * 31 + index) % 251 for index in range(size))
                sent += piece
                await send(end, piece)
                if number in then:  # faults come and go under way
                    for toxic in here.proxy.toxics:
                        here.proxy.remove(toxic.tag)
                    for toxic in then[number]:
                        here.proxy.add(toxic)
            end.shutdown(socket.SHUT_WR)
            assert await back == bytes(sent)
            await until(lambda: here.proxy.stats.open == 0)
            assert here.proxy.stats == Stats(
                total=1, bytes_up=len(sent), bytes_down=len(sent), resets=0
            )

    run(test)


ACTS = st.sampled_from(["send", "receive", "end", "close", "break", "wait"])


@FEW
@given(
    plans=st.lists(
        st.tuples(st.lists(ACTS, max_size=5), st.lists(ACTS, max_size=5)), min_size=1, max_size=6
    ),
    toxics=st.lists(
        st.sampled_from([latency(0.004, 0.004), bandwidth(1e7), BLACKHOLE, RESET]), max_size=5
    ),
)
def test_whatever_people_do_nothing_escapes_and_nothing_stays(
    plans: list[tuple[list[str], list[str]]], toxics: list[Toxic]
) -> None:
    async def act(end: socket.socket, acts: list[str]) -> None:
        with contextlib.suppress(OSError, TimeoutError):
            for what in acts:
                match what:
                    case "send":
                        await asyncio.wait_for(send(end, bytes(30_000)), 0.02)
                    case "receive":
                        await asyncio.wait_for(receive(end), 0.02)
                    case "end":
                        end.shutdown(socket.SHUT_WR)
                    case "close":
                        end.close()
                        return
                    case "break":
                        break_off(end)
                        return
                    case _:
                        await asyncio.sleep(0.003)
        end.close()

    async def test() -> None:
        theirs = [plan for _, plan in plans]

        async def handler(end: socket.socket) -> None:
            await act(end, theirs.pop() if theirs else [])

        async def client(here: World, acts: list[str]) -> None:
            with contextlib.suppress(ConnectionResetError):
                await act(await here.connect(), acts)

        async with world(handler) as here:
            clients = [asyncio.create_task(client(here, acts)) for acts, _ in plans]
            for toxic in toxics:
                here.proxy.add(toxic)
                await asyncio.sleep(0.003)
            await asyncio.gather(*clients)
            for toxic in toxics:
                here.proxy.remove(toxic.tag)
            await until(lambda: here.proxy.stats.open == 0)

    run(test)


@FEW
@given(
    st.lists(
        st.tuples(
            st.booleans(), st.sampled_from([latency(0.1), latency(0.2), bandwidth(1e6), BLACKHOLE])
        )
    )
)
def test_toxics_are_a_table_by_tag(steps: list[tuple[bool, Toxic]]) -> None:
    proxy = LinkProxy("a->b", upstream=lambda: None)
    table: dict[str, Toxic] = {}
    for add, toxic in steps:
        if add:
            proxy.add(toxic)
            table[toxic.tag] = toxic
        else:
            assert proxy.remove(toxic.tag) is (table.pop(toxic.tag, None) is not None)
        assert {toxic.tag: toxic for toxic in proxy.toxics} == table


def test_ends_travel_each_way_by_themselves() -> None:
    async def test() -> None:
        async with world() as here:
            client, server = await here.pair()
            client.shutdown(socket.SHUT_WR)
            assert await receive(server) == b""
            await send(server, b"late answer")
            assert await receive(client) == b"late answer"
            server.close()
            assert await receive(client) == b""
            await until(lambda: here.proxy.stats.open == 0)

            client, server = await here.pair()
            server.shutdown(socket.SHUT_WR)
            assert await receive(client) == b""
            await send(client, b"still here")
            assert await receive(server) == b"still here"
            client.close()
            assert await receive(server) == b""
            await until(lambda: here.proxy.stats.open == 0)
            assert here.proxy.stats.resets == 0

    run(test)


@pytest.mark.parametrize("toxics", [(), (latency(0.01),)], ids=["plain", "latency"])
def test_a_reset_travels_each_way(toxics: tuple[Toxic, ...]) -> None:
    async def test() -> None:
        async with world(None, *toxics) as here:
            for breaker, other in ((0, 1), (1, 0)):
                ends = await here.pair()
                break_off(ends[breaker])
                with pytest.raises(ConnectionResetError):
                    await receive(ends[other])
            await until(lambda: here.proxy.stats.open == 0)
            assert here.proxy.stats.resets == 2

    run(test)


@pytest.mark.parametrize("toxics", [(), (latency(0.02),)], ids=["plain", "latency"])
def test_an_answer_before_a_reset_is_still_read(toxics: tuple[Toxic, ...]) -> None:
    async def test() -> None:
        async with world(None, *toxics) as here:
            client, server = await here.pair()
            await send(client, b"a body that the server does not care to read")
            await until(lambda: here.proxy.stats.bytes_up > 0)
            await send(server, b"413 Too Large")
            server.close()  # with unread data: the kernel resets
            assert await receive(client) == b"413 Too Large"
            with pytest.raises((ConnectionResetError, BrokenPipeError)):
                await send_on(client)

    run(test)


def test_a_server_that_is_down_resets_and_one_that_moved_is_found() -> None:
    async def test() -> None:
        async with world(echo) as here:
            good = here.proxy.upstream
            with socket.create_server((HOST, 0)) as gone:
                nobody = gone.getsockname()
            for bad in (lambda: nobody, lambda: None):
                here.proxy.upstream = bad
                with pytest.raises(ConnectionResetError):
                    await receive(await here.connect())
            assert here.proxy.stats.refused == here.proxy.stats.resets == 2
            here.proxy.upstream = good
            end = await here.connect()
            await send(end, b"back")
            assert await receive(end) == b"back"

    run(test)


def test_a_connection_to_itself_is_no_server() -> None:
    with socket.socket() as lonely:
        lonely.bind((HOST, 0))
        lonely.connect(lonely.getsockname())
        assert _met_itself(lonely)


def test_a_stopped_server_hangs_as_it_would_without_us() -> None:
    code = (
        "import socket; s = socket.create_server(('127.0.0.1', 0)); "
        "print(s.getsockname()[1], flush=True)\n"
        "while True:\n c, _ = s.accept(); c.sendall(c.recv(64)); c.close()"
    )

    with subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE) as server:
        assert server.stdout is not None
        port = int(server.stdout.readline())

        async def test() -> None:
            async with world() as here:
                here.proxy.upstream = lambda: (HOST, port)
                server.send_signal(signal.SIGSTOP)
                end = await here.connect()
                await send(end, b"hello")
                assert await silent(end)
                server.send_signal(signal.SIGCONT)
                assert await receive(end) == b"hello"

        try:
            run(test)
        finally:
            server.kill()


@pytest.mark.parametrize(
    "toxics", [(), (latency(0.0),), (bandwidth(1e10),)], ids=["plain", "latency", "bandwidth"]
)
def test_a_slow_reader_holds_the_sender_back(toxics: tuple[Toxic, ...]) -> None:
    size, memory = 10 << 20, 0
    blob = bytes(range(256)) * (size // 256)

    async def test() -> None:
        nonlocal memory
        async with world(None, *toxics) as here:
            client, server = await here.pair()
            server.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1 << 16)
            client.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 1 << 16)
            tracemalloc.start()
            try:
                sender = asyncio.create_task(send(client, blob))
                await asyncio.sleep(0.05)
                got = 0
                while got < size:
                    data = await receive(server, 1 << 18)
                    assert data == blob[got : got + len(data)]
                    got += len(data)
                    await asyncio.sleep(0.0005)
                await sender
                memory = tracemalloc.get_traced_memory()[1]
            finally:
                tracemalloc.stop()

    run(test)
    assert memory < 6 << 20


def test_two_hundred_connections_at_once() -> None:
    async def test() -> None:
        async with world(echo, latency(0.005, 0.005)) as here:

            async def talk(number: int) -> None:
                blob = number.to_bytes(2, "big") * 10_000
                end = await here.connect()
                back = asyncio.create_task(receive_exactly(end, len(blob)))
                await send(end, blob)
                assert await back == blob
                end.close()

            await asyncio.gather(*(talk(number) for number in range(200)))
            await until(lambda: here.proxy.stats.open == 0)
            assert here.proxy.stats.total == 200

    run(test)


def test_without_file_descriptors_clients_wait_their_turn() -> None:
    async def test() -> None:
        async with world(echo) as here:
            assert here.proxy.address is not None
            await asyncio.sleep(0.01)  # the server listens first: accept fails without any caller
            ends = [socket.create_connection(here.proxy.address) for _ in range(5)]
            soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
            resource.setrlimit(resource.RLIMIT_NOFILE, (ends[-1].fileno() + 1, hard))
            try:
                await asyncio.sleep(0.05)
                assert here.proxy.stats.total == 0
            finally:
                resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
            for end in ends:
                end.setblocking(False)
                await send(end, b"x")
                assert await receive(end) == b"x"
                end.close()

    run(test)


def test_close_resets_what_is_open_and_stops_listening() -> None:
    async def test() -> None:
        async with world(None, latency(60)) as here:
            client, server = await here.pair()
            await send(server, b"held")
            await asyncio.sleep(0.02)
            address = here.proxy.address
            assert address is not None
            await here.proxy.close()
            await here.proxy.close()
            for end in (client, server):
                with pytest.raises(ConnectionResetError):
                    await receive(end)
            with pytest.raises(ConnectionRefusedError), socket.create_connection(address):
                pass
            assert here.proxy.address is None
            assert here.proxy.stats.open == 0

    run(test)


def test_a_taken_port_is_said() -> None:
    async def test() -> None:
        async with world() as here:
            assert here.proxy.address is not None
            other = LinkProxy("c->d", upstream=lambda: None)
            with pytest.raises(SandboxError, match="c->d cannot listen"):
                await other.start(*here.proxy.address)

    run(test)


def test_alone_it_serves_until_told_to_stop() -> None:
    argv = [sys.executable, "-m", "gameday.injectors.sandbox.proxy"]
    bad = subprocess.run([*argv, f"{HOST}:1", "--toxic", "fog"], capture_output=True, text=True)
    assert bad.returncode == 2
    assert bad.stderr.splitlines() == [
        "a link has no fault 'fog'",
        "  There are: latency, blackhole, reset, bandwidth.",
    ]
    with (
        socket.create_server((HOST, 0)) as server,
        subprocess.Popen(
            [*argv, f"{HOST}:{server.getsockname()[1]}", "--toxic", "latency:delay=0.1"],
            stdout=subprocess.PIPE,
            text=True,
        ) as proxy,
    ):
        try:
            assert proxy.stdout is not None
            host, _, port = proxy.stdout.readline().strip().partition(":")
            with socket.create_connection((host, int(port))) as client:
                served, _ = server.accept()
                with served:
                    start = time.monotonic()
                    served.sendall(b"hello")
                    assert client.recv(64) == b"hello"
                    assert time.monotonic() - start >= 0.1
                    proxy.terminate()
                    assert proxy.wait(10) == 0
        finally:
            proxy.kill()


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


# --- a stage, on a clock of its own -------------------------------------------------------


class Clock:
    """As much of a loop as a stage uses, on virtual time."""

    def __init__(self) -> None:
        self.now = 100.0
        self.timers: list[tuple[float, asyncio.TimerHandle]] = []
        self._home = asyncio.new_event_loop()

    def time(self) -> float:
        return self.now

    def call_at(self, when: float, call: Callable[[], None]) -> asyncio.TimerHandle:
        handle = asyncio.TimerHandle(when, call, (), self._home)
        self.timers.append((when, handle))
        return handle

    def waiting(self) -> list[tuple[float, asyncio.TimerHandle]]:
        return [(when, handle) for when, handle in self.timers if not handle.cancelled()]

    def advance(self, to: float, *, late: float = 0.0) -> None:
        while True:
            due = sorted(self.waiting(), key=lambda timer: timer[0])
            if not due or due[0][0] + late > to:
                break
            when, handle = due[0]
            self.timers.remove(due[0])
            self.now = when + late
            handle._run()
        self.now = to

    def close(self) -> None:
        self._home.close()


@contextlib.contextmanager
def clock() -> Any:
    ticking = Clock()
    try:
        yield ticking
    finally:
        ticking.close()


def test_late_timers_do_not_add_up() -> None:
    with clock() as ticking:
        wire = Wire(8000.0)  # 1000 bytes a second
        stage = Stage(ticking, wire.carry, room=1 << 16, piece=10)
        out: list[Chunk] = []
        stage.emit = lambda chunk, at: out.append(chunk)
        stage.feed(bytes(1000), ticking.now)
        ticking.advance(101.1, late=0.05)
        assert sum(len(chunk) for chunk in out if not isinstance(chunk, Mark)) == 1000
        assert not stage.busy
        assert stage.held == 0


@given(
    st.lists(st.tuples(st.floats(0, 2), st.integers(1, 500)), min_size=1, max_size=20),
    st.sampled_from(["wait", "flush", "drop"]),
    st.integers(1, 200),
)
def test_a_stage_keeps_order_and_leaves_no_timer(
    feeds: list[tuple[float, int]], ending: str, piece: int
) -> None:
    with clock() as ticking:
        stage = Stage(ticking, lambda arrived, size: arrived + (size * 7 % 5), room=1, piece=piece)
        out = bytearray()
        marks: list[Mark] = []

        def emit(chunk: Chunk, at: float) -> None:
            if isinstance(chunk, Mark):
                marks.append(chunk)
            else:
                assert not marks
                out.extend(chunk)

        stage.emit = emit
        fed = bytearray()
        for number, (pause, size) in enumerate(feeds):
            ticking.advance(ticking.now + pause)
            fed += bytes([number]) * size
            stage.feed(bytes([number]) * size, ticking.now)
            assert stage.held == len(fed) - len(out)
        stage.feed(Mark.END, ticking.now)
        match ending:
            case "wait":
                ticking.advance(ticking.now + 1000)
            case "flush":
                stage.flush()
            case _:
                stage.drop()
        assert not ticking.waiting()
        assert not stage.busy
        assert stage.held == 0
        assert fed.startswith(out)
        assert ending == "drop" or (out == fed and marks == [Mark.END])
