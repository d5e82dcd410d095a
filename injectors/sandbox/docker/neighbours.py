"""A control group beside a container's, for busy neighbours that weigh as much as they are many.

The kernel shares a CPU among groups first: without one of their own, all of them together
would weigh against the container no more than one. They are not in the container's own group,
because the engine could not end that with strangers in it.
"""

from __future__ import annotations

import os
import time
from pathlib import Path

from gameday.injectors.errors import SandboxError

__all__ = ["join", "make", "remove"]

_ROOT = Path("/sys/fs/cgroup")
_WEIGHT = {1: ("cpu.shares", 262144), 2: ("cpu.weight", 10000)}
"""By version: what a group weighs, and the most that the kernel takes."""
_EMPTY_WITHIN = 2.0


def make(container: Path, version: int, tag: str, workers: int) -> Path:
    """The group; as heavy as so many of the container's.

    Args:
        container: The container's own group, of the controller ``cpu``.
        version: Which version of control groups that is.
        tag: The fault's; the group's name.

    Raises:
        SandboxError: if it cannot be made.
    """
    group = container.parent / tag
    name, most = _WEIGHT[version]
    try:
        weight = int((container / name).read_text())
        group.mkdir(exist_ok=True)
        (group / name).write_text(str(min(weight * workers, most)))
    except OSError as error:
        raise SandboxError(f"{group} cannot be made: {error.strerror}") from None
    return group


def join(group: Path, pid: int) -> None:
    """Put a process in."""
    (group / "cgroup.procs").write_text(str(pid))


def remove(tag: str) -> bool:
    """Remove the group of a fault, once its processes have ended; False if there was none.

    Raises:
        SandboxError: if somebody is in it still.
    """
    found = [Path(path) / tag for path, names, _ in os.walk(_ROOT) if tag in names]
    for group in found:
        deadline = time.monotonic() + _EMPTY_WITHIN
        while group.exists():
            try:
                group.rmdir()
            except OSError as error:
                if group.exists() and time.monotonic() > deadline:
                    raise SandboxError(f"{group} cannot be removed: {error.strerror}") from None
                time.sleep(0.01)
    return bool(found)
