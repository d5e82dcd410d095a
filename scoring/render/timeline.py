"""The timeline picture as inline SVG: one time axis; lanes for SLIs, faults, alerts and people.

What we did is hatched, what people did is solid; alerts are triangles, people
circles (words) and squares (hands): told apart by shape, never by colour alone.
Whiskers are as wide as the bound. Labels stand on the marks. No script, no font,
no id that two pictures on one page would share.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path

from markupsafe import escape

from gameday.injectors.units import show_duration
from gameday.scoring.document import Bar, Line, Mark, Picture
from gameday.scoring.render.figures import clock, share

__all__ = ["stylesheet", "svg"]

_EDGE = 10.0
_FONT = 12.5
_CHARACTER = 6.9  # a generous mean width at that size, for what fits
_ROW = 19.0
_ROWS = 7
_CHART = 74.0
_TICKS = (0.5, 1, 2, 5, 10, 15, 30, 60, 120, 300, 600, 1800, 3600, 7200, 21600, 86400)
_FLOORS = (0.99, 0.95, 0.9, 0.75, 0.5, 0.0)
_MINOR = ("note", "update")
_PHASES = {
    "starting": "starting",
    "steadying": "settling",
    "running": "drill",
    "verifying": "verifying",
}


def stylesheet() -> str:
    """The picture's CSS; its colours are custom properties of the page."""
    return Path(__file__).with_name("timeline.css").read_text(encoding="utf-8")


def svg(
    picture: Picture, *, width: int = 920, key: str = "timeline", standalone: bool = False
) -> str:
    """The picture, ``width`` units wide; a page shows one for wide screens and one for phones.

    Args:
        key: Prefix of the ids inside; distinct for each picture on a page.
        standalone: With its own stylesheet, to be a file of its own.
    """
    return _Drawing(picture, float(width), key).draw(standalone)


def _number(value: float) -> str:
    return f"{value:.1f}".removesuffix(".0")


def _fits(text: str, room: float) -> str:
    """As much of a text as there is room for."""
    most = max(1, int(room / _CHARACTER))
    return text if len(text) <= most else text[: max(1, most - 1)].rstrip() + "…"


