"""``journal.jsonl``: the drill's history, append-only, written by the runner alone.

A thread of the journal's own writes what is appended at once, and syncs it at
most every 100 ms for all lines together (group commit). So a killed runner loses
next to nothing, a slow disk does not hold up the drill, and the journal goes on
while everything else is being cancelled.

A disk that is full gets the space that was set aside, so that abort and revert
are recorded too; `Journal.wait_failed` says that it is time to abort.
"""

from __future__ import annotations

import errno
import os
import threading
import time
from collections.abc import Callable
from pathlib import Path
from types import TracebackType
from typing import TypeVar

import anyio
import anyio.to_thread
import msgspec

from gameday.drills.durable import (
    is_at,
    open_append,
    replace_file,
    split_lines,
    storage_hint,
    sync_directory,
)
from gameday.injectors.errors import StorageError, UsageError
from gameday.injectors.reading import UNREADABLE
from gameday.injectors.writing import legible
from gameday.scoring import events
from gameday.scoring.events import Event

__all__ = ["Journal", "JournalRead", "read_journal"]

FLUSH_EVERY = 0.1
"""Seconds between two syncs."""
_RETRY_EVERY = 0.2
_PATIENCE = 5.0

_E = TypeVar("_E", bound=Event)


class Journal:
    """The one writer of a journal.

    ::

        with Journal(folder.journal, release=folder.release_reserve) as journal:
            journal.append(PhaseBegan(at=journal.now(), phase="starting"))
            await journal.sync()

    Args:
        path: The file; it is made if it is not there.
        zero: CLOCK_MONOTONIC of zero on the drill's axis; by default now.
        release: Frees the space that was set aside; called once, when the disk is full.

    Raises:
        StorageError: if the file cannot be made.
    """

    def __init__(
        self, path: Path, *, zero: float | None = None, release: Callable[[], object] | None = None
    ) -> None:
        self.path = path
        self.zero = time.monotonic() if zero is None else zero
        self.failure: StorageError | None = None
        self._release = release
        self._pending = bytearray()
        self._seq = 0
        # Bytes since the start: appended, written, synced; and what somebody waits for.
        self._accepted = self._written = self._durable = self._wanted = 0
        self._synced = 0.0  # when it was synced last
        self._stuck = False  # the disk refuses, although the space set aside was released
        self._unsound = False
        self._closing = False
        self._changed = threading.Condition()
        try:
            self._fd = open_append(path)
            sync_directory(path.parent)
        except OSError as error:
            raise self._failed(error) from None
        self._thread = threading.Thread(target=self._write_on, name="journal", daemon=True)
        self._thread.start()

    def __enter__(self) -> Journal:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        tb: TracebackType | None,
    ) -> None:
        self.close()

    def now(self) -> float:
        """Seconds since the drill's start."""
        return time.monotonic() - self.zero

    def append(self, event: _E) -> _E:
        """Number the event, stamp it with wall-clock time, and have it written at once.

        Never waits and never raises for the disk's sake. From one thread only.
        """
        stamped = msgspec.structs.replace(event, seq=self._seq + 1, wall=round(time.time(), 6))
        try:
            line = events.encode(stamped) + b"\n"
        except UnicodeEncodeError:  # text from outside that no encoding can take
            stamped = legible(stamped)
            line = events.encode(stamped) + b"\n"
        self._seq += 1
        with self._changed:
            self._pending += line
            self._accepted += len(line)
            self._changed.notify_all()
        return stamped

    def check_there(self) -> None:
        """Whether the file has its name still, by which it will be read.

        Raises:
            StorageError: if somebody removed or replaced it.
        """
        if self._fd >= 0 and not is_at(self._fd, self.path):
            raise StorageError(
                f"{self.path} was removed or replaced; the drill ends",
                hint="Leave the drill's folder alone while it runs.",
            )

    async def sync(self) -> None:
        """Return when everything appended so far is on disk.

        Raises:
            StorageError: if the disk does not take it. It is kept, and tried again.
        """
        await anyio.to_thread.run_sync(self._wait_durable, self._accepted)

    async def wait_failed(self) -> StorageError:
        """Return, with the reason, once the disk has refused a line: time to abort.

        What follows goes into the space that was set aside, as far as that reaches.
        """
        while self.failure is None:  # noqa: ASYNC110 - a thread sets it, not a task
            await anyio.sleep(FLUSH_EVERY)
        return self.failure

    def close(self) -> None:
        """Write and sync what is left, and end the journal's thread.

        Raises:
            StorageError: if the disk does not take the rest.
        """
        if self._fd < 0:
            return
        with self._changed:
            self._closing = True
            self._changed.notify_all()
        self._thread.join()
        try:
            self._restore()
        finally:
            os.close(self._fd)
            self._fd = -1
        if self._durable < self._accepted:
            raise self._failed(None)

    def _restore(self) -> None:
        """What was written stays the record: where somebody took the file away, it is put back.

        Where the whole folder is gone, there is nowhere to put it.
        """
        if is_at(self._fd, self.path, self._written):
            return
        try:
            replace_file(self.path, os.pread(self._fd, os.fstat(self._fd).st_size, 0))
        except FileNotFoundError:
            return
        except OSError as error:
            raise self._failed(error) from None

    def _wait_durable(self, target: int) -> None:
        with self._changed:
            self._wanted = max(self._wanted, target)
            self._changed.notify_all()
            self._changed.wait_for(lambda: self._durable >= target or self._stuck, _PATIENCE)
            if self._durable < target:
                raise self._failed(None)

    def _failed(self, error: OSError | None) -> StorageError:
        if error is None and self.failure is not None:
            return self.failure
        why = error.strerror if error else "the disk does not answer"
        return StorageError(
            f"the journal {self.path} cannot be written: {why}; the drill ends",
            hint=storage_hint(error or OSError()),
        )

    # What the thread does.

    def _write_on(self) -> None:
        while True:
            data, closing = self._next_work()
            try:
                self._write(data)
                self._sync()
            except OSError as error:
                if self._refused(error):
                    continue  # there is space again
                if closing:
                    return
                time.sleep(_RETRY_EVERY)
            if closing and self._durable == self._accepted:
                return

    def _next_work(self) -> tuple[bytes, bool]:
        with self._changed:
            self._changed.wait_for(self._has_work, self._until_sync())
            return bytes(self._pending), self._closing

    def _has_work(self) -> bool:
        return bool(self._pending) or self._closing or self._wanted > self._durable

    def _until_sync(self) -> float | None:
        if self._written == self._durable:
            return None
        return max(0.0, self._synced + FLUSH_EVERY - time.monotonic())

    def _write(self, data: bytes) -> None:
        # A part that was written stays written: the rest follows it when there is space again.
        while data:
            count = os.write(self._fd, data)
            data = data[count:]
            with self._changed:
                del self._pending[:count]
                self._written += count

    def _sync(self) -> None:
        due = self._until_sync()
        if due is None or (due > 0 and not self._closing and self._wanted <= self._durable):
            return
        try:
            os.fsync(self._fd)
        except OSError as error:
            # After a failed sync the system may call lost pages clean: never claim them again.
            self._unsound = self._unsound or error.errno not in (errno.ENOSPC, errno.EDQUOT)
            raise
        self._synced = time.monotonic()
        if self._unsound:
            return
        with self._changed:
            self._durable = self._written
            self._stuck = False
            self._changed.notify_all()

    def _refused(self, error: OSError) -> bool:
        """Note the failure; True if space could be released, and it is worth another try."""
        with self._changed:
            self.failure = self.failure or self._failed(error)
            release, self._release = self._release, None
            if release is not None and release():
                return True
            self._stuck = True
            self._changed.notify_all()
            return False


