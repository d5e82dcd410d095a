"""The part ``containers`` of a Docker sandbox: stopping a container, removing it, making it again.

What makes a container is kept in a file of the drill before it is removed, and in no other
place: its environment may hold secrets. The file goes once the container is back.
"""

from __future__ import annotations

import time
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec

from gameday.injectors.errors import SandboxError, Unsupported
from gameday.injectors.sandbox.docker.containers import Container
from gameday.injectors.sandbox.docker.keeping import keep, kept_path, read_kept
from gameday.injectors.sandbox.docker.networks import Connection, connect, connection_of
from gameday.injectors.sandbox.docker.parts import Part
from gameday.injectors.undo import CreateContainer, Outcome, ProcessId, StepResult

if TYPE_CHECKING:
    from gameday.injectors.sandbox.docker.driver import DockerSandbox

__all__ = ["Whole", "create", "end_stopping", "forget_stopping"]

_MORE = 30.0
"""Seconds beyond its grace that a container may take to end."""


class _Kept(msgspec.Struct, frozen=True):
    """All that makes a container again; ``at`` is CLOCK_MONOTONIC when that was noted."""

    at: float
    name: str
    image: str
    config: dict[str, Any]
    host_config: dict[str, Any]
    networks: dict[str, Connection]


class Whole(Part):
    """The part."""

    async def stop(self, slot: str, process: ProcessId | None, *, grace: float) -> None:
        container = await self._meant(slot, process)
        self._box.remember("stop", slot)
        self._box.remember("unpause", slot)  # the engine lets go on what it is to stop
        keep(_stopping(process, self._box), b"{}")
        seconds = round(grace)
        await self._box.engine.call("stop", container.id, timeout=seconds, within=seconds + _MORE)
        self._box.remember("stop", slot)  # it may have taken its time

    async def check(self, slot: str) -> None:
        container, _ = await self._filled(slot)
        others = [
            one
            for one in await self._box.list_containers()
            if one.service == container.service and one.id != container.id
        ]
        if not container.is_numbered and others:
            why = "which of its service's replicas it is depends on the others' names"
            raise Unsupported(f"{slot} could not be made again: {why}", hint="Try process.kill.")
        if container.inspected["HostConfig"].get("VolumesFrom"):
            why = "which of its volumes are another container's (--volumes-from) is not known"
            raise Unsupported(f"{slot} could not be made again: {why}", hint="Try process.kill.")

    async def remove(self, slot: str, process: ProcessId | None, tag: str) -> None:
        container = await self._meant(slot, process)
        _keep(container, kept_path("containers", tag, self._box))
        self._box.remember("kill", slot)
        self._box.remember("destroy", slot)
        await self._box.engine.call("remove_container", container.id, force=True, v=False)

    async def _meant(self, slot: str, process: ProcessId | None) -> Container:
        container, who = await self._filled(slot)
        if who != process:
            raise SandboxError(f"another process fills {slot} than when the fault was planned")
        return container


async def end_stopping(container: Container, box: DockerSandbox) -> bool:
    """End a container that we told to stop, and that has not come to its end; False if we did not.

    The engine would kill it when its grace is over, long after the undo.
    """
    if not _was_told(container.process, box):
        return False
    box.remember("kill", container.slot)
    with suppress(SandboxError):  # it may end by itself in this very moment
        await box.engine.call("kill", container.id)
    return True


def forget_stopping(process: ProcessId | None, box: DockerSandbox) -> None:
    """It is over: whoever fills the slot now was not told to stop."""
    with suppress(SandboxError):
        _stopping(process, box).unlink(missing_ok=True)


def _was_told(process: ProcessId | None, box: DockerSandbox) -> bool:
    with suppress(SandboxError):  # what keeps nothing stops nothing
        return process is not None and _stopping(process, box).exists()
    return False


def _stopping(process: ProcessId | None, box: DockerSandbox) -> Path:
    """A file that is there once we told a container with that process to stop."""
    who = f"{process.pid}-{process.started}" if process is not None else "none"
    return kept_path("stopping", who, box)


