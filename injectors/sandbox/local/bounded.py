"""Jinja with bounds: a template can fill in text, and can neither get out nor go on for ever.

What has no bound of its own is not there (macros, recursion, includes, blocks, most
filters and methods); what grows is looked at before it is made; and all rounds of all
loops, and all that is written, count against one budget for each rendering.
"""

from __future__ import annotations

import functools
import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextvars import ContextVar
from typing import Any

import jinja2
from jinja2 import StrictUndefined, TemplateSyntaxError, nodes
from jinja2.exceptions import SecurityError
from jinja2.sandbox import ImmutableSandboxedEnvironment

__all__ = ["TEXT_LIMIT", "render"]

TEXT_LIMIT = 1024 * 1024
"""Characters that a template, or any part of it, may come to."""
_LONGEST = 256 * 1024
"""Characters of a template."""
_ROUNDS = 100_000
_ITEMS = 10_000
_NUMBER = 10**18
_NESTING = 40

_FILTERS = frozenset(
    [
        *("abs", "attr", "capitalize", "count", "d", "default", "dictsort"),
        *("first", "float", "int", "items", "join", "last", "length"),
        *("list", "lower", "map", "max", "min", "reject", "rejectattr"),
        *("replace", "reverse", "round", "select", "selectattr", "sort", "string"),
        *("sum", "title", "tojson", "trim", "unique", "upper"),
    ]
)
_METHODS = frozenset(
    [
        *("capitalize", "count", "endswith", "find", "get", "index", "isdigit"),
        *("items", "join", "keys", "lower", "lstrip", "removeprefix", "removesuffix"),
        *("replace", "rsplit", "rstrip", "split", "splitlines", "startswith", "strip"),
        *("title", "upper", "values"),
    ]
)
_REFUSED = (
    nodes.Macro,
    nodes.CallBlock,
    nodes.FilterBlock,
    nodes.Block,
    nodes.Extends,
    nodes.Include,
    nodes.Import,
    nodes.FromImport,
    nodes.NSRef,
    nodes.ScopedEvalContextModifier,
)
_WIDE = re.compile(r"%[^%a-zA-Z]*(?:\d{4}|\*)")
_rounds: ContextVar[list[int]] = ContextVar("rounds")


def render(text: str, values: Mapping[str, Any]) -> str:
    """The text with its templates filled in.

    Raises:
        TemplateError: if a variable is unknown, the template is none, or it goes too far.
    """
    if len(text) > _LONGEST:
        raise SecurityError(f"a template has {len(text)} characters; {_LONGEST} are the limit")
    token = _rounds.set([_ROUNDS])
    try:
        pieces, size = [], 0
        for piece in _environment().from_string(text).generate(values):
            size += len(piece)
            _within(size, "the text", TEXT_LIMIT)
            pieces.append(piece)
        return "".join(pieces)
    except (MemoryError, RecursionError, SyntaxError, NameError) as error:
        # Python's own bounds; the last is how a number beyond all bounds reads in its code.
        raise SecurityError(f"the template goes too far ({type(error).__name__})") from None
    finally:
        _rounds.reset(token)


def _within(size: int | float, what: str, limit: int) -> None:
    if size > limit:
        raise SecurityError(f"{what} would grow beyond {limit}; a template is for filling in")


def _size(value: object) -> int:
    return len(value) if isinstance(value, str | bytes | Sequence | Mapping) else 0


def _deep(value: object) -> int:
    """Characters that a value comes to when it is written, about; counts no further than the limit."""
    left, total = [value], 0
    while left and total <= TEXT_LIMIT:
        one = left.pop()
        if isinstance(one, Mapping):
            left += [*one.keys(), *one.values()]
        elif isinstance(one, list | tuple | set):
            left += one
        total += len(one) if isinstance(one, str | bytes) else 20
    return total


def _checked(value: Any) -> Any:
    """A value that was made: none grows beyond the bounds, step by step."""
    if isinstance(value, str | bytes):
        _within(len(value), "a text", TEXT_LIMIT)
    elif isinstance(value, list | tuple | dict):
        _within(len(value), "a list", _ITEMS)
        _within(_deep(value), "a list", TEXT_LIMIT)
    elif isinstance(value, int | float):
        _within(abs(value), "a number", _NUMBER)
    return value


def _bounded(items: Iterable[Any]) -> Iterator[Any]:
    """The items of a loop, as long as there is something left of the budget."""
    left = _rounds.get()
    for item in items:
        left[0] -= 1
        if left[0] < 0:
            raise SecurityError(f"the loops of a template went {_ROUNDS} rounds; that is the limit")
        yield item


def _loop_over(items: Iterable[Any]) -> Any:
    if isinstance(items, jinja2.Undefined):
        return items  # says by itself what is missing
    return list(_bounded(items)) if isinstance(items, Sequence | Mapping) else _bounded(items)


