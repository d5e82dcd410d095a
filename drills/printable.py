"""Text of others, made fit for a terminal: it must not drive it, nor read otherwise than it stands."""

from __future__ import annotations

import sys

__all__ = ["printable", "show_text"]


def printable(text: str, keep: str = "") -> str:
    """The text with a blank for each character that is not seen: controls, escapes, bidi overrides.

    Args:
        keep: Characters that stay all the same: a line feed, where lines are wanted.
    """
    if text.isprintable():
        return text
    return "".join(c if c.isprintable() or c in keep else " " for c in text)


def show_text(text: str) -> None:
    """Print the text of a file: as it stands into a file or a pipe, made fit for a terminal."""
    if sys.stdout.isatty():
        text = printable(text, "\n\t")
    sys.stdout.write(text)
    sys.stdout.flush()
