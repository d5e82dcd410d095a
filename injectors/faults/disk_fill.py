"""``disk.fill``: the disk is full."""

from __future__ import annotations

from random import Random
from typing import Annotated

from msgspec import Meta

from gameday.injectors.fault import Bytes, Evidence, Fault, Injection, SlotTarget
from gameday.injectors.models import Within
from gameday.injectors.sandbox.base import Sandbox
from gameday.injectors.undo import DeleteFile
from gameday.injectors.units import show_size

_BLOCK = 4096


class DiskFill(Fault, kind="disk.fill"):
    """Fill the disk that holds a slot's data, so that writes fail."""

    needs = ("disk",)
    excludes = ("disk.fill", "container.remove")
    target: SlotTarget
    leave: Annotated[
        Bytes,
        Within(0, 1 << 40),
        Meta(description="How much stays free, 0 to 1TiB."),
    ] = 0

    async def plan(self, box: Sandbox, rng: Random) -> list[Injection]:
        """A file named after the tag; undo deletes it."""
        return [
            self.injection(aim.slot, DeleteFile(aim.slot, aim.tag), tag=aim.tag, before=aim.process)
            for aim in await self.aim(box, rng)
        ]

    async def inject(self, box: Sandbox, injection: Injection) -> None:
        """Write the file until no more fits."""
        await box.disk.fill(injection.target, injection.tag, leave=self.leave)

    async def look(self, box: Sandbox, injection: Injection) -> Evidence:
        """Is our file there, and how much is free? Only the file's end ends the fault."""
        size = await box.disk.filled(injection.target, injection.tag)
        free = await box.disk.free(injection.target)
        seen = f"{show_size(free)} free at {injection.target}"
        if size is not None:
            seen += f", beside our {show_size(size)}"
        full = size is not None and free <= self.leave + _BLOCK
        return Evidence(full, size is not None, seen, box.now())
