"""A memory control group for each slot, where this machine lets us make one.

It also tells who belongs to the sandbox: no process leaves it by itself without rights on another.
"""

from __future__ import annotations

import os
from pathlib import Path

from gameday.injectors.sandbox import process
from gameday.injectors.undo import ProcessId

__all__ = ["Group", "Groups", "members", "remove_groups"]

_ROOT = Path("/sys/fs/cgroup")
_BESIDE = "beside"  # no slot: their names end with a number


class Group:
    """One slot's control group.

    Attributes:
        limit: The file whose content is the most that the group may use.
    """

    def __init__(self, folder: Path, limit: str, used: str) -> None:
        self._folder = folder
        self.limit, self._used = folder / limit, folder / used

    def join(self) -> None:
        """Go in: run in a new child, so that whatever it starts is in there, too.

        One that cannot be moved stays where it is.
        """
        try:
            (self._folder / "cgroup.procs").write_text("0")
        except OSError:
            return

    def used(self) -> int:
        """Bytes that the group uses now."""
        return int(self._used.read_text())


class Groups:
    """The groups of a sandbox, under one of its own that carries its tag.

    Never changes anything outside that one: in the unified hierarchy it is
    made only where the memory controller is already handed down to us.

    Attributes:
        folder: Where they are.
        beside: The group of what runs beside the slots' processes; it has no limit.
    """

    def __init__(self, folder: Path, limit: str, used: str) -> None:
        self.folder, self._limit, self._used = folder, limit, used
        self.beside: Group | None = None

    @staticmethod
    def find(tag: str) -> tuple[Path, str, str] | None:
        """Where a sandbox's groups are, or would be: folder, limit file, usage file."""
        try:
            lines = Path("/proc/self/cgroup").read_text().splitlines()
        except OSError:
            return None
        for line in lines:
            number, controllers, path = line.split(":", 2)
            if "memory" in controllers.split(","):
                place = _ROOT / "memory" / path.lstrip("/")
                return place / tag, "memory.limit_in_bytes", "memory.usage_in_bytes"
            if number == "0" and controllers == "":
                place = _ROOT / path.lstrip("/")
                try:
                    handed = (place / "cgroup.subtree_control").read_text().split()
                except OSError:
                    continue
                if "memory" in handed:
                    return place / tag, "memory.max", "memory.current"
        return None

    @classmethod
    def make(cls, tag: str) -> Groups | None:
        """The groups of a new sandbox; None where they cannot be made."""
        found = cls.find(tag)
        if found is None or not os.access(found[0].parent, os.W_OK):
            return None
        folder, limit, used = found
        groups = cls(folder, limit, used)
        try:
            folder.mkdir()
            if limit == "memory.max":
                (folder / "cgroup.subtree_control").write_text("+memory")
            groups.beside = groups.of(_BESIDE)
            if groups.beside is None or not groups.beside.limit.is_file():
                groups.remove()
                return None
        except OSError:
            groups.remove()
            return None
        return groups

    def of(self, slot: str) -> Group | None:
        """The group of a slot; None if it cannot be made."""
        folder = self.folder / slot
        try:
            folder.mkdir(exist_ok=True)
        except OSError:
            return None
        return Group(folder, self._limit, self._used)

    def remove(self) -> bool:
        """Take the groups away; False while a process is still in one."""
        return remove_groups(self.folder)


def members(folder: Path) -> tuple[ProcessId, ...]:
    """Every process in a sandbox's groups, and in those that its processes made below them."""
    found = [process.process_id(pid) for pid in _pids(folder)]
    still = {*_pids(folder)}  # who took the pid of a member in between is not in there
    return tuple(who for who in found if who is not None and who.pid in still)


def remove_groups(folder: Path) -> bool:
    """Take away a sandbox's groups, if it has any; False while a process is still in one."""
    for group in _below(folder):
        try:
            group.rmdir()
        except FileNotFoundError:
            continue  # the supervisor is at it, too
        except OSError:
            return False
    return True


def _below(folder: Path) -> list[Path]:
    """A folder and all folders in it, the innermost first; empty if it is not there."""
    return [Path(path) for path, _, _ in os.walk(folder, topdown=False)]


def _pids(folder: Path) -> list[int]:
    """Who is in there; without those that our pid namespace does not know: they are told as 0."""
    texts = (process.read_proc(str(group / "cgroup.procs")) for group in _below(folder))
    return [int(pid) for text in texts for pid in text.split() if pid != b"0"]
