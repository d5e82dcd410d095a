"""What is wrong with a file's values: where, what was found, what was expected, and what was meant.

`gameday.injectors.models.read` says which values do not fit; here each gets its place in
the file, what stands there, and the nearest known word.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from gameday.injectors.errors import Problem
from gameday.injectors.models import Unfit, show_path
from gameday.scenarios.document import STRANGE, Node, means_number, shorten, show_found
from gameday.scenarios.source import nearest

__all__ = ["problems_of"]

_MOST = 200
_YAML_1_1 = {"yes", "no", "on", "off", "y", "n"}


def problems_of(unfits: Sequence[Unfit], root: Node) -> list[Problem]:
    """Each value of ``root`` that does not fit, at its place."""
    told = unfits[:_MOST]
    missing = [one for one in told if one.why == "missing"]
    rest = [one for one in told if one.why != "missing"]
    meant = {(*one.path[:-1], _meant(one, missing)) for one in rest if one.why == "unknown"}
    return [_problem(one, root, missing) for one in rest] + [
        _missing(one, root) for one in missing if one.path not in meant
    ]


def _problem(unfit: Unfit, root: Node, missing: Iterable[Unfit]) -> Problem:
    return _unknown(unfit, root, missing) if unfit.why == "unknown" else _value(unfit, root)


def _meant(unknown: Unfit, missing: Iterable[Unfit]) -> str:
    """The key that was meant by an unknown one: rather one that is missing."""
    name, here = str(unknown.path[-1]), unknown.path[:-1]
    absent = tuple(str(one.path[-1]) for one in missing if one.path[:-1] == here)
    return nearest(name, absent) or nearest(name, unknown.known)


def _unknown(unfit: Unfit, root: Node, missing: Iterable[Unfit]) -> Problem:
    where, name = show_path(unfit.path[:-1]), str(unfit.path[-1])
    strange = len(unfit.path) == 1 and not set(root.keys) & set(unfit.known)
    shown = shorten(name, STRANGE) if strange else shorten(name)
    message = f"`{shown}` is no key{f' of {where}' if where else ''}"
    near = _meant(unfit, missing)
    hint = f"Did you mean `{near}`?" if near else f"There are: {', '.join(unfit.known)}."
    above = root.closest(unfit.path[:-1])
    return Problem(message, *above.keys.get(name, above.place), hint)


def _missing(unfit: Unfit, root: Node) -> Problem:
    return Problem(unfit.sentence, *root.closest(unfit.path[:-1]).place, unfit.about)


def _value(unfit: Unfit, root: Node) -> Problem:
    node, name = root.closest(unfit.path), str(unfit.path[-1]) if unfit.path else ""
    place = node.place
    found = show_found(node)
    if unfit.on_key:
        above = root.closest(unfit.path[:-1])
        place, found = above.keys.get(name, above.place), f"the key {shorten(name)!r}"
    message = unfit.message
    if message.startswith("expected "):
        message = f"found {found}, {message}"
    where = show_path(unfit.path[:-1] if unfit.on_key else unfit.path)
    return Problem(f"{where}: {message}" if where else message, *place, _advice(unfit, node))


def _advice(unfit: Unfit, node: Node) -> str:
    value, expected = node.content, unfit.message.removeprefix("expected ")
    if unfit.hint or unfit.on_key:
        return unfit.hint
    if unfit.known:
        near = nearest(node.raw, unfit.known, cutoff=0.5)
        return f"Did you mean {near}?" if near else ""
    if expected == "text" and isinstance(value, bool | int | float):
        return f'If it is text, put it in quotes: "{shorten(node.raw)}".'
    if expected in ("a number", "a whole number") and isinstance(value, str):
        return _number(value)
    if expected == "true or false" and str(value).lower() in _YAML_1_1:
        return "Only true and false mean that here."
    return unfit.about


def _number(text: str) -> str:
    """The advice where a text is wanted to be a number."""
    if means_number(text):
        return "Numbers are written without quotes."
    plain = text.replace("_", "")
    return f"Write it as {shorten(plain)}." if means_number(plain) else ""
