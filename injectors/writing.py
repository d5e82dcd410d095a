"""Writing records that may hold text from outside: a path, an error, a command line."""

from __future__ import annotations

from typing import TypeVar

import msgspec

__all__ = ["encode", "legible"]

T = TypeVar("T")


def encode(value: object) -> bytes:
    """As JSON, with a question mark for each character that no encoding takes (a lone surrogate)."""
    try:
        return msgspec.json.encode(value)
    except UnicodeEncodeError:
        return msgspec.json.encode(_mended(msgspec.to_builtins(value)))


def legible(value: T) -> T:
    """The same value, with question marks in such places."""
    return msgspec.convert(_mended(msgspec.to_builtins(value)), type(value))


def _mended(value: object) -> object:
    match value:
        case str():
            return value.encode("utf-8", "replace").decode()
        case dict():
            return {_mended(key): _mended(each) for key, each in value.items()}
        case list() | tuple():
            return [_mended(each) for each in value]
    return value
