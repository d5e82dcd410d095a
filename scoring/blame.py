"""A lint for language that blames: what was found, why it does not help, what to write instead.

It proposes; it never rewrites what a person typed.
"""

from __future__ import annotations

import re
from typing import NamedTuple

__all__ = ["Blame", "blame"]


class Blame(NamedTuple):
    """One place: the words found, why they get in the way, and what to write instead."""

    found: str
    why: str
    proposal: str


_RULES = (
    (
        r"\b(?:human|operator|user|pilot) error\b|\bfat[- ]finger(?:ed|ing|s)?\b",
        "It ends the search where it should begin: what made the slip easy, and what let it through?",
        "Say what the tool or page showed, and what it accepted.",
    ),
    (
        r"\b\w+['’]s (?:fault|mistake|screw-?up)\b|\b(?:your|his|her|their|my) (?:own )?(?:fault|mistake|error)\b"
        r"|\b(?:is|are|was|were) to blame\b|(?<!git )\bblam(?:es?|ed|ing) (?!shows?\b|says?\b)\w+",
        "It names a culprit; a culprit cannot be fixed, a system can.",
        "Say what happened and what allowed it: “the deploy went out without a canary”.",
    ),
    (
        r"\b(?:careless(?:ly|ness)?|negligen(?:t|ce)|sloppy|sloppiness|laz(?:y|iness)|incompeten(?:t|ce)|"
        r"stupid(?:ly|ity)?|idiot(?:ic|s)?|dumb|clueless|reckless(?:ly)?|unprofessional|moron\w*)\b",
        "It judges a person; nobody can act on it.",
        "Say what was done and what was known at that moment.",
    ),
    (
        r"\b(?:should|could|must|ought to) (?:have|['’]ve)\b|\b(?:should|could)(?:ve|a)\b",
        "It tells a story that did not happen, with knowledge that came later.",
        "Say what was done, what was known then, and what would have made the other way easier.",
    ),
    (
        r"\b(?:failed|neglected|forgot|refused|didn['’]t bother) to (?!respond\b|start\b|connect\b|load\b|bind\b|open\b|resolve\b)\w+",
        "It measures people by what they did not do.",
        "Say what was done instead, and what the page, runbook or tool suggested.",
    ),
    (
        r"\b(?:whose (?:fault|job|idea)|who (?:broke|did|caused|deployed|approved|pushed|forgot)\b[^.?!]{0,30})",
        "It asks for a person where the way things are set up has the answer.",
        "Ask “how did it come about that …”.",
    ),
    (
        r"\b(?:obviously|clearly|of course|everybody knows|everyone knows|any(?:body|one) (?:would|could|can) see)\b",
        "In hindsight everything is obvious; then it was not.",
        "Say what could be seen at the time, and where.",
    ),
    (
        r"\b(?:not paying attention|wasn['’]t paying attention|asleep at the wheel|dropped the ball|(?:he|she|they|you) (?:ignored|overlooked|missed))\b",
        "It describes a state of mind, seen from outside.",
        "Say which signals there were, and how they stood out from the rest.",
    ),
)


def blame(text: str) -> list[Blame]:
    """Words that blame, in the order in which they stand; each place once."""
    places = sorted(
        (match.start(), -match.end(), Blame(match[0].strip(), why, proposal))
        for pattern, why, proposal in _RULES
        for match in re.finditer(pattern, text, re.IGNORECASE)
    )
    found: list[Blame] = []
    reached = 0
    for start, minus_end, place in places:
        if start >= reached:
            found.append(place)
            reached = -minus_end
    return found
