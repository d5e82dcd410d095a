"""A drill is a directory (DESIGN §3): where its files are, how it is made and found again."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from datetime import datetime
from pathlib import Path

from gameday.drills.durable import open_append, set_aside, sync_directory, write_private
from gameday.drills.ownership import refuse_foreign
from gameday.injectors.errors import Refused, StorageError, UsageError

__all__ = ["DrillFolder", "find_root", "is_drill_id", "list_drills"]

_ID = re.compile(r"\d{8}-\d{6}-[0-9a-f]{4}")
_RESERVE = 4 * 1024 * 1024
_SMALL_RESERVE = 256 * 1024


def is_drill_id(name: str) -> bool:
    """Could this be the id of a drill, and so the tag of what belongs to it?"""
    return _ID.fullmatch(name) is not None


def find_root(cwd: Path) -> Path:
    """The folder that holds ``.gameday``: ``cwd`` or the nearest above it; else ``cwd``."""
    cwd = cwd.absolute()
    for folder in (cwd, *cwd.parents):
        if (folder / ".gameday" / "drills").is_dir():
            return folder
    return cwd


def list_drills(root: Path) -> list[DrillFolder]:
    """The drills below ``root``, newest first."""
    drills = root / ".gameday" / "drills"
    try:
        names = [path.name for path in drills.iterdir() if is_drill_id(path.name)]
    except OSError:
        return []
    return [DrillFolder(drills / name) for name in sorted(names, reverse=True)]


class DrillFolder:
    """The directory of one drill. ``id`` is its name, and the drill's part of every tag."""

    def __init__(self, path: Path) -> None:
        self.path = path.absolute()
        self.id = self.path.name
        self._inbox: os.stat_result | None = None  # as it was laid out, by us

    def __repr__(self) -> str:
        return f"DrillFolder({str(self.path)!r})"

    def __eq__(self, other: object) -> bool:
        return isinstance(other, DrillFolder) and other.path == self.path

    def __hash__(self) -> int:
        return hash(self.path)

    @property
    def scenario(self) -> Path:
        """The scenario as run."""
        return self.path / "scenario.yaml"

    @property
    def journal(self) -> Path:
        """What happened (`gameday.drills.journal`)."""
        return self.path / "journal.jsonl"

    @property
    def inbox(self) -> Path:
        """What people said (`gameday.drills.inbox`)."""
        return self.path / "inbox.jsonl"

    @property
    def undo(self) -> Path:
        """What must be put back (`gameday.drills.undo_log`)."""
        return self.path / "undo.jsonl"

    @property
    def away(self) -> bool:
        """True if there is no undo log: the folder was renamed or removed, or is not mounted.

        Then nobody knows what is outstanding. A log that is there and cannot be read is not away.
        """
        try:
            self.undo.stat()
        except FileNotFoundError:
            return True
        except OSError:
            pass  # whoever reads it says what is wrong with it
        return False

    @property
    def recovery(self) -> Path:
        """What the watchdog or `gameday recover` put back."""
        return self.path / "recovery.jsonl"

    @property
    def logs(self) -> Path:
        """Folder of log files: the watchdog's, the sandbox's, the load's."""
        return self.path / "logs"

    @property
    def junit(self) -> Path:
        """The verdicts as JUnit XML."""
        return self.path / "junit.xml"

    @property
    def reserve(self) -> Path:
        """Disk space that is set aside for abort and revert."""
        return self.path / ".reserve"

    def debrief(self, suffix: str) -> Path:
        """The debrief as ``md``, ``html`` or ``json``."""
        return self.path / f"debrief.{suffix}"

    @classmethod
    def create(cls, root: Path, now: datetime) -> DrillFolder:
        """Make the folder of a new drill below ``root``, for this user alone, with space set aside.

        The id says when, not what: it stands on every page, and fixers read it.

        Raises:
            StorageError: if it cannot be made; nothing was started.
            Refused: if others could write where it would be.
        """
        drills = root.absolute() / ".gameday" / "drills"
        try:
            str(drills).encode()
        except UnicodeEncodeError:
            raise Refused(
                f"{os.fsencode(root.absolute())!r} is no name that can be written down: not UTF-8",
                hint="Run it from a folder with another name.",
            ) from None
        try:
            folder = cls(_make_unique(drills, f"{now:%Y%m%d-%H%M%S}"))
            folder._lay_out()
        except OSError as error:
            raise StorageError(
                f"a folder for the drill cannot be made in {drills}: {error.strerror}",
                hint="Run it from a folder that you can write to and that has some space left.",
            ) from None
        return folder

    @classmethod
    def open(cls, name: str, cwd: Path) -> DrillFolder:
        """The drill of that id, of a part of an id that fits only one, ``latest``, or a path.

        Raises:
            UsageError: if there is none, or several fit.
        """
        path = cwd / name
        if (path / "journal.jsonl").is_file():
            return cls(path.resolve())
        known = list_drills(find_root(cwd))
        if name == "latest" and known:
            return known[0]
        exact = [drill for drill in known if drill.id == name]
        found = exact or [drill for drill in known if name and name in drill.id]
        if len(found) == 1:
            return found[0]
        raise _not_one(name, known, found)

    def discard(self) -> None:
        """Remove it, as nothing was done that it would be the record of. Never raises."""
        import shutil

        shutil.rmtree(self.path, ignore_errors=True)

    def release_reserve(self) -> bool:
        """Give the space that was set aside to whatever must still be written; False if it was given."""
        try:
            self.reserve.unlink()
        except OSError:
            return False
        return True

    def check_inbox(self) -> None:
        """Whether the inbox is the one that was laid out: only there people are heard.

        Raises:
            StorageError: if somebody removed or replaced it.
        """
        try:
            found = self.inbox.stat(follow_symlinks=False)
            there = self._inbox is None or os.path.samestat(found, self._inbox)
        except OSError:
            there = False
        if not there:
            raise StorageError(
                f"{self.inbox} was removed or replaced; nobody could be heard, so the drill ends",
                hint="Leave the drill's folder alone while it runs.",
            )

    def _lay_out(self) -> None:
        self.logs.mkdir(mode=0o700)
        for path in (self.inbox, self.recovery):
            fd = open_append(path)
            set_aside(fd, _SMALL_RESERVE)
            os.close(fd)
        self._inbox = self.inbox.stat()
        fd = open_append(self.reserve)
        try:
            os.posix_fallocate(fd, 0, _RESERVE)
        finally:
            os.close(fd)
        sync_directory(self.path)
        sync_directory(self.path.parent)


