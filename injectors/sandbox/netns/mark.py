"""A fault in force, and how comments and aliases in the kernel name it."""

from __future__ import annotations

import re

import msgspec

from gameday.injectors.errors import UsageError
from gameday.injectors.sandbox.base import Toxic

__all__ = ["DIRECTIONS", "InForce", "check_tag", "read", "write"]

DIRECTIONS = ("in", "out", "both")
_WORD = "gameday"
_TAG = re.compile(r"[A-Za-z0-9_.:-]{1,100}")


class InForce(msgspec.Struct, frozen=True):
    """One fault in force in a namespace.

    Attributes:
        peers: Addresses or networks of the other ends; empty: everything but loopback.
        direction: What is hit: ``in`` comes from the peers, ``out`` goes to them, or ``both``.
    """

    toxic: Toxic
    peers: tuple[str, ...]
    direction: str


def check_tag(tag: str) -> str:
    """The tag, if it can be written into a comment and read back.

    Raises:
        UsageError: if it cannot.
    """
    if not _TAG.fullmatch(tag):
        raise UsageError(
            f"{tag!r} cannot tag a network fault", hint="Up to 100 of A-Z a-z 0-9 _ . : -"
        )
    return tag


def write(toxic: Toxic, direction: str) -> str:
    """The fault in at most 255 characters, none of which needs quotes."""
    figures = ",".join(f"{name}={float(value)!r}" for name, value in toxic.parameters.items())
    return "|".join((_WORD, check_tag(toxic.tag), toxic.kind, direction, figures))


def read(text: str) -> InForce | None:
    """What `write` wrote, without its peers; None if it is not ours."""
    words = text.split("|")
    if len(words) != 5 or words[0] != _WORD or words[3] not in DIRECTIONS:
        return None
    pairs = (figure.partition("=") for figure in words[4].split(",") if figure)
    try:
        parameters = {name: float(value) for name, _, value in pairs}
    except ValueError:
        return None
    return InForce(Toxic(words[2], words[1], parameters), (), words[3])
