"""A running drill in the terminal: what changes now moves, the rest keeps still.

In a terminal the lower lines are redrawn in place (phase, SLIs as sparklines,
what is broken, which alerts fire, elapsed times) and the story grows above them.
Without one, the story alone is printed, a plain line for each thing that happens.
"""

from __future__ import annotations

import math
import os
import sys
from collections import deque
from collections.abc import Mapping
from typing import IO, Any, TextIO, cast

from rich.cells import cell_len
from rich.console import Console, Group, RenderableType
from rich.control import Control
from rich.segment import ControlType, Segment, Segments
from rich.table import Table
from rich.text import Text

from gameday.drills.outlet import Outlet
from gameday.drills.printable import printable
from gameday.drills.view import View
from gameday.injectors.units import show_duration
from gameday.scenarios.model import Scenario
from gameday.scoring import events
from gameday.scoring.narration import Narrator, Told
from gameday.scoring.render import figures

__all__ = ["LiveView", "PlainView", "open_view"]

_BARS = "▁▂▃▄▅▆▇█"
_WIDTH = 36
_NARROW = 8
"""Columns of a sparkline: at most, and the least beside the words for its state."""
_BIN = 1.0
_QUIET = frozenset(
    {
        *("Sample", "LoadBucket", "SliBroke", "InjectionArmed"),
        *("AlertFired", "AlertDelivered", "AlertResolved", "Reported"),  # the terminal is a channel
    }
)
_BACK = "back"
"""In place of the lane of faults: what was broken is as it was."""
_STYLES = {"fault": "yellow", "alert": "bold red", "people": "cyan", "sli": "green", _BACK: "green"}
_SIGNS = {"fault": "✕", "alert": "!", "people": "●", "sli": "~", "sandbox": "·", "load": "·"}
_SIGNS[_BACK] = "✓"


def clock(seconds: float) -> str:
    """``01:23.4`` since the scenario's clock started; negative before."""
    tenths = round(abs(seconds) * 10)
    sign = "-" if seconds < 0 and tenths else " "
    return f"{sign}{tenths // 600:02d}:{tenths % 600 / 10:04.1f}"


def gives_away(event: events.Event, told: Told) -> bool:
    """Would a fixer learn from it what the breaker knows? What `sandbox ps` shows, they look up."""
    return isinstance(event, events.DrillStarted) or told.lane in ("fault", "sandbox")


def is_back(event: events.Event) -> bool:
    """Does it say that something which was broken is as it was?"""
    match event:
        case events.InjectionUndone():
            return event.outcome != "failed"
        case events.TargetChecked():
            return event.equal
    return False


class _Terminal(Console):
    """Where it is shown. A reader that goes away (``| head``), or a full disk behind it, ends the
    showing, not the drill.
    """

    def __exit__(self, exc_type: Any, exc_value: Any, traceback: Any) -> None:
        try:
            super().__exit__(exc_type, exc_value, traceback)
        except OSError:
            self.on_broken_pipe()

    def __init__(self, stream: TextIO) -> None:
        self.outlet = Outlet(stream)
        super().__init__(highlight=False, file=cast("IO[str]", self.outlet))

    def on_broken_pipe(self) -> None:
        self.quiet = True
        nowhere = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nowhere, sys.stdout.fileno())
        os.close(nowhere)


class _Story(View):
    """Tells what happens.

    Args:
        scenario: What is played.
        console: Where to.
        blind: Whoever responds reads along: tell nothing of what is broken, or of the scenario.
    """

    def __init__(self, scenario: Scenario, console: Console, *, blind: bool = False) -> None:
        self.scenario = scenario
        self.console = console
        self.blind = blind
        self.begun: float | None = None
        self.phase = "starting"
        self.narrator = Narrator()
        self._last = 0.0

    def __exit__(self, *exc: object) -> None:
        if isinstance(self.console, _Terminal):
            self.console.outlet.finish()
            self.lost = self.console.outlet.failure

    def observe(self, event: events.Event) -> None:
        if isinstance(event, events.PhaseBegan):
            self.phase = event.phase
            if event.phase == "running":
                self.begun = event.at
        quiet = type(event).__name__ in _QUIET
        for told in self.narrator.tell(event):
            if not quiet and not (self.blind and gives_away(event, told)):
                lane = _BACK if is_back(event) else told.lane
                self._write(event.at, lane, told.text, told.quote)
        self._last = event.at

    def _write(self, at: float, lane: str, text: str, quote: str = "") -> None:
        """One thing that happened; long lines go on under their own beginning."""
        style = _STYLES.get(lane, "")
        words = Text(printable(text), style=style if lane in ("alert", "fault") else "")
        if quote:
            words.append(f" “{printable(quote)}”", style="italic")
        stamp = clock(at - self.begun) if self.begun is not None else " --:----"
        line = Table.grid(padding=(0, 1))
        line.add_column(width=9, no_wrap=True)
        line.add_column(width=1)
        line.add_column(overflow="fold")
        line.add_row(Text(stamp, style="dim"), Text(_SIGNS.get(lane, " "), style=style), words)
        self._print(line)

    def _print(self, line: RenderableType) -> None:
        self.console.print(line)

    def page(self, text: str, kind: str) -> None:
        head, *rest = text.split("\n")
        self._write(self._last, "people" if kind == "report" else "alert", head)
        for line in rest:
            label, detail = printable(line[2:13]), printable(line[13:])
            row = Table.grid(padding=(0, 1))
            row.add_column(width=9)
            row.add_column(width=1)
            row.add_column(width=10, no_wrap=True)
            row.add_column(overflow="fold")
            row.add_row("", "", Text(label.strip(), style="dim"), Text(detail))
            self._print(row)


