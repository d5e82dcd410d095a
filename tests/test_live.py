"""The views: at any width, whatever people type, and the terminal is clean afterwards."""

from __future__ import annotations

import io
import os
import re
import subprocess
import sys

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from rich.console import Console, ConsoleDimensions

from gameday.drills.channels.message import Message, plain_text
from gameday.drills.live import LiveView, PlainView, clock
from gameday.drills.printable import printable
from gameday.drills.view import View
from gameday.injectors.fault import Injection
from gameday.injectors.undo import StartSlot
from gameday.scoring import events
from tests.simulation import scenario
from tests.test_narration import KINDS, make

EVIL = "\x1b[31mred\x1b]0;title\x07\x9b2J\r\b\x00 two\nlines\u2028\u202e"
SEQUENCE = re.compile(r"\x1b\[[0-9;?]*[A-Za-z]")
ALLOWED = re.compile(r"\x1b\[[0-9;]*m|\x1b\[\?25[lh]|\x1b\[[0-9]*A|\x1b\[2K|\r|\n")


def console_of(width: int, height: int) -> tuple[Console, io.StringIO]:
    made, out = console(width, terminal=True)
    made.size = ConsoleDimensions(width, height)
    return made, out


def console(width: int, *, terminal: bool) -> tuple[Console, io.StringIO]:
    out = io.StringIO()
    made = Console(
        file=out,
        width=width,
        height=40,
        force_terminal=terminal,
        highlight=False,
        color_system="standard" if terminal else None,
        legacy_windows=False,
        _environ={},
    )
    return made, out


def open_view(kind: type[PlainView] | type[LiveView], width: int) -> tuple[View, io.StringIO]:
    screen, out = console(width, terminal=kind is LiveView)
    return kind(scenario(title=f"Odd {EVIL} title"), screen), out


def show_everything(view: View, text: str) -> None:
    with view:
        view.watch({"availability": 0.97})
        for number, kind in enumerate(KINDS):
            view.observe(make(kind, text, float(number)))
            view.tick(float(number))
        fields = dict.fromkeys(
            ("title", "value", "summary", "impact", "verify", "first_step", "escalate"), text
        )
        for status in ("firing", "resolved", "report"):
            message = Message(status=status, key="k", drill="d", at=0.0, tier="page", **fields)
            view.page(plain_text(message), status)
            view.page(f"head\n{text}\n  {text}", status)
        view.tick(99.0)


@pytest.mark.parametrize("kind", [PlainView, LiveView])
@pytest.mark.parametrize("width", [20, 40, 80, 200])
def test_what_people_type_never_drives_the_terminal(
    kind: type[PlainView] | type[LiveView], width: int
) -> None:
    view, out = open_view(kind, width)
    show_everything(view, EVIL)
    rest = ALLOWED.sub("", out.getvalue())
    assert not [c for c in rest if not c.isprintable()]


@pytest.mark.parametrize("kind", [PlainView, LiveView])
@pytest.mark.parametrize("width", [40, 80, 200])
def test_no_line_is_wider_than_the_terminal(
    kind: type[PlainView] | type[LiveView], width: int
) -> None:
    view, out = open_view(kind, width)
    show_everything(view, "a longer text about what went on " * 5)
    for line in re.split(r"[\r\n]", SEQUENCE.sub("", out.getvalue())):
        assert len(line) <= width, line


@pytest.mark.parametrize("width", [40, 80, 200])
def test_the_live_view_leaves_the_terminal_as_it_was(width: int) -> None:
    view, out = open_view(LiveView, width)
    show_everything(view, "text")
    shown = out.getvalue()
    assert shown.count("\x1b[?25l") == shown.count("\x1b[?25h") == 1
    assert shown.rindex("\x1b[?25h") > shown.rindex("\x1b[?25l")
    assert shown.endswith(("\n", "\x1b[?25h"))


def test_the_live_view_leaves_it_so_after_an_error_too() -> None:
    view, out = open_view(LiveView, 80)
    with pytest.raises(KeyError), view:
        view.observe({}["missing"])
    assert out.getvalue().count("\x1b[?25h") == 1


