"""What a drill is shown on: `gameday.drills.live` draws, this shows nothing and imports nothing."""

from __future__ import annotations

from collections.abc import Mapping

from gameday.scoring import events

__all__ = ["View"]


class View:
    """What a drill is shown on. The base shows nothing.

    Attributes:
        lost: Why what was shown did not arrive, once it is over.
    """

    lost: OSError | None = None

    def __enter__(self) -> View:
        return self

    def __exit__(self, *exc: object) -> None:
        return

    def observe(self, event: events.Event) -> None:
        """Take in an event of the journal."""

    def watch(self, values: Mapping[str, float]) -> None:
        """Where the SLIs' values are, by name, as they change."""

    def tick(self, now: float) -> None:
        """Time passes: seconds since the drill's start."""

    def page(self, text: str, kind: str) -> None:
        """A message of the terminal channel; ``kind``: ``firing``, ``resolved`` or ``report``."""
