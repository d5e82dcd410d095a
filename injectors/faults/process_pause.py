"""``process.pause``: a process hangs, and still holds its port."""

from __future__ import annotations

import signal
from random import Random

from gameday.injectors.fault import Evidence, Fault, Injection, SlotTarget
from gameday.injectors.sandbox.base import Sandbox
from gameday.injectors.undo import SignalProcess


class ProcessPause(Fault, kind="process.pause"):
    """Freeze a process (SIGSTOP): it takes connections and never answers."""

    needs = ("processes",)
    excludes = (
        "process.pause",
        "process.kill",
        "process.crashloop",
        "container.stop",
        "container.remove",
    )
    target: SlotTarget

    async def plan(self, box: Sandbox, rng: Random) -> list[Injection]:
        """Freeze the process that fills the slot now; undo lets that very process go on."""
        return [
            self.injection(
                aim.slot,
                SignalProcess(aim.slot, aim.process, signal.SIGCONT),
                tag=aim.tag,
                before=aim.process,
            )
            for aim in await self.aim(box, rng)
        ]

    async def inject(self, box: Sandbox, injection: Injection) -> None:
        """Send SIGSTOP."""
        await self.send(box, injection, signal.SIGSTOP)

    async def look(self, box: Sandbox, injection: Injection) -> Evidence:
        """Is every thread of that process stopped?"""
        status = await box.processes.status(injection.target)
        pid = injection.before.pid if injection.before else "?"
        if status.process != injection.before:
            seen = f"{injection.target}'s process {pid} is gone"
            return Evidence(False, False, seen, box.now())
        paused = status.state == "paused"
        seen = f"{injection.target}'s process {pid} {'is stopped' if paused else 'runs'}"
        return Evidence(paused, paused, seen, box.now())
