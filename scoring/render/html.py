"""The debrief as one self-contained HTML page: no script, no request to anywhere."""

from __future__ import annotations

import re

from gameday.scoring.document import Debrief
from gameday.scoring.render import timeline
from gameday.scoring.render.template import environment, read

__all__ = ["to_html"]

_UNIT = re.compile(r"(\d) (ms|s|min|h|%)(?!\w)")
_WIDE, _NARROW = 920, 350


def together(text: str) -> str:
    """Text whose figures are not parted from their units at the end of a line."""
    return _UNIT.sub("\\1\u00a0\\2", text)


def to_html(debrief: Debrief) -> str:
    """The page. Everything that people typed is escaped."""
    import markupsafe

    pictures = {}
    if debrief.picture is not None:
        for name, width in (("wide", _WIDE), ("narrow", _NARROW)):
            # The picture escapes its own texts.
            pictures[name] = markupsafe.Markup(timeline.svg(debrief.picture, width=width, key=name))
    templates = environment(html=True)
    templates.filters["together"] = together
    template = templates.get_template("debrief.html.j2")
    return template.render(
        debrief=debrief,
        drill=debrief.drill,
        pictures=pictures,
        css=markupsafe.Markup(read("debrief.css") + timeline.stylesheet()),
    )
