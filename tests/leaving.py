"""A third party's fault whose undo forgets what it did: what a proof of undo has to find."""

from __future__ import annotations

import resource
import signal
from random import Random
from typing import Literal

from gameday.injectors.fault import Evidence, Fault, Injection, LinkTarget, SlotTarget, choose_links
from gameday.injectors.sandbox import process
from gameday.injectors.sandbox.base import Sandbox, Toxic
from gameday.injectors.undo import EndHelpers, RemoveToxic, RestoreAffinity, Step

_LATE = Toxic("latency", "", {"delay": 0.001, "jitter": 0.0})


class LeavesBehind(Fault, kind="leaves.behind"):
    """Change one thing at a slot, and put back none of it."""

    target: SlotTarget
    what: Literal[
        "nothing",
        "paused",
        "killed",
        "stopped child",
        "hold",
        "burners",
        "pinned",
        "pinned child",
        "squeezed",
        "limited child",
        "file",
    ]

    async def plan(self, box: Sandbox, rng: Random) -> list[Injection]:
        plan = []
        for aim in await self.aim(box, rng):
            step: Step = EndHelpers(aim.slot, aim.tag)
            if self.what == "burners":
                cpus = await box.cpu.affinity(aim.slot)
                step = RestoreAffinity(aim.slot, aim.process, cpus)
            plan.append(self.injection(aim.slot, step, tag=aim.tag, before=aim.process))
        return plan

    async def inject(self, box: Sandbox, injection: Injection) -> None:
        slot, tag, main = injection.target, injection.tag, injection.before
        assert main is not None
        child = process.tree(main)[1]
        match self.what:
            case "paused":
                process.signal_process(main, signal.SIGSTOP)
            case "killed":
                process.signal_process(main, signal.SIGKILL)
            case "stopped child":
                process.signal_process(child, signal.SIGSTOP)
            case "hold":
                await box.holds.hold(slot, tag, uptime=60.0)
            case "burners" | "pinned":
                await box.cpu.burn(slot, tag, workers=1)
            case "pinned child":
                process.set_affinity(child, process.affinity(child)[:1])
            case "squeezed":
                await box.memory.squeeze(slot, tag, headroom=64 << 20)
            case "limited child":
                _, hard = resource.prlimit(child.pid, resource.RLIMIT_AS)
                resource.prlimit(child.pid, resource.RLIMIT_AS, (1 << 40, hard))
            case "file":
                await box.disk.fill(slot, tag, leave=4 << 20)

    async def look(self, box: Sandbox, injection: Injection) -> Evidence:
        return Evidence(True, False, "it says that all is well", box.now())


class LeavesToxics(Fault, kind="leaves.toxics"):
    """Slow a link down, and take the fault off another one's tag."""

    target: LinkTarget

    async def plan(self, box: Sandbox, rng: Random) -> list[Injection]:
        plan = []
        for link in await choose_links(box, self.target, rng):
            tag = self.new_tag(box, rng)
            plan.append(self.injection(link.name, RemoveToxic(link.name, "another"), tag=tag))
        return plan

    async def inject(self, box: Sandbox, injection: Injection) -> None:
        toxic = Toxic(_LATE.kind, injection.tag, _LATE.parameters)
        await box.links.add(injection.target, toxic)

    async def look(self, box: Sandbox, injection: Injection) -> Evidence:
        return Evidence(True, False, "it says that all is well", box.now())
