"""``file.deny``: a file cannot be opened."""

from __future__ import annotations

from random import Random

from gameday.injectors.fault import Evidence, Fault, FilePath, Injection, SlotTarget
from gameday.injectors.sandbox.base import Sandbox
from gameday.injectors.undo import AllowFile


class FileDeny(Fault, kind="file.deny"):
    """Let nobody in a container open a file, root included; what has it open goes on."""

    needs = ("files",)
    excludes = ("file.deny", "file.corrupt", "clock.skew", "container.remove")
    target: SlotTarget
    path: FilePath

    async def plan(self, box: Sandbox, rng: Random) -> list[Injection]:
        """Undo uncovers the file; a restart of the container does so, too."""
        plan = []
        for aim in await self.aim(box, rng):
            await box.files.check(aim.slot, self.path)
            step = AllowFile(aim.slot, aim.process, self.path, aim.tag)
            place = f"{aim.slot}:{self.path}"
            plan.append(
                self.injection(aim.slot, step, tag=aim.tag, before=aim.process, place=place)
            )
        return plan

    async def inject(self, box: Sandbox, injection: Injection) -> None:
        """Cover the file with one that nobody may open."""
        await box.files.deny(injection.target, injection.before, self.path, injection.tag)

    async def look(self, box: Sandbox, injection: Injection) -> Evidence:
        """Is the cover there?"""
        denied = await box.files.denied(injection.target, injection.tag)
        can = "nobody can open" if denied else "nothing of ours is over"
        return Evidence(denied, denied, f"{can} {self.path} of {injection.target}", box.now())