def _make_unique(drills: Path, stem: str) -> Path:
    home = drills.parent
    if not home.is_dir():
        home.mkdir(mode=0o700, parents=True)
        write_private(home / ".gitignore", b"*\n")
    refuse_foreign(home)
    drills.mkdir(mode=0o700, exist_ok=True)
    refuse_foreign(drills)
    while True:
        path = drills / f"{stem}-{os.urandom(2).hex()}"
        try:
            path.mkdir(mode=0o700)
        except FileExistsError:
            continue
        return path


def _not_one(name: str, known: list[DrillFolder], found: list[DrillFolder]) -> UsageError:
    if found:
        return UsageError(
            f"{name!r} fits {len(found)} drills",
            hint=f"Say which: {', '.join(_some(found))}.",
        )
    if not known:
        return UsageError(
            f"there is no drill {name!r}: no drill has run in this folder yet",
            hint="`gameday run <scenario>` runs one; or give the path of a drill's folder.",
        )
    import difflib

    near = difflib.get_close_matches(name, [drill.id for drill in known], n=1)
    hint = f"Did you mean {near[0]}?" if near else f"There are: {', '.join(_some(known))}."
    return UsageError(f"there is no drill {name!r}", hint=hint)


def _some(drills: list[DrillFolder], count: int = 5) -> Iterator[str]:
    yield from (drill.id for drill in drills[:count])
    if len(drills) > count:
        yield f"and {len(drills) - count} more (`gameday list`)"