@given(st.text(max_size=200), st.integers(20, 220))
@settings(max_examples=80, deadline=None)
def test_any_text_at_any_width(text: str, width: int) -> None:
    view, _ = open_view(PlainView, width)
    with view:
        view.observe(events.Said(at=1.0, verb="note", role="fixer", text=text))
        view.page(text, "firing")


def test_the_plain_view_has_a_line_for_each_thing_and_no_colour() -> None:
    view, out = open_view(PlainView, 80)
    with view:
        view.observe(events.PhaseBegan(at=2.0, phase="running"))
        view.observe(events.Said(at=65.5, verb="ack", role="fixer"))
        view.observe(
            events.SliBroke(at=70.0, sli="availability", bounds="steady", inside=False, value=0.5)
        )
    lines = out.getvalue().splitlines()
    assert len(lines) == 2
    assert "01:03.5" in lines[1]
    assert "fixer acknowledged" in lines[1]
    assert "\x1b" not in out.getvalue()


class Screen:
    """A terminal that wraps its lines anew when its width changes, as most do (tmux, VTE, kitty)."""

    def __init__(self, width: int) -> None:
        self.width = width
        self.rows = [""]
        self.goes_on = [False]  # is the next row the rest of this line?
        self.row = 0

    def resize(self, width: int) -> None:
        assert self.row == len(self.rows) - 1
        lines, line = [], ""
        for row, goes_on in zip(self.rows, self.goes_on, strict=True):
            line += row
            if not goes_on:
                lines.append(line)
                line = ""
        self.width, self.rows, self.goes_on, self.row = width, [""], [False], 0
        for number, text in enumerate(lines):
            self.feed(("\n" if number else "") + text)

    def feed(self, text: str) -> None:
        for token in re.findall(r"\x1b\[[0-9;?]*[A-Za-z]|\r|\n|[^\x1b\r\n]", text):
            if token == "\n":
                self._down(goes_on=False)
            elif token == "\x1b[2K":
                self.rows[self.row], self.goes_on[self.row] = "", False
                assert not any(self.rows[self.row + 1 :]), "erases from below"
                del self.rows[self.row + 1 :], self.goes_on[self.row + 1 :]
            elif token == "\x1b[1A":
                self.row -= 1
                self.goes_on[self.row] = False
            elif token != "\r" and not token.startswith("\x1b"):
                if len(self.rows[self.row]) == self.width:
                    self._down(goes_on=True)
                self.rows[self.row] += token

    def _down(self, *, goes_on: bool) -> None:
        self.goes_on[self.row] = goes_on
        self.rows.append("")
        self.goes_on.append(False)
        self.row += 1


@pytest.mark.parametrize("height", [40, 10, 4])
@pytest.mark.parametrize("widths", [(80, 60, 120), (120, 40, 41, 80), (60, 200, 20)])
def test_a_terminal_that_is_resized_keeps_no_stale_block(
    widths: tuple[int, ...], height: int
) -> None:
    terminal, out = console_of(widths[0], height)
    view, screen = LiveView(scenario(title="A title"), terminal), Screen(widths[0])
    pace = 0.0
    with view:
        for width in widths:
            screen.feed(out.getvalue())
            out.seek(0)
            out.truncate()
            screen.resize(width)
            terminal.size = ConsoleDimensions(width, height)
            for text in ("first", "second"):
                pace += 1.0
                view.watch({"availability": 0.97})
                view.observe(
                    events.Said(at=pace, verb="note", role="fixer", text=f"{text} at {width}")
                )
                view.tick(pace)
        screen.feed(out.getvalue())
        shown = "\n".join(screen.rows)
        assert shown.count("EXERCISE") == 1
        assert 0 < len(shown.partition("EXERCISE")[2].split("\n")) < height
        out.seek(0)
        out.truncate()
    screen.feed(out.getvalue())
    left = " ".join("".join(screen.rows).split())
    assert "EXERCISE" not in left
    assert "─" not in left
    for width in widths:
        for text in ("first", "second"):
            assert left.replace(" ", "").count(f"{text}at{width}”") == 1


