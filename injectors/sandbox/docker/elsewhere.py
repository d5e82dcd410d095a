"""A container's network, where it cannot be entered from here: by a helper container that shares it.

What `Namespace` does by entering is done by the same code in there, one errand at a time. A
helper container stands from the first fault that needs it until its last is removed. It carries
the drill's tag, and ends by itself, with all that was made from it, once nobody is left who
would remove it: a process of ours (`helper.Beat`) says as long that it is needed.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import anyio
import anyio.to_thread
import msgspec

from gameday.injectors.errors import SandboxError, SandboxGone, Unsupported
from gameday.injectors.sandbox.base import Toxic
from gameday.injectors.sandbox.docker import image
from gameday.injectors.sandbox.docker.containers import Container
from gameday.injectors.sandbox.docker.engine import Engine, EngineSilent
from gameday.injectors.sandbox.docker.helper import Beat, start_helper
from gameday.injectors.sandbox.docker.teardown import HELPER, remove_helper
from gameday.injectors.sandbox.netns.errands import (
    Add,
    Answer,
    Errand,
    Remove,
    See,
    Try,
)
from gameday.injectors.sandbox.netns.mark import InForce
from gameday.injectors.sandbox.netns.tunnel import TUN

if TYPE_CHECKING:
    from gameday.injectors.sandbox.docker.driver import DockerSandbox

__all__ = ["Elsewhere", "forget", "lacks"]

_HELPS, _SINCE = "gameday.helps", "gameday.helps.since"
_PYTHON = ("python3", "-m")
_ERRANDS = "gameday.injectors.sandbox.netns.errands"
_MAY = ("NET_ADMIN", "NET_RAW", "SYS_NICE")
_RUNTIME = "OCI runtime"
"""In an engine's words where its runtime failed to start a container; the rest of them is for its log."""
_ENDS_WITHIN = 2.0
"""Seconds in which an engine learns that a container has ended."""
_LOOK_EVERY = 0.05


class Elsewhere:
    """The network of a container that runs, by helper container; its verbs are `Namespace`'s."""

    def __init__(self, box: DockerSandbox, container: Container) -> None:
        self._box, self._container = box, container

    async def add(self, toxic: Toxic, peers: Sequence[str] = (), *, direction: str = "") -> None:
        """As `Namespace.add`."""
        await self._ask(Add(toxic, tuple(peers), direction))

    async def remove(self, tag: str) -> bool:
        """As `Namespace.remove`."""
        try:
            return (await self._ask(Remove(tag))).removed
        except SandboxGone:  # just now, and all that was in it
            return False

    async def toxics(self) -> tuple[InForce, ...]:
        """As `Namespace.toxics`."""
        try:
            return (await self._ask(See())).in_force
        except SandboxGone:
            return ()

    async def fingerprint(self) -> dict[str, str]:
        """Our faults on all that is said and heard there: none where no helper stands.

        None is started for it: most faults on a container leave its network alone.
        """
        async with self._box.helping:
            helper = await self._standing()
            found = (await _execute(self._box.engine, helper, See())) if helper else Answer()
        ours = [one.toxic for one in found.checked().in_force if not one.peers]
        return {"toxics": msgspec.json.encode(ours, order="deterministic").decode()}

    async def _ask(self, errand: Errand) -> Answer:
        """Run an errand where a helper stands, else where one does for as long as that takes.

        As in a namespace that is entered, what is begun is done, so that nothing is left half done.
        """
        engine = self._box.engine
        async with self._box.helping:
            with anyio.CancelScope(shield=True):
                helper = await self._standing()
                stands = bool(helper) or isinstance(errand, Add)
                stays = bool(helper) and not isinstance(errand, Remove)
                try:
                    helper = helper or await self._start(stands=stands)
                    answer = (await _execute(engine, helper, errand)).checked()
                    stays = stays or (stands and bool(answer.in_force))
                finally:
                    if helper and not stays:
                        await remove_helper(engine, helper)
        return answer

    async def _standing(self) -> str:
        """The helper that stands; those that shared a network that is gone are removed."""
        found = ""
        for one in await _helpers(self._box, self._container.id):
            if one["State"] == "running" and one["Labels"].get(_SINCE) == self._since:
                found = one["Id"]
            else:
                await remove_helper(self._box.engine, one["Id"])
        return found

    @property
    def _since(self) -> str:
        return str(self._container.inspected["State"].get("StartedAt", ""))

    async def _start(self, *, stands: bool) -> str:
        """Start one; who starts one for a single errand is the only one that finds it."""
        box = self._box
        labels = {HELPER: box.tag}
        labels |= {_HELPS: self._container.id, _SINCE: self._since} if stands else {}
        try:
            helper = await _create(box.engine, f"container:{self._container.id}", labels)
        except SandboxError as error:
            raise await self._why_none(error) from None
        try:
            if stands:
                marks = {"tag": helper, "slot": "", "sandbox": box.tag}
                order = Beat(helper, box.where)
                await anyio.to_thread.run_sync(lambda: start_helper(order, box.owners, **marks))
        except SandboxError:
            await remove_helper(box.engine, helper)
            raise
        return helper

    async def _why_none(self, error: SandboxError) -> SandboxError:
        """Why no helper could be started, for people; likely, because the target has just ended.

        The engine may not know of that end yet.
        """
        if isinstance(error, EngineSilent):
            return error
        slot = self._container.slot
        with anyio.move_on_after(_ENDS_WITHIN):
            while True:
                if not await self._runs():
                    return SandboxGone(f"{slot} has ended, and with it its network")
                await anyio.sleep(_LOOK_EVERY)
        if _RUNTIME not in error.message:
            return error
        return SandboxError(
            f"the engine could start no helper container in the network of {slot}",
            hint="The log of the Docker engine says why.",
        )

    async def _runs(self) -> bool:
        """Whether the target runs that was found, and no later start of it."""
        found = await self._box.engine.find(self._container.id)
        state = found["State"] if found is not None else {}
        return bool(state.get("Running")) and str(state.get("StartedAt", "")) == self._since


