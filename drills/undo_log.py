"""``undo.jsonl``: what must be put back, on disk before it is broken.

No undo record, no injection: `UndoLog.arm` returns only when the line is on the
disk. `read_undo_log` says what is outstanding, whoever asks: the runner, the
watchdog, `gameday recover`, or any later command.
"""

from __future__ import annotations

import fcntl
import os
import time
from pathlib import Path

import anyio.to_thread
import msgspec

from gameday.drills.durable import (
    append,
    is_at,
    open_append,
    set_aside,
    split_lines,
    storage_hint,
    sync_directory,
)
from gameday.drills.permission import refuse_commands, refuse_where_none_runs
from gameday.drills.undoing import page_resolver, undo_one
from gameday.injectors.errors import Refused, StorageError, UndoFailed
from gameday.injectors.reading import UNREADABLE
from gameday.injectors.sandbox.base import Sandbox
from gameday.injectors.undo import UNDO_VERSION, Armed, Compared, Outcome, Undone, UndoRecord
from gameday.injectors.writing import encode

__all__ = ["SANDBOX", "UndoLog", "UndoRead", "outstanding", "read_recovery", "read_undo_log"]

SANDBOX = "sandbox"
"""The id under which the taking down of the sandbox is armed."""
_SPACE = 256 * 1024
_decoder: msgspec.json.Decoder[UndoRecord] = msgspec.json.Decoder(UndoRecord)


