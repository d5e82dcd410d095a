"""``memory.hog``: a process runs out of memory."""

from __future__ import annotations

import math
from random import Random
from typing import Annotated

from msgspec import Meta

from gameday.injectors.fault import Bytes, Evidence, Fault, Injection, SlotTarget
from gameday.injectors.models import Within
from gameday.injectors.sandbox.base import Sandbox
from gameday.injectors.undo import RestoreLimit, StartSlot
from gameday.injectors.units import show_size


class MemoryHog(Fault, kind="memory.hog"):
    """Let a process have hardly more memory than it uses now; the host is never under pressure."""

    needs = ("memory",)
    excludes = (
        "memory.hog",
        "process.kill",
        "process.crashloop",
        "memory.limit",
        "container.stop",
        "container.remove",
    )
    target: SlotTarget
    headroom: Annotated[
        Bytes,
        Within(0, 1 << 30),
        Meta(description="What it may still allocate, 0 to 1GiB."),
    ] = 4 << 20

    async def plan(self, box: Sandbox, rng: Random) -> list[Injection]:
        """Note the limit that the process has now; undo gives it back, and starts what it ended."""
        plan = []
        for aim in await self.aim(box, rng):
            limit, value = await box.memory.limit(aim.slot)
            steps = (
                RestoreLimit(aim.slot, aim.process, limit, value),
                StartSlot(aim.slot, aim.process),
            )
            plan.append(self.injection(aim.slot, *steps, tag=aim.tag, before=aim.process))
        return plan

    async def inject(self, box: Sandbox, injection: Injection) -> None:
        """Lower the limit."""
        await box.memory.squeeze(injection.target, injection.tag, headroom=self.headroom)

    async def look(self, box: Sandbox, injection: Injection) -> Evidence:
        """Is the limit lower than the one that we noted?"""
        noted = next(step for step in injection.undo if isinstance(step, RestoreLimit))
        limit, value = await box.memory.limit(injection.target)
        lower = limit == noted.limit and _bytes(value) < _bytes(noted.value)
        if not limit:
            seen = f"nobody fills {injection.target}"
        elif lower:
            seen = f"{injection.target} may use {show_size(int(_bytes(value)))} of memory, no more"
        else:
            seen = f"the memory limit of {injection.target} is as it was"
        return Evidence(lower, lower, seen, box.now())


def _bytes(value: str) -> float:
    """The soft limit in ``soft hard`` or in a cgroup file; ``-1`` and ``max`` mean no limit."""
    soft = value.split()[0] if value.split() else "max"
    return math.inf if soft in ("-1", "max") else int(soft)
