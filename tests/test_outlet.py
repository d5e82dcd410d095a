"""What a drill is shown on never makes the drill wait."""

from __future__ import annotations

import io
import json
import os
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from typing import IO

import pytest

from gameday.drills.folder import list_drills
from gameday.drills.journal import read_journal
from gameday.drills.outlet import LIMIT, Outlet
from gameday.scoring import events
from tests.commands import Terminal, wait_until
from tests.little_drill import lay_out, scenario


class Sink(io.StringIO):
    """A reader that takes something only while it is told to."""

    def __init__(self) -> None:
        super().__init__()
        self.open = threading.Event()

    def write(self, text: str) -> int:
        self.open.wait()
        return super().write(text)


def test_what_is_written_arrives_in_order() -> None:
    sink = Sink()
    sink.open.set()
    outlet = Outlet(sink)
    for number in range(1000):
        outlet.write(f"{number}\n")
    outlet.finish()
    assert sink.getvalue().split() == [str(number) for number in range(1000)]


def test_a_reader_that_sleeps_costs_no_time_and_bounded_memory() -> None:
    sink = Sink()
    outlet = Outlet(sink)
    line = "x" * 99 + "\n"
    begun = time.monotonic()
    for _ in range(LIMIT // 50):
        outlet.write(line)
    assert time.monotonic() - begun < 5.0
    sink.open.set()
    wait_until(lambda: len(sink.getvalue()) >= LIMIT - 100, "it is written")
    outlet.write("the end\n")
    outlet.finish()
    said = sink.getvalue()
    assert len(said) < LIMIT + 200
    assert "lines were not shown" in said
    assert said.endswith("the end\n")


def test_a_reader_that_is_gone_is_told_to_who_writes_next() -> None:
    class Gone(io.StringIO):
        def write(self, text: str) -> int:
            raise BrokenPipeError

    outlet = Outlet(Gone())
    outlet.write("a")

    def told() -> bool:
        try:
            outlet.write("b")
        except BrokenPipeError:
            return True
        return False

    wait_until(told, "it raises")
    outlet.finish()


def test_nothing_written_needs_no_thread() -> None:
    before = threading.active_count()
    Outlet(Sink()).finish()
    assert threading.active_count() == before


@pytest.fixture
def full_pipe() -> Iterator[tuple[int, IO[bytes]]]:
    """A pipe that takes nothing more, and its reader."""
    reading, writing = os.pipe()
    os.set_blocking(writing, False)
    while True:
        try:
            os.write(writing, b"x" * 65536)
        except BlockingIOError:
            try:
                os.write(writing, b"x")
            except BlockingIOError:
                break
    os.set_blocking(writing, True)
    with os.fdopen(reading, "rb") as reader:
        yield writing, reader


UNWRITTEN = "gameday: the output cannot be written: "


@pytest.mark.sandbox
@pytest.mark.short_form(
    "--json->/dev/full-4-No space left on device; ",
    "--json-| true-4-",
    "->&--0-Bad file descriptor; ",
)
@pytest.mark.parametrize(
    ("words", "where", "code", "why"),
    [
        ("--json", ">/dev/full", 4, "No space left on device; "),
        ("--json", ">&-", 4, "Bad file descriptor; "),
        ("--json", "| true", 4, ""),
        ("", ">/dev/full", 0, "No space left on device; "),
        ("-q", ">/dev/full", 0, "No space left on device; "),
        ("", ">&-", 0, "Bad file descriptor; "),
        ("", "| true", 0, ""),
        ("-q", "| true", 0, ""),
        ("--json", "2>&- >kept", 0, ""),
    ],
)
def test_what_a_drill_came_to_is_never_lost_in_silence(
    terminal: Terminal, words: str, where: str, code: int, why: str
) -> None:
    """It goes on to its end; a program that was to read its result is told by the exit code."""
    text = scenario(at="20ms", alert="0s").replace(
        'expect: "available >= 50%"', 'expect: "available >= 0%"'
    )
    path = lay_out(terminal.cwd, text)
    done = subprocess.run(
        [
            "bash",
            "-c",
            f'"$0" -m gameday run {path} {words} {where}; exit "${{PIPESTATUS[0]}}"',
            sys.executable,
        ],
        cwd=terminal.cwd,
        env=terminal.environment(),
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
        timeout=60,
    )
    (drill,) = list_drills(terminal.cwd)
    verdict = json.loads(drill.debrief("json").read_text())["drill"]["exit_code"]
    assert verdict in (0, 3)  # a busy machine may have no sample to show
    assert done.returncode == (verdict or code)
    again = f"`gameday debrief {drill.id}` shows the result again\n"
    assert done.stderr == (f"{UNWRITTEN}{why}{again}" if why else "")


@pytest.mark.sandbox
def test_a_drill_goes_on_where_nobody_reads(
    terminal: Terminal, full_pipe: tuple[int, IO[bytes]]
) -> None:
    """To its end, debrief included; only then it waits to be read."""
    writing, reader = full_pipe
    path = lay_out(terminal.cwd, scenario())
    process = subprocess.Popen(
        [sys.executable, "-m", "gameday", "run", path],
        cwd=terminal.cwd,
        env=terminal.environment(),
        stdout=writing,
        stderr=subprocess.PIPE,
    )
    os.close(writing)
    try:
        wait_until(
            lambda: (
                list_drills(terminal.cwd) and list_drills(terminal.cwd)[0].debrief("html").exists()
            ),
            "the debrief is written",
        )
        assert process.poll() is None
        said = reader.read().decode().lstrip("x")
        assert process.wait(30) in (0, 1, 3)
        assert "Debrief" in said
    finally:
        process.kill()
        process.wait()
        if process.stderr is not None:
            process.stderr.close()
    (drill,) = list_drills(terminal.cwd)
    ended = [e for e in read_journal(drill.journal).events if isinstance(e, events.DrillEnded)]
    assert len(ended) == 1
