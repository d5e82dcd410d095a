"""Roles instead of names, and text that cannot harm the page or terminal that shows it."""

from __future__ import annotations

import enum
import re
import unicodedata
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, TypeVar

import msgspec

from gameday.scoring.events import Event, Noted, Said
from gameday.scoring.score import Score

__all__ = ["clean", "clean_document", "people", "redactor", "without_names"]

# Escape sequences of terminals carry no meaning on a page; other control characters are shown.
_ESCAPES = re.compile(r"\x1b(?:\[[0-?]*[ -/]*[@-~]|\][^\x07\x1b]*(?:\x07|\x1b\\)?|[@-Z\\-_])")
_INVISIBLE = frozenset("\u00ad\u061c\u200b\u200e\u200f\u2028\u2029\u2060\ufeff")
_KEPT = frozenset("\n\t")

T = TypeVar("T")


def _visible(character: str) -> str:
    code = ord(character)
    if character in _KEPT or (code >= 0x20 and code < 0x7F):
        return character
    if code < 0x20:
        return chr(0x2400 + code)
    if code == 0x7F:
        return "\u2421"
    if 0xD800 <= code <= 0xDFFF or code & 0xFFFE == 0xFFFE or 0xFDD0 <= code <= 0xFDEF:
        return "\ufffd"
    # Directional controls could make a line read other than it is written.
    if character in _INVISIBLE or unicodedata.bidirectional(character) in _BIDI:
        return ""
    return "\ufffd" if unicodedata.category(character) == "Cc" else character


_BIDI = frozenset({"LRE", "RLE", "LRO", "RLO", "PDF", "LRI", "RLI", "FSI", "PDI"})


def clean(text: str) -> str:
    """Text without terminal escapes and directional controls; other control characters made visible."""
    if text.isascii() and text.isprintable():
        return text
    return "".join(map(_visible, _ESCAPES.sub("", text.replace("\r\n", "\n"))))


def clean_document(document: T) -> T:
    """A struct with every text in it cleaned."""
    cleaned: T = _walk(document, clean)
    return cleaned


def _walk(value: Any, change: Callable[[str], str]) -> Any:
    """The same with every text in it changed; words of a closed set are none."""
    if isinstance(value, enum.Enum):
        return value
    if isinstance(value, str):
        return change(value)
    if isinstance(value, msgspec.Struct):
        fields = ((name, getattr(value, name)) for name in value.__struct_fields__)
        return msgspec.structs.replace(value, **{name: _walk(one, change) for name, one in fields})
    if isinstance(value, Mapping):
        return {_walk(key, change): _walk(one, change) for key, one in value.items()}
    if isinstance(value, list):
        return [_walk(one, change) for one in value]
    if isinstance(value, tuple):
        inner = [_walk(one, change) for one in value]
        return type(value)(*inner) if hasattr(value, "_fields") else tuple(inner)
    return value


def people(events: Iterable[Event]) -> dict[str, str]:
    """Who spoke, by name, and in which role."""
    return {event.name: event.role for event in events if isinstance(event, Said) and event.name}


def _parts(name: str) -> list[str]:
    """A name and the parts of it that are names on their own."""
    return [name, *(part for part in re.split(r"[\s._@-]+", name) if len(part) > 2)]


def redactor(names: dict[str, str]) -> Callable[[str], str]:
    """A function that writes roles in place of names, wherever they stand as words."""
    roles = {
        part.casefold(): role
        for name, role in names.items()
        for part in reversed(_parts(name))
        if part.casefold() != role.casefold()
    }
    if not roles:
        return lambda text: text
    spelt = {part for name in names for part in _parts(name) if part.casefold() in roles}
    words = sorted({*roles, *spelt}, key=lambda word: (-len(word), word))
    pattern = re.compile(
        r"@?(?<!\w)(" + "|".join(map(re.escape, words)) + r")(?!\w)", re.IGNORECASE
    )
    return lambda text: pattern.sub(
        lambda match: f"[{roles.get(match[1].casefold(), 'somebody')}]", text
    )


def without_names(
    events: Sequence[Event], score: Score, names: dict[str, str]
) -> tuple[tuple[Event, ...], Score]:
    """The same journal and score with roles in place of names."""
    redact = redactor(names)
    return tuple(_nameless(event, redact) for event in events), _nameless_score(score, redact)


_FREE = ("text", "why", "what", "detail", "by", "error")


def _nameless(event: Event, redact: Callable[[str], str]) -> Event:
    if isinstance(event, Said):
        return msgspec.structs.replace(event, name="", text=redact(event.text))
    if isinstance(event, Noted):
        return msgspec.structs.replace(
            event, text=redact(event.text), data=_walk(event.data, redact)
        )
    free = {
        name: redact(value)
        for name in _FREE
        if isinstance(value := getattr(event, name, None), str) and value
    }
    return msgspec.structs.replace(event, **free) if free else event


def _nameless_score(score: Score, redact: Callable[[str], str]) -> Score:
    replace = msgspec.structs.replace
    return replace(
        score,
        claims=tuple(replace(c, text=redact(c.text), seen=redact(c.seen)) for c in score.claims),
        findings=tuple(replace(f, text=redact(f.text)) for f in score.findings),
        hypotheses=tuple(replace(h, evidence=redact(h.evidence)) for h in score.hypotheses),
        injections=tuple(
            replace(i, by=redact(i.by), detail=redact(i.detail), seen=redact(i.seen))
            for i in score.injections
        ),
    )
