"""A stage of the link proxy, on a clock of its own: it is not late, keeps order and leaves no timer."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from gameday.injectors.sandbox.proxy.bandwidth import Wire
from gameday.injectors.sandbox.proxy.stage import Chunk, Mark, Stage

# --- a stage, on a clock of its own -------------------------------------------------------


class Clock:
    """As much of a loop as a stage uses, on virtual time."""

    def __init__(self) -> None:
        self.now = 100.0
        self.timers: list[tuple[float, asyncio.TimerHandle]] = []
        self._home = asyncio.new_event_loop()

    def time(self) -> float:
        return self.now

    def call_at(self, when: float, call: Callable[[], None]) -> asyncio.TimerHandle:
        handle = asyncio.TimerHandle(when, call, (), self._home)
        self.timers.append((when, handle))
        return handle

    def waiting(self) -> list[tuple[float, asyncio.TimerHandle]]:
        return [(when, handle) for when, handle in self.timers if not handle.cancelled()]

    def advance(self, to: float, *, late: float = 0.0) -> None:
        while True:
            due = sorted(self.waiting(), key=lambda timer: timer[0])
            if not due or due[0][0] + late > to:
                break
            when, handle = due[0]
            self.timers.remove(due[0])
            self.now = when + late
            handle._run()
        self.now = to

    def close(self) -> None:
        self._home.close()


@contextlib.contextmanager
def clock() -> Any:
    ticking = Clock()
    try:
        yield ticking
    finally:
        ticking.close()


def test_late_timers_do_not_add_up() -> None:
    with clock() as ticking:
        wire = Wire(8000.0)  # 1000 bytes a second
        stage = Stage(ticking, wire.carry, room=1 << 16, piece=10)
        out: list[Chunk] = []
        stage.emit = lambda chunk, at: out.append(chunk)
        stage.feed(bytes(1000), ticking.now)
        ticking.advance(101.1, late=0.05)
        assert sum(len(chunk) for chunk in out if not isinstance(chunk, Mark)) == 1000
        assert not stage.busy
        assert stage.held == 0


@given(
    st.lists(st.tuples(st.floats(0, 2), st.integers(1, 500)), min_size=1, max_size=20),
    st.sampled_from(["wait", "flush", "drop"]),
    st.integers(1, 200),
)
def test_a_stage_keeps_order_and_leaves_no_timer(
    feeds: list[tuple[float, int]], ending: str, piece: int
) -> None:
    with clock() as ticking:
        stage = Stage(ticking, lambda arrived, size: arrived + (size * 7 % 5), room=1, piece=piece)
        out = bytearray()
        marks: list[Mark] = []

        def emit(chunk: Chunk, at: float) -> None:
            if isinstance(chunk, Mark):
                marks.append(chunk)
            else:
                assert not marks
                out.extend(chunk)

        stage.emit = emit
        fed = bytearray()
        for number, (pause, size) in enumerate(feeds):
            ticking.advance(ticking.now + pause)
            fed += bytes([number]) * size
            stage.feed(bytes([number]) * size, ticking.now)
            assert stage.held == len(fed) - len(out)
        stage.feed(Mark.END, ticking.now)
        match ending:
            case "wait":
                ticking.advance(ticking.now + 1000)
            case "flush":
                stage.flush()
            case _:
                stage.drop()
        assert not ticking.waiting()
        assert not stage.busy
        assert stage.held == 0
        assert fed.startswith(out)
        assert ending == "drop" or (out == fed and marks == [Mark.END])
