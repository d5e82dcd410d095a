"""The whole timeline of a drill, from before the onset, one entry for each thing that happened."""

from __future__ import annotations

from collections.abc import Iterator

from gameday.scoring.case import Case
from gameday.scoring.document import Entry
from gameday.scoring.narration import Narrator

__all__ = ["storyline"]

_MEASURED = {
    "onset": "Onset of {}",
    "impact": "{} left the steady state",
    "mitigate": "{} was mitigated: back inside acceptable bounds",
    "restore": "{} was restored: back inside the steady state",
}


def storyline(case: Case) -> tuple[Entry, ...]:
    """Every event that people may want to see, and every measured instant, in order of time."""
    narrator = Narrator()
    entries = [
        Entry(
            at=event.at - case.zero,
            wall=event.wall,
            lane=told.lane,
            kind=type(event).__name__,
            text=told.text,
            quote=told.quote,
            low=None if told.since is None else told.since - case.zero,
            high=None if told.since is None else event.at - case.zero,
        )
        for event in case.events
        for told in narrator.tell(event)
    ]
    return tuple(sorted([*entries, *_measured(case)], key=lambda entry: entry.at))


def _measured(case: Case) -> Iterator[Entry]:
    for incident in case.score.incidents:
        name = f"incident {incident.number}"
        for kind, text in _MEASURED.items():
            when = incident.instants.get(kind)
            if when is None:
                continue
            middle = (when.low + when.high) / 2
            source = f" ({when.source})" if when.source else ""
            words = text.format(name)
            yield Entry(
                at=middle - case.zero,
                wall=case.wall(middle),
                lane="sli",
                kind=kind,
                text=f"Measured: {words[0].lower()}{words[1:]}{source}.",
                low=when.low - case.zero,
                high=when.high - case.zero,
            )
