"""``container.stop``: a container is stopped, as a deployment or a drained machine does."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from gameday.injectors.fault import Injection, Seconds, within
from gameday.injectors.faults.process_kill import ProcessKill
from gameday.injectors.sandbox.base import Sandbox
from gameday.injectors.units import show_duration


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
        within(0, 60, show_duration),
        Field(
            description="How long it may take to end, 0 to 1m; then it is killed.",
            json_schema_extra={"default": "10s"},
        ),
    ] = 10.0

    async def inject(self, box: Sandbox, injection: Injection) -> None:
        """Stop it."""
        await box.containers.stop(injection.target, injection.before, grace=self.grace)
