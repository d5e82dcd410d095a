"""Ending what was brought up for a sandbox, and what its faults left running."""

from __future__ import annotations

import re
import signal
from contextlib import suppress
from typing import TYPE_CHECKING

import anyio
import anyio.to_thread

from gameday.injectors.errors import SandboxError
from gameday.injectors.sandbox import process
from gameday.injectors.sandbox.restoring import was_there
from gameday.injectors.undo import StepResult

if TYPE_CHECKING:
    from gameday.injectors.sandbox.docker.driver import DockerSandbox
    from gameday.injectors.sandbox.docker.engine import Engine

__all__ = ["HELPER", "PROJECT", "end_helpers", "remove_helper", "tear_down"]

HELPER = "gameday.helper"
"""The label of a helper container: the tag of the sandbox that it serves."""

PROJECT = "com.docker.compose.project"
_NAMELESS = re.compile("[0-9a-f]{64}")
_AGAIN = 0.1
_GONE_WITHIN = 2.0


def end_helpers(tag: str, mark: str = "GAMEDAY_HELPER") -> bool:
    """End what carries the tag in its environment, and wait for that; True if there was something."""
    found = process.find_by_environment(mark, tag)
    for who in found:
        process.signal_process(who, signal.SIGKILL)
    process.wait_gone(found, _GONE_WITHIN)
    return bool(found)


async def tear_down(box: DockerSandbox) -> StepResult:
    """Remove the project's containers, networks and volumes, if it was brought up for the sandbox.

    Docker Compose is not needed for it. One that is still at it is ended first, and the
    look is repeated until nothing comes any more.

    Raises:
        SandboxError: if the engine does not do it.
    """
    found = end_helpers(box.tag) | end_helpers(box.tag, "GAMEDAY_SANDBOX")
    label = {"label": f"{HELPER}={box.tag}"}
    for one in await box.engine.call("containers", all=True, filters=label):
        await remove_helper(box.engine, one["Id"])
    if box.ours:
        label = {"label": f"{PROJECT}={box.project}"}
        while await _remove(box, label):
            found = True
            await anyio.sleep(_AGAIN)
    return was_there(found, "the project was removed", "there was nothing left")


async def remove_helper(engine: Engine, helper: str) -> None:
    """Remove a helper container, and end the process that said that it is needed."""
    try:
        await engine.call("remove_container", helper, force=True)
    except SandboxError as error:
        # Its main process has ended, and the engine removes it by itself.
        if "No such container" not in error.message and "in progress" not in error.message:
            raise
    await anyio.to_thread.run_sync(end_helpers, helper)


async def _remove(box: DockerSandbox, label: dict[str, str]) -> bool:
    engine = box.engine
    containers = await engine.call("containers", all=True, filters=label)
    async with anyio.create_task_group() as group:
        for one in containers:
            group.start_soon(_remove_container, box, one["Id"])
    networks = await engine.call("networks", filters=label)
    for one in networks:
        await engine.call("remove_network", one["Id"])
    volumes = (await engine.call("volumes", filters=label)).get("Volumes") or []
    for one in volumes:
        await engine.call("remove_volume", one["Name"], force=True)
    return bool(containers or networks or volumes)


async def _remove_container(box: DockerSandbox, container: str) -> None:
    found = await box.engine.find(container)
    if found is None:
        return
    await box.engine.call("remove_container", container, force=True, v=True)
    for mount in found.get("Mounts") or ():
        # One that a fault removed was made again with its volumes by the names that the engine gave them.
        if mount["Type"] == "volume" and _NAMELESS.fullmatch(mount["Name"]):
            with suppress(SandboxError):  # it went with the container, or another one has it
                await box.engine.call("remove_volume", mount["Name"])