class _Drawing:
    """One picture being drawn, from top to bottom; ``y`` is how far it has come."""

    def __init__(self, picture: Picture, width: float, key: str) -> None:
        self.picture = picture
        self.width = width
        self.key = key
        self.y = 0.0
        self.out: list[str] = []
        axis = picture.axis
        self._scale = (width - 2 * _EDGE) / max(axis.end - axis.start, 1e-9)

    def x(self, at: float) -> float:
        """Where an instant is; outside the axis, its nearest end."""
        axis = self.picture.axis
        return _EDGE + (min(max(at, axis.start), axis.end) - axis.start) * self._scale

    def draw(self, standalone: bool) -> str:
        """Everything, and the frame around it."""
        self._phases()
        for line in self.picture.lines:
            self._sli(line)
        self._instants()
        self._failures()
        self._faults()
        self._lane("Alerts and reports", self.picture.alerts)
        self._lane("People", self.picture.people)
        self._axis()
        return self._frame(standalone)

    def _frame(self, standalone: bool) -> str:
        style = f"<style>{stylesheet()}</style>" if standalone else ""
        head = (
            f'<svg xmlns="http://www.w3.org/2000/svg" class="timeline" role="img" '
            f'viewBox="0 0 {_number(self.width)} {_number(self.y)}" '
            f'aria-labelledby="{self.key}-title {self.key}-desc">'
            f'<title id="{self.key}-title">Timeline of the drill</title>'
            f'<desc id="{self.key}-desc">{escape(self.picture.description)}</desc>{style}'
            f'<defs><pattern id="{self.key}-hatch" width="5" height="5" patternUnits="userSpaceOnUse" '
            f'patternTransform="rotate(45)"><rect width="5" height="5" class="hatch-ground"/>'
            f'<line x1="0" y1="0" x2="0" y2="5" class="hatch-line"/></pattern></defs>'
        )
        return head + "".join([*self._grid(), *self.out]) + "</svg>"

    # Pieces.

    def _text(
        self, x: float, y: float, text: str, kind: str = "", *, anchor: str = "start"
    ) -> None:
        ends = "" if anchor == "start" else f' text-anchor="{anchor}"'
        cls = f' class="{kind}"' if kind else ""
        self.out.append(f'<text x="{_number(x)}" y="{_number(y)}"{cls}{ends}>{escape(text)}</text>')

    def _stroke(self, x1: float, y1: float, x2: float, y2: float, kind: str) -> None:
        self.out.append(
            f'<line x1="{_number(x1)}" y1="{_number(y1)}" x2="{_number(x2)}" y2="{_number(y2)}" class="{kind}"/>'
        )

    def _box(
        self, x1: float, y: float, x2: float, height: float, kind: str, fill: str = ""
    ) -> None:
        paint = f' fill="{fill}"' if fill else ""
        self.out.append(
            f'<rect x="{_number(x1)}" y="{_number(y)}" width="{_number(max(x2 - x1, 0.8))}" '
            f'height="{_number(height)}" class="{kind}"{paint}/>'
        )

    def _title(self, name: str, remark: str = "") -> None:
        self.y += 18
        self._text(_EDGE, self.y, name, "lane")
        if remark:
            room = self.width - 2 * _EDGE
            if (len(name) + 2 + len(remark)) * _CHARACTER > room:
                self.y += 15
                self._text(_EDGE, self.y, _fits(remark, room), "muted halo")
            else:
                self._text(self.width - _EDGE, self.y, remark, "muted halo", anchor="end")
        self.y += 7

    def _whisker(self, low: float, high: float, y: float) -> None:
        left, right = self.x(low), self.x(high)
        self._stroke(left, y, right, y, "whisker")
        self._stroke(left, y - 4, left, y + 4, "whisker")
        self._stroke(right, y - 4, right, y + 4, "whisker")

    # Lanes.

    def _phases(self) -> None:
        self.y = 16.0
        for name, begin, end in self.picture.axis.phases:
            left, right = self.x(begin), self.x(end)
            word = _PHASES.get(name, "")
            if word and right - left > (len(word) + 1) * _CHARACTER:
                self._text(left + 4, self.y, word, "muted")
            if begin > self.picture.axis.start:
                self._stroke(left, self.y - 10, left, self.y + 4, "tick")
        reverted = self.picture.axis.reverted
        if reverted is not None:
            x, words = self.x(reverted), "we put everything back"
            if x - len(words) * _CHARACTER > self.width / 3:
                self._text(x - 5, self.y, words, "halo", anchor="end")
            else:
                self._text(x + 5, self.y, words, "halo")
        self.y += 4

    def _sli(self, line: Line) -> None:
        worst = "" if line.worst is None else f"worst {_value(line, line.worst)}"
        self._title(line.name, ", ".join(part for part in (line.bound_text, worst) if part))
        top, bottom = self.y, self.y + _CHART
        values = [value for _, value in line.series if value is not None]
        low, high = _domain(line, values)

        def height(value: float) -> float:
            return bottom - (min(max(value, low), high) - low) / (high - low) * _CHART

        for outside in line.outside:
            self._excursion(outside, top)
        if line.bound is not None:
            at = height(line.bound)
            self._stroke(_EDGE, at, self.width - _EDGE, at, "bound")
        self._stroke(_EDGE, bottom, self.width - _EDGE, bottom, "base")
        for path in _paths(line.series, self.x, height):
            self.out.append(f'<path d="{path}" class="series"/>')
        self._text(_EDGE, top + 11, _value(line, high), "muted halo")
        self._text(_EDGE, bottom - 4, _value(line, low), "muted halo")
        self.y = bottom

    def _excursion(
        self, outside: tuple[float, float, float | None, float | None], top: float
    ) -> None:
        first, surely, maybe, last = outside
        end = self.picture.axis.end
        self._box(self.x(first), top, self.x(end if last is None else last), _CHART, "maybe")
        self._box(self.x(surely), top, self.x(end if maybe is None else maybe), _CHART, "outside")

    def _instants(self) -> None:
        """Impact, mitigated, restored: measured on the SLIs, so directly beneath them."""
        if self.picture.instants:
            self.y += 6
            self._rows(self.picture.instants)

    def _failures(self) -> None:
        if not self.picture.failures:
            return
        most = max(number for _, number in self.picture.failures)
        self._title("Requests failed", f"at most {most:,} in a second")
        bottom = self.y + 26
        for second, number in self.picture.failures:
            tall = max(1.5, 26 * number / most)
            right = max(self.x(second + 1) - 0.6, self.x(second) + 0.8)
            self._box(self.x(second), bottom - tall, right, tall, "failed")
        self._stroke(_EDGE, bottom, self.width - _EDGE, bottom, "base")
        self.y = bottom

    def _faults(self) -> None:
        self._title("Faults", "" if self.picture.bars else "none")
        for bar in self.picture.bars[:12]:
            self._bar(bar)
        if len(self.picture.bars) > 12:
            self.y += 14
            self._text(_EDGE, self.y, f"and {len(self.picture.bars) - 12} more", "muted")

    def _bar(self, bar: Bar) -> None:
        self.y += 13
        left = self.x(bar.called)
        right = self.x(self.picture.axis.end if bar.ended is None else sum(bar.ended) / 2)
        label = f"{bar.label}, {bar.end_label}"
        self._label(left, label)
        self.y += 5
        self._box(left, self.y, right, 11, "fault", f"url(#{self.key}-hatch)")
        middle = self.y + 5.5
        if bar.effect is not None:
            self._whisker(*bar.effect, middle)
        if bar.ended is not None:
            self._whisker(*bar.ended, middle)
            if bar.by_people:
                self.out.append(_shape("hands", right, middle))
            else:
                self._stroke(right, self.y - 3, right, self.y + 14, "ours")
        self.y += 13

    def _label(self, x: float, text: str) -> None:
        room = self.width - _EDGE - x
        if len(text) * _CHARACTER <= room or room > self.width / 2:
            self._text(x, self.y, _fits(text, room), "halo")
        else:
            shown = _fits(text, self.width - 2 * _EDGE)
            self._text(self.width - _EDGE, self.y, shown, "halo", anchor="end")

    def _lane(self, name: str, marks: Sequence[Mark]) -> None:
        self._title(name, "" if marks else "none")
        self._rows(marks)

    def _rows(self, marks: Iterable[Mark]) -> None:
        """Marks with their labels beside them, each in the first row where both fit."""
        reached: list[list[tuple[float, float]]] = []
        bare: list[Mark] = []
        # Where there is no room for every label, notes and updates go without first.
        for mark in sorted(marks, key=lambda mark: (mark.label in _MINOR, mark.at)):
            place = self._place(mark, reached)
            if place is None:
                bare.append(mark)
                continue
            row, flipped, text = place
            self._mark(mark, self.y + row * _ROW + 10, text, flipped=flipped)
        self.y += len(reached) * _ROW
        if bare:
            self.y += _ROW
            for mark in bare:
                self._mark(mark, self.y - 9, "", flipped=False)
            self.y += 14
            self._text(
                _EDGE, self.y, f"{len(bare)} marks without a label: see the appendix", "muted"
            )

    def _place(
        self, mark: Mark, reached: list[list[tuple[float, float]]]
    ) -> tuple[int, bool, str] | None:
        """Row, side and text of a mark's label; None if no row has room."""
        text = _fits(f"{mark.label} {clock(mark.at, tenths=False)}", self.width - 2 * _EDGE - 24)
        wide = len(text) * _CHARACTER + 12
        left, right = (
            self.x(mark.at if mark.low is None else mark.low),
            self.x(mark.at if mark.high is None else mark.high),
        )
        flipped = right + wide > self.width
        if flipped and left - wide < 0:
            text = _fits(text, max(right, self.width - left) - 30)
            wide = len(text) * _CHARACTER + 12
            flipped = right + wide > self.width
        taken = (left - wide, right + 8) if flipped else (left - 8, right + wide)
        for row, places in enumerate(reached):
            if all(taken[1] < begin or end < taken[0] for begin, end in places):
                places.append(taken)
                return row, flipped, text
        if len(reached) >= _ROWS:
            return None
        reached.append([taken])
        return len(reached) - 1, flipped, text

    def _mark(self, mark: Mark, y: float, text: str, *, flipped: bool) -> None:
        low, high = (
            mark.at if mark.low is None else mark.low,
            mark.at if mark.high is None else mark.high,
        )
        if mark.low is not None:
            self._whisker(low, high, y)
        self.out.append(
            f"<g><title>{escape(f'{clock(mark.at)} {mark.label}')}</title>"
            f"{_shape(mark.kind, self.x(mark.at), y)}</g>"
        )
        if text and flipped:
            self._text(self.x(low) - 9, y + 4, text, "halo", anchor="end")
        elif text:
            self._text(self.x(high) + 9, y + 4, text, "halo")

    # Axis.

    def _every(self) -> float:
        axis = self.picture.axis
        least = 62 / self._scale
        return next((step for step in _TICKS if step >= least), axis.end - axis.start)

    def _marks(self) -> list[float]:
        axis, every = self.picture.axis, self._every()
        first, last = math.ceil(axis.start / every - 1e-9), math.floor(axis.end / every + 1e-9)
        return [step * every for step in range(first, last + 1)]

    def _axis(self) -> None:
        self.y += 12
        self._stroke(_EDGE, self.y, self.width - _EDGE, self.y, "base")
        for at in self._marks():
            x = self.x(at)
            self._stroke(x, self.y, x, self.y + 5, "tick")
            half = len(clock(at, tenths=False)) * _CHARACTER / 2
            place = min(max(x, half + 1), self.width - half - 1)
            self._text(place, self.y + 18, clock(at, tenths=False), "muted", anchor="middle")
        self.y += 26

    def _grid(self) -> list[str]:
        """Behind everything: the scenario's zero, and where we put everything back."""
        lines = []
        bottom = _number(self.y - 26)
        reverted = self.picture.axis.reverted
        for at, kind in ((0.0, "zero"), (reverted, "reverted")):
            if at is not None:
                x = _number(self.x(at))
                lines.append(f'<line x1="{x}" y1="6" x2="{x}" y2="{bottom}" class="{kind}"/>')
        return lines


