"""What a Docker sandbox can do, part by part (`gameday.injectors.sandbox.base`).

Signals, restarts and the like are the engine's own calls. What acts on a process as such
(CPUs, memory, the files of its disk) acts on this machine, so the engine has to run on it.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import anyio.to_thread

from gameday.injectors.errors import SandboxError, SandboxGone, Unsupported
from gameday.injectors.sandbox import disk, process
from gameday.injectors.sandbox.base import ProcessStatus
from gameday.injectors.sandbox.docker import neighbours
from gameday.injectors.sandbox.docker.containers import Container
from gameday.injectors.sandbox.docker.helper import RESTARTS, Burn, Crash, start_helper
from gameday.injectors.sandbox.docker.sharing import refuse_ending
from gameday.injectors.undo import ProcessId

if TYPE_CHECKING:
    from gameday.injectors.sandbox.docker.driver import DockerSandbox

__all__ = [
    "HOST_PARTS",
    "Part",
    "control_group",
    "data_folder",
    "holds_on",
    "is_restarted",
    "make_parts",
    "memory_files",
    "tmpfs_devices",
]

HOST_PARTS = ("cpu", "memory", "disk", "limits", "files", "clock")
"""Parts that act on processes of the engine's machine, and there alone."""
_CGROUPS = Path("/sys/fs/cgroup")


def make_parts(box: DockerSandbox) -> dict[str, Any]:
    """Every part, by name."""
    from gameday.injectors.sandbox.docker.clock import Clock
    from gameday.injectors.sandbox.docker.files import Files
    from gameday.injectors.sandbox.docker.hands import Hands
    from gameday.injectors.sandbox.docker.limits import Limits
    from gameday.injectors.sandbox.docker.links import Links
    from gameday.injectors.sandbox.docker.networks import Networks
    from gameday.injectors.sandbox.docker.whole import Whole

    processes, links = Processes(box), Links(box)
    return {
        "processes": processes,
        "holds": processes,
        "links": links,
        "packets": links,
        "cpu": Cpu(box),
        "memory": Memory(box),
        "disk": Disk(box),
        "limits": Limits(box),
        "networks": Networks(box),
        "containers": Whole(box),
        "files": Files(box),
        "clock": Clock(box),
        "hands": Hands(box),
    }


def holds_on(slot: str, sandbox: str) -> tuple[str, ...]:
    """The tags of the helpers that keep a slot's container from staying up, or starve it."""
    return _tags("GAMEDAY_SLOT", slot, sandbox)


def is_restarted(slot: str, sandbox: str) -> bool:
    """Whether a helper keeps ending and starting a slot's container."""
    return bool(_tags(RESTARTS, slot, sandbox))


def _tags(variable: str, slot: str, sandbox: str) -> tuple[str, ...]:
    found = process.find_by_environment(variable, slot)
    marks = (process.variables(who, "GAMEDAY_SANDBOX", "GAMEDAY_HELPER") for who in found)
    return tuple(sorted({tag for where, tag in marks if tag and where == sandbox}))


class Part:
    """What the parts share."""

    def __init__(self, box: DockerSandbox) -> None:
        self._box = box

    async def _filled(self, slot: str) -> tuple[Container, ProcessId]:
        """The container that fills a slot, and its main process.

        Raises:
            SandboxError: if nobody does.
        """
        container = await self._box.find(slot)
        if container is None or container.process is None:
            raise SandboxError(f"nobody fills {slot}")
        return container, container.process


