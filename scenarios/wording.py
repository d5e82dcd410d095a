"""What is wrong with a file's values, in our words.

Validation is pydantic's; its messages are not for people who write scenarios.
Every kind of its errors is said here as: where, what was found, what was
expected, and the nearest known word.
"""

from __future__ import annotations

import re
import types
from collections.abc import Callable, Iterable, Mapping
from typing import Annotated, Any, Union, get_args, get_origin

from pydantic import BaseModel, ValidationError
from pydantic_core import ErrorDetails
from pydantic_core.core_schema import ErrorType

from gameday.injectors.errors import Problem, UsageError
from gameday.injectors.registry import fault_class
from gameday.injectors.units import (
    parse_duration,
    parse_rate,
    parse_share,
    parse_size,
    show_duration,
    show_rate,
    show_share,
    show_size,
)
from gameday.scenarios.document import Node, Place, show_found
from gameday.scenarios.misfit import Misfit
from gameday.scenarios.source import nearest

__all__ = ["problems_of", "show_path"]

_FAULT_KEYS = ("at", "inject", "lasts")
_SHOWN = 60
_MOST = 200

_EXPECTED = {
    "string_type": "text",
    "string_sub_type": "text",
    "string_unicode": "text",
    "int_type": "a whole number",
    "int_parsing": "a whole number",
    "int_parsing_size": "a smaller number",
    "int_from_float": "a whole number",
    "float_type": "a number",
    "float_parsing": "a number",
    "finite_number": "a finite number",
    "decimal_type": "a number",
    "decimal_parsing": "a number",
    "bool_type": "true or false",
    "bool_parsing": "true or false",
    "none_required": "nothing",
    "list_type": "a list",
    "tuple_type": "a list",
    "set_type": "a list",
    "frozen_set_type": "a list",
    "iterable_type": "a list",
    "dict_type": "keys with values",
    "mapping_type": "keys with values",
    "model_type": "keys with values",
    "model_attributes_type": "keys with values",
    "dataclass_type": "keys with values",
    "recursion_loop": "a value that does not contain itself",
}
"""Errors of type: the words do not depend on anything else."""

_LIMITS = {
    "greater_than": ("gt", "more than"),
    "greater_than_equal": ("ge", "at least"),
    "less_than": ("lt", "less than"),
    "less_than_equal": ("le", "at most"),
    "multiple_of": ("multiple_of", "a multiple of"),
}

_PATTERNS = {
    r"^[a-z0-9][a-z0-9-]{0,62}$": "lower-case letters, digits and dashes, such as api-node-failure",
    r"^[a-z][a-z0-9_]{0,62}$": "lower-case letters, digits and underscores, such as availability",
    r"^[A-Za-z][A-Za-z0-9_]{0,99}$": "letters, digits and underscores, such as ShopErrorBudgetBurn",
    r"^(SEV-[0-5]|P[1-4])$": "SEV-0 to SEV-5 or P1 to P4",
    r"^/": "a path that begins with /",
}

_UNITS: tuple[tuple[Callable[[str], float], Callable[[Any], str]], ...] = (
    (parse_duration, show_duration),
    (parse_rate, show_rate),
    (parse_share, show_share),
    (parse_size, show_size),
)

_YAML_1_1 = {"yes", "no", "on", "off", "y", "n"}

Location = tuple[int | str, ...]


def show_path(path: Iterable[int | str]) -> str:
    """``alerts[0].when``; empty for the whole file."""
    text = ""
    for step in path:
        text += f"[{step}]" if isinstance(step, int) else f".{step}" if text else str(step)
    return text


def problems_of(error: ValidationError, root: Node, model: type[BaseModel]) -> list[Problem]:
    """Each error of a validation of ``root`` against ``model``, at its place."""
    details = error.errors(include_url=False)[:_MOST]
    missing = [_Trouble(item, root, model) for item in details if item["type"] == "missing"]
    rest = [_Trouble(item, root, model) for item in details if item["type"] != "missing"]
    meant = {(*one.parent, one.nearest(missing)) for one in rest if one.is_unknown}
    return [one.problem(missing) for one in rest] + [
        one.problem() for one in missing if (*one.parent, one.name) not in meant
    ]


