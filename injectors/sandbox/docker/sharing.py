"""Containers that use another's network, processes or shared memory: what hits the one hits both.

One that joined another's loses it when that one ends, for good: what is started anew has a network
of its own. So a fault that ends a container on which others depend in this way is refused.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import TYPE_CHECKING, Any

import anyio
import msgspec

from gameday.injectors.errors import Unsupported
from gameday.injectors.sandbox.docker.containers import OPT_IN, Container
from gameday.injectors.sandbox.docker.teardown import HELPER

if TYPE_CHECKING:
    from gameday.injectors.sandbox.docker.driver import DockerSandbox

__all__ = ["refuse_ending", "refuse_shared", "refuse_strangers"]

_MODES = {"NetworkMode": "network", "PidMode": "processes", "IpcMode": "shared memory"}
_JOINS = "container:"
_LABEL, _, _TRUE = OPT_IN.partition("=")


class _Sharer(msgspec.Struct, frozen=True):
    """A container that joined another: which, by id or name, and what it uses of it."""

    name: str
    whose: str
    what: str
    opted_in: bool

    def joined(self, container: Container) -> bool:
        return container.name == self.whose or container.id.startswith(self.whose)


async def refuse_ending(slots: Sequence[str], box: DockerSandbox) -> None:
    """Nobody may be left without what they share with a container that ends.

    Raises:
        Unsupported: if somebody would be.
    """
    sharers = await _sharers(box)
    for container in await box.list_containers():
        for one in sharers if container.slot in slots else ():
            if one.joined(container):
                raise Unsupported(
                    f"{one.name} uses the {one.what} of {container.slot}, and would stay without "
                    "when that ends",
                    hint=f"Nothing but a restart of {one.name} would mend that. Try process.pause.",
                )


def refuse_shared(container: Container) -> None:
    """A fault in its network must not hit whose network it joined.

    Raises:
        Unsupported: if it has none of its own.
    """
    if why := container.why_no_network:
        raise Unsupported(
            f"{container.slot} has no network of its own: {why}",
            hint="Choose a container that is in a network by itself: a fault there hits all that share it.",
        )


async def refuse_strangers(containers: Iterable[Container], box: DockerSandbox) -> None:
    """A fault in their networks must hit nobody who joined them without having opted in.

    Raises:
        Unsupported: if it would.
    """
    strangers = [one for one in await _sharers(box) if one.what == "network" and not one.opted_in]
    for container in containers:
        for one in strangers:
            if one.joined(container):
                raise Unsupported(
                    f"{one.name} uses the network of {container.slot}, and may not be broken",
                    hint=f"A fault there hits both. Give it the label {OPT_IN}, too, or aim elsewhere.",
                )


async def _sharers(box: DockerSandbox) -> list[_Sharer]:
    """Every container on the engine that joined another, whether it opted in or not; no helper of ours."""
    found: list[_Sharer] = []

    async def look(container: str) -> None:
        inspected = await box.engine.find(container)
        if inspected is not None:
            found.extend(_joins(inspected))

    listed = await box.engine.call("containers", all=True)
    async with anyio.create_task_group() as group:
        for one in listed:
            if HELPER not in (one.get("Labels") or {}):
                group.start_soon(look, one["Id"])
    return sorted(found, key=lambda one: one.name)


def _joins(inspected: dict[str, Any]) -> Iterator[_Sharer]:
    labels = inspected["Config"].get("Labels") or {}
    for key, what in _MODES.items():
        mode = str(inspected["HostConfig"].get(key, ""))
        if mode.startswith(_JOINS):
            yield _Sharer(
                name=inspected["Name"].removeprefix("/"),
                whose=mode.removeprefix(_JOINS),
                what=what,
                opted_in=labels.get(_LABEL) == _TRUE,
            )
