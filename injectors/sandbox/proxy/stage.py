"""A stage: holds what goes one way over one connection for a while, first in, first out."""

from __future__ import annotations

import asyncio
import enum
from collections import deque
from collections.abc import Callable

__all__ = ["Chunk", "Mark", "Stage"]


class Mark(enum.Enum):
    """What follows the last byte: the sender's orderly end, or the break of its connection."""

    END = enum.auto()
    BREAK = enum.auto()


Chunk = bytes | memoryview | Mark


class Stage:
    """A queue whose head goes on when it is due.

    Times are the loop's, in seconds. A chunk is dated by when it should have come,
    not by when a late timer brought it, so that delays of our own do not add up.

    Args:
        loop: Where the timer runs.
        due: ``due(arrived, size)``: when ``size`` bytes that arrived then may go on;
            asked for each piece as it reaches the head of the queue.
        room: Bytes held beyond which the source is no longer read.
        piece: Longest piece that goes on at once; longer chunks are split.
    """

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        due: Callable[[float, int], float],
        *,
        room: int,
        piece: int | None = None,
    ) -> None:
        self.room = room
        self.held = 0
        self.emit: Callable[[Chunk, float], None] = lambda chunk, at: None
        self.settled: Callable[[], None] = lambda: None
        self._loop = loop
        self._due = due
        self._piece = piece
        self._queue: deque[tuple[float, Chunk]] = deque()
        self._head: tuple[float, Chunk] | None = None
        self._last = 0.0
        self._timer: asyncio.TimerHandle | None = None

    @property
    def busy(self) -> bool:
        """True if anything is held, a mark included."""
        return self._head is not None or bool(self._queue)

    def feed(self, chunk: Chunk, at: float) -> None:
        """Take a chunk that arrived at ``at``."""
        if not isinstance(chunk, Mark):
            self.held += len(chunk)
        self._queue.append((at, chunk))
        if self._timer is None:
            self._advance()

    def flush(self) -> None:
        """Let all go on at once, in order."""
        self._stop_timer()
        now = self._loop.time()
        while self.busy:
            self._emit_head(now)

    def drop(self) -> None:
        """Forget all."""
        self._stop_timer()
        self._queue.clear()
        self._head = None
        self.held = 0

    def _run(self) -> None:
        self._timer = None
        self._advance()
        self.settled()

    def _advance(self) -> None:
        now = self._loop.time()
        while self.busy:
            due, _ = self._head or self._take_head()
            if due > now:
                self._timer = self._loop.call_at(due, self._run)
                return
            self._emit_head(due)

    def _take_head(self) -> tuple[float, Chunk]:
        arrived, chunk = self._queue.popleft()
        size = 0
        if not isinstance(chunk, Mark):
            size = len(chunk)
            if self._piece is not None and size > self._piece:
                whole, size = memoryview(chunk), self._piece
                self._queue.appendleft((arrived, whole[size:]))
                chunk = whole[:size]
        self._last = max(self._last, self._due(arrived, size))
        self._head = self._last, chunk
        return self._head

    def _emit_head(self, at: float) -> None:
        if self._head is None:
            chunk = self._queue.popleft()[1]
        else:
            chunk, self._head = self._head[1], None
        if not isinstance(chunk, Mark):
            self.held -= len(chunk)
        self.emit(chunk, at)

    def _stop_timer(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
