"""What is wrong with the syntax of a YAML file, in our words.

The parser's own texts are meant for those who write parsers. A quote that is not closed
where it was meant to be is what it tells worst: it goes on to the next quote, often many
lines further down, and complains of what follows there. So whoever reads the file remembers
the last text in quotes, and here it is said where that quote begins.
"""

from __future__ import annotations

import re
from typing import Any, NamedTuple

import yaml

from gameday.injectors.errors import Problem

__all__ = ["NESTING", "TOO_DEEP", "Place", "place_of", "syntax_problem"]

NESTING = 50
"""Levels of lists and mappings, at most."""

TOO_DEEP = f"lists and mappings nest deeper than {NESTING} levels"


class Place(NamedTuple):
    """Line and column, from 1."""

    line: int
    column: int

    def __str__(self) -> str:
        return f"line {self.line}, column {self.column}"


class _Words(NamedTuple):
    """What we say for a text of the parser's.

    Attributes:
        message: Sees ``line`` and ``column`` of what began before it, ``mark``, the character
            there, and ``kind``: whether it is a list or a mapping.
        at_begin: Whether that is the place to mend.
    """

    message: str
    hint: str = ""
    at_begin: bool = False


_CLOSE = "Close it where the text ends; a quote inside the text is written \\\" or, in single quotes, ''."
_BACKSLASH = "In double quotes write \\\\ for a backslash, or use single quotes."
_TAB = _Words("found a tab; expected spaces", "YAML is indented with spaces only.")
_TAG = _Words(
    "found a tag ('!…'); expected a plain value",
    "Tags are not used here; text that begins with '!' needs quotes.",
    at_begin=True,
)
_DIRECTIVE = _Words(
    "found a '%' at the start of a line, expected a key",
    "Text that begins with '%' needs quotes.",
    at_begin=True,
)
_WORDS = {
    "exceeded maximum nesting depth": _Words(TOO_DEEP),  # the parser's own cap, further ahead
    "mapping values are not allowed in this context": _Words(
        "found a ':' where no key can stand",
        "Check the indentation; text that contains ': ' needs quotes.",
    ),
    "mapping keys are not allowed in this context": _Words(
        "found a '?' where no key can begin", "Text that begins with '? ' needs quotes."
    ),
    "block sequence entries are not allowed in this context": _Words(
        "found a '-' where no list can begin",
        "Put the list's first '-' on a line of its own.",
    ),
    "did not find expected key": _Words(
        "expected a key of the {kind} that begins at line {line}",
        "Check the indentation and the quotes of the line before.",
    ),
    "did not find expected '-' indicator": _Words(
        "expected the next '-' of the list that begins at line {line}",
        "The entries of a list are indented alike.",
    ),
    "did not find expected ',' or ']'": _Words(
        "the list that begins at line {line}, column {column} with '[' lacks a ',' or its ']'"
    ),
    "did not find expected ',' or '}'": _Words(
        "the mapping that begins at line {line}, column {column} with '{{' lacks a ',' or its '}}'"
    ),
    "could not find expected ':'": _Words(
        "the key at line {line} lacks its ':'",
        "Write `key: value`; a text that goes on in the next line is indented further.",
        at_begin=True,
    ),
    "found unexpected ':'": _Words(
        "found a ':' without a space after it, expected `key: value`",
        "Text that contains a ':' at its end needs quotes.",
    ),
    "found unexpected end of stream": _Words(
        "the quote that begins at line {line}, column {column} is never closed",
        _CLOSE,
        at_begin=True,
    ),
    "found unexpected document indicator": _Words(
        "the quote that begins at line {line}, column {column} is not closed before the line "
        "that begins with '---' or '...'",
        _CLOSE,
        at_begin=True,
    ),
    "found unknown escape character": _Words(
        "found an unknown escape after a backslash", _BACKSLASH
    ),
    "did not find expected hexdecimal number": _Words(
        "found a backslash with x, u or U, expected 2, 4 or 8 hexadecimal digits after it",
        _BACKSLASH,
    ),
    "found invalid Unicode character escape code": _Words(
        "found a backslash with the number of no character", _BACKSLASH
    ),
    "did not find expected comment or line break": _Words(
        "found text right after the '{mark}' that begins a text of several lines, expected it on "
        "the next lines",
        "A text that itself begins with '{mark}' needs quotes.",
    ),
    "found an indentation indicator equal to 0": _Words(
        "found a 0 after the '{mark}' that begins a text of several lines, expected 1 to 9 or "
        "nothing"
    ),
    "found a tab character where an indentation space is expected": _TAB,
    "found a tab character that violates indentation": _TAB,
    "did not find expected node content": _Words("expected a value here"),
    "did not find expected <document start>": _Words(
        "found more text after the end of the document",
        "The whole file is one mapping: keys with a ':' and the same indentation.",
    ),
    "did not find expected alphabetic or numeric character": _Words(
        "found '&' or '*' at the start of a value; expected a name after it",
        "Text that begins so needs quotes.",
    ),
    "found undefined tag handle": _TAG,
    "found unknown directive name": _DIRECTIVE,
    "found duplicate %YAML directive": _DIRECTIVE,
    "found duplicate %TAG directive": _DIRECTIVE,
    "found incompatible YAML document": _DIRECTIVE,
}
_BY_CONTEXT = (  # what the parser says of the inside of these needs no words of its own
    (re.compile(r"\bdirective\b"), _DIRECTIVE),
    (re.compile(r"\btag\b"), _TAG),
)
_ELSE = _Words(
    "found what cannot stand here in YAML, expected a key or a value",
    "Check the indentation and the quotes of the lines before.",
)
_NO_DOCUMENT = _Words(
    "found no '---' after a line that begins with '%'",
    "Leave that line out, or put its text in quotes.",
)


