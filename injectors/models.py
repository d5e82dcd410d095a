"""Models: what people may write, and how it is held against that.

A model is a class whose fields say what a value has to be, with `msgspec.Meta` for bounds
and prose, and `Unit`, `Within` and `Check` for what that does not know::

    class Pace(Model):
        every: Annotated[Seconds, Within(0.01, 60), Meta(description="The schedule.")] = 0.1

    Pace.of({"every": "2m"})  # Misfits: every: 2 min is outside 10 ms to 1 min

`read` finds every value that does not fit, each by its path, not only the first. What needs
several fields at once is checked in ``__post_init__``, by raising ValueError or `Misfit`.
JSON Schemas follow from the same annotations (`gameday.scenarios.schema`).
"""

from __future__ import annotations

import abc
import math
import re
import types
import typing
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from functools import cache, partial
from typing import Any, Literal, TypeVar, Union, cast, dataclass_transform

import msgspec
from msgspec import Meta

__all__ = [
    "Check",
    "FieldType",
    "Flattened",
    "Misfit",
    "Misfits",
    "Model",
    "Path",
    "Unfit",
    "Unit",
    "Within",
    "field_types",
    "read",
    "show_path",
    "show_value",
]

M = TypeVar("M", bound="Model")
Path = tuple[int | str, ...]

_WORDS: dict[Any, tuple[str, Callable[[Any], bool]]] = {
    str: ("text", lambda value: isinstance(value, str)),
    bool: ("true or false", lambda value: isinstance(value, bool)),
    int: ("a whole number", lambda value: isinstance(value, int) and not isinstance(value, bool)),
    float: ("a number", lambda value: _is_number(value)),
    list: ("a list", lambda value: isinstance(value, list | tuple)),
    dict: ("keys with values", lambda value: isinstance(value, Mapping)),
    type(None): ("nothing", lambda value: value is None),
}


class Misfit(ValueError):
    """A value does not fit, and there is more to say about it than one sentence.

    Args:
        message: What was found and what was expected. Where it begins with "expected", what
            was found is put before it.
        hint: What to do about it.
        path: Keys that lead from the value that is looked at to the one to blame.
        missing: That one is not there at all; the message says what belongs there.
    """

    def __init__(
        self, message: str, *, hint: str = "", path: tuple[str, ...] = (), missing: bool = False
    ) -> None:
        super().__init__(message)
        self.hint = hint
        self.path = path
        self.missing = missing


class Unfit(msgspec.Struct, frozen=True):
    """One value that does not fit.

    Attributes:
        path: Keys and indexes that lead to it.
        why: ``unknown``: a key that does not belong there; ``missing``: one that does;
            ``value``: everything else.
        message: For a value: a sentence, or what was expected ("expected a whole number").
        hint: What to do about it.
        about: What belongs there, where nothing was given.
        on_key: The key is to blame, not its value.
        known: The keys or words that there are, where one of them is wanted.
    """

    path: Path
    why: Literal["unknown", "missing", "value"]
    message: str = ""
    hint: str = ""
    about: str = ""
    on_key: bool = False
    known: tuple[str, ...] = ()

    @property
    def sentence(self) -> str:
        """What does not fit, for those who have no file to look at."""
        where = show_path(self.path if self.why == "value" else self.path[:-1])
        if self.why == "unknown":
            return f"`{self.path[-1]}` is no key{f' of {where}' if where else ''}"
        if self.why == "missing":
            return f"`{self.path[-1]}` is missing{f' from {where}' if where else ''}"
        return f"{where}: {self.message}" if where else self.message


class Misfits(ValueError):
    """All that does not fit; its text names each with its path."""

    def __init__(self, unfits: Sequence[Unfit]) -> None:
        self.unfits = tuple(unfits)
        super().__init__("\n".join(one.sentence for one in unfits))


class Unit(msgspec.Struct, frozen=True):
    """A number that is written as text with its unit.

    Attributes:
        parse: From text to SI; raises ValueError.
        show: From SI to what people write.
        example: ``a duration such as 500ms``.
        most: What it may be at most; ``least``: at least.
        bare: Whether such a number may stand in a file without a unit.
    """

    parse: Callable[[str], float]
    show: Callable[[Any], str]
    example: str
    most: float = math.inf
    bare: bool = True
    least: float = 0.0


class Within(msgspec.Struct, frozen=True):
    """Bounds of a value with a unit, in SI; the refusal is written in the unit."""

    low: float
    high: float


class Check(msgspec.Struct, frozen=True):
    """A check by a function of the value, which returns it as it shall be, or raises ValueError."""

    function: Callable[[Any], Any]


