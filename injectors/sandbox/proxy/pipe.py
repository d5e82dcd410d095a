"""One direction of a connection: from its source's socket, through the stages, to its sink's."""

from __future__ import annotations

import asyncio
import socket
from collections import deque
from typing import Protocol

from gameday.injectors.sandbox.proxy.stage import Chunk, Mark, Stage

__all__ = ["Ends", "Pipe"]


class Ends(Protocol):
    """Whom a pipe tells what became of its sockets: its connection."""

    def ended(self, pipe: Pipe) -> None:
        """The end of the stream was handed to the sink."""

    def broken(self, pipe: Pipe) -> None:
        """The break of the source's connection reached the end of the pipe."""

    def sink_broke(self, pipe: Pipe) -> None:
        """The sink takes nothing any more."""

    def end_vanished(self, pipe: Pipe) -> None:
        """The stream ended, and nobody was told: the connection is cut."""


class Pipe:
    """Copies one way, and reads no further ahead of the sink than the stages have room.

    Attributes:
        moved: Bytes handed to the sink.
        lost: True if anything vanished while the pipe was cut.
        finished: True if the end of the stream was handed to the sink.
        ended: True if the source gives nothing more.
        stopped: True if the sink takes nothing more, or the connection is closed.
    """

    __slots__ = (
        "_backlog",
        "_buffer",
        "_cut",
        "_doomed",
        "_loop",
        "_owner",
        "_reading",
        "_sink",
        "_source",
        "_stages",
        "_window",
        "_writing",
        "ended",
        "finished",
        "lost",
        "moved",
        "stopped",
    )

    def __init__(self, loop: asyncio.AbstractEventLoop, owner: Ends, buffer: memoryview) -> None:
        self.moved = 0
        self.lost = self.ended = self.finished = self.stopped = False
        self._loop = loop
        self._owner = owner
        self._buffer = self._window = buffer  # shared: nothing stays in it after a callback
        self._source: socket.socket | None = None
        self._sink: socket.socket | None = None
        self._stages: list[tuple[object, Stage]] = []
        self._backlog: deque[Chunk] = deque()  # what the sink's socket had no room for
        self._cut = self._doomed = False
        self._reading = self._writing = False

    def open(
        self, *, source: socket.socket | None = None, sink: socket.socket | None = None
    ) -> None:
        """Set what is known of the two ends; data flows once both are."""
        self._source = source or self._source
        self._sink = sink or self._sink
        self._balance()

    def insert(self, key: object, stage: Stage) -> None:
        """Add a stage after the others."""
        self._stages.append((key, stage))
        stage.settled = self._balance
        self._join()

    def remove(self, key: object) -> None:
        """Take out the stage of that key; what it held goes on at once, before all that follows."""
        gone = [stage for known, stage in self._stages if known is key]
        self._stages = [(known, stage) for known, stage in self._stages if known is not key]
        self._join()
        for stage in gone:
            stage.flush()
        self._balance()

    def cut(self) -> None:
        """From now on everything vanishes; what is held does too."""
        if self._backlog or any(stage.busy for _, stage in self._stages):
            self.lost = True
        self._forget()
        self._cut = True
        self._balance()

    def mend(self) -> None:
        """Data flows again."""
        self._cut = False
        self._balance()

    def doom(self) -> None:
        """The source's connection is broken: what it had still sent goes on, then the break."""
        self._doomed = True
        if self.ended:
            self._pass_on(Mark.BREAK)

    def stop(self) -> None:
        """Let go of both sockets, which are closed by their owner; forget all that is held."""
        self.stopped = True
        self._forget()
        self._balance()

    def _read(self) -> None:
        assert self._source is not None
        try:
            count = self._source.recv_into(self._window)
        except (BlockingIOError, InterruptedError):
            return
        except OSError:
            self._end(Mark.BREAK)
            return
        if not count:
            self._end(Mark.BREAK if self._doomed else Mark.END)
        elif self._cut:
            self.lost = True
        elif self._stages:
            self._pass_on(bytes(self._window[:count]))
        else:
            self._send(self._window[:count])

    def _send(self, data: bytes | memoryview) -> None:
        assert self._sink is not None
        try:
            sent = self._sink.send(data)
        except (BlockingIOError, InterruptedError):
            sent = 0
        except OSError:
            self._sink_broke()
            return
        self.moved += sent
        if sent < len(data):
            self._backlog.append(bytes(data[sent:]))
            self._balance()

    def _write(self) -> None:
        assert self._sink is not None
        while self._backlog:
            chunk = self._backlog[0]
            if isinstance(chunk, Mark):
                self._backlog.popleft()
                self._mark(chunk)
                continue
            try:
                sent = self._sink.send(chunk)
            except (BlockingIOError, InterruptedError):
                return
            except OSError:
                self._sink_broke()
                return
            self.moved += sent
            if sent < len(chunk):
                self._backlog[0] = memoryview(chunk)[sent:]
                return
            self._backlog.popleft()
        self._balance()

    def _end(self, mark: Mark) -> None:
        self.ended = True
        self._balance()
        if self._cut:
            self.lost = True
            self._owner.end_vanished(self)
        else:
            self._pass_on(mark)

    def _pass_on(self, chunk: Chunk) -> None:
        if self._stages:
            self._stages[0][1].feed(chunk, self._loop.time())
            self._balance()
        else:
            self._deliver(chunk, 0.0)

    def _deliver(self, chunk: Chunk, at: float) -> None:
        if self.stopped:
            return
        if self._backlog:
            self._backlog.append(chunk)
        elif isinstance(chunk, Mark):
            self._mark(chunk)
        else:
            self._send(chunk)

    def _mark(self, mark: Mark) -> None:
        assert self._sink is not None
        if mark is Mark.BREAK:
            self._owner.broken(self)
            return
        try:
            self._sink.shutdown(socket.SHUT_WR)
        except OSError:
            self._sink_broke()
            return
        self.finished = True
        self._owner.ended(self)

    def _sink_broke(self) -> None:
        self.stop()
        self._owner.sink_broke(self)

    def _join(self) -> None:
        after = self._deliver
        for _, stage in reversed(self._stages):
            stage.emit, after = after, stage.feed
        self._window = self._buffer[: min((stage.room for _, stage in self._stages), default=None)]

    def _forget(self) -> None:
        self._backlog.clear()
        for _, stage in self._stages:
            stage.drop()

    def _balance(self) -> None:
        """Watch exactly those sockets that there is something to do for."""
        reading = not self.ended and not self.stopped and self._source is not None
        if reading and not self._cut:
            full = any(stage.held >= stage.room for _, stage in self._stages)
            reading = self._sink is not None and not self._backlog and not full
        if reading is not self._reading and self._source is not None:
            self._reading = reading
            if reading:
                self._loop.add_reader(self._source, self._read)
            else:
                self._loop.remove_reader(self._source)
        writing = bool(self._backlog)
        if writing is not self._writing and self._sink is not None:
            self._writing = writing
            if writing:
                self._loop.add_writer(self._sink, self._write)
            else:
                self._loop.remove_writer(self._sink)
