"""What is valid of a scenario file, part by part, each with its place.

The checks that need the whole file look at this, so a mistake in one part
hides no mistake in another.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterable
from typing import Any, Generic, TypeVar

import msgspec

from gameday.injectors.errors import Problem
from gameday.injectors.fault import Seconds
from gameday.injectors.models import Misfits, Model, read
from gameday.scenarios.document import Node
from gameday.scenarios.model import (
    AlertRule,
    FaultEntry,
    Hypothesis,
    Load,
    Report,
    SandboxChoice,
    Scenario,
    Scripted,
    Sli,
)
from gameday.scenarios.shape import Shape
from gameday.scenarios.source import nearest

__all__ = ["Draft", "Placed", "did_you_mean", "problem_at", "sketch"]

_MOST_NAMES = 30

M = TypeVar("M", bound=Model)


class Placed(msgspec.Struct, Generic[M], frozen=True):
    """A part of the file that is valid on its own."""

    node: Node
    value: M

    def at(self, *path: str | int) -> Node:
        """Where a value of this part stands; the part itself if it is not written out."""
        return self.node.closest(path)


class Draft(msgspec.Struct):
    """What is valid of a scenario file.

    Attributes:
        sli_names: All names under ``slis``, also of those that are not valid.
        duration, stabilise: In seconds; None where what the file says cannot be used.
        cluster: The cluster that it breaks, as it will run; None if it is not known.
        journeys: Journeys of the sandbox's application.
    """

    root: Node
    sli_names: tuple[str, ...]
    duration: float | None
    stabilise: float | None
    slis: dict[str, Placed[Sli]]
    hypotheses: list[Placed[Hypothesis]]
    alerts: list[Placed[AlertRule]]
    faults: list[Placed[FaultEntry]]
    reports: list[Placed[Report]]
    sandbox: Placed[SandboxChoice] | None
    scripted: Placed[Scripted] | None
    load: Placed[Load] | None
    cluster: Shape | None = None
    journeys: tuple[str, ...] = ()
    _slots: dict[str, str] | None = None

    @property
    def services(self) -> tuple[str, ...]:
        """The services of the cluster."""
        return tuple(self.cluster.services) if self.cluster is not None else ()

    @property
    def slots(self) -> dict[str, str]:
        """The service of each slot of the cluster."""
        if self._slots is None:
            services = self.cluster.services if self.cluster is not None else {}
            self._slots = {
                f"{name}-{number}": name
                for name, service in services.items()
                for number in range(1, service.replicas + 1)
            }
        return self._slots


def problem_at(node: Node, message: str, hint: str = "") -> Problem:
    """A problem with the value at ``node``."""
    return Problem(message, *node.place, hint)


def did_you_mean(word: str, known: Iterable[str]) -> str:
    """The hint for a word that is not known: the nearest one, else all of them."""
    names = tuple(itertools.islice(known, _MOST_NAMES + 1))
    near = nearest(word, names)
    if near:
        return f"Did you mean {near}?"
    more = " …" if len(names) > _MOST_NAMES else "."
    return f"There are: {', '.join(names[:_MOST_NAMES])}{more}" if names else "There are none."


def sketch(root: Node, whole: Scenario | None, *, duration: float, stabilise: float) -> Draft:
    """The valid parts of a file, of which each is validated where the whole is not valid.

    ``duration`` and ``stabilise`` are what holds if the file is silent.
    """
    slis = root.get("slis")
    parts = _Parts(root, whole)
    return Draft(
        root=root,
        sli_names=tuple(name for name, _ in slis.items()) if slis is not None else (),
        duration=parts.seconds("duration", duration) or None,  # none fits into 0 s
        stabilise=parts.seconds("stabilise", stabilise),
        slis={
            name: placed
            for name, _ in (slis.items() if slis is not None else ())
            if (placed := parts.one(Sli, "slis", name)) is not None
        },
        hypotheses=parts.all(Hypothesis, "hypotheses"),
        alerts=parts.all(AlertRule, "alerts"),
        faults=parts.all(FaultEntry, "faults"),
        reports=parts.all(Report, "reports"),
        sandbox=parts.one(SandboxChoice, "sandbox", aside="environment"),
        scripted=parts.one(Scripted, "fixers", "scripted"),
        load=parts.one(Load, "load"),
    )


class _Parts:
    """Parts of a file, with their places: those of the whole, else each validated alone."""

    def __init__(self, root: Node, whole: Scenario | None) -> None:
        self._root = root
        self._whole = whole

    def one(self, model: type[M], *path: str | int, aside: str = "") -> Placed[M] | None:
        """A part; where all that is wrong with it is under the key ``aside``, it comes without that."""
        node = self._root.get(*path)
        if node is None or not isinstance(node.content, dict):
            return None
        if self._whole is not None:
            return Placed(node, self._of_whole(path))
        try:
            return Placed(node, read(model, node.plain()))
        except Misfits as error:
            if not aside or any(one.path[:1] != (aside,) for one in error.unfits):
                return None
        try:  # what the model asks of all keys together was not looked at yet
            return Placed(node, read(model, node.plain() | {aside: {}}))
        except Misfits:
            return None

    def _of_whole(self, path: Iterable[str | int]) -> Any:
        value: Any = self._whole
        for step in path:
            value = getattr(value, str(step)) if isinstance(value, Model) else value[step]
        return value

    def all(self, model: type[M], key: str) -> list[Placed[M]]:
        node = self._root.get(key)
        count = len(node.entries()) if node is not None else 0
        found = [self.one(model, key, index) for index in range(count)]
        return [one for one in found if one is not None]

    def seconds(self, key: str, default: float) -> float | None:
        if self._whole is not None:
            value: float = getattr(self._whole, key)
            return value
        return _seconds(self._root, key, default)


def _seconds(root: Node, key: str, default: float) -> float | None:
    node = root.get(key)
    if node is None:
        return default
    try:
        return read(_Duration, {"seconds": node.plain()}).seconds
    except Misfits:
        return None


class _Duration(Model):
    seconds: Seconds