class Flattened(msgspec.Struct, frozen=True):
    """All keys that are no other field's belong to this one, which is a model.

    Attributes:
        choose: From those keys to the model that they are held against, and those of them
            that it shall see; raises `Misfit`.
        keys: Keys that only ``choose`` knows.
    """

    choose: Callable[[dict[str, Any]], tuple[type[Model], dict[str, Any]]]
    keys: tuple[str, ...]


class ModelType(msgspec.StructMeta, abc.ABCMeta):
    """The class of models: class keywords become attributes.

    ``class NetLoss(LinkFault, kind="net.loss", toxic="loss")`` has a ``kind`` and a ``toxic``.
    """

    def __new__(
        cls,
        name: str,
        bases: tuple[type, ...],
        namespace: dict[str, Any],
        *,
        frozen: bool = True,
        **keywords: Any,
    ) -> Any:
        """A struct that is built with keywords, and takes none that it does not know."""
        made = super().__new__(
            cls, name, bases, namespace, frozen=frozen, kw_only=True, forbid_unknown_fields=True
        )
        for key, value in keywords.items():
            setattr(made, key, value)
        return made

    def __init__(
        cls, name: str, bases: tuple[type, ...], namespace: dict[str, Any], **keywords: Any
    ) -> None:
        super().__init__(name, bases, namespace)


@dataclass_transform(kw_only_default=True, frozen_default=True, field_specifiers=(msgspec.field,))
class Model(msgspec.Struct, metaclass=ModelType, frozen=True):
    """The base of everything that people write; see this module."""

    @classmethod
    def of(cls: type[M], given: Mapping[str, Any]) -> M:
        """A model from plain values, where seconds may be numbers too.

        Raises:
            Misfits: with everything that does not fit.
        """
        return read(cls, given, written=False)


def read(model: type[M], given: object, *, written: bool = True) -> M:
    """A model from the plain values of a file.

    Args:
        written: ``given`` is what a person wrote: numbers of seconds then need their unit.

    Raises:
        Misfits: with everything that does not fit.
    """
    reader = _Reader(written)
    found: M = reader.model(model, given, ())
    if reader.unfits:
        raise Misfits(reader.unfits)
    return found


class FieldType(msgspec.Struct, frozen=True):
    """What a field is.

    Attributes:
        attribute: Its name in Python; people may write it under another.
        kind: Its type.
        said: What is said about it: `Meta`, `Unit`, `Check` and the like.
    """

    attribute: str
    kind: Any
    said: tuple[Any, ...]
    required: bool
    description: str
    flattened: Flattened | None


@cache
def field_types(model: type[Model]) -> Mapping[str, FieldType]:
    """The fields of a model, by the names that people write."""
    hints = typing.get_type_hints(model, include_extras=True)
    names, defaults = model.__struct_encode_fields__, model.__struct_defaults__
    first = len(names) - len(defaults)
    found = {}
    for index, (name, attribute) in enumerate(zip(names, model.__struct_fields__, strict=True)):
        kind, said = _said(hints[attribute])
        found[name] = FieldType(
            attribute,
            kind,
            said,
            required=index < first or defaults[index - first] is msgspec.NODEFAULT,
            description=next((text for text in reversed(_descriptions(said)) if text), ""),
            flattened=next((one for one in said if isinstance(one, Flattened)), None),
        )
    return found


def _descriptions(said: tuple[Any, ...]) -> list[str]:
    return [one.description or "" for one in said if isinstance(one, Meta)]


def show_path(path: Iterable[int | str]) -> str:
    """``alerts[0].when``; empty for the whole file."""
    text = ""
    for step in path:
        text += f"[{step}]" if isinstance(step, int) else f".{step}" if text else str(step)
    return text


def show_value(value: Any, field: FieldType | None) -> str:
    """What a field holds, as people write it: with its unit, if it has one."""
    if isinstance(value, bool):
        return str(value).lower()
    said: list[Any] = []
    if field is not None:  # the unit may be that of an alternative: a share, or nothing
        branches = typing.get_args(field.kind)
        said = [*field.said, *(one for branch in branches for one in _said(branch)[1])]
    unit = next((one for one in said if isinstance(one, Unit)), None)
    return unit.show(value) if unit is not None and _is_number(value) else _show(value)


def _said(annotation: Any) -> tuple[Any, tuple[Any, ...]]:
    """A type, and what is said about it."""
    said = getattr(annotation, "__metadata__", None)
    return (annotation, ()) if said is None else (annotation.__origin__, said)


