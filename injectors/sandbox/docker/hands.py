"""The part ``hands`` of a Docker sandbox: what fixers do, noted before it is done."""

from __future__ import annotations

import os
import shutil
from collections.abc import AsyncIterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import anyio
import anyio.to_thread

from gameday.injectors.errors import Unsupported, UsageError
from gameday.injectors.sandbox.docker.compose import Compose
from gameday.injectors.sandbox.docker.containers import Container

if TYPE_CHECKING:
    from gameday.injectors.sandbox.docker.driver import DockerSandbox

__all__ = ["Hands"]

_STOP_WITHIN = 10
"""Seconds that a container has to stop before it is killed, as Docker has it."""
_PROJECT_FILES = "com.docker.compose.project.config_files"


class Hands:
    """The part ``hands``."""

    def __init__(self, box: DockerSandbox) -> None:
        self._box = box

    async def restart(self, slot: str, *, by: str) -> None:
        await self._end("restart", slot, by)

    async def stop(self, slot: str, *, by: str) -> None:
        await self._end("stop", slot, by)

    async def _end(self, how: str, slot: str, by: str) -> None:
        """Stop or restart a container; the engine does neither to one that is paused."""
        container = await self._known(slot)
        self._box.deeds.note(how, slot, by)
        if container.state == "paused":
            await self._box.engine.call("unpause", container.id)
        await self._box.engine.call(
            how, container.id, timeout=_STOP_WITHIN, within=_STOP_WITHIN + 30
        )

    async def scale(self, service: str, replicas: int, *, by: str) -> None:
        containers = [one for one in await self._box.list_containers() if one.service == service]
        if not containers:
            raise UsageError(f"there is no service {service!r}")
        self._box.deeds.note("scale", service, by, f"to {replicas}")
        surplus = [one for one in containers if one.number > replicas]
        async with anyio.create_task_group() as group:
            for one in surplus:
                group.start_soon(self._remove, one)
        if len(containers) - len(surplus) < replicas:
            await self._compose(containers[0]).up(service, scale={service: replicas})

    async def _remove(self, container: Container) -> None:
        await self._box.engine.call("remove_container", container.id, force=True, v=True)

    def _compose(self, container: Container) -> Compose:
        project = container.labels.get("com.docker.compose.project", "")
        files = container.labels.get(_PROJECT_FILES, "")
        paths = [Path(one) for one in files.split(",") if one]
        if not project or not paths or not all(path.exists() for path in paths):
            raise Unsupported(
                f"{container.service} cannot get more replicas: its Compose file is not at hand",
                hint="Start one by hand, with the label gameday.sandbox=true.",
            )
        return Compose(project, paths, self._box.engine.environment, None)

    async def drain(self, slot: str, *, by: str, back: bool = False) -> None:
        """Take it out of its service's name in every network; open connections end with that."""
        container = await self._known(slot)
        if "com.docker.compose.service" not in container.labels:
            raise Unsupported(
                f"{slot} is reached by its own name alone, so it cannot be drained",
                hint="Docker Compose gives each replica its service's name, too.",
            )
        self._box.deeds.note("undrain" if back else "drain", slot, by)
        for name, network in container.inspected["NetworkSettings"]["Networks"].items():
            aliases = [one for one in network.get("Aliases") or () if one != container.id[:12]]
            wanted = {*aliases, container.service} if back else {*aliases} - {container.service}
            if wanted != {*aliases}:
                await self._reconnect(container, name, network, sorted(wanted))

    async def _reconnect(
        self, container: Container, name: str, network: dict[str, Any], aliases: list[str]
    ) -> None:
        fixed = network.get("IPAMConfig") or {}
        engine = self._box.engine
        await engine.call("disconnect_container_from_network", container.id, name)
        await engine.call(
            "connect_container_to_network",
            container.id,
            name,
            aliases=aliases,
            links=network.get("Links"),
            ipv4_address=fixed.get("IPv4Address"),
            ipv6_address=fixed.get("IPv6Address"),
        )

    async def execute(
        self, slot: str, argv: Sequence[str], *, by: str, stdio: tuple[int, int, int]
    ) -> int:
        container = await self._known(slot)
        docker = shutil.which("docker")
        if docker is None:
            raise Unsupported(
                "the command `docker` is not on this machine, and nothing else runs a command there",
                hint="Install Docker's client.",
            )
        self._box.deeds.note("exec", slot, by, " ".join(argv))
        terminal = ["--tty"] if all(os.isatty(end) for end in stdio) else []
        command = [docker, "exec", "--interactive", *terminal, container.id, *argv]
        done = await anyio.run_process(
            command,
            stdin=stdio[0],
            stdout=stdio[1],
            stderr=stdio[2],
            env=os.environ | self._box.engine.environment,
            check=False,
        )
        return done.returncode

    async def logs(self, slot: str, *, lines: int, follow: bool) -> AsyncIterator[bytes]:
        container = await self._known(slot)
        stream = await self._box.engine.call(
            "logs", container.id, tail=lines, follow=follow, stream=True
        )
        done = object()
        try:
            while True:
                data = await anyio.to_thread.run_sync(next, stream, done, abandon_on_cancel=True)
                if data is done:
                    return
                yield cast("bytes", data)
        finally:
            close = getattr(stream, "close", None)
            if close is not None:
                close()

    async def _known(self, slot: str) -> Container:
        container = await self._box.find(slot)
        if container is None:
            known = ", ".join(one.slot for one in await self._box.list_containers())
            raise UsageError(f"there is no slot {slot!r}", hint=f"There are: {known}.")
        return container
