"""A memory control group for each slot, where this machine lets us make one."""

from __future__ import annotations

import os
from pathlib import Path

__all__ = ["Group", "Groups"]

_ROOT = Path("/sys/fs/cgroup")


class Group:
    """One slot's control group.

    Attributes:
        limit: The file whose content is the most that the group may use.
    """

    def __init__(self, folder: Path, limit: str, used: str) -> None:
        self._folder = folder
        self.limit, self._used = folder / limit, folder / used

    def join(self, pid: int) -> None:
        """Put a process in. One that has just ended, or cannot be moved, stays where it is."""
        try:
            (self._folder / "cgroup.procs").write_text(str(pid))
        except OSError:
            return

    def used(self) -> int:
        """Bytes that the group uses now."""
        return int(self._used.read_text())


class Groups:
    """The groups of a sandbox, under one of its own that carries its tag.

    Never changes anything outside that one: in the unified hierarchy it is
    made only where the memory controller is already handed down to us.
    """

    def __init__(self, folder: Path, limit: str, used: str) -> None:
        self._folder, self._limit, self._used = folder, limit, used

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
            trial = groups.of("trial")
            if trial is None or not trial.limit.is_file():
                groups.remove()
                return None
        except OSError:
            groups.remove()
            return None
        return groups

    def of(self, slot: str) -> Group | None:
        """The group of a slot; None if it cannot be made."""
        folder = self._folder / slot
        try:
            folder.mkdir(exist_ok=True)
        except OSError:
            return None
        return Group(folder, self._limit, self._used)

    def remove(self) -> bool:
        """Take the groups away; False while a process is still in one."""
        return remove_groups(self._folder)


def remove_groups(folder: Path) -> bool:
    """Take away a sandbox's groups, if it has any; False while a process is still in one."""
    if not folder.is_dir():
        return True
    for child in [path for path in folder.iterdir() if path.is_dir()]:
        try:
            child.rmdir()
        except OSError:
            return False
    try:
        folder.rmdir()
    except OSError:
        return False
    return True
