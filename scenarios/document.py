"""YAML as a tree that knows where everything stands.

The tree is composed here, from the event stream, so that nesting, aliases and
size are capped before anything is built. Plain scalars mean what the core
schema of YAML 1.2 says: ``no``, ``on``, ``1:30`` and ``2024-01-01`` are text.
Left out on purpose: tags, several documents in a file, merge keys, NaN and
infinity. No recursion depends on the input beyond the nesting cap.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterator, Sequence
from typing import Any

import msgspec
import yaml

from gameday.injectors.errors import Problem, ScenarioError
from gameday.scenarios.syntax import NESTING, TOO_DEEP, Place, place_of, syntax_problem

__all__ = ["STRANGE", "Node", "Place", "means_number", "parse_document", "shorten", "show_found"]

_NODES = 20_000
_ALIASES = 100
_SCALAR = 100_000
_DIRECTIVES = 4
_DIGITS = 18
_SHOWN = 60

STRANGE = 20
"""Characters that are shown of a line in a file that is none of ours; it may be a secret."""

_Loader: Any = getattr(yaml, "CSafeLoader", yaml.SafeLoader)

_INTEGER = re.compile(r"[-+]?\d+|0o[0-7]+|0x[0-9a-fA-F]+", re.ASCII)
_FLOAT = re.compile(r"[-+]?(\.\d+|\d+(\.\d*)?)([eE][-+]?\d+)?", re.ASCII)
_NOT_FINITE = re.compile(r"[-+]?\.(inf|Inf|INF)|\.(nan|NaN|NAN)")
_AMBIGUOUS = re.compile(r"[-+]?0\d+", re.ASCII)
_WORDS = {
    **dict.fromkeys(("", "~", "null", "Null", "NULL"), None),
    **dict.fromkeys(("true", "True", "TRUE"), True),
    **dict.fromkeys(("false", "False", "FALSE"), False),
}
_NOT_PRINTED_ASCII = re.compile("[^\t\n\r\x20-\x7e]")
_NOT_PRINTED = (
    "[^\t\n\r\x20-\x7e\xa0-\u2027\u202a-\ud7ff\ue000-\ufefe\uff00-\ufffd\U00010000-\U0010ffff]"
)


class Node(msgspec.Struct, eq=False):
    """A value and where it stands.

    Attributes:
        content: A scalar, a list of nodes, or nodes by key.
        keys: For a mapping: where each key stands.
        raw: For a scalar: its text as it was written (without quotes).
        size, depth: Nodes in it, itself included; levels below it.
    """

    place: Place
    content: Any
    keys: dict[str, Place] = msgspec.field(default_factory=dict)
    raw: str = ""
    size: int = 1
    depth: int = 0

    def plain(self) -> Any:
        """The value as plain dicts, lists and scalars."""
        if isinstance(self.content, dict):
            return {key: node.plain() for key, node in self.content.items()}
        if isinstance(self.content, list):
            return [node.plain() for node in self.content]
        return self.content

    def get(self, *path: str | int) -> Node | None:
        """The node at a path of keys and indexes; None if there is none."""
        node: Node | None = self
        for step in path:
            if node is None:
                return None
            node = node._child(step)
        return node

    def closest(self, path: Sequence[str | int]) -> Node:
        """The node at the longest part of the path that exists."""
        node = self
        for step in path:
            child = node._child(step)
            if child is None:
                break
            node = child
        return node

    def items(self) -> Iterator[tuple[str, Node]]:
        """Keys and nodes of a mapping; nothing for anything else."""
        return iter(self.content.items() if isinstance(self.content, dict) else ())

    def entries(self) -> list[Node]:
        """The nodes of a list; nothing for anything else."""
        return self.content if isinstance(self.content, list) else []

    def text(self) -> str | None:
        """The value if it is text."""
        return self.content if isinstance(self.content, str) else None

    def with_text(self, path: tuple[str, ...], text: str) -> Node:
        """The same with another text at a path of keys; what is no mapping there stays as it is."""
        if not isinstance(self.content, dict):
            return self
        key, *rest = path
        child = self.content.get(key) or Node(self.place, {})
        fresh = child.with_text(tuple(rest), text) if rest else Node(child.place, text, raw=text)
        keys = {key: self.place} | self.keys
        return msgspec.structs.replace(self, content=self.content | {key: fresh}, keys=keys)

    def _child(self, step: str | int) -> Node | None:
        if isinstance(self.content, dict) and isinstance(step, str):
            return self.content.get(step)
        if isinstance(self.content, list) and isinstance(step, int) and step < len(self.content):
            child: Node = self.content[step]
            return child
        return None


def means_number(raw: str) -> bool:
    """Whether a text is a number if it is written without quotes."""
    return bool(_INTEGER.fullmatch(raw) or _FLOAT.fullmatch(raw))


def shorten(text: str, most: int = _SHOWN) -> str:
    """Text of a file as a message quotes it: its beginning, if it is long."""
    return text if len(text) <= most else text[: most - 1] + "…"


def show_found(node: Node, most: int = _SHOWN) -> str:
    """What stands there, for people: ``the text 'ten'``, ``the number 10``, ``a list``.

    Args:
        most: Characters that are shown, at most.
    """
    value = node.content
    if isinstance(value, dict):
        return "a mapping"
    if isinstance(value, list):
        return "a list"
    if value is None:
        return "nothing"
    shown = shorten(node.raw, most)
    if isinstance(value, str):
        return f"the text {shown!r}"
    return shown if isinstance(value, bool) else f"the number {shown}"


def parse_document(text: str, name: str) -> tuple[Node, list[Problem]]:
    """The tree of a file that holds one mapping, and problems that do not keep it from being read.

    Raises:
        ScenarioError: if there is no tree: the text is not YAML, or is beyond the limits.
    """
    composer = _Composer()
    try:
        _check_text(text)
        root = composer.compose(text)
    except _Stop as stop:
        raise ScenarioError(name, [*composer.problems, stop.problem]) from None
    if not isinstance(root.content, dict):
        message = f"found {show_found(root, STRANGE)}, expected keys with values, such as `name: …`"
        raise ScenarioError(name, [*composer.problems, Problem(message, *root.place)])
    return root, composer.problems


class _Stop(Exception):
    def __init__(self, message: str, place: Place | None = None, hint: str = "") -> None:
        super().__init__(message)
        line, column = place or (None, None)
        self.problem = Problem(message, line, column, hint)

    @classmethod
    def of(cls, problem: Problem) -> _Stop:
        stop = cls(problem.message)
        stop.problem = problem
        return stop


def _not_printed(text: str) -> re.Match[str] | None:
    """The first character that has no place in a text; the pattern for all of Unicode is slow to build."""
    if text.isascii():
        return _NOT_PRINTED_ASCII.search(text)
    return re.search(_NOT_PRINTED, text)


def _check_text(text: str) -> None:
    if not text.strip():
        raise _Stop("the file is empty", hint="`gameday init` writes a first scenario.")
    odd = _not_printed(text)
    if odd is not None:
        code = f"U+{ord(odd[0]):04X}"
        raise _Stop(f"found the control character {code}", _place_in(text, odd.start()))
    directives = [m.start() for m in re.finditer(r"^%", text, re.MULTILINE)]
    if len(directives) > _DIRECTIVES:
        raise _Stop(
            f"found {len(directives)} lines that begin with '%'; directives are not used here",
            _place_in(text, directives[_DIRECTIVES]),
        )


def _place_in(text: str, index: int) -> Place:
    before = text[:index]
    return Place(before.count("\n") + 1, index - before.rfind("\n"))


class _Composer:
    """Builds the tree from events, one at a time, on a stack of its own."""

    def __init__(self) -> None:
        self.problems: list[Problem] = []
        self._open: list[Node] = []
        self._pending: list[tuple[str, Place] | None] = []
        self._anchors: dict[str, Node] = {}
        self._nodes = 0
        self._aliases = 0
        self._root: Node | None = None
        self._quoted: Any = (
            None  # the last event that stands in the text, if it is a text in quotes
        )

    def compose(self, text: str) -> Node:
        loader = _Loader(text)
        try:
            while loader.check_event():
                self._take(loader.get_event())
        except yaml.MarkedYAMLError as error:
            begun = self._root is not None
            raise _Stop.of(syntax_problem(error, text, self._quoted, begun=begun)) from None
        except yaml.YAMLError:
            raise _Stop("this is not YAML, expected keys with values") from None
        finally:
            loader.dispose()
        if self._root is None or (self._root.content is None and not self._root.raw):
            raise _Stop("there is nothing in the file but comments")
        return self._root

    def _take(self, event: Any) -> None:
        if event.start_mark.index != event.end_mark.index:  # it stands in the text
            self._quoted = event if getattr(event, "style", None) in ("'", '"') else None
        if isinstance(event, yaml.ScalarEvent):
            self._take_scalar(event)
        elif isinstance(event, yaml.SequenceStartEvent | yaml.MappingStartEvent):
            self._begin(event)
        elif isinstance(event, yaml.SequenceEndEvent | yaml.MappingEndEvent):
            self._end()
        elif isinstance(event, yaml.AliasEvent):
            self._alias(event)
        elif isinstance(event, yaml.DocumentStartEvent) and self._root is not None:
            raise _Stop(
                "a second document begins here; a file holds one",
                place_of(event.start_mark),
                "Put it in a file of its own.",
            )

    def _begin(self, event: Any) -> None:
        place = place_of(event.start_mark)
        self._refuse_tag(event, place)
        if self._wants_key():
            raise _Stop("found a list or mapping as a key; expected text", place)
        if len(self._open) >= NESTING:
            raise _Stop(TOO_DEEP, place)
        mapping = isinstance(event, yaml.MappingStartEvent)
        node = Node(place, {} if mapping else [])
        self._remember(node, event.anchor)
        self._attach(node)
        self._open.append(node)
        self._pending.append(None)

    def _end(self) -> None:
        node = self._open.pop()
        self._pending.pop()
        self._grow(node)

    def _alias(self, event: Any) -> None:
        place = place_of(event.start_mark)
        node = self._anchors.get(event.anchor)
        if self._wants_key():
            raise _Stop("found an alias as a key; expected text", place)
        if node is None:
            hint = "Text that begins with '*' needs quotes."
            raise _Stop(f"the alias *{event.anchor[:_SHOWN]} names no anchor", place, hint)
        if node in self._open:
            raise _Stop(f"the alias *{event.anchor[:_SHOWN]} stands inside its own anchor", place)
        self._aliases += 1
        if self._aliases > _ALIASES:
            raise _Stop(f"found more than {_ALIASES} aliases", place)
        if len(self._open) + node.depth > NESTING:
            raise _Stop(f"with its aliases the file nests deeper than {NESTING} levels", place)
        self._count(node.size, place)
        self._attach(node)
        self._grow(node)

    def _scalar(self, event: Any) -> Node:
        place, raw = place_of(event.start_mark), event.value
        self._refuse_tag(event, place)
        if len(raw) > _SCALAR:
            raise _Stop(f"found a text of {len(raw)} characters, expected at most {_SCALAR}", place)
        odd = _not_printed(raw)
        if odd is not None:
            raise _Stop(f"found the control character U+{ord(odd[0]):04X} in a text", place)
        if not event.implicit[0] or self._wants_key():
            return Node(place, raw, raw=raw)
        return Node(place, self._resolve(raw, place), raw=raw)

    def _resolve(self, raw: str, place: Place) -> Any:
        if raw in _WORDS:
            return _WORDS[raw]
        if _INTEGER.fullmatch(raw):
            return self._integer(raw, place)
        if _FLOAT.fullmatch(raw) and math.isfinite(float(raw)):
            return float(raw)
        if _NOT_FINITE.fullmatch(raw) or _FLOAT.fullmatch(raw):
            self._note(f"found the number {shorten(raw)}, expected a finite number", place)
            return 0
        return raw

    def _integer(self, raw: str, place: Place) -> int:
        if len(raw) > _DIGITS:
            self._note(f"found a number of {len(raw)} characters; that is too large", place)
            return 0
        if _AMBIGUOUS.fullmatch(raw):
            plain = int(raw)
            self._note(
                f"found {raw}, which some programs read as octal; expected {plain}",
                place,
                f'If it is text, put it in quotes: "{raw}".',
            )
            return plain
        return int(raw, 0)

    def _take_scalar(self, event: Any) -> None:
        node, key = self._scalar(event), self._wants_key()
        self._remember(node, event.anchor)
        self._attach(node)
        if not key:
            self._grow(node)

    def _remember(self, node: Node, anchor: str | None) -> None:
        self._count(1, node.place)
        if anchor:
            self._anchors[anchor] = node

    def _attach(self, node: Node) -> None:
        if not self._open:
            self._root = node
            return
        parent = self._open[-1]
        if isinstance(parent.content, list):
            parent.content.append(node)
        elif self._pending[-1] is None:
            self._pending[-1] = (node.raw, node.place)
            return
        else:
            key, place = self._pending[-1]
            self._pending[-1] = None
            self._put(parent, key, place, node)

    def _put(self, parent: Node, key: str, place: Place, node: Node) -> None:
        first = parent.keys.get(key)
        if first is not None:
            self._note(f"`{key[:_SHOWN]}` is given twice; first at line {first.line}", place)
            return
        parent.content[key] = node
        parent.keys[key] = place

    def _grow(self, child: Node) -> None:
        if self._open:
            parent = self._open[-1]
            parent.size += child.size
            parent.depth = max(parent.depth, child.depth + 1)

    def _wants_key(self) -> bool:
        return bool(
            self._open and isinstance(self._open[-1].content, dict) and self._pending[-1] is None
        )

    def _count(self, size: int, place: Place) -> None:
        self._nodes += size
        if self._nodes > _NODES:
            raise _Stop(f"found more than {_NODES} values in one file", place)

    @staticmethod
    def _refuse_tag(event: Any, place: Place) -> None:
        if event.tag is not None and event.tag != "!":
            raise _Stop(
                f"found the tag {event.tag[:_SHOWN]!r}; expected a plain value",
                place,
                "Tags are not used here; text that begins with '!' needs quotes.",
            )

    def _note(self, message: str, place: Place, hint: str = "") -> None:
        self.problems.append(Problem(message, *place, hint))
