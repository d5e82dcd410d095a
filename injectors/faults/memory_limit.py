"""``memory.limit``: a container gets little memory."""

from __future__ import annotations

from typing import Annotated

from msgspec import Meta

from gameday.injectors.fault import Bytes
from gameday.injectors.limit_fault import LimitFault
from gameday.injectors.models import Within
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
        Within(4 << 20, 1 << 40),
        Meta(description="How much, 4MiB to 1TiB; not less than it uses at that moment."),
    ]

    def amount(self) -> float:
        """In bytes."""
        return float(self.size)

    @staticmethod
    def show(amount: float) -> str:
        """For people."""
        return f"{show_size(int(amount))} of memory"