class _Reader:
    """One reading. What does not fit is noted, and reading goes on."""

    def __init__(self, written: bool) -> None:
        self._written = written
        self.unfits: list[Unfit] = []

    def model(self, model: type[Model], given: object, path: Path) -> Any:
        if isinstance(given, model):
            return given
        if not isinstance(given, Mapping):
            return self._add(Unfit(path, "value", "expected keys with values"))
        before = len(self.unfits)
        fields = field_types(model)
        rest = {
            key: value
            for key, value in given.items()
            if key not in fields or (fields[key].flattened and not isinstance(value, Model))
        }
        values: dict[str, Any] = {}
        for name, field in fields.items():
            here = (*path, name)
            if name in given and name not in rest:
                read = self.value(field.kind, field.said, given[name], here, field.description)
            elif field.flattened is not None:
                read, rest = self._flattened(field.flattened, rest, path, fields), {}
            elif field.required:
                read = self._add(Unfit(here, "missing", about=field.description))
            else:
                continue
            values[field.attribute] = read
        for key in rest:
            self._add(Unfit((*path, key), "unknown", known=tuple(fields)))
        if len(self.unfits) > before:
            return None
        return self._made(partial(model, **values), path)

    def _flattened(
        self, flat: Flattened, rest: dict[str, Any], path: Path, fields: Mapping[str, FieldType]
    ) -> Any:
        try:
            model, seen = flat.choose(rest)
        except Misfit as error:
            if error.missing:
                about = f"{error} {error.hint}".rstrip()
                return self._add(Unfit((*path, *error.path), "missing", about=about))
            return self._note(error, path)
        before = len(self.unfits)
        read = self.model(model, seen, path)
        beside = (name for name, field in fields.items() if field.flattened is None)
        more = sorted((*flat.keys, *beside))
        for index, unfit in enumerate(self.unfits[before:], before):
            if unfit.why == "unknown" and unfit.path[:-1] == path:
                known = (*unfit.known, *more)
                self.unfits[index] = msgspec.structs.replace(unfit, known=known)
        return read

    def _add(self, unfit: Unfit) -> Any:
        """Note it; nothing is in the place of such a value."""
        self.unfits.append(unfit)

    def _note(self, error: ValueError, path: Path, *, on_key: bool = False) -> Any:
        message = str(error) or "this does not fit"
        hint, further = (error.hint, error.path) if isinstance(error, Misfit) else ("", ())
        return self._add(Unfit((*path, *further), "value", message, hint, on_key=on_key))

    def _made(self, make: Callable[[], Any], path: Path, *, on_key: bool = False) -> Any:
        try:
            return make()
        except ValueError as error:
            return self._note(error, path, on_key=on_key)

    def value(
        self,
        kind: Any,
        said: tuple[Any, ...],
        given: object,
        path: Path,
        about: str = "",
        *,
        on_key: bool = False,
    ) -> Any:
        """A value of a type, of which something is said.

        Args:
            about: What it is.
            on_key: It is the last key of the path.
        """
        before = len(self.unfits)
        unit = next((one for one in said if isinstance(one, Unit)), None)
        if unit is not None:
            value = self._made(partial(_measured, unit, kind, given, self._written), path)
        else:
            value = self._plain(kind, given, path, about, on_key)
        for one in said:
            if value is None or len(self.unfits) > before:
                break
            if isinstance(one, Meta):
                show = unit.show if unit is not None else _show
                value = self._made(partial(_bounded, one, value, show), path, on_key=on_key)
            elif isinstance(one, Within):
                value = self._made(partial(_within, one, unit, value), path)
            elif isinstance(one, Check):
                value = self._made(partial(one.function, value), path, on_key=on_key)
        return value

    def _plain(self, kind: Any, given: object, path: Path, about: str, on_key: bool) -> Any:
        origin = typing.get_origin(kind) or kind
        if origin is Any:
            return given
        if isinstance(origin, ModelType):
            return self.model(cast("type[Model]", origin), given, path)
        if origin in (Union, types.UnionType):
            return self._union(kind, given, path, about)
        if origin is Literal:
            return self._choice(typing.get_args(kind), given, path)
        if origin not in _WORDS:  # a third party's own: an enumeration, a date
            return self._made(partial(msgspec.convert, given, kind, strict=True), path)
        words, fits = _WORDS[origin]
        if not fits(given):
            about = about if given is None else ""
            return self._add(Unfit(path, "value", f"expected {words}", about=about, on_key=on_key))
        arguments = typing.get_args(kind)
        if isinstance(given, Mapping):
            return self._entries(arguments or (str, Any), given, path)
        if isinstance(given, list | tuple):
            entry = _said(arguments[0] if arguments else Any)
            return [self.value(*entry, one, (*path, at)) for at, one in enumerate(given)]
        return float(given) if origin is float and isinstance(given, int) else given

    def _entries(self, arguments: tuple[Any, ...], given: Mapping[Any, Any], path: Path) -> Any:
        key, entry = _said(arguments[0]), _said(arguments[1])
        return {
            self.value(*key, name, (*path, name), on_key=True): self.value(
                *entry, one, (*path, name)
            )
            for name, one in given.items()
        }

    def _union(self, kind: Any, given: object, path: Path, about: str) -> Any:
        """The first alternative that fits; else what there could be."""
        branches = [_said(one) for one in typing.get_args(kind)]
        if given is None and (type(None), ()) in branches:
            return None
        branches = [one for one in branches if one != (type(None), ())]
        if len(branches) == 1:
            return self.value(*branches[0], given, path, about)
        before = len(self.unfits)
        for branch in branches:
            value = self.value(*branch, given, path, about)
            if len(self.unfits) == before:
                return value
            del self.unfits[before:]
        words = (_WORDS.get(typing.get_origin(one) or one, (str(one),))[0] for one, _ in branches)
        return self._add(Unfit(path, "value", f"expected {' or '.join(words)}"))

    def _choice(self, words: tuple[Any, ...], given: object, path: Path) -> Any:
        if any(given == one and type(given) is type(one) for one in words):
            return given
        known = tuple(one if isinstance(one, str) else str(one).lower() for one in words)
        listed = known[0] if len(known) == 1 else f"one of {', '.join(known)}"
        return self._add(Unfit(path, "value", f"expected {listed}", known=known))


