"""``net.disconnect``: a container loses its network."""

from __future__ import annotations

from random import Random
from typing import Annotated

from msgspec import Meta

from gameday.injectors.errors import UsageError
from gameday.injectors.fault import Evidence, Fault, Injection, SlotTarget
from gameday.injectors.sandbox.base import Sandbox
from gameday.injectors.undo import ConnectNetwork


class NetDisconnect(Fault, kind="net.disconnect"):
    """Take a container off a network, or off all of them; its connections end with that."""

    needs = ("networks",)
    excludes = ("net.disconnect", "container.remove")
    target: SlotTarget
    network: Annotated[
        str, Meta(description="Which one, by its name or as the Compose file has it.")
    ] = ""

    async def plan(self, box: Sandbox, rng: Random) -> list[Injection]:
        """Note how it is connected; undo connects it again in the same way."""
        plan = []
        aims = await self.aim(box, rng)
        await box.networks.check([aim.slot for aim in aims])
        for aim in aims:
            networks = await box.networks.networks(aim.slot)
            chosen = [name for name in networks if self._means(name)]
            if not chosen:
                raise UsageError(
                    f"{aim.slot} is in no network {self.network!r}"
                    if self.network
                    else f"{aim.slot} is in no network",
                    hint=f"It is in: {', '.join(networks) or 'none'}.",
                )
            steps = [ConnectNetwork(aim.slot, name, networks[name]) for name in chosen]
            plan.append(self.injection(aim.slot, *steps, tag=aim.tag, before=aim.process))
        return plan

    def _means(self, name: str) -> bool:
        return not self.network or name == self.network or name.endswith(f"_{self.network}")

    async def inject(self, box: Sandbox, injection: Injection) -> None:
        """Disconnect it."""
        for network in _networks(injection):
            await box.networks.disconnect(injection.target, network)

    async def look(self, box: Sandbox, injection: Injection) -> Evidence:
        """Is it in any of these networks?"""
        now = await box.networks.networks(injection.target)
        wanted = _networks(injection)
        off = [name for name in wanted if name not in now]
        if off:
            seen = f"{injection.target} is off the network {', '.join(off)}"
        else:
            seen = f"{injection.target} is in the network {', '.join(wanted)}"
        return Evidence(off == wanted, bool(off), seen, box.now())


def _networks(injection: Injection) -> list[str]:
    return [step.network for step in injection.undo if isinstance(step, ConnectNetwork)]
