"""Tables and styled text on standard output, for commands that print and end."""

from __future__ import annotations

from rich.console import Console

__all__ = ["Printer"]


class Printer(Console):
    """A console whose reader may go away (``| head``): that ends the command, with no verdict."""

    def on_broken_pipe(self) -> None:
        """Let the command line end as any other output does; rich would exit with 1, "refuted"."""
        raise BrokenPipeError