class UndoLog:
    """The runner's end of ``undo.jsonl``: its one writer.

    It holds a lock on the file as long as its process lives, so that nobody can
    recover a drill whose runner might still inject.

    Args:
        path: The file; it is made if it is not there.
        zero: CLOCK_MONOTONIC of zero on the drill's axis, for ``Undone.at``.
        allow_exec: Whether undo steps may run commands of the user's own.

    Attributes:
        unrecorded: Why records of what was undone could not be written.

    Raises:
        Refused: if another process writes to it.
        StorageError: if it cannot be made.
    """

    def __init__(self, path: Path, *, zero: float = 0.0, allow_exec: bool = False) -> None:
        self.path = path
        self.unrecorded: list[StorageError] = []
        self._zero = zero
        self._allow_exec = allow_exec
        self._resolve_page = page_resolver(path.parent)
        self._armed: dict[str, Armed] = {}
        self._size = 0
        try:
            self._fd = open_append(path)
            fcntl.flock(self._fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
            set_aside(self._fd, _SPACE)
            sync_directory(path.parent)
        except BlockingIOError:
            os.close(self._fd)
            raise Refused(f"another process writes to {path}") from None
        except OSError as error:
            raise _unrecorded(path, error) from None

    @property
    def outstanding(self) -> list[Armed]:
        """What is armed and not yet undone, newest first."""
        return list(reversed(self._armed.values()))

    async def arm(self, armed: Armed) -> None:
        """Put on disk how a change is undone, *before* it is made.

        Even if this fails or is cancelled the entry counts as outstanding: undoing
        what was never done is harmless.

        Raises:
            StorageError: if it could not be recorded; then the change must not be made.
            Refused: if its undo runs a command to which nobody has said yes, or that the sandbox
                does not run; nor then.
        """
        refuse_where_none_runs(armed.steps, armed.sandbox.kind)
        if not self._allow_exec:
            refuse_commands(armed.steps)
        self._armed[armed.id] = armed
        await self._append(armed)

    async def undone(self, undone: Undone) -> None:
        """Record how an armed change was undone; a failed one stays outstanding.

        Never raises, so that nothing stops the next undo: where it could not be recorded,
        it will be undone once more, which is harmless; `unrecorded` says why.
        """
        if undone.outcome is not Outcome.FAILED:
            self._armed.pop(undone.id, None)
        try:
            await self._append(self._stamped(undone))
        except StorageError as error:
            self.unrecorded.append(error)

    async def undo(self, armed: Armed, box: Sandbox) -> Undone:
        """Run the steps of an armed change (`gameday.drills.undoing.undo_one`), twice if need be.

        Never raises. Records nothing: `undone` does, once a look has confirmed it.
        """
        result = await undo_one(armed, box, resolve_page=self._resolve_page)
        if result.outcome is Outcome.FAILED:
            result = await undo_one(armed, box, resolve_page=self._resolve_page)
        return self._stamped(result)

    def _stamped(self, undone: Undone) -> Undone:
        """With its instant, unless it has one."""
        if undone.wall:
            return undone
        now = time.monotonic() - self._zero
        return msgspec.structs.replace(undone, at=round(now, 6), wall=round(time.time(), 6))

    async def _append(self, record: Armed | Undone) -> None:
        line = encode(record)
        try:
            # Not abandoned when cancelled: the thread ends first, so lines never mix.
            await anyio.to_thread.run_sync(append, self._fd, line)
        except OSError as error:
            raise _unrecorded(self.path, error) from None
        self.check_there()
        self._size = os.fstat(self._fd).st_size

    def check_there(self) -> None:
        """Whether the file has its name still, by which a watchdog or `gameday recover` finds it.

        Raises:
            StorageError: if somebody removed or replaced it.
        """
        if self._fd >= 0 and not is_at(self._fd, self.path, self._size):
            raise StorageError(
                f"{self.path} was removed, replaced or cut; without an undo record nothing is broken",
                hint="Leave the drill's folder alone while it runs.",
            )

    def close(self) -> None:
        """Let go of the file and its lock."""
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1


def _unrecorded(path: Path, error: OSError) -> StorageError:
    return StorageError(
        f"{path} cannot be written: {error.strerror}; without an undo record nothing is broken",
        hint=storage_hint(error),
    )


class UndoRead(msgspec.Struct, frozen=True):
    """What the undo log and the recovery log of a drill say.

    Attributes:
        outstanding: What is armed and not undone, newest first.
        undone: Every record of an undo, in the order of the files.
        compared: What the recovery log says of targets that were put back, in its order.
        torn: True if the last line was torn. It had not been armed, so nothing was done.
        problems: What cannot be read, one sentence each; it may hide something outstanding.
    """

    outstanding: tuple[Armed, ...] = ()
    undone: tuple[Undone, ...] = ()
    compared: tuple[Compared, ...] = ()
    torn: bool = False
    problems: tuple[str, ...] = ()

    @property
    def note(self) -> str:
        """A sentence about a torn last line; else empty."""
        if not self.torn:
            return ""
        return (
            "The undo log ends in the middle of a line; that line was dropped: what it stood for "
            "was not armed yet, so it was not done."
        )


def read_undo_log(undo: Path, recovery: Path) -> UndoRead:
    """Read both files, as much as can be read. A file that is not there has no lines."""
    records, torn, problems = _read(undo)
    undone = [record for record in records if isinstance(record, Undone)]
    recovered, more = _read_recovery(recovery)
    undone += [record for record in recovered if isinstance(record, Undone)]
    compared = tuple(record for record in recovered if isinstance(record, Compared))
    cleared = {record.id for record in undone if record.outcome is not Outcome.FAILED}
    armed = {record.id: record for record in records if isinstance(record, Armed)}
    left = [record for record in armed.values() if record.id not in cleared]
    return UndoRead(tuple(reversed(left)), tuple(undone), compared, torn, tuple(problems + more))


def read_recovery(recovery: Path) -> tuple[list[Undone], list[str]]:
    """What ``recovery.jsonl`` says was undone, and what is wrong with it."""
    found, problems = _read_recovery(recovery)
    return [record for record in found if isinstance(record, Undone)], problems


def _read_recovery(recovery: Path) -> tuple[list[UndoRecord], list[str]]:
    """The records of ``recovery.jsonl``, and what is wrong with it.

    A line that cannot be read is dropped: a recoverer may have died in the middle of
    it, and undoing once more is harmless.
    """
    try:
        lines = _content(recovery).split(b"\n")
    except OSError as error:
        return [], [f"{recovery} cannot be read: {error.strerror}"]
    found: list[UndoRecord] = []
    for line in lines:
        try:
            record = _decoder.decode(line)
        except UNREADABLE:
            continue
        found.append(record)
    return found, []


def outstanding(undo: Path, recovery: Path) -> list[Armed]:
    """What is armed and not undone, newest first.

    Raises:
        UndoFailed: if a part of the log cannot be read, and so might hide something.
    """
    read = read_undo_log(undo, recovery)
    if read.problems:
        raise UndoFailed(
            "; ".join(read.problems),
            hint="`gameday recover` undoes what it can read; look at the rest by hand.",
        )
    return list(read.outstanding)


def _content(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except FileNotFoundError:
        return b""


def _read(path: Path) -> tuple[list[UndoRecord], bool, list[str]]:
    try:
        lines, rest = split_lines(_content(path))
    except OSError as error:
        return [], False, [f"{path} cannot be read: {error.strerror}"]
    torn = bool(rest)
    # A crash of the machine can leave a last line that is complete in length, not in content.
    if lines and not torn and not _is_json(lines[-1]):
        torn = True
        lines.pop()
    records: list[UndoRecord] = []
    problems = []
    for number, line in enumerate(lines, start=1):
        if not line.strip():
            continue
        try:
            record = _decoder.decode(line)
        except UNREADABLE as error:
            problems.append(f"{path}:{number}: this line cannot be read ({error})")
            continue
        if isinstance(record, Armed) and record.version > UNDO_VERSION:
            problems.append(f"{path}:{number}: written by a newer Gameday ({record.version})")
            continue
        records.append(record)
    return records, torn, problems


def _is_json(line: bytes) -> bool:
    try:
        msgspec.json.decode(line)
    except UNREADABLE:
        return not line.strip()
    return True
