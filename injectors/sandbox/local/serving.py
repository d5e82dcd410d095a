"""The supervisor's life: take orders over its socket, until told to end or until nobody owns it."""

from __future__ import annotations

import asyncio
import os
import resource
import shutil
import signal
import socket
import struct
import sys
from collections.abc import Callable
from pathlib import Path

import msgspec

from gameday.injectors.errors import GamedayError, SandboxError, UsageError
from gameday.injectors.reading import UNREADABLE
from gameday.injectors.sandbox import process
from gameday.injectors.sandbox.base import Change
from gameday.injectors.sandbox.local import orders
from gameday.injectors.sandbox.local.child import Child
from gameday.injectors.sandbox.local.orders import Answer, Order, Spec
from gameday.injectors.sandbox.local.runtime import Runtime
from gameday.injectors.undo import ProcessId

__all__ = ["serve"]

_LONGEST_ORDER = 1 << 20
_TEARDOWN = 2.0
_encode = msgspec.json.Encoder().encode
_decode: Callable[[bytes], Order] = msgspec.json.Decoder(Order).decode


async def serve(run: Path, listener: int, *, no_namespaces: str, init: int) -> int:
    """Hold the sandbox that ``spec.json`` in ``run`` describes, until it is over."""
    spec = msgspec.json.decode((run / orders.SPEC).read_bytes(), type=Spec)
    Child.bound = not init
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (max(soft, min(hard, 65536)), hard))
    runtime = Runtime(spec, run, no_namespaces)
    door = _Door(runtime, socket.socket(fileno=listener))
    watch = _end_with(runtime, spec.owners, init)
    try:
        await runtime.prepare()
        door.open()
        await runtime.over.wait()
    finally:
        await _end(runtime, door)
        for pidfd in watch:
            os.close(pidfd)
    return 0


def _end_with(runtime: Runtime, owners: tuple[ProcessId, ...], init: int) -> list[int]:
    """End at SIGTERM and SIGINT, when all owners are gone, and when our init is."""
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        loop.add_signal_handler(number, runtime.end, f"it was sent {number.name}")
    if not init:
        loop.add_signal_handler(signal.SIGCHLD, Child.reap_orphans)
    left: set[int] = set()
    watched = []

    def gone(pidfd: int) -> None:
        loop.remove_reader(pidfd)
        left.discard(pidfd)
        if not left:
            runtime.end("all of its owners are gone")

    for owner in owners:
        try:
            pidfd = os.pidfd_open(owner.pid)
        except ProcessLookupError:
            continue
        watched.append(pidfd)
        if process.is_alive(owner):
            left.add(pidfd)
            loop.add_reader(pidfd, gone, pidfd)
    if owners and not left:
        runtime.end("all of its owners were gone before it began")
    if init:
        pidfd = os.pidfd_open(init)
        watched.append(pidfd)

        def init_gone() -> None:
            loop.remove_reader(pidfd)
            runtime.end("the first process of its pid namespace has ended")

        loop.add_reader(pidfd, init_gone)
    return watched


async def _end(runtime: Runtime, door: _Door) -> None:
    door.close()
    try:
        async with asyncio.timeout(_TEARDOWN):
            await runtime.down()
    except TimeoutError:
        print("teardown took too long; the rest is killed", file=sys.stderr)
    # Without a pid namespace nobody does this for us.
    left = await Child.kill_all(_TEARDOWN)
    gone = await runtime.forget_groups()
    if left:  # whoever tears down reads it
        runtime.note_processes(left)
        print(f"processes are left: {' '.join(str(who.pid) for who in left)}", file=sys.stderr)
    elif gone:
        shutil.rmtree(runtime.run, ignore_errors=True)


