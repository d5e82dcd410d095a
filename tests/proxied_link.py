"""A link through the proxy, from a server to clients on loopback, and what its ends do."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import struct
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine
from dataclasses import dataclass, field
from typing import Any

from gameday.injectors.sandbox.base import Toxic
from gameday.injectors.sandbox.proxy import LinkProxy

HOST = "127.0.0.1"

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