class PlainView(_Story):
    """One line for each thing that happens: for logs, pipes and CI."""


class _Series:
    """An SLI's recent past: one value for each second."""

    def __init__(self) -> None:
        self.values: deque[float] = deque(maxlen=_WIDTH)
        self.last: float | None = None
        self._bin = -math.inf

    def add(self, at: float, value: float) -> None:
        if at - self._bin >= _BIN:
            self.values.append(value)
            self._bin = at
        elif self.values:
            self.values[-1] = min(self.values[-1], value)
        self.last = value

    def spark(self, low: float, high: float, width: int = _WIDTH) -> str:
        span = (high - low) or 1.0
        bars = [min(max((value - low) / span, 0.0), 1.0) for value in self.values]
        drawn = "".join(_BARS[round(bar * (len(_BARS) - 1))] for bar in bars)
        return drawn[-width:].rjust(width)


class _Block:
    """The lower lines, which are drawn again in place.

    A terminal that is made narrower wraps what stands in it: a line that was one row becomes
    two. So we keep the lengths of what we drew, and erase as many rows as it takes up now.
    """

    def __init__(self, console: Console) -> None:
        self.console = console
        self._lengths: list[int] = []

    def erase(self) -> None:
        """Leave the cursor where the block began."""
        width = max(self.console.width, 1)
        rows = sum(max(1, math.ceil(length / width)) for length in self._lengths)
        if rows:
            clear = (ControlType.ERASE_IN_LINE, 2)
            above = [(ControlType.CURSOR_UP, 1), clear] * (rows - 1)
            self.console.control(Control(ControlType.CARRIAGE_RETURN, clear, *above))
        self._lengths = []

    def draw(self, block: RenderableType) -> None:
        """Draw it where the cursor is; never more than fits, never a full last column."""
        width, height = self.console.size
        options = self.console.options.update(width=max(width - 1, 1))
        lines = [_stripped(row) for row in self.console.render_lines(block, options, pad=False)]
        if len(lines) >= height:
            lines = lines[1:height]  # the ruler goes first, then the last lines
        segments = [part for line in lines for part in (*line, Segment.line())][:-1]
        self.console.print(Segments(segments), end="", soft_wrap=True)
        self._lengths = [sum(cell_len(part.text) for part in line) for line in lines]


def _stripped(line: list[Segment]) -> list[Segment]:
    """Without the blanks at its end: a terminal would wrap them too."""
    line = list(line)
    while line and not line[-1].text.strip():
        line.pop()
    if line:
        text, style, control = line[-1]
        line[-1] = Segment(text.rstrip(), style, control)
    return line


