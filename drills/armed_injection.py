"""One injection from when it is armed: looked at, confirmed to be over, compared with before."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import anyio
import msgspec

from gameday.drills.fingerprint import difference
from gameday.drills.foreign import foreign
from gameday.injectors.errors import GamedayError, SandboxGone
from gameday.injectors.fault import Evidence, Fault, Injection
from gameday.injectors.sandbox.base import Sandbox
from gameday.injectors.undo import Armed

__all__ = ["EFFECT_TIMEOUT", "FIRST_LOOK", "LOOK_EVERY", "ArmedInjection"]

EFFECT_TIMEOUT = 5.0
"""Seconds in which an injection must be seen to take effect, and its undo to have ended it."""
FIRST_LOOK, LOOK_EVERY = 0.005, 0.2
"""Seconds after the first look; the pause doubles, up to the second of them."""


class ArmedInjection(msgspec.Struct):
    """An injection that was armed.

    Attributes:
        entry: Its entry of the scenario's ``faults``.
        before: The target's fingerprint without any fault of ours.
        beneath: Of a link, the fingerprint of the slot where it begins, without any fault of ours:
            what is put on a link may show there. Empty where nobody asks for it.
        took_effect: It was seen to; never unlearnt.
        made: It was made, and that has not failed.
        over: It was in force, and was seen to be so no longer.
        undoing: Its undo has begun: no look at it counts any more.
        ended: It is undone.
        failure: Why its undo failed, as it was told last.
    """

    box: Sandbox
    fault: Fault
    injection: Injection
    entry: int
    before: Mapping[str, str]
    beneath: Mapping[str, str] = {}
    took_effect: bool = False
    made: bool = False
    over: bool = False
    undoing: bool = False
    ended: bool = False
    failure: str | None = None

    @property
    def name(self) -> str:
        return f"{self.injection.fault} on {self.injection.target}"

    @property
    def record(self) -> Armed:
        """How it is undone, for the undo log."""
        return Armed(
            id=self.injection.id,
            what=self.name,
            sandbox=self.box.ref,
            steps=self.injection.undo,
            target=self.injection.where,
            before=dict(self.before),
        )

    async def look(self) -> Evidence:
        """See at the target whether it took effect and is in force."""
        return await foreign(self.fault.look, self.box, self.injection)

    async def still_seen(self, within: float) -> str:
        """Look until it is in force no longer; empty then, else what was seen last in these seconds."""
        seen, pause = "no look succeeded", FIRST_LOOK
        with anyio.move_on_after(within):
            while True:
                try:
                    evidence = await self.look()
                except SandboxGone:
                    return ""  # and the fault with it
                except GamedayError as error:
                    seen = error.message
                else:
                    if not evidence.in_force:
                        return ""
                    seen = f"still in force: {evidence.seen}"
                await anyio.sleep(pause)
                pause = min(LOOK_EVERY, pause * 2)
        return seen

    async def difference(self, patience: Callable[[], float]) -> str:
        """What is not as it was before; empty as soon as nothing is.

        Args:
            patience: Seconds that are left for the target to become as it was.
        """
        return await difference(self.box, self.injection.where, self.before, patience)
