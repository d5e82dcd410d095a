"""The link proxy: real sockets on loopback, and laws over random streams."""

from __future__ import annotations

import asyncio
import contextlib
import resource
import signal
import socket
import subprocess
import sys
import time
import tracemalloc

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gameday.injectors.errors import SandboxError
from gameday.injectors.sandbox.base import Toxic
from gameday.injectors.sandbox.proxy import LinkProxy, Stats
from gameday.injectors.sandbox.proxy.connection import _met_itself
from tests.proxied_link import (
    BLACKHOLE,
    HOST,
    RESET,
    World,
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

FEW = settings(max_examples=25, deadline=None)


async def send_on(end: socket.socket) -> None:
    """Send until the other side objects."""
    for _ in range(500):
        await send(end, b"more")
        await asyncio.sleep(0.001)


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