def _is_number(value: object) -> bool:
    """Whether it is a finite number."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        return False
    try:
        return math.isfinite(value)
    except OverflowError:  # an integer that no float can hold
        return False


def _show(limit: Any) -> str:
    return f"{limit:g}" if isinstance(limit, float) else str(limit)


def _measured(unit: Unit, kind: Any, given: Any, written: bool) -> float:
    if isinstance(given, str):
        return unit.parse(given)
    if not _is_number(given) or (kind is int and not isinstance(given, int)):
        raise ValueError(f"expected {unit.example}")
    if given and not unit.bare and (written or isinstance(given, int)):
        raise ValueError(f"{given} has no unit; write {given}s or {given}ms")
    if given < unit.least:
        raise ValueError(f"expected at least {_show(unit.least)}")
    if given > unit.most:
        raise ValueError(f"expected at most {_show(unit.most)}")
    number: float = kind(given)
    return number


def _within(bounds: Within, unit: Unit | None, value: float) -> float:
    if not bounds.low <= value <= bounds.high:
        show = unit.show if unit is not None else _show
        raise ValueError(f"{show(value)} is outside {show(bounds.low)} to {show(bounds.high)}")
    return value


def _bounded(meta: Meta, value: Any, show: Callable[[Any], str]) -> Any:
    """The value, if it keeps to what msgspec's annotation says."""
    for message in _overstepped(meta, value, show):
        raise ValueError(f"expected {message}")
    return value


def _overstepped(meta: Meta, value: Any, show: Callable[[Any], str]) -> Iterator[str]:
    if meta.ge is not None and value < meta.ge:
        yield f"at least {show(meta.ge)}"
    if meta.gt is not None and value <= meta.gt:
        yield f"more than {show(meta.gt)}"
    if meta.le is not None and value > meta.le:
        yield f"at most {show(meta.le)}"
    if meta.lt is not None and value >= meta.lt:
        yield f"less than {show(meta.lt)}"
    if meta.multiple_of is not None and value % meta.multiple_of:
        yield f"a multiple of {show(meta.multiple_of)}"
    if meta.min_length is not None and len(value) < meta.min_length:
        yield f"at least {_count(meta.min_length, value)}"
    if meta.max_length is not None and len(value) > meta.max_length:
        yield f"at most {_count(meta.max_length, value)}"
    if meta.pattern is not None and not _pattern(meta.pattern).search(value):
        yield (meta.extra or {}).get("expected") or f"text that matches {meta.pattern}"


@cache
def _pattern(text: str) -> re.Pattern[str]:
    """``$`` means the end, as in a JSON Schema; Python's would let a line's end follow."""
    return re.compile(re.sub(r"(?<!\\)\$$", r"\\Z", text))


def _count(number: int, value: object) -> str:
    one, many = ("character", "characters") if isinstance(value, str) else ("entry", "entries")
    return f"one {one}" if number == 1 else f"{number} {many}"