def place_of(mark: Any) -> Place:
    """The place of one of the parser's marks."""
    return Place(mark.line + 1, mark.column + 1)


def syntax_problem(
    error: yaml.MarkedYAMLError, text: str, quoted: Any = None, *, begun: bool = True
) -> Problem:
    """Why a text is no YAML.

    Args:
        quoted: The event of the text in quotes that was read right before the error, if it was one.
        begun: Whether any document had begun.
    """
    lines = text.splitlines()
    problem = place_of(error.problem_mark) if error.problem_mark is not None else Place(1, 1)
    begin = place_of(error.context_mark) if error.context_mark is not None else problem
    context, mark = error.context or "", _rest(lines, begin)[:1]
    if mark in ("'", '"') and error.problem == "could not find expected ':'":
        message = f"the quote that begins at {begin} begins a key, but no ':' follows its end"
        return Problem(message, *begin, f"Is this quote meant? {_CLOSE}")
    quote = _Quote.of(quoted) if quoted is not None else None
    follows = quote is not None and quote.ends_before(
        begin if context.startswith("while scanning") else problem, lines
    )
    if quote is not None and follows and (quote.is_long or "flow" not in context):
        message = f"found more text right after the quote that {quote}"
        return Problem(message, *quote.begin, _CLOSE)
    words = _words(error, lines, problem, begun)
    kind = "list" if "collection" in context else "mapping"
    facts = {"line": begin.line, "column": begin.column, "mark": mark, "kind": kind}
    hint = words.hint.format(**facts)
    if quote is not None and (follows or quote.is_long):
        hint = f"{hint} The quote before it {quote}.".lstrip()
    return Problem(words.message.format(**facts), *(begin if words.at_begin else problem), hint)


class _Quote(NamedTuple):
    """Where a text in quotes begins, and where its last quote stands."""

    begin: Place
    end: Place

    @classmethod
    def of(cls, event: Any) -> _Quote:
        line, after = place_of(event.end_mark)
        return cls(place_of(event.start_mark), Place(line, after - 1))

    def __str__(self) -> str:
        return f"begins at {self.begin} and ends at {self.end}"

    @property
    def is_long(self) -> bool:
        """Whether it goes over several lines, as one does that is not closed."""
        return self.begin.line < self.end.line

    def ends_before(self, place: Place, lines: list[str]) -> bool:
        """Whether nothing but spaces is between its end and the text at a place of the same line."""
        if place.line != self.end.line:
            return False
        between = _rest(lines, self.end)[1 : place.column - self.end.column]
        return not between.strip() and bool(_rest(lines, place).strip())


def _words(error: yaml.MarkedYAMLError, lines: list[str], place: Place, begun: bool) -> _Words:
    said = error.problem or ""
    if said == "found character that cannot start any token":
        return _bad_start(_rest(lines, place)[:1])
    if said == "did not find expected <document start>" and not begun:
        return _NO_DOCUMENT
    for pattern, words in _BY_CONTEXT:
        if pattern.search(error.context or ""):
            return words
    return _WORDS.get(said, _ELSE)


def _bad_start(character: str) -> _Words:
    if character == "\t":
        return _TAB
    shown = repr(character).replace("{", "{{").replace("}", "}}")
    return _Words(f"no value can begin with {shown}", "Put the text in quotes.")


def _rest(lines: list[str], place: Place) -> str:
    """What stands at a place, up to the end of its line."""
    return lines[place.line - 1][place.column - 1 :] if place.line <= len(lines) else ""
