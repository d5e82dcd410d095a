"""Text of others, made fit for a terminal: it must not drive it, nor read otherwise than it stands."""

from __future__ import annotations

__all__ = ["printable"]


def printable(text: str, keep: str = "") -> str:
    """The text with a blank for each character that is not seen: controls, escapes, bidi overrides.

    Args:
        keep: Characters that stay all the same: a line feed, where lines are wanted.
    """
    if text.isprintable():
        return text
    return "".join(c if c.isprintable() or c in keep else " " for c in text)
