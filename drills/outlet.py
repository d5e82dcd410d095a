"""Where a drill is shown: a stream that never makes the drill wait.

A terminal that was stopped (Ctrl-S), an ssh session that hangs, a pipe whose reader sleeps: each
holds up whoever writes to it. So a thread writes; what comes while it waits is kept up
to a limit, and what goes beyond is left out, and said.
"""

from __future__ import annotations

import io
import threading
from typing import TextIO

__all__ = ["Outlet"]

LIMIT = 1 << 18
"""Characters that are kept for a reader that does not take them."""


class Outlet(io.TextIOBase):
    """Writes to ``stream``, in a thread of its own that begins with the first text.

    A write raises what an earlier one came to: the reader is gone, the disk is full.
    """

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream
        self._kept: list[str] = []
        self._size = 0
        self._left_out = 0
        self._failure: OSError | None = None
        self._closing = False
        self._changed = threading.Condition()
        self._thread: threading.Thread | None = None

    @property
    def encoding(self) -> str:  # type: ignore[override]
        """The stream's."""
        return self._stream.encoding

    def isatty(self) -> bool:
        """Whether the stream is a terminal."""
        return self._stream.isatty()

    def fileno(self) -> int:
        """The stream's."""
        return self._stream.fileno()

    @property
    def failure(self) -> OSError | None:
        """Why the stream takes nothing more: its reader is gone, the disk is full."""
        return self._failure

    def writable(self) -> bool:
        """It is."""
        return True

    def write(self, text: str) -> int:
        """Keep it for the thread; never waits.

        Raises:
            OSError: if the stream takes nothing more.
        """
        with self._changed:
            if self._failure is not None:
                raise self._failure
            if self._size + len(text) > LIMIT:
                self._left_out += 1
                return len(text)
            if self._left_out:
                text = f"… {self._left_out} lines were not shown: nobody took them.\n{text}"
                self._left_out = 0
            self._kept.append(text)
            self._size += len(text)
            self._changed.notify()
            if self._thread is None:
                self._thread = threading.Thread(target=self._write_on, name="outlet", daemon=True)
                self._thread.start()
        return len(text)

    def flush(self) -> None:
        """The thread flushes; nobody waits for it."""

    def finish(self) -> None:
        """Wait until all of it is written, however long that takes: only once the drill is over."""
        with self._changed:
            self._closing = True
            self._changed.notify()
        if self._thread is not None:
            self._thread.join()

    def _write_on(self) -> None:
        while True:
            with self._changed:
                self._changed.wait_for(lambda: self._kept or self._closing)
                text = "".join(self._kept)
                self._kept.clear()
                if not text:
                    return
            try:
                self._stream.write(text)
                self._stream.flush()
            except OSError as error:
                with self._changed:
                    self._failure = error
                    return
            finally:
                with self._changed:
                    self._size -= len(text)