class Processes(Part):
    """The parts ``processes`` and ``holds``. A container's main process is what fills its slot."""

    async def status(self, slot: str) -> ProcessStatus:
        container = await self._box.find(slot)
        holds = holds_on(slot, self._box.tag) if self._box.engine.near else ()
        if container is None or container.process is None:
            return ProcessStatus(None, "gone", holds, container.restarts if container else 0)
        state = "paused" if container.state == "paused" else "running"
        return ProcessStatus(container.process, state, holds, container.restarts)

    async def check_end(self, slots: Sequence[str]) -> None:
        await refuse_ending(slots, self._box)

    async def signal(self, process: ProcessId, signal: int) -> bool:
        """SIGSTOP and SIGCONT pause and unpause the whole container: its workers, too."""
        container = await self._box.filled_by(process)
        if container is None:
            return False
        await self._box.signal(container, signal)
        return True

    async def hold(self, slot: str, tag: str, *, uptime: float) -> None:
        container, _ = await self._filled(slot)
        order = Crash(container.id, uptime, self._box.where)
        start = _starter(order, self._box, tag, slot)
        await anyio.to_thread.run_sync(start)


class Cpu(Part):
    """The part ``cpu``."""

    async def affinity(self, slot: str) -> tuple[int, ...]:
        container = await self._box.find(slot)
        return process.affinity(container.process) if container and container.process else ()

    async def burn(self, slot: str, tag: str, *, workers: int) -> None:
        container, who = await self._filled(slot)
        stat = process.read_stat(who.pid)
        allowed = process.affinity(who)
        if stat is None or not allowed:
            raise SandboxError(f"nobody fills {slot}")
        cpu = stat.cpu if stat.cpu in allowed else allowed[-1]
        for member in process.tree(who):
            process.set_affinity(member, [cpu])
        order = Burn(cpu, workers, _group_beside(container, tag, workers))
        await anyio.to_thread.run_sync(_starter(order, self._box, tag, slot))

    async def helpers(self, tag: str) -> tuple[ProcessId, ...]:
        """The burners, without the process that holds them."""
        found = process.find_by_environment("GAMEDAY_HELPER", tag)
        stats = {who: process.read_stat(who.pid) for who in found}
        pids = {who.pid for who in found}
        return tuple(who for who, stat in stats.items() if stat and stat.parent in pids)

    async def burning(self) -> tuple[int, ...]:
        found = process.find_by_environment("GAMEDAY_SANDBOX", self._box.tag)
        masks = [process.affinity(who) for who in found]
        return tuple(sorted({mask[0] for mask in masks if len(mask) == 1}))


def _group_beside(container: Container, tag: str, workers: int) -> str:
    """A control group for a container's neighbours; none where it has none of its own, either."""
    try:
        place, version = control_group(container, "cpu")
    except Unsupported:
        return ""
    return str(neighbours.make(place, version, tag, workers))


class Memory(Part):
    """The part ``memory``: the limit of the container's control group; ``docker inspect`` keeps its own."""

    async def limit(self, slot: str) -> tuple[str, str]:
        container = await self._box.find(slot)
        if container is None or container.process is None:
            return "", ""
        try:
            limit, _ = memory_files(container)
            return str(limit), limit.read_text().strip()
        except (OSError, SandboxGone):
            return "", ""

    async def squeeze(self, slot: str, tag: str, *, headroom: int) -> None:
        container, _ = await self._filled(slot)
        limit, used = memory_files(container)
        try:
            limit.write_text(str(int(used.read_text()) + headroom))
        except OSError as error:
            raise SandboxError(f"{limit} cannot be written: {error.strerror}") from None


def memory_files(container: Container) -> tuple[Path, Path]:
    """The files that hold a container's memory limit and usage."""
    place, version = control_group(container, "memory")
    if version == 1:
        return place / "memory.limit_in_bytes", place / "memory.usage_in_bytes"
    return place / "memory.max", place / "memory.current"


