"""Whether a target is as it was before it was hit."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import anyio

from gameday.injectors.errors import GamedayError
from gameday.injectors.sandbox.base import GONE, Sandbox

__all__ = ["difference"]

_COMPARE_EVERY = 0.05


async def difference(
    box: Sandbox, target: str, before: Mapping[str, str], patience: Callable[[], float]
) -> str:
    """What is not as it was before; empty as soon as nothing is.

    Args:
        target: A slot or a link.
        before: Its fingerprint without any fault.
        patience: Seconds that are left for the target to become as it was.
    """
    while True:
        try:
            after = await box.fingerprint(target)
        except GamedayError as error:
            return f"it could not be looked at: {error}"
        wrong = _told(before, after)
        if not wrong or patience() <= 0:
            return wrong
        await anyio.sleep(_COMPARE_EVERY)


def _told(before: Mapping[str, str], after: Mapping[str, str]) -> str:
    if after == GONE and before != GONE:  # what it had been like helps nobody any more
        return "the container is gone"
    return "; ".join(
        f"{key} was {before.get(key, 'absent')}, is {after.get(key, 'absent')}"
        for key in sorted({*before, *after})
        if before.get(key) != after.get(key)
    )