class _Trouble:
    """One of pydantic's errors, and the part of the tree that it is about."""

    def __init__(self, item: ErrorDetails, root: Node, model: type[BaseModel]) -> None:
        self._item = item
        self._kind = item["type"]
        self._context: Mapping[str, Any] = item.get("ctx", {})
        raised = self._context.get("error")
        self._misfit = raised if isinstance(raised, Misfit) else None
        steps = item["loc"] + (self._misfit.path if self._misfit else ())
        self._on_key = bool(steps) and steps[-1] == "[key]"
        self._path, left = _follow(root, steps[:-1] if self._on_key else steps)
        self._node = root.closest(self._path)
        self.is_unknown = self._kind in ("extra_forbidden", "unexpected_keyword_argument")
        self.name = str(left[0] if left else self._path[-1] if self._path else "")
        self.parent = self._path[:-1] if self._path and not left else self._path
        self._above = root.closest(self.parent)
        self._holder = _model_at(model, self.parent, root)

    def nearest(self, missing: Iterable[_Trouble] = ()) -> str:
        """The key that was meant by an unknown one: rather one that is missing."""
        here = tuple(one.name for one in missing if one.parent == self.parent)
        return nearest(self.name, here) or nearest(self.name, self._known())

    def problem(self, missing: Iterable[_Trouble] = ()) -> Problem:
        if self.is_unknown:
            return self._unknown(missing)
        if self._kind == "missing":
            return self._missing()
        return self._unfit()

    def _known(self) -> tuple[str, ...]:
        if self._holder is None:
            return ()
        names = tuple(_names(self._holder))
        return names + _FAULT_KEYS if hasattr(self._holder, "kind") else names

    def _unknown(self, missing: Iterable[_Trouble]) -> Problem:
        where = show_path(self.parent)
        message = f"`{_short(self.name)}` is no key{f' of {where}' if where else ''}"
        near, known = self.nearest(missing), self._known()
        hint = f"Did you mean `{near}`?" if near else ""
        if not near and known:
            hint = f"There are: {', '.join(known)}."
        return Problem(message, *self._place_of_key(), hint)

    def _missing(self) -> Problem:
        where = show_path(self.parent)
        message = f"`{self.name}` is missing{f' from {where}' if where else ''}"
        info = _names(self._holder).get(self.name) if self._holder else None
        return Problem(message, *self._above.place, (info and info.description) or "")

    def _unfit(self) -> Problem:
        expected, hint = self._expected()
        where = show_path(self._path)
        prefix = f"{where}: " if where else ""
        found = f"the key {_short(self.name)!r}" if self._on_key else show_found(self._node)
        if expected.startswith("expected "):
            expected = f"found {found}, {expected}"
        place = self._place_of_key() if self._on_key else self._node.place
        return Problem(prefix + expected, *place, hint)

    def _place_of_key(self) -> Place:
        return self._above.keys.get(self.name, self._above.place)

    def _expected(self) -> tuple[str, str]:
        if self._misfit is not None:
            return str(self._misfit), self._misfit.hint
        if self._kind in ("value_error", "assertion_error"):
            return self._own_words(), ""
        if self._kind in ("literal_error", "enum"):
            return self._one_of()
        if self._kind in _EXPECTED:
            return f"expected {_EXPECTED[self._kind]}", self._advice()
        if self._kind in _LIMITS:
            key, words = _LIMITS[self._kind]
            return f"expected {words} {self._show_limit(self._context.get(key))}", ""
        if self._kind.endswith(("too_short", "too_long", "pattern_mismatch")):
            return self._size_or_pattern(), ""
        if self._kind in get_args(ErrorType):
            return "expected something else here", self._description()
        return self._item["msg"], ""

    def _own_words(self) -> str:
        return str(self._context.get("error", "")) or "this does not fit"

    def _one_of(self) -> tuple[str, str]:
        expected = str(self._context.get("expected", ""))
        words = re.findall(r"'([^']*)'", expected) or [expected.lower()]
        near = nearest(self._node.raw, words, cutoff=0.5)
        listed = words[0] if len(words) == 1 else f"one of {', '.join(words)}"
        return f"expected {listed}", f"Did you mean {near}?" if near else ""

    def _advice(self) -> str:
        value = self._node.content
        if self._kind.startswith("string") and isinstance(value, bool | int | float):
            return f'If it is text, put it in quotes: "{_short(self._node.raw)}".'
        if self._kind.startswith(("int", "float")) and isinstance(value, str):
            return "Numbers are written without quotes." if _is_number(value) else ""
        if self._kind.startswith("bool") and str(value).lower() in _YAML_1_1:
            return "Only true and false mean that here."
        return self._description() if value is None else ""

    def _description(self) -> str:
        info = _names(self._holder).get(self.name) if self._holder else None
        return (info and info.description) or ""

    def _show_limit(self, limit: Any) -> str:
        text = self._node.text()
        for parse, show in _UNITS if text is not None else ():
            try:
                parse(text or "")
            except ValueError:
                continue
            return show(limit)
        return f"{limit:g}" if isinstance(limit, int | float) else str(limit)

    def _size_or_pattern(self) -> str:
        if self._kind.endswith("pattern_mismatch"):
            pattern = str(self._context.get("pattern", ""))
            return f"expected {_PATTERNS.get(pattern, f'text that matches {pattern}')}"
        least, most = self._context.get("min_length"), self._context.get("max_length")
        unit = "character" if self._kind.startswith("string") else "entry"
        if least is not None:
            return f"expected at least {_count(least, unit)}"
        return f"expected at most {_count(most, unit)}"


