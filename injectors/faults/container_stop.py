"""``container.stop``: a container is stopped, as a deployment or a drained machine does."""

from __future__ import annotations

from typing import Annotated

from msgspec import Meta

from gameday.injectors.fault import Injection, Seconds
from gameday.injectors.faults.process_kill import ProcessKill
from gameday.injectors.models import Within
from gameday.injectors.sandbox.base import Sandbox


class ContainerStop(ProcessKill, kind="container.stop"):
    """Stop a container with notice: it may finish what it does; no restart policy starts it again."""

    needs = ("containers",)
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
    )
    grace: Annotated[
        Seconds,
        Within(0, 60),
        Meta(description="How long it may take to end, 0 to 1m; then it is killed."),
    ] = 10.0

    async def inject(self, box: Sandbox, injection: Injection) -> None:
        """Stop it."""
        await box.containers.stop(injection.target, injection.before, grace=self.grace)
