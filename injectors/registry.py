"""Which faults there are. Built-ins are an explicit list; others come by entry point.

Nothing is imported until a fault is asked for, and other people's packages are
looked through only when a scenario names a kind that is not built in::

    [project.entry-points."gameday.faults"]
    "queue.flood" = "acme_faults.queue_flood:QueueFlood"
"""

from __future__ import annotations

import importlib
import inspect
from typing import TYPE_CHECKING

from gameday.injectors.errors import UsageError

if TYPE_CHECKING:
    from gameday.injectors.fault import Fault

__all__ = ["BUILT_IN", "ENTRY_POINTS", "describe", "fault_class", "known_kinds"]

ENTRY_POINTS = "gameday.faults"

BUILT_IN: tuple[str, ...] = (
    "process.kill",
    "process.pause",
    "process.crashloop",
    "cpu.burn",
    "memory.hog",
    "disk.fill",
    "net.latency",
    "net.blackhole",
    "net.reset",
    "net.bandwidth",
    "net.loss",
    "net.corrupt",
    "net.duplicate",
    "net.partition",
    "net.disconnect",
    "dns.fail",
    "cpu.limit",
    "memory.limit",
    "container.stop",
    "container.remove",
    "file.corrupt",
    "file.deny",
    "clock.skew",
)

_PACKAGE = "gameday.injectors.faults"


def known_kinds(*, third_party: bool = False) -> tuple[str, ...]:
    """The kinds that are built in; with ``third_party``, those of installed packages after them."""
    if not third_party:
        return BUILT_IN
    from importlib.metadata import entry_points

    found = {point.name for point in entry_points(group=ENTRY_POINTS)}
    return BUILT_IN + tuple(sorted(found - set(BUILT_IN)))


def fault_class(kind: str) -> type[Fault]:
    """The class of a kind of fault; a built-in kind cannot be replaced from outside.

    Raises:
        UsageError: if there is no such kind, or the package that promises it breaks the promise.
    """
    if kind in BUILT_IN:
        return _defined_in(f"{_PACKAGE}.{_file(kind)}", kind)
    return _from_entry_point(kind)


def describe(kind: str) -> str:
    """What a kind of fault does, in one line. A built-in is read, not imported.

    Raises:
        UsageError: as `fault_class`.
    """
    if kind not in BUILT_IN:
        return _first_line(fault_class(kind).__doc__)
    import ast
    from importlib import resources

    source = resources.files(_PACKAGE).joinpath(f"{_file(kind)}.py").read_text(encoding="utf-8")
    classes = (node for node in ast.parse(source).body if isinstance(node, ast.ClassDef))
    return _first_line(ast.get_docstring(next(classes)))


def _file(kind: str) -> str:
    return kind.replace(".", "_")


def _first_line(docstring: str | None) -> str:
    return inspect.cleandoc(docstring or "").partition("\n")[0]


def _defined_in(module: str, kind: str) -> type[Fault]:
    values = vars(importlib.import_module(module)).values()
    found: type[Fault] = next(
        v for v in values if isinstance(v, type) and v.__dict__.get("kind") == kind
    )
    return found


def _from_entry_point(kind: str) -> type[Fault]:
    from importlib.metadata import entry_points

    points = entry_points(group=ENTRY_POINTS, name=kind)
    if not points:
        raise _unknown(kind)
    point = next(iter(points))
    package = point.dist.name if point.dist else point.value
    try:
        loaded = point.load()
    except (ImportError, AttributeError) as error:
        raise UsageError(
            f"the fault {kind!r} of {package} cannot be loaded: {error}",
            hint=f"Its entry point is {point.value}; reinstall or update {package}.",
        ) from error
    from gameday.injectors.fault import Fault

    if not (isinstance(loaded, type) and issubclass(loaded, Fault) and loaded.kind == kind):
        raise UsageError(
            f"{package} promises a fault {kind!r}, but {point.value} is none",
            hint="The entry point's name and the class's kind must be the same.",
        )
    return loaded


def _unknown(kind: str) -> UsageError:
    import difflib

    kinds = known_kinds(third_party=True)
    near = difflib.get_close_matches(kind, kinds, n=1, cutoff=0.5)
    hint = f"Did you mean {near[0]}? " if near else ""
    return UsageError(f"there is no fault {kind!r}", hint=f"{hint}There are: {', '.join(kinds)}.")
