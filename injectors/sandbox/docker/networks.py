"""The part ``networks`` of a Docker sandbox: taking a container off a network, and connecting it again."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import suppress
from typing import TYPE_CHECKING, Any

import msgspec

from gameday.injectors.errors import SandboxError
from gameday.injectors.sandbox.docker.containers import Container
from gameday.injectors.sandbox.docker.parts import Part
from gameday.injectors.sandbox.docker.sharing import refuse_shared, refuse_strangers
from gameday.injectors.undo import ConnectNetwork, Outcome, StepResult

if TYPE_CHECKING:
    from gameday.injectors.sandbox.docker.driver import DockerSandbox

__all__ = ["Connection", "Networks", "connect", "connection_of", "reconnect"]


class Connection(msgspec.Struct, frozen=True, omit_defaults=True):
    """How a container is in a network: what `docker network connect` takes."""

    aliases: tuple[str, ...] = ()
    links: tuple[str, ...] = ()
    ipv4_address: str = ""
    ipv6_address: str = ""
    link_local_ips: tuple[str, ...] = ()
    driver_opt: dict[str, str] = {}

    def options(self) -> dict[str, Any]:
        """As the SDK takes it."""
        return {name: value for name, value in msgspec.structs.asdict(self).items() if value}


def connection_of(network: Mapping[str, Any], container: str) -> Connection:
    """From what `docker inspect` says of one network of a container (its id); addresses that were chosen."""
    fixed = network.get("IPAMConfig") or {}
    return Connection(
        # The engine adds the container's own short id by itself.
        aliases=tuple(one for one in network.get("Aliases") or () if one != container[:12]),
        links=tuple(network.get("Links") or ()),
        ipv4_address=fixed.get("IPv4Address") or "",
        ipv6_address=fixed.get("IPv6Address") or "",
        link_local_ips=tuple(fixed.get("LinkLocalIPs") or ()),
        driver_opt=dict(network.get("DriverOpts") or {}),
    )


class Networks(Part):
    """The part."""

    async def check(self, slots: Sequence[str]) -> None:
        found = [one for one in await self._box.list_containers() if one.slot in slots]
        for container in found:
            refuse_shared(container)
        await refuse_strangers(found, self._box)

    async def networks(self, slot: str) -> dict[str, str]:
        container = await self._box.find(slot)
        if container is None:
            return {}
        found = container.inspected["NetworkSettings"].get("Networks") or {}
        return {
            name: msgspec.json.encode(connection_of(network, container.id)).decode()
            for name, network in found.items()
        }

    async def disconnect(self, slot: str, network: str) -> None:
        container, _ = await self._filled(slot)
        self._box.remember("disconnect", slot)
        await self._box.engine.call("disconnect_container_from_network", container.id, network)
        with suppress(SandboxError):  # once it is done: only then did somebody undo it who did
            self._box.deeds.note("disconnect", slot, "gameday", network)


async def reconnect(step: ConnectNetwork, box: DockerSandbox) -> StepResult:
    """Carry out the step."""
    container = await box.find(step.slot)
    if container is None:
        return StepResult(Outcome.TAKEN_OVER, "somebody removed the container")
    if step.network in (container.inspected["NetworkSettings"].get("Networks") or {}):
        if box.took_off(step.slot, step.network):
            by = box.who_connected(step.slot, step.network)
            return StepResult(Outcome.TAKEN_OVER, f"it is in the network {step.network}", by=by)
        return StepResult(Outcome.NOTHING, f"it is in the network {step.network}")
    how = msgspec.json.decode(step.settings, type=Connection)
    box.remember("connect", step.slot)
    with suppress(SandboxError):  # before it is done: nobody else is to be named for it
        box.deeds.note("connect", step.slot, "gameday", step.network)
    await connect(container, step.network, how, box)
    return StepResult(Outcome.PUT_BACK, f"it is in the network {step.network} again")


async def connect(container: Container, network: str, how: Connection, box: DockerSandbox) -> None:
    """Connect a container to a network; one that it is in by now is as good.

    Raises:
        SandboxError: if the engine does not.
    """
    try:
        await box.engine.call(
            "connect_container_to_network", container.id, network, **how.options()
        )
    except SandboxError as error:
        if "already exists" not in error.message:
            raise
