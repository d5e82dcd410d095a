"""``process.kill``: a process dies, as if its machine had died."""

from __future__ import annotations

import signal
from random import Random
from typing import ClassVar

from gameday.injectors.fault import Evidence, Fault, Injection, SlotTarget
from gameday.injectors.sandbox.base import Sandbox
from gameday.injectors.undo import StartSlot


class ProcessKill(Fault, kind="process.kill"):
    """Kill a process at once (SIGKILL); its slot stays empty until somebody starts it."""

    needs = ("processes",)
    ends_processes = True
    excludes: ClassVar[tuple[str, ...]] = (
        "process.pause",
        "process.crashloop",
        "cpu.burn",
        "memory.hog",
        "cpu.limit",
        "memory.limit",
        "container.stop",
        "container.remove",
    )
    target: SlotTarget

    async def plan(self, box: Sandbox, rng: Random) -> list[Injection]:
        """Kill the process that fills the slot now; undo starts the slot."""
        return [
            self.injection(
                aim.slot, StartSlot(aim.slot, aim.process), tag=aim.tag, before=aim.process
            )
            for aim in await self.aim(box, rng)
        ]

    async def inject(self, box: Sandbox, injection: Injection) -> None:
        """Send SIGKILL."""
        await self.send(box, injection, signal.SIGKILL)

    async def look(self, box: Sandbox, injection: Injection) -> Evidence:
        """Is the process that we meant still there, and who fills its slot?"""
        process = (await box.processes.status(injection.target)).process
        pid = injection.before.pid if injection.before else "?"
        if process is None:
            seen = f"{injection.target}'s process {pid} is gone; nobody fills the slot"
        elif process != injection.before:
            seen = f"{injection.target}'s process {pid} is gone; process {process.pid} took over"
        else:
            seen = f"{injection.target}'s process {pid} runs"
        return Evidence(process != injection.before, process is None, seen, box.now())