class JournalRead(msgspec.Struct, frozen=True):
    """A journal as read.

    Attributes:
        events: Every whole event, in order.
        torn: True if the last line was torn, and dropped.
        note: A sentence that says so, for the debrief; else empty.
    """

    events: tuple[Event, ...]
    torn: bool = False
    note: str = ""


def read_journal(path: Path, *, damaged: bool = False) -> JournalRead:
    """Read a journal, of a drill that runs, has ended or has died.

    Args:
        path: The file.
        damaged: Read one that is damaged in its middle up to there, and say so; what
            follows a gap would be judged wrongly.

    Raises:
        UsageError: if there is none, it is damaged (``damaged``: at its very beginning), or
            it is a newer Gameday's.
    """
    try:
        lines, rest = split_lines(path.read_bytes())
    except OSError as error:
        raise UsageError(
            f"{path} cannot be read: {error.strerror}",
            hint="`gameday list` shows the drills of this folder.",
        ) from None
    # A crash of the machine can leave a last line that is complete in length, not in content.
    if lines and not rest and not _is_json(lines[-1]):
        rest = lines.pop()
    found: list[Event] = []
    for number, line in enumerate(lines, start=1):
        try:
            found.append(_decode(path, number, line))
        except _Damaged as damage:
            if not (damaged and found):
                raise
            left = len(lines) - number + 1
            note = f"{damage.message}; it was left out with all that follows, {left} lines."
            return JournalRead(tuple(found), torn=bool(rest), note=note)
    note = ""
    if rest:
        after = f"after {found[-1].at:.3f} s" if found else "at its very beginning"
        note = f"The journal ends in the middle of a line {after}; that line was dropped."
    return JournalRead(tuple(found), bool(rest), note)


class _Damaged(UsageError):
    """A line in the middle that is not what was written."""


def _is_json(line: bytes) -> bool:
    try:
        msgspec.json.decode(line)
    except UNREADABLE:
        return False
    return True


def _decode(path: Path, number: int, line: bytes) -> Event:
    try:
        event = next(events.decode([line]))
    except (*UNREADABLE, ValueError) as error:
        raise _Damaged(
            f"{path}:{number}: this line is no event of this Gameday ({error})",
            hint="The journal was changed or damaged, or a newer Gameday wrote it.",
        ) from None
    if event.seq != number:
        raise _Damaged(
            f"{path}:{number}: expected event {number}, found event {event.seq}",
            hint="Lines are missing or out of order: the journal was changed or damaged.",
        )
    if isinstance(event, events.DrillStarted) and event.version > events.JOURNAL_VERSION:
        raise UsageError(
            f"{path}: written by a newer Gameday (journal version {event.version}, "
            f"this one reads {events.JOURNAL_VERSION})",
            hint="Upgrade Gameday to read it.",
        )
    return event
