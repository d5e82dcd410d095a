"""The little language of bounds and conditions in a scenario file.

::

    good:    status < 500 and latency < 500ms      a condition on one sample
    steady:  ">= 99%"                              a bound on an SLI
    expect:  availability >= 95%                   a bound on a named SLI or timing
    when:    availability < 98% for 2s             a condition that must hold for a while

Grammar::

    when       = condition [ "for" duration ]
    condition  = all { "or" all }
    all        = comparison { "and" comparison }
    comparison = name operator value | "(" condition ")"
    operator   = "<" | "<=" | ">" | ">=" | "==" | "!="
    value      = duration | share | number
"""

from __future__ import annotations

import operator
import re
from collections.abc import Callable, Mapping
from functools import lru_cache

import msgspec

from gameday.injectors.units import parse_duration, parse_share, show_duration

__all__ = [
    "AllOf",
    "AnyOf",
    "Comparison",
    "Condition",
    "When",
    "names_of",
    "parse_bound",
    "parse_comparison",
    "parse_condition",
    "parse_when",
]

_REMEMBERED = 512
"""Texts whose meaning is kept: it is asked for at each sample."""

_OPERATORS: dict[str, Callable[[float, float], bool]] = {
    "<=": operator.le,
    ">=": operator.ge,
    "==": operator.eq,
    "!=": operator.ne,
    "<": operator.lt,
    ">": operator.gt,
}
_TOKEN = re.compile(
    r"\s*(?:(?P<op><=|>=|==|!=|<|>)|(?P<paren>[()])|(?P<word>[A-Za-z_][\w.-]*)"
    r"|(?P<value>\d[\w.]*(?:\s*%|\s*(?:us|µs|ms|min|s|m|h|d)\b)?))"
)


class Comparison(msgspec.Struct, frozen=True):
    """``name operator value``; durations in seconds, shares in [0, 1].

    Attributes:
        unit: ``duration``, ``share`` or ``number``: how the value was written.
    """

    name: str
    op: str
    value: float
    unit: str

    def holds(self, value: float) -> bool:
        """Does a value satisfy the bound? A missing value is NaN and satisfies nothing."""
        return value == value and _OPERATORS[self.op](value, self.value)

    def evaluate(self, values: Mapping[str, float]) -> bool:
        """As `holds`, for the value of that name; a missing name satisfies nothing."""
        return self.name in values and self.holds(values[self.name])

    @property
    def shown(self) -> str:
        """The value for people; a bound is not rounded as measurements are."""
        if self.unit == "duration":
            return show_duration(self.value, digits=3)
        return f"{self.value * 100:.7g} %" if self.unit == "share" else f"{self.value:g}"

    def __str__(self) -> str:
        return f"{self.name} {self.op} {self.shown}".strip()


class AllOf(msgspec.Struct, frozen=True):
    """Every part holds."""

    parts: tuple[Condition, ...]

    def evaluate(self, values: Mapping[str, float]) -> bool:
        """Does every part hold for these values?"""
        return all(part.evaluate(values) for part in self.parts)

    def __str__(self) -> str:
        return " and ".join(
            f"({part})" if isinstance(part, AnyOf) else str(part) for part in self.parts
        )


class AnyOf(msgspec.Struct, frozen=True):
    """At least one part holds."""

    parts: tuple[Condition, ...]

    def evaluate(self, values: Mapping[str, float]) -> bool:
        """Does at least one part hold for these values?"""
        return any(part.evaluate(values) for part in self.parts)

    def __str__(self) -> str:
        return " or ".join(map(str, self.parts))


Condition = Comparison | AllOf | AnyOf


class When(msgspec.Struct, frozen=True):
    """A condition that must hold for ``hold`` seconds without a break."""

    condition: Condition
    hold: float

    def __str__(self) -> str:
        return (
            f"{self.condition} for {show_duration(self.hold)}" if self.hold else f"{self.condition}"
        )


def names_of(condition: Condition) -> tuple[str, ...]:
    """The names that a condition speaks of, in order, each once."""
    if isinstance(condition, Comparison):
        return (condition.name,)
    found = [name for part in condition.parts for name in names_of(part)]
    return tuple(dict.fromkeys(found))


