"""``cpu.burn``: a noisy neighbour takes the CPU."""

from __future__ import annotations

from random import Random
from typing import Annotated

from msgspec import Meta

from gameday.injectors.fault import Evidence, Fault, Injection, SlotTarget
from gameday.injectors.sandbox.base import Sandbox
from gameday.injectors.undo import EndHelpers, RestoreAffinity


class CpuBurn(Fault, kind="cpu.burn"):
    """Starve a process of CPU: pin it to one CPU, with busy neighbours beside it there."""

    needs = ("cpu",)
    excludes = (
        "cpu.burn",
        "process.kill",
        "process.crashloop",
        "container.stop",
        "container.remove",
    )
    target: SlotTarget
    workers: Annotated[
        int,
        Meta(ge=1, le=64, description="How many busy processes share the CPU with it, 1 to 64."),
    ] = 8

    async def plan(self, box: Sandbox, rng: Random) -> list[Injection]:
        """Note the CPUs that the process may use now; undo ends the burners, then gives them back."""
        plan = []
        for aim in await self.aim(box, rng):
            cpus = await box.cpu.affinity(aim.slot)
            steps = EndHelpers(aim.slot, aim.tag), RestoreAffinity(aim.slot, aim.process, cpus)
            plan.append(self.injection(aim.slot, *steps, tag=aim.tag, before=aim.process))
        return plan

    async def inject(self, box: Sandbox, injection: Injection) -> None:
        """Pin the process and start the burners."""
        await box.cpu.burn(injection.target, injection.tag, workers=self.workers)

    async def look(self, box: Sandbox, injection: Injection) -> Evidence:
        """Where may the process run, and how many burners run? A replaced process is free again."""
        cpus = await box.cpu.affinity(injection.target)
        burners = len(await box.cpu.helpers(injection.tag))
        pinned = len(cpus) == 1
        where = f"CPU {cpus[0]}" if pinned else f"{len(cpus)} CPUs"
        seen = f"{injection.target} may run on {where}; {burners} burners run"
        return Evidence(pinned and burners >= self.workers, pinned and burners > 0, seen, box.now())