class _Door:
    """The socket: one task for each client."""

    def __init__(self, runtime: Runtime, listener: socket.socket) -> None:
        self._runtime, self._listener = runtime, listener
        self._clients: set[asyncio.Task[None]] = set()
        self._may = {os.geteuid(), 0, _unmapped()}
        self._up: asyncio.Task[None] | None = None
        listener.setblocking(False)
        listener.listen(64)  # again: whoever connects is told our pid, not that of who began it

    def open(self) -> None:
        asyncio.get_running_loop().add_reader(self._listener, self._accept)

    def close(self) -> None:
        """Let nobody else in; who is in is let go when we end."""
        asyncio.get_running_loop().remove_reader(self._listener)
        self._listener.close()
        if self._up is not None:
            self._up.cancel()

    def _accept(self) -> None:
        try:
            client, _ = self._listener.accept()
        except OSError:
            return
        client.setblocking(False)
        credentials = client.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, 12)
        if struct.unpack("3i", credentials)[1] not in self._may:
            client.close()
            return
        task = asyncio.get_running_loop().create_task(self._serve(client))
        self._clients.add(task)
        task.add_done_callback(self._clients.discard)

    async def _serve(self, client: socket.socket) -> None:
        files: list[int] = []
        try:
            line = await _receive(client, files)
            if line:
                await self._answer(client, line, files)
        except OSError:
            return  # the client is gone
        finally:
            for file in files:
                os.close(file)
            client.close()

    async def _answer(self, client: socket.socket, line: bytes, files: list[int]) -> None:
        try:
            order = _decode(line)
            if isinstance(order, orders.Watch):
                await self._stream(client)
                return
            if isinstance(order, orders.Execute):
                answer = await self._execute(client, order, files)
            else:
                answer = await self._do(order)
        except UNREADABLE as error:
            answer = orders.Failed(f"the order cannot be read: {error}", usage=True)
        except GamedayError as error:
            answer = orders.Failed(error.message, error.hint, isinstance(error, UsageError))
        except OSError as error:
            answer = orders.Failed(str(error))
        await _send(client, answer)
        if isinstance(answer, orders.Failed) and self._up is not None and self._up_failed():
            self._runtime.end("it could not be brought up")

    def _up_failed(self) -> bool:
        return self._up is not None and self._up.done() and self._up.exception() is not None

    async def _stream(self, client: socket.socket) -> None:
        queue: asyncio.Queue[Change] = asyncio.Queue()
        self._runtime.watchers.add(queue)
        try:
            await _send(client, orders.Done())  # from here on nothing is missed
            while True:
                await _send(client, orders.ChangeSeen(await queue.get()))
        finally:
            self._runtime.watchers.discard(queue)

    async def _execute(
        self, client: socket.socket, order: orders.Execute, files: list[int]
    ) -> Answer:
        if len(files) != 3:
            raise UsageError("a command needs stdin, stdout and stderr beside the order")
        if not order.argv:
            raise UsageError("there is no command to run")
        stdio = (files[0], files[1], files[2])
        child = await self._runtime.execute(order.slot, order.argv, order.by, stdio)
        while files:
            os.close(files.pop())
        hung_up = asyncio.get_running_loop().create_task(_until_hung_up(client, child))
        try:
            return orders.Ended(await asyncio.shield(child.ended))
        finally:
            hung_up.cancel()

    async def _bring_up(self) -> None:
        if self._up is None:
            self._up = asyncio.get_running_loop().create_task(self._runtime.up())
        await asyncio.shield(self._up)

    async def _do(self, order: Order) -> Answer:
        runtime = self._runtime
        match order:
            case orders.Up():
                await self._bring_up()
            case orders.Down():
                runtime.end("it was told to")
                await (
                    asyncio.Event().wait()
                )  # our end closes the connection, and that is the answer
            case orders.FindSlots():
                return orders.SlotList(tuple(replica.slot() for replica in runtime.slots()))
            case orders.FindLinks():
                return orders.LinkList(tuple(runtime.links()))
            case orders.Hello():
                return orders.About(runtime.lacks(), os.getpid())
            case _:
                return await self._act(order)
        return orders.Done()

    async def _act(self, order: Order) -> Answer:
        runtime = self._runtime
        match order:
            case orders.GetStatus(slot):
                return orders.StatusOf(runtime.find(slot).status())
            case orders.WhoStarted(slot):
                return runtime.who_started(slot)
            case orders.LogOf(slot):
                return orders.Names((str(runtime.find(slot).log),))
            case orders.Ensure(slot):
                return await runtime.ensure(slot)
            case orders.Hold(slot, tag, uptime):
                runtime.hold(slot, tag, uptime)
            case orders.Unhold(slot, tag):
                return await runtime.unhold(slot, tag)
            case orders.AddToxic(link, toxic):
                runtime.add_toxic(link, toxic)
            case orders.ClearToxic(link, tag):
                return runtime.clear_toxic(link, tag)
            case orders.GetToxics(link):
                return orders.ToxicList(runtime.toxics(link))
            case orders.Restart(slot, by):
                await runtime.restart(slot, by)
            case orders.Stop(slot, by):
                await runtime.stop(slot, by)
            case orders.Scale(service, replicas, by):
                await runtime.scale(service, replicas, by)
            case orders.Drain(slot, by, back):
                await runtime.drain(slot, by, back)
            case _:
                return await self._weigh(order)
        return orders.Done()

    async def _weigh(self, order: Order) -> Answer:
        runtime = self._runtime
        match order:
            case orders.Burn(slot, tag, workers):
                await runtime.burn(slot, tag, workers)
            case orders.Burning():
                return orders.Cpus(runtime.burners.cpus())
            case orders.EndHelpersOf(tag):
                return orders.Done(await runtime.burners.end(tag))
            case orders.MemoryGroup(slot):
                return orders.Names(runtime.memory_group(slot))
            case orders.CapMemory(slot, headroom):
                runtime.cap_memory(slot, headroom)
            case orders.Fill(slot, name, leave):
                await runtime.fill(slot, name, leave)
            case orders.FileSize(slot, name):
                return orders.Count(runtime.size(slot, name))
            case orders.Free(slot):
                return orders.FreeBytes(runtime.free(slot))
            case orders.Files(slot):
                return orders.Names(runtime.ours(slot))
            case orders.Remove(slot, name):
                return orders.Done(runtime.remove(slot, name))
            case _:
                raise SandboxError(f"{type(order).__name__} is no order for here")
        return orders.Done()


