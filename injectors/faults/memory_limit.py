"""``memory.limit``: a container gets little memory."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from gameday.injectors.fault import Bytes, within
from gameday.injectors.limit_fault import LimitFault
from gameday.injectors.units import show_size


class MemoryLimit(LimitFault, kind="memory.limit", resource="memory"):
    """Let a container have so much memory and no more, as a limit set too low does."""

    excludes = (
        "memory.limit",
        "memory.hog",
        "process.kill",
        "process.crashloop",
        "container.stop",
        "container.remove",
    )
    size: Annotated[
        Bytes,
        within(4 << 20, 1 << 40, show_size),
        Field(description="How much, 4MiB to 1TiB; not less than it uses at that moment."),
    ]

    def amount(self) -> float:
        """In bytes."""
        return float(self.size)

    @staticmethod
    def show(amount: float) -> str:
        """For people."""
        return f"{show_size(int(amount))} of memory"
