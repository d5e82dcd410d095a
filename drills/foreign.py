"""Awaiting somebody else's code: a fault may come from any package."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import TypeVar, TypeVarTuple

__all__ = ["ENDING", "as_error", "foreign"]

T = TypeVar("T")
_Arguments = TypeVarTuple("_Arguments")

ENDING = (SystemExit, KeyboardInterrupt, GeneratorExit)
"""What ends a process or a task: raised by somebody else's code, it must not end ours past the undo."""


def as_error(error: BaseException) -> Exception:
    """What was raised, as an error like any other."""
    if isinstance(error, Exception):
        return error
    return RuntimeError(f"{type(error).__name__}: {error}".rstrip(": "))


async def foreign(call: Callable[[*_Arguments], Awaitable[T]], *given: *_Arguments) -> T:
    """Call and await it.

    Raises what it raises, but as an `Exception`; cancellation only where it is ours.
    """
    try:
        return await call(*given)
    except ENDING as error:
        raise as_error(error) from error
    except asyncio.CancelledError as error:
        task = asyncio.current_task()
        if task is None or task.cancelling():
            raise
        raise as_error(error) from error  # nobody has cancelled us: it raised that itself
