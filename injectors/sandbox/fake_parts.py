"""The fake sandbox's parts: each operation is one change to plain data."""

from __future__ import annotations

import math
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import AbstractAsyncContextManager
from typing import Any, Protocol

from gameday.injectors.errors import SandboxError, UsageError
from gameday.injectors.sandbox.base import Limit, ProcessStatus, Skew, Toxic
from gameday.injectors.sandbox.fake_state import (
    CLOCK_FILE,
    NO_LIMIT,
    USED,
    FakeHelpers,
    FakeProcess,
    FakeSlot,
    FakeState,
)
from gameday.injectors.undo import ProcessId

__all__ = ["make_parts"]


class Operation(Protocol):
    """`FakeSandbox.operation`: the state, for one named operation."""

    def __call__(
        self, op: str, *, writes: bool = False
    ) -> AbstractAsyncContextManager[FakeState]: ...


def make_parts(operation: Operation, clock: Callable[[], float]) -> dict[str, Any]:
    """Every part, by name."""
    kinds: dict[str, type[_Part]] = {
        "processes": FakeProcesses,
        "holds": FakeHolds,
        "links": FakeLinks,
        "packets": FakeLinks,
        "cpu": FakeCpu,
        "memory": FakeMemory,
        "disk": FakeDisk,
        "limits": FakeLimits,
        "networks": FakeNetworks,
        "containers": FakeContainers,
        "files": FakeFiles,
        "clock": FakeWallClock,
        "hands": FakeHands,
    }
    return {name: kind(operation, clock) for name, kind in kinds.items()}


class _Part:
    def __init__(self, operation: Operation, clock: Callable[[], float]) -> None:
        self._operation, self._clock = operation, clock


class FakeProcesses(_Part):
    async def status(self, slot: str) -> ProcessStatus:
        async with self._operation("processes.status") as state:
            held = state.slot(slot)
            name = "gone"
            if held.process is not None:
                name = "paused" if held.process.paused else "running"
            return ProcessStatus(
                held.process.id if held.process else None, name, tuple(held.holds), held.restarts
            )

    async def check_end(self, slots: Sequence[str]) -> None:
        async with self._operation("processes.check_end"):
            pass

    async def signal(self, process: ProcessId, signal: int) -> bool:
        async with self._operation("processes.signal", writes=True) as state:
            slot = state.holder(process)
            if slot is not None:
                state.signal(slot, signal, self._clock())
            return slot is not None


class FakeHolds(_Part):
    async def hold(self, slot: str, tag: str, *, uptime: float) -> None:
        async with self._operation("holds.hold", writes=True) as state:
            held = state.slot(slot)
            held.holds[tag], held.held = uptime, self._clock()


class FakeLinks(_Part):
    async def check(self, links: Sequence[str]) -> None:
        async with self._operation("links.check"):
            pass

    async def add(self, link: str, toxic: Toxic) -> None:
        async with self._operation("links.add", writes=True) as state:
            state.place(link).toxics[toxic.tag] = toxic

    async def toxics(self, link: str) -> tuple[Toxic, ...]:
        async with self._operation("links.toxics") as state:
            return tuple(state.place(link).toxics.values())


class FakeCpu(_Part):
    async def affinity(self, slot: str) -> tuple[int, ...]:
        async with self._operation("cpu.affinity") as state:
            process = state.slot(slot).process
            return process.cpus if process is not None else ()

    async def burn(self, slot: str, tag: str, *, workers: int) -> None:
        async with self._operation("cpu.burn", writes=True) as state:
            process = _filled(state, slot)
            process.cpus = process.cpus[-1:]
            burners = [state.spawn(self._clock()) for _ in range(workers)]
            state.helpers[tag] = FakeHelpers(slot, burners)

    async def helpers(self, tag: str) -> tuple[ProcessId, ...]:
        async with self._operation("cpu.helpers") as state:
            helpers = state.helpers.get(tag)
            return tuple(helpers.processes) if helpers is not None else ()

    async def burning(self) -> tuple[int, ...]:
        async with self._operation("cpu.burning") as state:
            slots = [state.slot(helpers.slot) for helpers in state.helpers.values()]
            pinned = [slot.process.cpus for slot in slots if slot.process is not None]
            return tuple(sorted({cpu for cpus in pinned if len(cpus) == 1 for cpu in cpus}))


class FakeMemory(_Part):
    async def limit(self, slot: str) -> tuple[str, str]:
        async with self._operation("memory.limit") as state:
            process = state.slot(slot).process
            return ("as", f"{process.limit} -1") if process is not None else ("", "")

    async def squeeze(self, slot: str, tag: str, *, headroom: int) -> None:
        async with self._operation("memory.squeeze", writes=True) as state:
            _filled(state, slot).limit = USED + headroom


class FakeDisk(_Part):
    async def fill(self, slot: str, name: str, *, leave: int) -> None:
        async with self._operation("disk.fill", writes=True) as state:
            held = state.slot(slot)
            held.files[name] = held.files.get(name, 0) + max(state.free(held) - leave, 0)

    async def filled(self, slot: str, name: str) -> int | None:
        async with self._operation("disk.filled") as state:
            return state.slot(slot).files.get(name)

    async def free(self, slot: str) -> int:
        async with self._operation("disk.free") as state:
            return state.free(state.slot(slot))


