"""Pages in the terminal of the drill."""

from __future__ import annotations

from collections.abc import Callable

from gameday.drills.channels.message import Message, plain_text

__all__ = ["Terminal"]


class Terminal:
    """Hands the text to whoever draws the terminal."""

    name = "terminal"

    def __init__(self, show: Callable[[Message, str], None]) -> None:
        self.show = show

    async def send(self, message: Message) -> None:
        """Show it."""
        self.show(message, plain_text(message))
