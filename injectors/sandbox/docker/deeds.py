"""Who did what with the containers of a sandbox: a file of lines that every process of ours appends to.

The engine tells what happens, not who asked for it. `gameday sandbox` notes each deed
before it asks the engine; what nobody noted, somebody did by other means.
"""

from __future__ import annotations

import os
import time
from pathlib import Path

import msgspec

from gameday.injectors.errors import SandboxError
from gameday.injectors.reading import UNREADABLE

__all__ = ["Deed", "Deeds"]


class Deed(msgspec.Struct, frozen=True):
    """One deed. ``at`` is CLOCK_MONOTONIC, seconds (absolute)."""

    at: float
    action: str
    slot: str
    by: str
    detail: str = ""


class Deeds:
    """The file; one that is not there is empty, and without a path nothing is kept."""

    def __init__(self, path: str) -> None:
        self._path = Path(path) if path else None
        self._read = 0

    def beside(self, name: str) -> Path | None:
        """The path of that name in the same folder; None if nothing is kept."""
        return self._path.parent / name if self._path is not None else None

    def note(self, action: str, slot: str, by: str, detail: str = "") -> None:
        """Append a deed that is about to be done.

        Raises:
            SandboxError: if it cannot be noted.
        """
        if self._path is None:
            return
        line = msgspec.json.encode(Deed(time.monotonic(), action, slot, by, detail)) + b"\n"
        try:
            file = os.open(self._path, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o600)
            try:
                os.write(file, line)
            finally:
                os.close(file)
        except OSError as error:
            raise SandboxError(
                f"{self._path} cannot be written: {error.strerror}; nothing was done",
                hint="Docker itself does it too; the debrief then says that somebody did it.",
            ) from None

    def every(self) -> list[Deed]:
        """All of them, oldest first."""
        return self._lines(0)[0]

    def fresh(self) -> list[Deed]:
        """Those that were noted since the last call."""
        found, self._read = self._lines(self._read)
        return found

    def _lines(self, start: int) -> tuple[list[Deed], int]:
        if self._path is None:
            return [], 0
        try:
            with self._path.open("rb") as file:
                file.seek(start)
                data = file.read()
        except OSError:
            return [], start
        whole = data[: data.rfind(b"\n") + 1]
        found = []
        for line in whole.splitlines():
            try:
                found.append(msgspec.json.decode(line, type=Deed))
            except UNREADABLE:
                continue
        return found, start + len(whole)
