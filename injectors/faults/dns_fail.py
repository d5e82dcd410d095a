"""``dns.fail``: names cannot be looked up."""

from __future__ import annotations

from random import Random
from typing import Annotated

from msgspec import Meta

from gameday.injectors.fault import Injection, SlotTarget
from gameday.injectors.link_fault import NetworkFault
from gameday.injectors.sandbox.base import Sandbox
from gameday.injectors.undo import RemoveToxic


class DnsFail(NetworkFault, kind="dns.fail", toxic="dns"):
    """Let a slot look up no names: its queries get no answer, or are refused."""

    needs = ("packets",)
    excludes = ("dns.fail", "container.remove")
    target: SlotTarget
    refused: Annotated[
        bool, Meta(description="Refuse queries at once, instead of never answering them.")
    ] = False

    async def plan(self, box: Sandbox, rng: Random) -> list[Injection]:
        """A toxic on all that the slot says and hears; open connections go on."""
        aims = await self.aim(box, rng)
        await box.part(self.needs[0]).check([aim.slot for aim in aims])
        return [
            self.injection(aim.slot, RemoveToxic(aim.slot, aim.tag), tag=aim.tag) for aim in aims
        ]
