"""The debrief as one self-contained HTML page: no script, no request to anywhere."""

from __future__ import annotations

import re
from functools import cache
from typing import TYPE_CHECKING

from gameday.scoring.document import Debrief
from gameday.scoring.render import timeline
from gameday.scoring.render.template import get_template, read

if TYPE_CHECKING:
    import jinja2

__all__ = ["template", "to_html"]

_UNIT = re.compile(r"(\d) (ms|s|min|h|%)(?!\w)")
_WIDE, _NARROW = 920, 350


def together(text: str) -> str:
    """Text whose figures are not parted from their units at the end of a line."""
    return _UNIT.sub("\\1\u00a0\\2", text)


@cache
def template() -> jinja2.Template:
    """The template, made ready once."""
    return get_template("debrief.html.j2", html=True, filters={"together": together})


def to_html(debrief: Debrief) -> str:
    """The page. Everything that people typed is escaped."""
    import markupsafe

    pictures = {}
    if debrief.picture is not None:
        for name, width in (("wide", _WIDE), ("narrow", _NARROW)):
            # The picture escapes its own texts.
            pictures[name] = markupsafe.Markup(timeline.svg(debrief.picture, width=width, key=name))
    return template().render(
        debrief=debrief,
        drill=debrief.drill,
        pictures=pictures,
        css=markupsafe.Markup(read("debrief.css") + timeline.stylesheet()),
    )