async def create(step: CreateContainer, box: DockerSandbox) -> StepResult:
    """Carry out the step. Whatever of it was done before is not done again."""
    path = kept_path("containers", step.tag, box)
    kept = read_kept(path, _Kept)
    container = await box.find(step.slot)
    if container is not None and container.process is not None:
        path.unlink(missing_ok=True)
        if container.process == step.process:
            return StepResult(Outcome.NOTHING, "the container is there")
        by = box.who_restarted(container, since=kept.at if kept is not None else 0.0)
        if by == "gameday":
            return StepResult(Outcome.NOTHING, "it was made again before")
        return StepResult(Outcome.TAKEN_OVER, "somebody made a container there", by=by)
    if kept is None:
        return StepResult(Outcome.NOTHING, "it was not removed by us, or is there again")
    if container is not None and container.name != kept.name:
        return StepResult(Outcome.TAKEN_OVER, f"{container.name} has its place")
    if container is None:
        await _make(kept, box)
        container = await box.find(step.slot)
    if container is None:
        raise SandboxError(f"{kept.name} was made again, but is not seen on the engine")
    there = container.inspected["NetworkSettings"].get("Networks") or {}
    for name, how in kept.networks.items():
        if name not in there:
            await connect(container, name, how, box)
    await box.start(container)
    path.unlink(missing_ok=True)
    return StepResult(Outcome.PUT_BACK, "the container was made again, and started")


async def _make(kept: _Kept, box: DockerSandbox) -> None:
    body = dict(kept.config) | {"HostConfig": kept.host_config, "Image": await _image(kept, box)}
    mode = kept.host_config.get("NetworkMode", "")
    if mode in kept.networks:  # the engine takes one at this point
        how = kept.networks[mode]
        body["NetworkingConfig"] = {"EndpointsConfig": {mode: _endpoint(how)}}
    await box.engine.call("create_container_from_config", body, kept.name)


async def _image(kept: _Kept, box: DockerSandbox) -> str:
    """Its name, as long as that is the same image; else its id."""
    name = str(kept.config.get("Image", ""))
    try:
        found = await box.engine.call("inspect_image", name)
    except SandboxError:
        return kept.image
    return name if found["Id"] == kept.image else kept.image


def _endpoint(how: Connection) -> dict[str, Any]:
    fixed = {
        "IPv4Address": how.ipv4_address,
        "IPv6Address": how.ipv6_address,
        "LinkLocalIPs": list(how.link_local_ips),
    }
    return {
        "Aliases": list(how.aliases) or None,
        "Links": list(how.links) or None,
        "DriverOpts": how.driver_opt or None,
        "IPAMConfig": {name: value for name, value in fixed.items() if value} or None,
    }


def _keep(container: Container, path: Path) -> None:
    """Write down what makes the container again; on the disk when it returns."""
    found = container.inspected
    config, host = dict(found["Config"]), dict(found["HostConfig"])
    if config.get("Hostname") == container.id[:12]:
        config["Hostname"] = ""  # the engine gave it that name, and gives the next one its own
    named = {str(bind).split(":")[1] for bind in host.get("Binds") or () if ":" in str(bind)}
    volumes = {
        mount["Destination"]: mount["Name"]
        for mount in found.get("Mounts") or ()
        if mount["Type"] == "volume"
    }
    asked = [dict(mount) for mount in host.get("Mounts") or ()]
    for mount in asked:  # Compose asks for a volume without a name so; the engine gave it one
        if mount.get("Type") == "volume" and not mount.get("Source"):
            mount["Source"] = volumes.get(mount.get("Target"), "")
    if asked:
        host["Mounts"] = asked
    named |= {str(mount.get("Target")) for mount in asked}
    nameless = [
        f"{mount['Name']}:{mount['Destination']}{'' if mount.get('RW', True) else ':ro'}"
        for mount in found.get("Mounts") or ()
        if mount["Type"] == "volume" and mount["Destination"] not in named
    ]
    if nameless:
        host["Binds"] = [*(host.get("Binds") or ()), *nameless]
    networks = found["NetworkSettings"].get("Networks") or {}
    kept = _Kept(
        at=time.monotonic(),
        name=container.name,
        image=found["Image"],
        config=config,
        host_config=host,
        networks={name: connection_of(each, container.id) for name, each in networks.items()},
    )
    keep(path, msgspec.json.encode(kept))
