"""Pages appended to a file: for `tail -f`, and for programs that read JSON lines."""

from __future__ import annotations

import errno
import os
from pathlib import Path

import anyio.to_thread
import msgspec

from gameday.drills.channels.message import ChannelError, Message

__all__ = ["File"]


class File:
    """One JSON object on each line."""

    name = "file"

    def __init__(self, path: Path) -> None:
        self.path = path

    async def send(self, message: Message) -> None:
        """Append it, whole or not at all."""
        line = msgspec.json.encode({"mark": "EXERCISE"} | msgspec.to_builtins(message)) + b"\n"
        try:
            await anyio.to_thread.run_sync(_append, self.path, line)
        except OSError as error:
            raise ChannelError(
                f"{self.path}: {error.strerror}", retry=False, arrived=False
            ) from error


def _append(path: Path, line: bytes) -> None:
    handle = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        written = os.write(handle, line)  # one call: lines of several writers never mix
        if written < len(line):
            os.ftruncate(handle, os.fstat(handle).st_size - written)
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
    finally:
        os.close(handle)