def control_group(container: Container, controller: str) -> tuple[Path, int]:
    """The control group that limits a container's ``cpu`` or ``memory``, and which version it is of.

    Raises:
        SandboxGone: if its process has ended.
        Unsupported: if it has none of its own.
    """
    if container.process is None:
        raise SandboxGone(f"nobody fills {container.slot}")
    pid = container.process.pid
    try:
        lines = Path(f"/proc/{pid}/cgroup").read_text().splitlines()
    except OSError:
        raise SandboxGone(f"process {pid} has ended") from None
    for line in lines:
        number, controllers, path = line.split(":", 2)
        if container.id not in path:  # others live there, too: all of a user's, or the machine's
            continue
        folder = path.lstrip("/")
        if controller in controllers.split(","):
            return _CGROUPS / controller / folder, 1
        if number == "0" and (_CGROUPS / folder / f"{controller}.max").exists():
            return _CGROUPS / folder, 2
    raise Unsupported(
        f"{container.slot} has no control group of its own for {controller}",
        hint="A rootless engine makes them only with version 2 of control groups, by systemd.",
    )


class Disk(Part):
    """The part ``disk``: the tmpfs that the label ``gameday.data`` names, else the first of a size of its own."""

    async def fill(self, slot: str, name: str, *, leave: int) -> None:
        container, who = await self._filled(slot)
        with data_folder(container, who) as folder:
            await disk.fill(disk.inside(folder, name), leave)

    async def filled(self, slot: str, name: str) -> int | None:
        container = await self._box.find(slot)
        if container is None or container.process is None:
            return None
        with data_folder(container, container.process) as folder:
            try:
                return disk.inside(folder, name).lstat().st_size
            except FileNotFoundError:
                return None

    async def free(self, slot: str) -> int:
        container, who = await self._filled(slot)
        with data_folder(container, who) as folder:
            return disk.free(folder)


@contextmanager
def data_folder(container: Container, who: ProcessId) -> Iterator[Path]:
    """The folder of a container's data, as a path of this process, as long as the block lasts.

    Raises:
        Unsupported: if it is not on a disk of its own: filling it would fill this machine's.
    """
    wanted = container.labels.get("gameday.data", "")
    sized = [
        mount["Destination"]
        for mount in container.inspected.get("Mounts") or ()
        if mount["Type"] == "tmpfs"
    ]
    sized += list(container.inspected["HostConfig"].get("Tmpfs") or {})
    path = wanted or next(iter(sized), "")
    if not path:
        raise Unsupported(
            f"{container.slot} has no disk of its own that could be filled",
            hint="Give its service a tmpfs with a size, and name it by the label gameday.data.",
        )
    folder = _open_inside(who.pid, path)
    try:
        if os.fstat(folder).st_dev not in tmpfs_devices(who.pid):
            raise Unsupported(
                f"{path} of {container.slot} lies on this machine's own disk",
                hint="Only a tmpfs with a size is filled: mount one there.",
            )
        yield Path(f"/proc/self/fd/{folder}")
    finally:
        os.close(folder)


def _open_inside(pid: int, path: str) -> int:
    """Open a folder of a container; a link in it leads nowhere, as it would be one of ours."""
    flags = os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC
    try:
        found = os.open(f"/proc/{pid}/root", flags)
        for part in Path(path).parts[1:]:
            within = os.open(part, flags | os.O_NOFOLLOW, dir_fd=found)
            os.close(found)
            found = within
    except OSError as error:
        raise SandboxError(f"{path} of process {pid} cannot be opened: {error.strerror}") from None
    return found


def tmpfs_devices(pid: int) -> set[int]:
    """The devices of a process's tmpfs mounts (proc(5), mountinfo)."""
    found = set()
    for line in Path(f"/proc/{pid}/mountinfo").read_text().splitlines():
        fields = line.split()
        if fields[fields.index("-") + 1] == "tmpfs":
            major, minor = fields[2].split(":")
            found.add(os.makedev(int(major), int(minor)))
    return found


def _starter(order: Burn | Crash, box: DockerSandbox, tag: str, slot: str) -> Any:
    def start() -> None:
        start_helper(order, box.owners, tag=tag, slot=slot, sandbox=box.tag)

    return start
