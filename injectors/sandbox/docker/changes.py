"""What happens to a sandbox's containers, as the engine tells it, and who is likely behind it.

The engine names no one. What `gameday sandbox` did stands among the deeds; what the drill
did it knows; a restart policy shows in the container's count of restarts; what an engine does
to its containers while it is shut down, it does when nobody new can call it. It connects a
container to its networks before each start, and disconnects it after each end: only of one that
runs did somebody ask for that. All else somebody did with Docker, and in a drill that is a fixer.
"""

from __future__ import annotations

import queue
import threading
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import suppress
from typing import TYPE_CHECKING, Any

import anyio
import msgspec

from gameday.injectors.errors import SandboxError
from gameday.injectors.sandbox.base import Change
from gameday.injectors.sandbox.docker.containers import OPT_IN
from gameday.injectors.sandbox.docker.engine import plain_reason

if TYPE_CHECKING:
    from gameday.injectors.sandbox.docker.driver import DockerSandbox

__all__ = ["watch"]

_LOOK_EVERY = 0.02
_FOLLOWS = 0.3
"""Seconds in which the engine names the whole deed (`restart`) after its parts (`kill`, `die`, `start`)."""
_ANSWERS = 2.0
"""Seconds for an answer of the engine, before somebody is named for what was done."""
_WHOLE = {"restart", "stop"}
_FOREIGN = {"restart", "stop", "pause", "unpause", "kill", "start", "update", "destroy"}
_NETWORK = {"connect", "disconnect"}
_TOLD = {
    "type": ["container", "network"],
    "event": sorted(_FOREIGN | _NETWORK | {"die", "health_status"}),
}
"""What the engine is asked to tell. What happens to networks carries no label of a container."""
_OUTSIDE = "with Docker, not through Gameday"


class _Pending(msgspec.Struct):
    """A deed that may be part of a greater one. It was done ``at``; ``seen`` is its last trace."""

    at: float
    action: str
    slot: str
    seen: float
    network: str = ""


async def watch(box: DockerSandbox) -> AsyncIterator[Change]:
    """What happens from now on, within a few hundredths of a second.

    Raises:
        SandboxError: when the engine stops telling.
    """
    box.deeds.fresh()
    every = await box.list_containers()
    names = {one.id: one.slot for one in every}
    restarts = {one.slot: one.restarts for one in every}
    running = {one.id for one in every if one.process is not None}
    stream = await box.engine.call("events", decode=True, filters=_TOLD)
    told: queue.SimpleQueue[dict[str, Any] | Exception | None] = queue.SimpleQueue()
    threading.Thread(target=_read, args=(stream, told), daemon=True).start()
    pending: list[_Pending] = []
    killed: dict[str, float] = {}
    try:
        while True:
            for deed in box.deeds.fresh():
                box.remember(deed.action, deed.slot, deed.at)
                if deed.by != "gameday":
                    yield Change(deed.at, deed.action, deed.slot, deed.by, deed.detail)
            for event in _take(told, box):
                at = _instant(event, box)
                if event["Type"] == "network":
                    about = event["Actor"]["Attributes"]
                    if (one := about.get("container", "")) in running:
                        network = about.get("name", "")
                        _add(pending, _Pending(at, event["Action"], names[one], at, network))
                    continue
                slot = names.get(event["id"]) or await _slot_of(event["id"], box, names)
                if not slot:
                    continue
                action = event["Action"].partition(":")[0]
                change = _plain(event, at, slot)
                if change is not None:
                    yield change
                if action == "die":
                    running.discard(event["id"])
                    _drop(pending, slot, "disconnect")  # an engine may do that first
                if action == "start":
                    running.add(event["id"])
                    container = await box.find(slot)
                    count = container.restarts if container is not None else 0
                    if count > restarts.get(slot, 0):
                        restarts[slot] = count
                        continue  # the restart policy
                if action == "kill":
                    killed[slot] = at
                elif action == "die" and slot in killed:
                    _add(pending, _Pending(killed.pop(slot), "kill", slot, at))
                elif action in _FOREIGN:
                    _add(pending, _Pending(at, action, slot, at))
            for one in _due(pending):
                if box.did(one.slot, one.action, one.at):
                    continue
                if not await box.engine.takes_calls(within=_ANSWERS):  # it is being shut down
                    one.seen = time.monotonic()
                    pending.append(one)  # until it answers again, or tells no more
                else:
                    if one.network:
                        box.noticed(one.action, one.slot, one.network)
                    how = f"{one.network}, {_OUTSIDE}" if one.network else _OUTSIDE
                    yield Change(one.at, one.action, one.slot, "fixer", how)
            await anyio.sleep(_LOOK_EVERY)
    finally:
        with suppress(Exception):
            stream.close()


def _read(stream: Any, told: queue.SimpleQueue[Any]) -> None:
    try:
        for event in stream:
            told.put(event)
        told.put(None)
    except Exception as error:
        told.put(error)


def _take(told: queue.SimpleQueue[Any], box: DockerSandbox) -> Iterator[dict[str, Any]]:
    while True:
        try:
            event = told.get_nowait()
        except queue.Empty:
            return
        if event is None or isinstance(event, Exception):
            why = f": {plain_reason(event, near=box.engine.near)}" if event else ""
            raise SandboxError(f"the Docker engine stopped telling what happens{why}")
        kind = event.get("Type")
        if kind == "network" or (kind == "container" and _opted_in(event)):
            yield event


def _opted_in(event: dict[str, Any]) -> bool:
    label, _, value = OPT_IN.partition("=")
    found: dict[str, str] = event["Actor"]["Attributes"]
    return found.get(label) == value


def _instant(event: dict[str, Any], box: DockerSandbox) -> float:
    """CLOCK_MONOTONIC of an event; of its arrival, where the engine has another clock."""
    now = time.monotonic()
    if not box.engine.near:
        return now
    since: float = time.time() - event["timeNano"] / 1e9
    return min(now, now - since)


async def _slot_of(container: str, box: DockerSandbox, names: dict[str, str]) -> str:
    names.update((one.id, one.slot) for one in await box.list_containers())
    return names.get(container, "")


def _plain(event: dict[str, Any], at: float, slot: str) -> Change | None:
    action, _, detail = event["Action"].partition(": ")
    match action:
        case "start":
            return Change(at, "started", slot)
        case "die":
            code = event["Actor"]["Attributes"].get("exitCode", "?")
            return Change(at, "exited", slot, detail=f"exit code {code}")
        case "health_status":
            return Change(at, "health", slot, detail=detail)
    return None


def _add(pending: list[_Pending], new: _Pending) -> None:
    """The whole deed stands for its parts; of a network, some engines tell one deed twice."""
    if new.action in _WHOLE:
        _drop(pending, new.slot, "kill", "start")
    if new.action == "restart":
        _drop(pending, new.slot, "stop")
    what = (new.slot, new.action, new.network)
    if not new.network or all((one.slot, one.action, one.network) != what for one in pending):
        pending.append(new)


def _drop(pending: list[_Pending], slot: str, *actions: str) -> None:
    pending[:] = [one for one in pending if one.slot != slot or one.action not in actions]


def _due(pending: list[_Pending]) -> list[_Pending]:
    now = time.monotonic()
    due = [one for one in pending if now - one.seen >= _FOLLOWS]
    pending[:] = [one for one in pending if now - one.seen < _FOLLOWS]
    return due