class LiveView(_Story):
    """The story above, and below it what is so right now."""

    def __init__(self, scenario: Scenario, console: Console, *, blind: bool = False) -> None:
        super().__init__(scenario, console, blind=blind)
        self.values: Mapping[str, float] = {}
        self.series = {name: _Series() for name in scenario.slis}
        self.inside: dict[str, bool] = {}
        self.faults: dict[str, tuple[str, float]] = {}
        self.named: dict[str, str] = {}
        self.pages: dict[str, tuple[str, float, bool]] = {}
        self.now = 0.0
        self._block = _Block(console)
        self._drawing = False

    def __enter__(self) -> View:
        self._drawing = True
        self.console.show_cursor(False)
        return self

    def __exit__(self, *exc: object) -> None:
        self._drawing = False
        with self.console:
            self._block.erase()
            self.console.show_cursor(True)
        super().__exit__(*exc)

    def _print(self, line: RenderableType) -> None:
        """Above the block, in one write, so that nothing flickers."""
        with self.console:
            self._block.erase()
            super()._print(line)
            if self._drawing:
                self._block.draw(self._draw())

    def observe(self, event: events.Event) -> None:
        super().observe(event)
        match event:
            case events.SliBroke(bounds="steady"):
                self.inside[event.sli] = event.inside
            case events.InjectionArmed():
                self.named[event.injection.id] = (
                    f"{event.injection.fault} on {event.injection.target}"
                )
            case events.InjectCalled():
                name = self.named.get(event.injection, event.injection)
                self.faults[event.injection] = (name, event.at)
            case (
                events.Looked(in_force=False, took_effect=True)
                | events.InjectFailed()
                | events.InjectionUndone(outcome="put-back" | "taken-over" | "nothing")
            ):
                self.faults.pop(event.injection, None)
            case events.AlertFired():
                self.pages[event.page] = (event.alert, event.at, False)
            case events.AlertResolved():
                self.pages.pop(event.page, None)
            case events.Said(verb="ack"):
                self.pages = {
                    page: (name, at, True if event.page in ("", page) else done)
                    for page, (name, at, done) in self.pages.items()
                }

    def watch(self, values: Mapping[str, float]) -> None:
        self.values = values

    def tick(self, now: float) -> None:
        self.now = now
        for name, value in self.values.items():
            self.series[name].add(now, value)
        if not self._drawing:
            return
        with self.console:
            self._block.erase()
            self._block.draw(self._draw())

    def _draw(self) -> RenderableType:
        parts: list[RenderableType] = [Text("─" * min(self.console.width - 1, 80), style="dim")]
        parts += [self._head(), self._slis()]
        parts += [self._firing()] if self.blind else [self._broken(), self._firing()]
        return Group(*parts)

    def _head(self) -> Text:
        tail = Text(f" · {self.scenario.severity} · {printable(self.phase)}")
        if self.begun is not None:
            tail.append(f" {clock(self.now - self.begun).strip()}")
            tail.append(f" of {show_duration(self.scenario.duration)}", style="dim")
        head = Text("EXERCISE ", style="bold yellow")
        width = self.console.width - 1
        title = Text(
            "Something may break" if self.blind else printable(self.scenario.title), "bold"
        )
        title.truncate(max(width - head.cell_len - tail.cell_len, 8), overflow="ellipsis")
        head.append_text(title).append_text(tail)
        head.truncate(max(width, 8), overflow="ellipsis")
        return head

    def _slis(self) -> Table:
        table = Table.grid(padding=(0, 2))
        bounds = {bound.name: bound for bound in self.scenario.steady_bounds}
        names = max(map(cell_len, self.scenario.slis), default=0)
        rest = 1 + 2 + names + 2 + 8 + 2  # a free column, the name, the value
        state_width = max((len(f"outside ({b.op} {b.shown})") for b in bounds.values()), default=7)
        roomy = self.console.width >= rest + 2 + state_width + _NARROW
        width = self.console.width - rest - (2 + state_width if roomy else 0)
        width = max(min(width, _WIDTH), 1)
        for name, sli in self.scenario.slis.items():
            series, share = self.series[name], sli.quantile is None
            high = 1.0 if share else max([*series.values, 1e-3])
            value = (
                "–"
                if series.last is None
                else (figures.share(series.last) if share else show_duration(series.last))
            )
            inside = self.inside.get(name)
            state = {None: "", True: "steady", False: "outside"}[inside]
            bound = f"{bounds[name].op} {bounds[name].shown}" if name in bounds else ""
            style = "bold red" if inside is False else "green" if inside else ""
            row = [
                Text(f"  {name}"),
                Text(series.spark(0.0, high, width), style=style),
                Text(value.rjust(8), style=style),
            ]
            if roomy:
                row.append(Text(f"{state} {bound and f'({bound})'}", style="dim"))
            table.add_row(*row)
        return table

    def _broken(self) -> Text:
        line = Text("  broken  ", style="dim")
        held = [
            f"✕ {name} for {show_duration(round(self.now - at))}"
            for name, at in self.faults.values()
        ]
        line.append(printable(", ".join(held)) or "nothing", style="yellow" if held else "dim")
        return line

    def _firing(self) -> Text:
        line = Text("  firing  ", style="dim")
        held = [
            f"! {name} for {show_duration(round(self.now - at))}, {'acknowledged' if done else 'not acknowledged'}"
            for name, at, done in self.pages.values()
        ]
        line.append(printable(", ".join(held)) or "nothing", style="bold red" if held else "dim")
        return line


def open_view(scenario: Scenario, *, blind: bool = False) -> View:
    """The view that fits where we print; ``blind``: for the eyes of those who respond."""
    console = _Terminal(sys.stdout)
    if console.is_terminal and not console.is_dumb_terminal and sys.stdout.isatty():
        return LiveView(scenario, console, blind=blind)
    return PlainView(scenario, console, blind=blind)