def _unmapped() -> int:
    """How root looks from inside a user namespace that does not know it; else nobody at all.

    The socket stands in a folder that only its owner and root can enter.
    """
    try:
        if Path("/proc/self/uid_map").read_text().split()[2] == "4294967295":
            return -1
        return int(Path("/proc/sys/kernel/overflowuid").read_text())
    except (OSError, ValueError, IndexError):
        return -1


async def _readable(client: socket.socket) -> None:
    loop = asyncio.get_running_loop()
    ready: asyncio.Future[None] = loop.create_future()
    loop.add_reader(client, lambda: None if ready.done() else ready.set_result(None))
    try:
        await ready
    finally:
        loop.remove_reader(client)


async def _until_hung_up(client: socket.socket, child: Child) -> None:
    """End a command whose terminal has gone away."""
    try:
        await _receive(client, [])
    except OSError:
        pass
    await child.end(signal.SIGHUP, 1.0)


async def _receive(client: socket.socket, files: list[int]) -> bytes:
    """One line, and the files beside it; empty when the client hung up."""
    line = b""
    while not line.endswith(b"\n"):
        await _readable(client)
        data, beside, _, _ = socket.recv_fds(client, 65536, 3)
        files += beside
        if not data or len(line) > _LONGEST_ORDER:
            return b""
        line += data
    return line


async def _send(client: socket.socket, answer: Answer) -> None:
    await asyncio.get_running_loop().sock_sendall(client, _encode(answer) + b"\n")
