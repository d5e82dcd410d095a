"""``inbox.jsonl``: what people and their tools say during a drill.

One line, one append, stamped on the runner's host; whoever says something only
appends, and the runner tails. So no server is inside the engine, and any number
of people can speak at once.
"""

from __future__ import annotations

import os
import time
from collections.abc import AsyncIterator
from pathlib import Path

import anyio
import msgspec

from gameday.drills.durable import storage_hint
from gameday.drills.folder import DrillFolder
from gameday.injectors.errors import StorageError, UsageError
from gameday.injectors.reading import UNREADABLE
from gameday.injectors.sandbox.process import boot_id

__all__ = ["VERBS", "Entry", "Garbled", "Heard", "say", "tail"]

VERBS = (
    "ack",
    "declare",
    "note",
    "update",
    "identify",
    "mitigate",
    "resolve",
    "all-clear",
    "hand-over",
    "hint",
    "abort",
)
LINE_LIMIT = 4096  # appends up to a page never mix with another's
_POLL = 0.05
_CHUNK = 1 << 16


class Entry(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """One thing that somebody says.

    Attributes:
        verb: One of `VERBS`.
        role: ``fixer``, ``incident-commander`` …; ``name``: who.
        page: For ``ack``: which page; empty for all that are open.
        scripted: The scripted fixer says it.
        clock: CLOCK_MONOTONIC when it was said, in seconds; `say` stamps it.
        boot_id: Of the host whose clock that is.
        wall: Unix time, for display only.
    """

    verb: str
    role: str = "fixer"
    name: str = ""
    text: str = ""
    page: str = ""
    scripted: bool = False
    clock: float = 0.0
    boot_id: str = ""
    wall: float = 0.0


class Heard(msgspec.Struct, frozen=True):
    """An entry that arrived. ``clock``: the instant that counts, of our CLOCK_MONOTONIC."""

    entry: Entry
    clock: float


class Garbled(msgspec.Struct, frozen=True):
    """A line that is no entry; ``what`` says so to people."""

    what: str
    clock: float


_encoder = msgspec.json.Encoder()
_decoder = msgspec.json.Decoder(Entry)


def _clean(text: str) -> str:
    """Text that any encoding can take: what a terminal garbled becomes a question mark."""
    return text.encode("utf-8", "replace").decode().strip()


def say(folder: DrillFolder, entry: Entry) -> Entry:
    """Stamp the entry and append it to the drill's inbox; returns it as stamped.

    Raises:
        UsageError: if the verb is unknown, the text is too long, or there is no such drill.
        StorageError: if the disk does not take it.
    """
    if entry.verb not in VERBS:
        raise UsageError(f"{entry.verb!r} is nothing to say; expected one of {', '.join(VERBS)}")
    stamped = msgspec.structs.replace(
        entry,
        role=_clean(entry.role),
        name=_clean(entry.name),
        text=_clean(entry.text),
        page=_clean(entry.page),
        clock=time.monotonic(),
        boot_id=boot_id(),
        wall=round(time.time(), 6),
    )
    line = _encoder.encode(stamped) + b"\n"
    if len(line) >= LINE_LIMIT:
        raise UsageError(
            f"this is too long: {len(line)} bytes with its frame, {LINE_LIMIT} is the limit",
            hint="Say it in several notes, or put the long part in a file and note its name.",
        )
    _append(folder.inbox, line)
    return stamped


def _append(path: Path, line: bytes) -> None:
    try:
        fd = os.open(path, os.O_RDWR | os.O_APPEND | os.O_CLOEXEC | os.O_NOFOLLOW)
    except FileNotFoundError:
        raise UsageError(
            f"there is no drill in {path.parent}", hint="`gameday list` shows the drills."
        ) from None
    except OSError as error:
        raise StorageError(f"{path} cannot be opened: {error.strerror}") from None
    try:
        size = os.fstat(fd).st_size
        if size and os.pread(fd, 1, size - 1) != b"\n":
            line = b"\n" + line  # somebody died in the middle of a line; ours stays whole
        if os.write(fd, line) < len(line):
            raise OSError(28, os.strerror(28))
    except OSError as error:
        raise StorageError(
            f"this could not be recorded: {path}: {error.strerror}", hint=storage_hint(error)
        ) from None
    finally:
        os.close(fd)


async def tail(folder: DrillFolder) -> AsyncIterator[Heard | Garbled]:
    """What is said from the drill's beginning, as it is said; never ends by itself.

    Looks every 50 ms; that never enters a figure, as the stamp counts. A line that
    is no entry is reported and passed over.

    Raises:
        StorageError: if the inbox cannot be read.
    """
    lines = _Lines(folder.inbox)
    try:
        while True:
            found = lines.read()
            for line in found:
                yield _hear(line)
            await anyio.sleep(_POLL if lines.at_end else 0)
    finally:
        lines.close()


class _Lines:
    """Whole lines of a growing file."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._rest = b""
        self._skipping = False
        self.at_end = False
        try:
            self._fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
        except OSError as error:
            raise StorageError(f"{path} cannot be read: {error.strerror}") from None

    def read(self) -> list[bytes]:
        """What has been completed since the last call; bounded, so ask until it is empty."""
        try:
            if os.fstat(self._fd).st_size < os.lseek(self._fd, 0, os.SEEK_CUR):
                os.lseek(self._fd, 0, os.SEEK_END)  # somebody cut it; go on from its end
            data = os.read(self._fd, _CHUNK)
        except OSError as error:
            raise StorageError(f"{self._path} cannot be read: {error.strerror}") from None
        self.at_end = len(data) < _CHUNK
        *lines, self._rest = (self._rest + data).split(b"\n")
        if lines and self._skipping:
            lines[0], self._skipping = b"?", False
        if len(self._rest) > _CHUNK:
            self._rest, self._skipping = b"", True
        return [line for line in lines if line.strip()]

    def close(self) -> None:
        os.close(self._fd)


def _hear(line: bytes) -> Heard | Garbled:
    now = time.monotonic()
    try:
        entry = _decoder.decode(line)
    except UNREADABLE as error:
        start = line[:40].decode("utf-8", "replace")
        return Garbled(f"a line of the inbox is no entry: {start!r} ({error})", now)
    if entry.verb not in VERBS:
        return Garbled(f"the inbox has an entry with an unknown verb: {entry.verb!r}", now)
    # Another host's clock, or one that is ahead of ours, says nothing: then arrival counts.
    sound = entry.boot_id == boot_id() and 0.0 < entry.clock <= now
    return Heard(entry, entry.clock if sound else now)
