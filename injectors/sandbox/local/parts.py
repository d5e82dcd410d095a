"""What a local sandbox can do, part by part (`gameday.injectors.sandbox.base`)."""

from __future__ import annotations

import resource
from collections.abc import AsyncIterator, Iterable, Sequence
from pathlib import Path
from typing import Any

import anyio

from gameday.injectors.errors import SandboxError
from gameday.injectors.sandbox import process
from gameday.injectors.sandbox.base import ProcessStatus, Toxic
from gameday.injectors.sandbox.local import orders
from gameday.injectors.sandbox.local.client import Client
from gameday.injectors.sandbox.process import signal_slot
from gameday.injectors.undo import ProcessId

__all__ = [
    "Cpu",
    "Disk",
    "Hands",
    "Links",
    "Memory",
    "Processes",
    "address_space_limits",
    "burners",
    "make",
]

_FOLLOW_EVERY = 0.2
_STOP_WITHIN = 75.0
_SCALE_WITHIN = 300.0


def make(client: Client) -> dict[str, Any]:
    """Every part, by name."""
    processes = Processes(client)
    return {
        "processes": processes,
        "holds": processes,
        "links": Links(client),
        "cpu": Cpu(client),
        "memory": Memory(client),
        "disk": Disk(client),
        "hands": Hands(client),
    }


class _Part:
    def __init__(self, client: Client) -> None:
        self._client = client

    async def _process(self, slot: str) -> ProcessId | None:
        answer = await self._client.ask(orders.GetStatus(slot), orders.StatusOf)
        return answer.status.process


class Processes(_Part):
    """The parts ``processes`` and ``holds``."""

    async def status(self, slot: str) -> ProcessStatus:
        return (await self._client.ask(orders.GetStatus(slot), orders.StatusOf)).status

    async def check_end(self, slots: Sequence[str]) -> None:
        """Nothing stands against it."""

    async def signal(self, process: ProcessId, signal: int) -> bool:
        return signal_slot(process, signal)

    async def hold(self, slot: str, tag: str, *, uptime: float) -> None:
        await self._client.ask(orders.Hold(slot, tag, uptime), orders.Done)


class Links(_Part):
    """The part ``links``: each has a proxy of its own."""

    async def check(self, links: Sequence[str]) -> None:
        """Nothing stands against it."""

    async def add(self, link: str, toxic: Toxic) -> None:
        await self._client.ask(orders.AddToxic(link, toxic), orders.Done)

    async def toxics(self, link: str) -> tuple[Toxic, ...]:
        return (await self._client.ask(orders.GetToxics(link), orders.ToxicList)).toxics


class Cpu(_Part):
    """The part ``cpu``."""

    async def affinity(self, slot: str) -> tuple[int, ...]:
        who = await self._process(slot)
        return process.affinity(who) if who is not None else ()

    async def burn(self, slot: str, tag: str, *, workers: int) -> None:
        await self._client.ask(orders.Burn(slot, tag, workers), orders.Done)

    async def helpers(self, tag: str) -> tuple[ProcessId, ...]:
        return process.find_by_environment("GAMEDAY_HELPER", tag)

    async def burning(self) -> tuple[int, ...]:
        """CPUs on which burners run now: whoever measures keeps off them."""
        return (await self._client.ask(orders.Burning(), orders.Cpus)).cpus


def burners(sandbox: str, slot: str) -> tuple[str, ...]:
    """The tags of the burners that run beside a slot's process."""
    found = process.find_by_environment("GAMEDAY_SLOT", slot)
    marks = (process.variables(who, "GAMEDAY_SANDBOX", "GAMEDAY_HELPER") for who in found)
    return tuple(sorted({tag for where, tag in marks if tag and where == sandbox}))