async def forget(container: Container, box: DockerSandbox) -> None:
    """Remove the helpers of a container that has ended: what they shared is gone."""
    for one in await _helpers(box, container.id):
        await remove_helper(box.engine, one["Id"])


async def lacks(engine: Engine, why: str) -> dict[str, str]:
    """Kinds of toxics that a helper container cannot make, each with the reason; they are tried out.

    Args:
        why: Why one is needed.

    Raises:
        Unsupported: if its image is not there and cannot be built.
    """
    await image.require(engine, why)
    with anyio.CancelScope(shield=True):
        helper = await _create(engine, "none", {HELPER: "preflight"})
        try:
            answer = await _execute(engine, helper, Try())
        finally:
            await remove_helper(engine, helper)
    return answer.checked().lacking


async def _helpers(box: DockerSandbox, container: str) -> list[dict[str, Any]]:
    labels = [f"{HELPER}={box.tag}", f"{_HELPS}={container}"]
    found: list[dict[str, Any]] = await box.engine.call(
        "containers", all=True, filters={"label": labels}
    )
    return found


async def _create(engine: Engine, network: str, labels: dict[str, str]) -> str:
    try:
        return await _create_with(engine, network, labels, [TUN])
    except SandboxError as error:
        if TUN not in error.message:
            raise
    return await _create_with(engine, network, labels, [])  # that machine has no such device


async def _create_with(
    engine: Engine, network: str, labels: dict[str, str], devices: list[str]
) -> str:
    host = await engine.call(
        "create_host_config",
        network_mode=network,
        auto_remove=True,
        cap_drop=["ALL"],
        cap_add=list(_MAY),
        devices=devices,
    )
    try:
        made = await engine.call("create_container", image.name(), host_config=host, labels=labels)
    except SandboxError as error:
        if "No such image" not in error.message:
            raise
        raise Unsupported(
            f"the image of the helper container ({image.name()}) is not on the engine",
            hint=f"Build it: {image.by_hand()}",
        ) from None
    helper = str(made["Id"])
    try:
        await engine.call("start", helper)
    except SandboxError:
        await remove_helper(engine, helper)
        raise
    return helper


async def _execute(engine: Engine, helper: str, errand: Errand) -> Answer:
    words = [*_PYTHON, _ERRANDS, msgspec.json.encode(errand).decode()]
    made = await engine.call("exec_create", helper, words)
    out, said = await engine.call("exec_start", made["Id"], demux=True)
    try:
        return msgspec.json.decode(out or b"", type=Answer)
    except msgspec.MsgspecError:
        why = " ".join((said or out or b"no word").decode(errors="replace").split())[-300:]
        raise SandboxError(f"the helper container did not do as asked: {why}") from None
