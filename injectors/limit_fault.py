"""What the faults share that lower a limit of a slot: how much CPU or memory it may use."""

from __future__ import annotations

import abc
from random import Random
from typing import ClassVar

from gameday.injectors.errors import Refused
from gameday.injectors.fault import Evidence, Fault, Injection, SlotTarget
from gameday.injectors.sandbox.base import Sandbox
from gameday.injectors.undo import RestoreLimit, StartSlot

__all__ = ["LimitFault"]


class LimitFault(Fault):
    """A limit is lowered, absolutely; undo gives back the one that was there.

    Attributes:
        resource: ``cpu`` (in CPUs) or ``memory`` (in bytes): the class keyword.
    """

    resource: ClassVar[str]
    needs: ClassVar[tuple[str, ...]] = ("limits",)

    target: SlotTarget

    @abc.abstractmethod
    def amount(self) -> float:
        """What the slot shall have, in CPUs or bytes."""

    @staticmethod
    @abc.abstractmethod
    def show(amount: float) -> str:
        """An amount for people."""

    async def plan(self, box: Sandbox, rng: Random) -> list[Injection]:
        """Note the limit that the slot has now; undo gives it back, and starts what it ended.

        Raises:
            Refused: if it may have no more as it is.
        """
        plan = []
        for aim in await self.aim(box, rng):
            now = await box.limits.limit(aim.slot, self.resource)
            if now.amount <= self.amount():
                raise Refused(
                    f"{aim.slot} may use no more than {type(self).show(now.amount)} as it is",
                    hint=f"Give {type(self).kind} less than that: it lowers the limit.",
                )
            steps = (
                RestoreLimit(aim.slot, aim.process, now.path, now.value),
                StartSlot(aim.slot, aim.process),
            )
            plan.append(self.injection(aim.slot, *steps, tag=aim.tag, before=aim.process))
        return plan

    async def inject(self, box: Sandbox, injection: Injection) -> None:
        """Lower the limit."""
        await box.limits.lower(injection.target, self.resource, self.amount())

    async def look(self, box: Sandbox, injection: Injection) -> Evidence:
        """Is the limit that is there another one than we noted, and as low as it was asked for?"""
        noted = next(step for step in injection.undo if isinstance(step, RestoreLimit))
        now = await box.limits.limit(injection.target, self.resource)
        ours = now.path == noted.limit and now.value != noted.value and now.amount <= self.amount()
        if not now.path:
            seen = f"nobody fills {injection.target}"
        elif ours:
            seen = f"{injection.target} may use {type(self).show(now.amount)}, no more"
        else:
            seen = f"the {self.resource} limit of {injection.target} is as it was"
        return Evidence(ours, ours, seen, box.now())
