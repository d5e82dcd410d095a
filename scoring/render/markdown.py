"""The debrief as Markdown (GitHub's flavour), for repositories, wikis and tickets."""

from __future__ import annotations

import re
from functools import cache
from typing import TYPE_CHECKING

from gameday.scoring.document import Cell, Debrief, Mono, Quote
from gameday.scoring.render.strip import strip
from gameday.scoring.render.template import get_template

if TYPE_CHECKING:
    import jinja2

__all__ = ["escape", "template", "to_markdown"]

_SPECIAL = re.compile(r"[\\`*\[\]<>|~$]|(?<![A-Za-z0-9])_|_(?![A-Za-z0-9])|&(?=#?\w+;)")
_LINE_START = re.compile(r"^(\s*)(?:([-+#=])|(\d+)([.)])(?=\s|$))", re.MULTILINE)


def escape(text: str) -> str:
    """Text that Markdown shows as it is, within a line."""
    return _SPECIAL.sub(
        lambda match: {"<": "&lt;", ">": "&gt;", "&": "&amp;"}.get(match[0], "\\" + match[0]), text
    )


def _line(text: str) -> str:
    """A text of ours or theirs as one paragraph: it begins no list, heading or quotation."""
    escaped = _LINE_START.sub(
        lambda m: f"{m[1]}\\{m[2]}" if m[2] else f"{m[1]}{m[3]}\\{m[4]}", escape(text)
    )
    return " ".join(escaped.split("\n"))


def _code(text: str) -> str:
    """A code span, whatever backticks are in it."""
    flat = " ".join(text.split())
    longest = max((len(run) for run in re.findall(r"`+", flat)), default=0)
    fence = "`" * (longest + 1)
    pad = " " if flat.startswith("`") or flat.endswith("`") else ""
    return f"{fence}{pad}{flat}{pad}{fence}" if flat else ""


def _cell(cell: Cell) -> str:
    """A cell of a table: one line, and no bar that would end it."""
    if isinstance(cell, Mono):
        return _code(cell.text).replace("|", "\\|")
    text = f"“{cell.text}”" if isinstance(cell, Quote) else cell
    return "<br>".join(part for part in escape(text).split("\n") if part.strip()) or " "


def _item(cell: Cell) -> str:
    if isinstance(cell, Mono):
        return _code(cell.text)
    return _line(f"“{cell.text}”" if isinstance(cell, Quote) else cell)


def _fence(text: str) -> str:
    longest = max((len(run) for run in re.findall(r"`+", text)), default=0)
    return "`" * max(3, longest + 1)


@cache
def template() -> jinja2.Template:
    """The template, made ready once."""
    filters = {"line": _line, "cell": _cell, "item": _item, "code": _code, "fence": _fence}
    return get_template("debrief.md.j2", html=False, filters=filters)


def to_markdown(debrief: Debrief) -> str:
    """The document, with a line feed at its end."""
    picture = strip(debrief.picture) if debrief.picture is not None else ""
    text = template().render(debrief=debrief, drill=debrief.drill, picture=picture)
    return re.sub(r"\n{3,}", "\n\n", text).strip() + "\n"