class Memory(_Part):
    """The part ``memory``.

    Where the supervisor could make a control group for the slot, `squeeze` lowers that
    group's limit, and the kernel ends what asks for more; else it lowers RLIMIT_AS of
    the slot's process, which is then told that there is no more.
    """

    async def limit(self, slot: str) -> tuple[str, str]:
        group = (await self._client.ask(orders.MemoryGroup(slot), orders.Names)).names
        if group:
            return group[0], Path(group[0]).read_text().strip()
        who = await self._process(slot)
        if who is None:
            return "", ""
        try:
            soft, hard = resource.prlimit(who.pid, resource.RLIMIT_AS)
        except ProcessLookupError:
            return "", ""
        return "as", f"{soft} {hard}"

    async def squeeze(self, slot: str, tag: str, *, headroom: int) -> None:
        limit, value = await self.limit(slot)
        who = await self._process(slot)
        if not limit or who is None:
            raise SandboxError(f"nobody fills {slot}, so there is nothing to squeeze")
        if limit != "as":
            await self._client.ask(orders.CapMemory(slot, headroom), orders.Done)
            return
        hard = int(value.split()[1])
        soft = _address_space(who.pid) + headroom
        resource.prlimit(who.pid, resource.RLIMIT_AS, (soft if hard < 0 else min(soft, hard), hard))


class Disk(_Part):
    """The part ``disk``."""

    async def fill(self, slot: str, name: str, *, leave: int) -> None:
        await self._client.ask(orders.Fill(slot, name, leave), orders.Done, within=60.0)

    async def filled(self, slot: str, name: str) -> int | None:
        return (await self._client.ask(orders.FileSize(slot, name), orders.Count)).value

    async def free(self, slot: str) -> int:
        return (await self._client.ask(orders.Free(slot), orders.FreeBytes)).free


class Hands(_Part):
    """The part ``hands``."""

    async def restart(self, slot: str, *, by: str) -> None:
        await self._client.ask(orders.Restart(slot, by), orders.Done, within=_STOP_WITHIN)

    async def stop(self, slot: str, *, by: str) -> None:
        await self._client.ask(orders.Stop(slot, by), orders.Done, within=_STOP_WITHIN)

    async def scale(self, service: str, replicas: int, *, by: str) -> None:
        order = orders.Scale(service, replicas, by)
        await self._client.ask(order, orders.Done, within=_SCALE_WITHIN)

    async def drain(self, slot: str, *, by: str, back: bool = False) -> None:
        await self._client.ask(orders.Drain(slot, by, back), orders.Done)

    async def execute(
        self, slot: str, argv: Sequence[str], *, by: str, stdio: tuple[int, int, int]
    ) -> int:
        return await self._client.execute(orders.Execute(slot, tuple(argv), by), stdio)

    async def logs(self, slot: str, *, lines: int, follow: bool) -> AsyncIterator[bytes]:
        path = Path((await self._client.ask(orders.LogOf(slot), orders.Names)).names[0])
        try:
            with path.open("rb") as file:  # noqa: ASYNC230 - a local file
                yield b"".join(file.read().splitlines(keepends=True)[-lines:] if lines else ())
                while follow:
                    if rest := file.read():
                        yield rest
                    else:
                        await anyio.sleep(_FOLLOW_EVERY)
        except OSError as error:
            raise SandboxError(f"{path} cannot be read: {error.strerror}") from None


def address_space_limits(members: Iterable[ProcessId]) -> tuple[str, ...]:
    """RLIMIT_AS of these processes: each different one once."""
    found = set()
    for member in members:
        try:
            soft, hard = resource.prlimit(member.pid, resource.RLIMIT_AS)
        except (ProcessLookupError, PermissionError):  # gone, or not ours to change
            continue
        found.add(f"{soft} {hard}")
    return tuple(sorted(found))


def _address_space(pid: int) -> int:
    """Bytes of address space that a process has now."""
    try:
        for line in Path(f"/proc/{pid}/status").read_text().splitlines():
            if line.startswith("VmSize:"):
                return int(line.split()[1]) * 1024
    except OSError:
        pass
    raise SandboxError(f"process {pid} has ended")
