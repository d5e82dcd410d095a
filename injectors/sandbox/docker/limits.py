"""The part ``limits`` of a Docker sandbox: the limits of a container's control group.

They are set there, and not through the engine, so that ``docker inspect`` keeps what the
container was made with, and a restart has that again.
"""

from __future__ import annotations

import errno
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from gameday.injectors.errors import SandboxError, SandboxGone, UsageError
from gameday.injectors.sandbox.base import Limit
from gameday.injectors.sandbox.docker.containers import Container
from gameday.injectors.sandbox.docker.parts import Part, control_group
from gameday.injectors.undo import RestoreLimit
from gameday.injectors.units import show_size

__all__ = ["Limits", "read_limit", "was_updated", "write_memory"]

_NO_LIMIT = 1 << 60
"""Version 1 shows no limit of memory as a number of bytes that no machine has."""


class Limits(Part):
    """The part."""

    async def limit(self, slot: str, resource: str) -> Limit:
        container = await self._box.find(slot)
        if container is None or container.process is None:
            return Limit("", "", math.inf)
        return read_limit(container, resource)

    async def lower(self, slot: str, resource: str, amount: float) -> None:
        container, _ = await self._filled(slot)
        place, version = control_group(container, resource)
        if resource == "memory":
            write_memory(place, version, int(amount), slot)
            return
        period = _period(place, version)
        quota = max(round(amount * period), 1000)  # microseconds; the least that the kernel takes
        text = f"{quota} {period}" if version == 2 else str(quota)
        _write(_file(place, version, resource), text)


def read_limit(container: Container, resource: str) -> Limit:
    """The limit of the control group of a container; an empty one, if its process is gone.

    Raises:
        Unsupported: if it has none of its own.
    """
    try:
        place, version = control_group(container, resource)
        path = _file(place, version, resource)
        value = path.read_text().strip()
        period = _period(place, version) if resource == "cpu" else 1
    except (OSError, SandboxGone):
        return Limit("", "", math.inf)
    first = value.split()[0]
    number = math.inf if first in ("max", "-1") else int(first) / period
    return Limit(str(path), value, math.inf if number >= _NO_LIMIT else number)


def was_updated(step: RestoreLimit, container: Container) -> bool:
    """Whether somebody gave it another limit with Docker since we lowered it.

    The kernel then has what the engine has, and that is not what it was before: ours is
    known to the kernel alone.
    """
    resource = "memory" if Path(step.limit).name.startswith("memory") else "cpu"
    now = read_limit(container, resource)
    same_file = now.path == step.limit
    told = _told(container.inspected["HostConfig"], resource)
    return same_file and now.value != step.value and math.isclose(now.amount, told, rel_tol=1e-3)


def _told(host: Mapping[str, Any], resource: str) -> float:
    """The limit as the engine has it: bytes, or CPUs."""
    if resource == "memory":
        return float(host.get("Memory") or math.inf)
    quota, period = host.get("CpuQuota") or 0, host.get("CpuPeriod") or 100_000
    cpus = (host.get("NanoCpus") or 0) / 1e9 or max(quota, 0) / period
    return cpus or math.inf


def _file(place: Path, version: int, resource: str) -> Path:
    if resource not in ("cpu", "memory"):
        raise UsageError(f"a container has no limit of {resource!r}", hint="cpu or memory.")
    if version == 2:
        return place / f"{resource}.max"
    return place / {"cpu": "cpu.cfs_quota_us", "memory": "memory.limit_in_bytes"}[resource]


def _period(place: Path, version: int) -> int:
    """Microseconds in which a quota of CPU time may be used up."""
    if version == 2:
        return int((place / "cpu.max").read_text().split()[1])
    return int((place / "cpu.cfs_period_us").read_text())


def write_memory(place: Path, version: int, size: int, slot: str) -> None:
    """Limit the memory of a control group.

    Raises:
        SandboxError: if its processes use more than that.
    """
    kind = "memory.usage_in_bytes"
    used = _kept_by_processes(place) if version == 2 else int((place / kind).read_text())
    try:
        if version == 1 or used <= size:  # version 1 says no by itself, version 2 would kill
            _write(_file(place, version, "memory"), str(size))
            return
    except SandboxError as error:
        if not isinstance(error.__cause__, OSError) or error.__cause__.errno != errno.EBUSY:
            raise
    raise SandboxError(
        f"{slot} uses {show_size(used)} of memory, and cannot do with {show_size(size)}",
        hint="Give it more; memory.hog takes what is left above what it uses.",
    )


def _kept_by_processes(place: Path) -> int:
    """Bytes of memory that are no cache of files (the kernel's cgroup-v2, ``memory.stat``)."""
    lines = (place / "memory.stat").read_text().splitlines()
    found = {name: int(value) for name, _, value in (line.partition(" ") for line in lines)}
    return sum(found.get(name, 0) for name in ("anon", "shmem", "kernel_stack", "pagetables"))


def _write(path: Path, text: str) -> None:
    try:
        path.write_text(text)
    except OSError as error:
        raise SandboxError(f"{path} cannot be written: {error.strerror}") from error
