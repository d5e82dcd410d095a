"""``clock.skew``: the wall clock is wrong."""

from __future__ import annotations

from random import Random
from typing import Annotated

from msgspec import Meta

from gameday.injectors.fault import Evidence, Fault, Injection, SignedSeconds, SlotTarget
from gameday.injectors.models import Check, Within
from gameday.injectors.sandbox.base import Sandbox
from gameday.injectors.undo import RestoreClock
from gameday.injectors.units import show_duration

_LEAST = 0.001
_MOST = 3650 * 86400.0
"""Seconds in ten years: so far no 32-bit time ends yet."""


def _some(offset: float) -> float:
    if abs(offset) < _LEAST:
        raise ValueError(f"expected at least {show_duration(_LEAST)}, forward or back")
    return offset


class ClockSkew(Fault, kind="clock.skew"):
    """Let the wall clock that a container's programs see be wrong; needs libfaketime in its image."""

    needs = ("clock",)
    excludes = ("clock.skew", "file.corrupt", "file.deny", "container.remove")
    target: SlotTarget
    offset: Annotated[
        SignedSeconds,
        Within(-_MOST, _MOST),
        Check(_some),
        Meta(description="How far it is off: 1h is an hour fast, -5m five minutes slow."),
    ]

    async def plan(self, box: Sandbox, rng: Random) -> list[Injection]:
        """Undo sets it right, unless somebody has set it since."""
        plan = []
        for aim in await self.aim(box, rng):
            path = await box.clock.check(aim.slot)
            step = RestoreClock(aim.slot, aim.process, path, aim.tag)
            place = f"{aim.slot}:{path}"
            plan.append(
                self.injection(aim.slot, step, tag=aim.tag, before=aim.process, place=place)
            )
        return plan

    async def inject(self, box: Sandbox, injection: Injection) -> None:
        """Write the offset where the programs look for it."""
        await box.clock.skew(injection.target, injection.before, injection.tag, offset=self.offset)

    async def look(self, box: Sandbox, injection: Injection) -> Evidence:
        """Is the offset there, and has a program read it?"""
        skew = await box.clock.skewed(injection.target, injection.tag)
        way = "fast" if self.offset > 0 else "slow"
        off = f"{show_duration(abs(self.offset))} {way}"
        if not skew.told:
            seen = f"nothing of ours sets the clock of {injection.target}"
        elif not skew.read:
            seen = (
                f"the clock of {injection.target} is set to be {off}, and nobody has looked at it"
            )
        else:
            seen = f"the clock of {injection.target} is {off} for its programs"
        return Evidence(skew.told and skew.read, skew.told, seen, box.now())
