"""How far a drill may reach, in the words of a scenario: ``1 of 3``, ``30%``, ``2``."""

from __future__ import annotations

import math
import re

import msgspec

from gameday.injectors.units import parse_share

__all__ = ["Most", "parse_most"]

_EXPECTED = "expected a count, a share or a part of a whole, such as 2, 30% or 1 of 3"
_RATIO = re.compile(r"\s*(\d+)\s+of\s+(\d+)\s*")


class Most(msgspec.Struct, frozen=True):
    """At most so many of what there is: a count, or a share, rounded down.

    Attributes:
        text: As it was written.
    """

    text: str
    count: int | None = None
    share: float = 1.0

    def of(self, there_are: int) -> int:
        """How many of so many may be hit."""
        if self.count is not None:
            return self.count
        return math.floor(there_are * self.share + 1e-9)


def parse_most(text: str | int) -> Most:
    """Read ``1 of 3``, ``30%`` or a count.

    Raises:
        ValueError: if it is none of them; says what was expected.
    """
    if isinstance(text, int):
        if text < 0:
            raise ValueError(_EXPECTED)
        return Most(str(text), count=text)
    if ratio := _RATIO.fullmatch(text):
        some, whole = int(ratio[1]), int(ratio[2])
        if whole == 0 or some > whole:
            raise ValueError(_EXPECTED)
        return Most(f"{some} of {whole}", share=some / whole)
    if text.strip().isdigit():
        return Most(text.strip(), count=int(text))
    try:
        return Most(text.strip(), share=parse_share(text))
    except ValueError:
        raise ValueError(_EXPECTED) from None
