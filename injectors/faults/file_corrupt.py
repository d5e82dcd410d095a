"""``file.corrupt``: a file holds what nobody wrote."""

from __future__ import annotations

from random import Random
from typing import Annotated

from msgspec import Meta

from gameday.injectors.fault import Evidence, Fault, FilePath, Injection, SlotTarget
from gameday.injectors.sandbox.base import Sandbox
from gameday.injectors.undo import RestoreFile


class FileCorrupt(Fault, kind="file.corrupt"):
    """Overwrite a few places of a container's file with noise, as a bad disk does."""

    needs = ("files",)
    excludes = ("file.corrupt", "file.deny", "clock.skew", "container.remove")
    target: SlotTarget
    path: FilePath
    blocks: Annotated[
        int, Meta(ge=1, le=64, description="How many places of 16 bytes, 1 to 64.")
    ] = 4

    async def plan(self, box: Sandbox, rng: Random) -> list[Injection]:
        """Undo gives each place back what it held, unless somebody has written there since."""
        plan = []
        for aim in await self.aim(box, rng):
            await box.files.check(aim.slot, self.path)
            step = RestoreFile(aim.slot, aim.process, self.path, aim.tag)
            place = f"{aim.slot}:{self.path}"
            plan.append(
                self.injection(aim.slot, step, tag=aim.tag, before=aim.process, place=place)
            )
        return plan

    async def inject(self, box: Sandbox, injection: Injection) -> None:
        """Keep what the places hold, then overwrite them."""
        await box.files.corrupt(
            injection.target, injection.before, self.path, injection.tag, blocks=self.blocks
        )

    async def look(self, box: Sandbox, injection: Injection) -> Evidence:
        """Is our noise in the file?"""
        count = await box.files.corrupted(injection.target, self.path, injection.tag)
        seen = f"{count} places of {self.path} of {injection.target} hold our noise"
        return Evidence(count > 0, count > 0, seen, box.now())