def test_what_is_broken_and_what_fires() -> None:
    view, out = open_view(LiveView, 120)
    with view:
        view.observe(make(events.InjectionArmed, "i"))
        view.observe(events.InjectCalled(at=1.0, injection="i"))
        view.observe(
            events.AlertFired(at=1.0, page="p", alert="Down", tier="page", source="synthetic")
        )
        view.tick(4.0)
        seen = SEQUENCE.sub("", out.getvalue())
        assert "✕ i on i for 3 s" in seen
        assert "! Down for 3 s, not acknowledged" in seen
        view.observe(events.Said(at=5.0, verb="ack", role="fixer"))
        view.observe(events.InjectFailed(at=5.0, injection="i", error="no"))
        view.tick(5.0)
        seen = SEQUENCE.sub("", out.getvalue())
        assert "acknowledged" in seen.rpartition("firing")[2]
        assert "nothing" in seen.rpartition("broken")[2]


def test_a_reader_that_goes_away_ends_the_showing_not_the_drill() -> None:
    program = (
        "from gameday.drills.live import open_view\n"
        "from gameday.scoring import events\n"
        "from tests.simulation import scenario\n"
        "import sys\n"
        "view = open_view(scenario())\n"
        "for n in range(2000):\n"  # twice what a pipe holds
        "    view.observe(events.Said(at=float(n), verb='note', role='fixer', text='x' * 60))\n"
        "print('still here', file=sys.stderr)\n"
    )
    reader, writer = os.pipe()
    process = subprocess.Popen(
        [sys.executable, "-c", program], stdout=writer, stderr=subprocess.PIPE, text=True
    )
    os.close(writer)
    os.read(reader, 100)
    os.close(reader)
    _, errors = process.communicate(timeout=60)
    assert errors == "still here\n"
    assert process.returncode == 0


@given(st.text())
def test_clean_text_is_printable(text: str) -> None:
    assert printable(text).isprintable()
    assert len(printable(text)) == len(text)


@pytest.mark.parametrize(
    ("seconds", "shown"),
    [(0.0, " 00:00.0"), (83.4, " 01:23.4"), (-2.5, "-00:02.5"), (59.96, " 01:00.0")],
)
def test_the_clock(seconds: float, shown: str) -> None:
    assert clock(seconds) == shown


def test_a_blind_view_tells_responders_nothing_of_the_breaker() -> None:
    injection = Injection(
        id="i1",
        fault="process.kill",
        target="api-2",
        tag="gameday-x-i1",
        undo=(StartSlot("api-2"),),
    )
    story: list[events.Event] = [
        events.DrillStarted(at=0.0, id="d", scenario="api-node-failure", gameday="0", seed=1),
        events.PhaseBegan(at=1.0, phase="running"),
        events.InjectionArmed(at=2.0, injection=injection),
        events.InjectCalled(at=2.0, injection="i1"),
        events.Looked(
            at=2.1,
            injection="i1",
            took_effect=True,
            in_force=True,
            seen="api-2 is gone",
            previous=2,
        ),
        events.SandboxChanged(at=2.2, action="exited", slot="api-2", detail="SIGKILL"),
        events.Said(at=3.0, verb="note", role="fixer", text="what is this?"),
    ]
    for kind in (PlainView, LiveView):
        shown = {}
        for blind in (False, True):
            console = Console(file=io.StringIO(), width=100, force_terminal=False)
            view = kind(scenario(title="Secret title"), console, blind=blind)
            for event in story:
                view.observe(event)
            if isinstance(view, LiveView):
                console.print(view._draw())
            shown[blind] = console.file.getvalue()  # type: ignore[attr-defined]
        assert "process.kill on api-2" in shown[False]
        assert "what is this?" in shown[True]
        for secret in ("process.kill", "api-2", "api-node-failure", "Secret title"):
            assert secret not in shown[True]