class FakeLimits(_Part):
    async def limit(self, slot: str, resource: str) -> Limit:
        async with self._operation("limits.limit") as state:
            held = state.slot(slot)
            if held.process is None:
                return Limit("", "", math.inf)
            value = held.limits.get(resource, NO_LIMIT)
            return Limit(resource, value, math.inf if value == NO_LIMIT else float(value))

    async def lower(self, slot: str, resource: str, amount: float) -> None:
        async with self._operation("limits.lower", writes=True) as state:
            _filled(state, slot)
            state.slot(slot).limits[resource] = str(amount)


class FakeNetworks(_Part):
    async def check(self, slots: Sequence[str]) -> None:
        async with self._operation("networks.check"):
            pass

    async def networks(self, slot: str) -> dict[str, str]:
        async with self._operation("networks.networks") as state:
            return dict(state.slot(slot).networks)

    async def disconnect(self, slot: str, network: str) -> None:
        async with self._operation("networks.disconnect", writes=True) as state:
            if state.slot(slot).networks.pop(network, None) is None:
                raise SandboxError(f"{slot} is in no network {network!r}")


class FakeContainers(_Part):
    async def stop(self, slot: str, process: ProcessId | None, *, grace: float) -> None:
        async with self._operation("containers.stop", writes=True) as state:
            state.end(_very(state, slot, process), self._clock(), "stopped by the engine")

    async def check(self, slot: str) -> None:
        async with self._operation("containers.check") as state:
            state.slot(slot)

    async def remove(self, slot: str, process: ProcessId | None, tag: str) -> None:
        async with self._operation("containers.remove", writes=True) as state:
            held = _very(state, slot, process)
            state.end(held, self._clock(), "removed")
            held.removed = tag


class FakeFiles(_Part):
    async def check(self, slot: str, path: str) -> None:
        async with self._operation("files.check") as state:
            _filled(state, slot)

    async def corrupt(
        self, slot: str, process: ProcessId | None, path: str, tag: str, *, blocks: int
    ) -> None:
        async with self._operation("files.corrupt", writes=True) as state:
            _very(state, slot, process).corrupted[tag] = path

    async def corrupted(self, slot: str, path: str, tag: str) -> int:
        async with self._operation("files.corrupted") as state:
            return int(state.slot(slot).corrupted.get(tag) == path)

    async def deny(self, slot: str, process: ProcessId | None, path: str, tag: str) -> None:
        async with self._operation("files.deny", writes=True) as state:
            _very(state, slot, process).denied[tag] = path

    async def denied(self, slot: str, tag: str) -> bool:
        async with self._operation("files.denied") as state:
            return tag in state.slot(slot).denied


class FakeWallClock(_Part):
    async def check(self, slot: str) -> str:
        async with self._operation("clock.check") as state:
            _filled(state, slot)
            return CLOCK_FILE

    async def skew(self, slot: str, process: ProcessId | None, tag: str, *, offset: float) -> None:
        async with self._operation("clock.skew", writes=True) as state:
            _very(state, slot, process).skewed[tag] = offset

    async def skewed(self, slot: str, tag: str) -> Skew:
        async with self._operation("clock.skewed") as state:
            held = state.slot(slot)
            told = tag in held.skewed and held.process is not None
            return Skew(told, told)


class FakeHands(_Part):
    async def restart(self, slot: str, *, by: str) -> None:
        async with self._operation("hands.restart", writes=True) as state:
            held = state.slot(slot)
            if held.removed:
                raise UsageError(f"there is no container {slot} any more")
            state.note(self._clock(), "restart", slot, by)
            if held.process is not None:
                state.end(held, self._clock(), "restart", by)
            state.start(held, self._clock(), by)

    async def stop(self, slot: str, *, by: str) -> None:
        async with self._operation("hands.stop", writes=True) as state:
            held = state.slot(slot)
            state.note(self._clock(), "stop", slot, by)
            state.stop(held, self._clock(), by)

    async def scale(self, service: str, replicas: int, *, by: str) -> None:
        async with self._operation("hands.scale", writes=True) as state:
            state.replicas(service)
            state.note(self._clock(), "scale", service, by, f"to {replicas}")
            state.scale(service, replicas, self._clock(), by)

    async def drain(self, slot: str, *, by: str, back: bool = False) -> None:
        async with self._operation("hands.drain", writes=True) as state:
            state.slot(slot).drained = not back
            state.note(self._clock(), "undrain" if back else "drain", slot, by)

    async def execute(
        self, slot: str, argv: Sequence[str], *, by: str, stdio: tuple[int, int, int]
    ) -> int:
        async with self._operation("hands.execute", writes=True) as state:
            state.slot(slot)
            state.commands.append(tuple(argv))
            state.note(self._clock(), "exec", slot, by, " ".join(argv))
            return 0

    async def logs(self, slot: str, *, lines: int, follow: bool) -> AsyncIterator[bytes]:
        async with self._operation("hands.logs") as state:
            state.slot(slot)
        yield b""


def _very(state: FakeState, slot: str, process: ProcessId | None) -> FakeSlot:
    held = state.slot(slot)
    if held.process is None or held.process.id != process:
        raise SandboxError(f"another process fills {slot} than when the fault was planned")
    return held


def _filled(state: FakeState, slot: str) -> FakeProcess:
    process = state.slot(slot).process
    if process is None:
        raise SandboxError(f"nobody fills {slot}")
    return process