def _range(*args: Any) -> range:
    found = range(*args)
    size = max(0, -(-(found.stop - found.start) // found.step))  # len() has a bound of its own
    _within(size, "a range", _ITEMS)
    return found


def _replace(text: str, old: str, new: str, count: int | None = None) -> str:
    text, old, new = str(text), str(old), str(new)
    times = text.count(old)
    _within(len(text) + times * max(0, len(new) - len(old)), "a text", TEXT_LIMIT)
    return text.replace(old, new, -1 if count is None else count)


def _join(between: str, items: Iterable[Any]) -> str:
    texts = [str(item) for item in _bounded(items)]
    _within(len(str(between)) * len(texts) + sum(map(len, texts)), "a text", TEXT_LIMIT)
    return str(between).join(texts)


def _join_filter(items: Iterable[Any], d: str = "", attribute: str | None = None) -> str:
    if attribute is not None:
        items = (_environment().getitem(item, attribute) for item in items)
    return _join(d, items)


def _concat(*parts: Any) -> str:
    return _join("", parts)


def _to_json(value: Any) -> Any:
    from jinja2.utils import htmlsafe_json_dumps

    return htmlsafe_json_dumps(value)


class _Environment(ImmutableSandboxedEnvironment):
    intercepted_binops = frozenset(("+", "-", "*", "/", "//", "%", "**"))

    def __init__(self) -> None:
        super().__init__(undefined=StrictUndefined, keep_trailing_newline=True, cache_size=0)
        self.globals = {"range": _range, "dict": dict}
        own: dict[str, Callable[..., Any]] = {
            "replace": _replace,
            "join": _join_filter,
            "tojson": _to_json,
            "_loop": _loop_over,
            "_concat": _concat,
            "_made": _checked,
        }
        known = {name: made for name, made in self.filters.items() if name in _FILTERS}
        self.filters = known | own

    def _parse(self, source: str, name: str | None, filename: str | None) -> nodes.Template:
        tree = super()._parse(source, name, filename)
        _refuse(tree, 0)
        for loop in tree.find_all(nodes.For):
            loop.iter = nodes.Filter(loop.iter, "_loop", [], [], None, None, lineno=loop.lineno)
        return _Made(self).visit(tree)  # type: ignore[no-any-return]

    def call_binop(self, context: Any, operator: str, left: Any, right: Any) -> Any:
        if operator == "*":
            sizes = [(_size(left), right), (_size(right), left)]
            for size, times in sizes:
                if size and isinstance(times, int):
                    _within(size * times, "a text or list", TEXT_LIMIT)
        elif operator == "**" and isinstance(right, int | float):
            _within(right, "a power", 60)
        elif operator == "%" and isinstance(left, str):
            if _WIDE.search(left):  # a width that makes a text of its own length
                raise SecurityError("a text is formatted with a width of more than 999, or with *")
            _within(left.count("%") * 1000 + _deep(right), "a text", TEXT_LIMIT)
        return _checked(super().call_binop(context, operator, left, right))

    def is_safe_callable(self, obj: Any) -> bool:
        owner = getattr(obj, "__self__", None)
        if isinstance(owner, str | list | tuple | dict):
            return obj.__name__ in _METHODS
        if isinstance(owner, jinja2.runtime.LoopContext):
            return True
        return obj in (_range, dict)

    def call(__self, __context: Any, __obj: Any, *args: Any, **kwargs: Any) -> Any:  # noqa: N805
        owner, name = getattr(__obj, "__self__", None), getattr(__obj, "__name__", "")
        if isinstance(owner, str) and name in ("replace", "join"):
            bounded: Callable[..., str] = _replace if name == "replace" else _join
            return bounded(owner, *args, **kwargs)
        return _checked(super().call(__context, __obj, *args, **kwargs))


class _Made(jinja2.visitor.NodeTransformer):
    """What is made of other values (``a ~ b``, ``[a, b]``) is looked at."""

    def __init__(self, environment: _Environment) -> None:
        self._environment = environment

    def visit_Concat(self, node: nodes.Concat) -> nodes.Node:  # noqa: N802 - the visitor's name
        self.generic_visit(node)
        first, *rest = node.nodes
        return self._filter(first, "_concat", rest)

    def visit_List(self, node: nodes.List) -> nodes.Node:  # noqa: N802
        self.generic_visit(node)
        return self._filter(node, "_made", [])

    def visit_Dict(self, node: nodes.Dict) -> nodes.Node:  # noqa: N802
        self.generic_visit(node)
        return self._filter(node, "_made", [])

    def visit_Tuple(self, node: nodes.Tuple) -> nodes.Node:  # noqa: N802
        self.generic_visit(node)
        return self._filter(node, "_made", []) if node.ctx == "load" else node

    def _filter(self, node: nodes.Expr, name: str, more: list[nodes.Expr]) -> nodes.Filter:
        made = nodes.Filter(node, name, more, [], None, None, lineno=node.lineno)
        made.set_environment(self._environment)
        return made


def _refuse(node: nodes.Node, depth: int) -> None:
    if depth > _NESTING:
        raise TemplateSyntaxError(f"it nests deeper than {_NESTING} levels", _line(node))
    if isinstance(node, _REFUSED) or (isinstance(node, nodes.For) and node.recursive):
        what = type(node).__name__.lower()
        message = f"{what} is not there; templates fill in, with loops, conditions and set"
        raise TemplateSyntaxError(message, _line(node))
    if isinstance(node, nodes.Getattr) and node.attr.startswith("_"):
        raise TemplateSyntaxError(f"{node.attr[:40]!r} is private", _line(node))
    for child in node.iter_child_nodes():
        _refuse(child, depth + 1)


def _line(node: nodes.Node) -> int:
    return getattr(node, "lineno", None) or 1


@functools.cache
def _environment() -> _Environment:
    return _Environment()
