"""The timeline picture in plain text, for Markdown and terminals: the same lanes, one column a moment."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from gameday.scoring.document import Bar, Line, Mark, Picture
from gameday.scoring.render.figures import clock

__all__ = ["strip"]

_HEIGHTS = "▁▂▃▄▅▆▇█"
_SHAPES = {"page": "▲", "ticket": "△", "fyi": "△", "report": "◆", "said": "○", "hands": "■"}
_NAMES = 20


def strip(picture: Picture, *, width: int = 58) -> str:
    """Lines of text, at most ``width`` + 22 columns wide."""
    axis = picture.axis
    scale = (width - 1) / max(axis.end - axis.start, 1e-9)

    def column(at: float) -> int:
        return round((min(max(at, axis.start), axis.end) - axis.start) * scale)

    lines = [_row("", _axis(picture, column, width))]
    lines += [_row(line.name, _sli(line, column, width)) for line in picture.lines]
    lines += [_row(bar.label, _bar(bar, column, width, axis.end)) for bar in picture.bars[:8]]
    lines += [_row("alerts", _marks(picture.alerts, column, width))] if picture.alerts else []
    lines += [_row("people", _marks(picture.people, column, width))] if picture.people else []
    return "\n".join(lines) + "\n"


def _row(name: str, text: str) -> str:
    short = name if len(name) <= _NAMES else name[: _NAMES - 1] + "…"
    return f"{short:<{_NAMES}}  {text}".rstrip()


def _axis(picture: Picture, column: Callable[[float], int], width: int) -> str:
    """Times where they fit; zero always."""
    axis = picture.axis
    length = axis.end - axis.start
    every = next(
        (s for s in (1, 2, 5, 10, 15, 30, 60, 120, 300, 600, 1800, 3600, 7200) if length / s <= 6),
        length,
    )
    cells = [" "] * (width + 6)
    at = 0.0
    while at <= axis.end and every > 0:
        text = clock(at, tenths=False)
        start = column(at)
        if start + len(text) <= width + 2:
            cells[start : start + len(text)] = text
        at += every
    return "".join(cells)


def _sli(line: Line, column: Callable[[float], int], width: int) -> str:
    """Each column shows the worst value in it."""
    cells: list[list[float]] = [[] for _ in range(width)]
    for at, value in line.series:
        if value is not None:
            cells[column(at)].append(value)
    known = [value for cell in cells for value in cell]
    top = 1.0 if line.share else max(known, default=1.0)
    worst = min if line.share else max
    shown = [worst(cell) if cell else None for cell in cells]
    return "".join(_height(value, top) for value in shown)


def _height(value: float | None, top: float) -> str:
    if value is None:
        return " "
    share = min(max(value / top if top > 0 else 0.0, 0.0), 1.0)
    # Only the whole is full: 99 % must not look like 100 %.
    return _HEIGHTS[7] if share >= 1.0 else _HEIGHTS[min(6, int(share * 8))]


def _bar(bar: Bar, column: Callable[[float], int], width: int, end: float) -> str:
    first = column(bar.called)
    last = column(end if bar.ended is None else sum(bar.ended) / 2)
    close = "■" if bar.by_people else "┤"
    return " " * first + "├" + "─" * max(0, last - first - 1) + (close if last > first else "")


def _marks(marks: Sequence[Mark], column: Callable[[float], int], width: int) -> str:
    cells = [" "] * width
    for mark in marks:
        cells[column(mark.at)] = _SHAPES.get(mark.kind, "·")
    return "".join(cells)