class _Tokens(msgspec.Struct):
    text: str
    position: int = 0

    def peek(self) -> tuple[str, str]:
        match = _TOKEN.match(self.text, self.position)
        if match is None or match.lastgroup is None:
            rest = self.text[self.position :].strip()
            return ("end", "") if not rest else ("unknown", rest)
        return match.lastgroup, match[match.lastgroup]

    def take(self) -> tuple[str, str]:
        token = self.peek()
        match = _TOKEN.match(self.text, self.position)
        if match is not None:
            self.position = match.end()
        return token

    def fail(self, expected: str) -> ValueError:
        _, found = self.peek()
        where = f"{found!r}" if found else "the end"
        return ValueError(f"in {self.text!r}: found {where}, expected {expected}")


def _value(text: str) -> tuple[float, str]:
    if text.endswith("%"):
        return parse_share(text), "share"
    if re.fullmatch(r"\d+(\.\d+)?", text):
        return float(text), "number"
    return parse_duration(text), "duration"


def _comparison(tokens: _Tokens, name: str | None) -> Comparison:
    if name is None:
        kind, name = tokens.peek()
        if kind != "word":
            raise tokens.fail("a name")
        tokens.take()
    kind, op = tokens.peek()
    if kind != "op":
        raise tokens.fail("one of < <= > >= == !=")
    tokens.take()
    kind, text = tokens.peek()
    if kind != "value":
        raise tokens.fail("a value such as 95%, 500ms or 200")
    tokens.take()
    value, unit = _value(text)
    return Comparison(name, op, value, unit)


_NESTING = 20


def _any(tokens: _Tokens, depth: int) -> Condition:
    parts = [_all(tokens, depth)]
    while tokens.peek() == ("word", "or"):
        tokens.take()
        parts.append(_all(tokens, depth))
    return parts[0] if len(parts) == 1 else AnyOf(tuple(parts))


def _all(tokens: _Tokens, depth: int) -> Condition:
    parts = [_one(tokens, depth)]
    while tokens.peek() == ("word", "and"):
        tokens.take()
        parts.append(_one(tokens, depth))
    return parts[0] if len(parts) == 1 else AllOf(tuple(parts))


def _one(tokens: _Tokens, depth: int) -> Condition:
    if tokens.peek() != ("paren", "("):
        return _comparison(tokens, None)
    if depth >= _NESTING:
        raise ValueError(f"parentheses nest deeper than {_NESTING}")
    tokens.take()
    inner = _any(tokens, depth + 1)
    if tokens.peek() != ("paren", ")"):
        raise tokens.fail("a closing parenthesis")
    tokens.take()
    return inner


def _finish(tokens: _Tokens) -> None:
    if tokens.peek()[0] != "end":
        raise tokens.fail("the end")


def _whole(text: str, name: str | None) -> Comparison:
    """A text that is one comparison and nothing else; without ``name`` it begins with one."""
    tokens = _Tokens(text)
    comparison = _comparison(tokens, name)
    _finish(tokens)
    return comparison


@lru_cache(_REMEMBERED)
def parse_bound(text: str, name: str) -> Comparison:
    """The bound ``">= 99%"`` on ``name``.

    Raises:
        ValueError: says what was found and what was expected.
    """
    return _whole(text, name)


@lru_cache(_REMEMBERED)
def parse_comparison(text: str) -> Comparison:
    """``"availability >= 95%"``.

    Raises:
        ValueError: says what was found and what was expected.
    """
    return _whole(text, None)


@lru_cache(_REMEMBERED)
def parse_condition(text: str) -> Condition:
    """``"status < 500 and latency < 500ms"``.

    Raises:
        ValueError: says what was found and what was expected.
    """
    tokens = _Tokens(text)
    condition = _any(tokens, 0)
    _finish(tokens)
    return condition


@lru_cache(_REMEMBERED)
def parse_when(text: str) -> When:
    """``"availability < 98% for 2s"``.

    Raises:
        ValueError: says what was found and what was expected.
    """
    tokens = _Tokens(text)
    condition = _any(tokens, 0)
    hold = 0.0
    if tokens.peek() == ("word", "for"):
        tokens.take()
        hold = parse_duration(text[tokens.position :])
        return When(condition, hold)
    _finish(tokens)
    return When(condition, hold)
