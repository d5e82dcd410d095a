"""``cpu.limit``: a container gets little CPU."""

from __future__ import annotations

from typing import Annotated

from msgspec import Meta

from gameday.injectors.limit_fault import LimitFault


class CpuLimit(LimitFault, kind="cpu.limit", resource="cpu"):
    """Let a container have so much CPU and no more, as a limit set too low does."""

    excludes = (
        "cpu.limit",
        "process.kill",
        "process.crashloop",
        "container.stop",
        "container.remove",
    )
    cpus: Annotated[
        float,
        Meta(ge=0.01, le=64, description="How many CPUs, 0.01 to 64; 0.2 is a fifth of one."),
    ]

    def amount(self) -> float:
        """In CPUs."""
        return self.cpus

    @staticmethod
    def show(amount: float) -> str:
        """For people."""
        return f"{amount:g} CPUs"