def _count(number: Any, unit: str) -> str:
    many = {"entry": "entries", "character": "characters"}
    return f"one {unit}" if number == 1 else f"{number} {many[unit]}"


def _short(text: str) -> str:
    return text if len(text) <= _SHOWN else text[: _SHOWN - 1] + "…"


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True


def _follow(root: Node, steps: Location) -> tuple[Location, Location]:
    """The steps that exist in the file, and what is left after the last of them.

    Steps that are pydantic's own (``fault``, the branches of a union) do not count.
    """
    path: list[int | str] = []
    node, used = root, 0
    for index, step in enumerate(steps):
        child = node.get(step)
        if child is not None:
            path.append(step)
            node, used = child, index + 1
    left = tuple(step for step in steps[used:] if step != "fault")
    return tuple(path), left[-1:]


def _names(model: type[BaseModel]) -> dict[str, Any]:
    return {info.alias or name: info for name, info in model.model_fields.items()}


def _model_at(model: type[BaseModel], path: Location, root: Node) -> type[BaseModel] | None:
    """The model that a place in the file is validated against; None if it is no model."""
    current: Any = model
    for index, step in enumerate(path):
        current = _child(current, step)
        if isinstance(current, type) and "fault" in getattr(current, "model_fields", {}):
            current = _fault_at(root.get(*path[: index + 1])) or current
    found = [one for one in _branches(current) if _is_model(one)]
    return found[0] if found else None


def _fault_at(node: Node | None) -> type[BaseModel] | None:
    kind = node.get("inject") if node is not None else None
    try:
        return fault_class(kind.text() or "") if kind is not None else None
    except UsageError:
        return None


def _is_model(annotation: Any) -> bool:
    return isinstance(annotation, type) and issubclass(annotation, BaseModel)


def _branches(annotation: Any) -> list[Any]:
    """The alternatives of a union, without the metadata around them."""
    if get_origin(annotation) is Annotated:
        return _branches(get_args(annotation)[0])
    if get_origin(annotation) in (Union, types.UnionType):
        return [one for part in get_args(annotation) for one in _branches(part)]
    return [annotation]


def _child(annotation: Any, step: int | str) -> Any:
    for one in _branches(annotation):
        if _is_model(one) and step in _names(one):
            return _names(one)[str(step)].annotation
        arguments = get_args(one)
        if isinstance(step, str) and get_origin(one) is dict:
            return arguments[1]
        if isinstance(step, int) and get_origin(one) in (list, tuple, set, frozenset):
            return arguments[0]
    return None
