"""``container.remove``: a container is gone, and not only stopped."""

from __future__ import annotations

from random import Random

from gameday.injectors.fault import Injection
from gameday.injectors.faults.process_kill import ProcessKill
from gameday.injectors.sandbox.base import Sandbox
from gameday.injectors.undo import CreateContainer


class ContainerRemove(ProcessKill, kind="container.remove"):
    """Kill and remove a container; what it wrote outside its volumes goes with it."""

    needs = ("containers",)
    ends_processes = True
    excludes = (
        "process.kill",
        "process.pause",
        "process.crashloop",
        "container.stop",
        "container.remove",
        "cpu.burn",
        "cpu.limit",
        "memory.hog",
        "memory.limit",
        "disk.fill",
        "net.disconnect",
        "dns.fail",
        "file.corrupt",
        "file.deny",
        "clock.skew",
    )

    async def plan(self, box: Sandbox, rng: Random) -> list[Injection]:
        """Undo makes it again, the same but for its identity, and starts it."""
        plan = []
        for aim in await self.aim(box, rng):
            await box.containers.check(aim.slot)
            step = CreateContainer(aim.slot, aim.process, aim.tag)
            plan.append(self.injection(aim.slot, step, tag=aim.tag, before=aim.process))
        return plan

    async def inject(self, box: Sandbox, injection: Injection) -> None:
        """Remove it; its volumes stay."""
        await box.containers.remove(injection.target, injection.before, injection.tag)
