"""``process.crashloop``: a process starts, dies, starts, dies."""

from __future__ import annotations

from random import Random
from typing import Annotated

from msgspec import Meta

from gameday.injectors.fault import Evidence, Fault, Injection, Seconds, SlotTarget
from gameday.injectors.models import Within
from gameday.injectors.sandbox.base import Sandbox
from gameday.injectors.undo import ClearHold
from gameday.injectors.units import show_duration


class ProcessCrashloop(Fault, kind="process.crashloop"):
    """Make a process crash again and again, a moment after each start; restarting does not help."""

    needs = ("processes", "holds")
    ends_processes = True
    excludes = (
        "process.crashloop",
        "process.kill",
        "process.pause",
        "cpu.burn",
        "memory.hog",
        "cpu.limit",
        "memory.limit",
        "container.stop",
        "container.remove",
    )
    target: SlotTarget
    uptime: Annotated[
        Seconds,
        Within(0.05, 60),
        Meta(description="How long each process lives before it crashes, 50ms to 1m."),
    ] = 1.0

    async def plan(self, box: Sandbox, rng: Random) -> list[Injection]:
        """Hold the slot down under our tag; undo lifts that hold and starts the slot."""
        return [
            self.injection(aim.slot, ClearHold(aim.slot, aim.tag), tag=aim.tag, before=aim.process)
            for aim in await self.aim(box, rng)
        ]

    async def inject(self, box: Sandbox, injection: Injection) -> None:
        """Put the hold on the slot."""
        await box.holds.hold(injection.target, injection.tag, uptime=self.uptime)

    async def look(self, box: Sandbox, injection: Injection) -> Evidence:
        """Has the process crashed at least once, and does our hold still stand?"""
        status = await box.processes.status(injection.target)
        held, crashed = injection.tag in status.holds, status.process != injection.before
        pid = injection.before.pid if injection.before else "?"
        seen = f"{injection.target}'s process {pid} {'is gone' if crashed else 'runs'}"
        if held:
            seen += f"; each new one dies after {show_duration(self.uptime)}"
        return Evidence(crashed, held, seen, box.now())
