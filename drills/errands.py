"""What is done beside the director's loop, as long as the drill is played."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from functools import partial
from typing import TypeVarTuple

import anyio
import anyio.abc

from gameday.drills.foreign import ENDING, as_error

__all__ = ["Errands"]

_Arguments = TypeVarTuple("_Arguments")


class Errands:
    """Runs things beside the rest; a failure of one is passed on, and skips nothing else.

    Args:
        fail: Told where something went wrong, and what.
    """

    def __init__(self, fail: Callable[[str, Exception], None]) -> None:
        self.fail = fail
        self._group: anyio.abc.TaskGroup | None = None

    @property
    def open(self) -> bool:
        """True while something may still be started."""
        return self._group is not None

    @asynccontextmanager
    async def accepted(self) -> AsyncIterator[None]:
        """Accept errands in the block; at its end, those that still run are cancelled."""
        try:
            async with anyio.create_task_group() as self._group:
                group = self._group
                yield
                group.cancel_scope.cancel()
        finally:
            self._group = None

    def close(self) -> None:
        """Start nothing any more; what runs goes on until the block ends."""
        self._group = None

    def start(
        self,
        where: str,
        act: Callable[[*_Arguments], Awaitable[None]],
        *given: *_Arguments,
    ) -> None:
        """Do something beside the rest; nothing, once the drill has ended."""
        if self._group is not None:
            self._group.start_soon(self.carry, where, partial(act, *given))

    async def carry(self, where: str, act: Callable[[], Awaitable[None]]) -> None:
        """Do something now. Never raises but for cancellation."""
        try:
            await act()
        except Exception as error:
            self.fail(where, error)
        except ENDING as error:
            self.fail(where, as_error(error))
