"""The kinds of sandbox: what each can do, and its driver, which is imported when it is needed.

A new kind is a line in `KINDS` and a driver: a class of `gameday.injectors.sandbox.base.Sandbox`.
"""

from __future__ import annotations

from importlib import import_module

import msgspec

from gameday.injectors.errors import UsageError
from gameday.injectors.sandbox.base import Sandbox
from gameday.injectors.undo import SandboxRef, Step

__all__ = ["KINDS", "Kind", "by_hand", "connect", "driver_of"]


class Kind(msgspec.Struct, frozen=True):
    """One kind of sandbox.

    Attributes:
        module: Where its driver is; ``driver`` is the class.
        parts: What it can do at all; what this machine lacks is found before a drill starts.
        libraries: What its driver imports at its first use: whoever must be quick imports it before.
        commands: Whether an undo may run a command of the user's own there (`RunCommand`).
        labelled: Whether its slots carry labels, by which they can be aimed at.
    """

    module: str
    driver: str
    parts: frozenset[str]
    libraries: tuple[str, ...] = ()
    commands: bool = False
    labelled: bool = False


_EVERY = frozenset({"processes", "holds", "links", "cpu", "memory", "disk", "hands"})
_CONTAINERS = frozenset({"packets", "limits", "networks", "containers", "files", "clock"})
_HERE = "gameday.injectors.sandbox"

KINDS: dict[str, Kind] = {
    "local": Kind(f"{_HERE}.local.driver", "LocalSandbox", _EVERY, labelled=True),
    "attached": Kind(
        f"{_HERE}.attached", "AttachedSandbox", frozenset({"processes"}), commands=True
    ),
    "docker": Kind(
        f"{_HERE}.docker.driver",
        "DockerSandbox",
        _EVERY | _CONTAINERS,
        ("docker.api.client", "docker.errors", "docker.utils", "requests.exceptions"),
        labelled=True,
    ),
    "fake": Kind(
        f"{_HERE}.fake", "FakeSandbox", _EVERY | _CONTAINERS, commands=True, labelled=True
    ),
}


def driver_of(kind: str) -> type[Sandbox]:
    """The driver of sandboxes of that kind.

    Raises:
        UsageError: if there is no such kind.
    """
    known = KINDS.get(kind)
    if known is None:
        raise UsageError(
            f"there is no sandbox of kind {kind!r}", hint=f"There are: {', '.join(KINDS)}."
        )
    driver: type[Sandbox] = getattr(import_module(known.module), known.driver)
    return driver


async def connect(ref: SandboxRef) -> Sandbox:
    """The sandbox that ``ref`` leads to, whatever process made it.

    Raises:
        UsageError: if there is no driver of that kind.
    """
    return await driver_of(ref.kind).connect(ref)


def by_hand(step: Step, ref: SandboxRef) -> str:
    """The shell command by which a person does ``step`` in that sandbox without us."""
    driver = driver_of(ref.kind) if ref.kind in KINDS else Sandbox
    return driver.by_hand(step, ref)
