"""Lines for a terminal or a file: folded at words, in colours only where they are seen.

For what is printed once. What is drawn again and again, and tables of many rows, are
rich's, which takes longer to import than a small drill takes to be scored.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator

from rich.cells import cell_len, chop_cells

from gameday.drills.printable import printable

__all__ = ["Paper", "fold"]

_CODES = {"bold": 1, "dim": 2, "red": 31, "green": 32, "yellow": 33}


def fold(text: str, width: int) -> Iterator[str]:
    """The text in lines of at most so many columns, parted between words where possible."""
    for paragraph in text.split("\n"):
        line = ""
        for word in paragraph.split(" "):
            longer = f"{line} {word}" if line else word
            if cell_len(longer) <= width:
                line = longer
                continue
            if line:
                yield line
            *parts, line = chop_cells(word, width) or [""]
            yield from parts
        yield line


class Paper:
    """Standard output, ``width`` columns wide."""

    def __init__(self, width: int) -> None:
        self.width = width
        self._styled = _shows_styles()

    def style(self, text: str, style: str) -> str:
        """The text in styles, named as in ``bold red``; plain where nobody would see them."""
        if not self._styled or not style or not text:
            return text
        codes = ";".join(str(_CODES[name]) for name in style.split())
        return f"\x1b[{codes}m{text}\x1b[0m"

    def write(self, text: str = "", style: str = "", *, indent: int = 0, sign: str = "") -> None:
        """Print a text, folded and indented; ``sign`` stands before its first line.

        Control characters are left out: what people typed must not drive the terminal.
        """
        lead = sign or " " * indent
        for line in fold(printable(text, "\n"), max(self.width - indent, 1)):
            print(lead + self.style(line, style) if line else lead.rstrip())
            lead = " " * indent


def _shows_styles() -> bool:
    if os.environ.get("NO_COLOR") or os.environ.get("TERM") in ("dumb", "unknown"):
        return False
    return bool(os.environ.get("FORCE_COLOR")) or sys.stdout.isatty()