def _value(line: Line, value: float) -> str:
    return share(value, samples=100) if line.share else show_duration(value)


def _domain(line: Line, values: Sequence[float]) -> tuple[float, float]:
    known = [*values, *([] if line.bound is None else [line.bound])]
    if not line.share:
        return 0.0, max([*known, 1e-3]) * 1.1
    least = min(known, default=0.0)
    return next((floor for floor in _FLOORS if floor < least), 0.0), 1.0


def _paths(
    series: Sequence[tuple[float, float | None]],
    x: Callable[[float], float],
    y: Callable[[float], float],
) -> list[str]:
    """The line, broken where the value is unknown; in each column only what can be seen of it."""
    paths: list[str] = []
    columns: dict[int, list[tuple[float, float]]] = {}

    def flush() -> None:
        points = [point for column in columns.values() for point in _seen(column)]
        if points:
            paths.append("M" + "L".join(f"{_number(px)} {_number(py)}" for px, py in points))
        columns.clear()

    for at, value in series:
        if value is None or not math.isfinite(value):
            flush()
        else:
            columns.setdefault(int(x(at)), []).append((x(at), y(value)))
    flush()
    return paths


def _seen(column: list[tuple[float, float]]) -> list[tuple[float, float]]:
    """First, highest, lowest and last point of one column, in order."""
    if len(column) <= 4:
        return column
    heights = [height for _, height in column]
    kept = {0, heights.index(min(heights)), heights.index(max(heights)), len(column) - 1}
    return [column[index] for index in sorted(kept)]


def _shape(kind: str, x: float, y: float) -> str:
    """Triangles for alerts, a diamond for reports, circles for words, squares for hands, a bar for instants."""
    if kind in ("page", "ticket", "fyi"):
        cls = "solid" if kind == "page" else "hollow"
        points = [(x, y - 6), (x + 6, y + 5), (x - 6, y + 5)]
        return _polygon(points, cls)
    if kind == "report":
        return _polygon([(x, y - 6), (x + 6, y), (x, y + 6), (x - 6, y)], "solid")
    if kind == "hands":
        left, top = _number(x - 4.5), _number(y - 4.5)
        return f'<rect x="{left}" y="{top}" width="9" height="9" class="solid"/>'
    if kind == "said":
        return f'<circle cx="{_number(x)}" cy="{_number(y)}" r="4.5" class="hollow"/>'
    return f'<line x1="{_number(x)}" y1="{_number(y - 7)}" x2="{_number(x)}" y2="{_number(y + 7)}" class="instant"/>'


def _polygon(points: Sequence[tuple[float, float]], cls: str) -> str:
    text = " ".join(f"{_number(x)},{_number(y)}" for x, y in points)
    return f'<polygon points="{text}" class="{cls}"/>'
