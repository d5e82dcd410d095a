"""Undo armed changes: which come when, and each one's steps, in limited time, never fatal.

The core that the runner, the watchdog and `gameday recover` share.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable, Iterator
from pathlib import Path
from typing import TypeVar

import anyio

from gameday.injectors.errors import GamedayError, SandboxGone
from gameday.injectors.sandbox.base import Sandbox
from gameday.injectors.sandbox.kinds import by_hand
from gameday.injectors.sandbox.process import is_alive, signal_process
from gameday.injectors.undo import (
    Armed,
    Outcome,
    ResolvePage,
    SignalProcess,
    Step,
    StepResult,
    TearDown,
    Undone,
)

__all__ = ["STEP_LIMIT", "PageResolver", "at_once", "page_resolver", "undo_in_order", "undo_one"]

STEP_LIMIT = 10.0
"""Seconds for one step."""
_AT_ONCE = 8
"""Changes that are undone, and targets that are compared, at once: few enough that none waits for the others longer than its limit."""
_TEAR_DOWN_LIMIT = 30.0
_ASK_AGAIN = 0.1
"""Seconds after which a sandbox that does not answer is asked once more."""

T = TypeVar("T")

PageResolver = Callable[[ResolvePage], Awaitable[StepResult]]
"""Resolves one page on every channel that took it."""


async def undo_in_order(
    newest_first: Iterable[Armed], undo: Callable[[Armed], Awaitable[None]]
) -> None:
    """Undo every change, newest first; what a fault did to several targets, at once.

    An error of one stops no other; the first is raised when all have been tried.
    """
    first: Exception | None = None
    for alike in _batches(newest_first):
        try:
            await at_once(alike, undo)
        except Exception as error:
            first = first or error
    if first is not None:
        raise first


async def at_once(items: Iterable[T], do: Callable[[T], Awaitable[None]]) -> None:
    """Do it to several at a time, the first ones first.

    An error of one stops no other; the first is raised when all have been tried.
    """
    limit = anyio.Semaphore(_AT_ONCE)
    errors: list[Exception] = []

    async def attempt(item: T) -> None:
        try:
            await do(item)
        except Exception as error:
            errors.append(error)
        finally:
            limit.release()

    async with anyio.create_task_group() as together:
        for item in items:
            await limit.acquire()
            together.start_soon(attempt, item)
    if errors:
        raise errors[0]


def _batches(newest_first: Iterable[Armed]) -> Iterator[list[Armed]]:
    """What follows each other and is the same change to other targets is one batch."""
    batch: list[Armed] = []
    for armed in newest_first:
        alike = batch and _kind(batch[0]) == _kind(armed)
        if not alike or armed.target in {each.target for each in batch}:
            if batch:
                yield batch
            batch = []
        batch.append(armed)
    if batch:
        yield batch


def _kind(armed: Armed) -> tuple[str, str, tuple[type[Step], ...]]:
    return armed.sandbox.kind, armed.sandbox.address, tuple(type(step) for step in armed.steps)


async def undo_one(
    armed: Armed,
    box: Sandbox | SandboxGone,
    *,
    resolve_page: PageResolver | None = None,
    limit: float = STEP_LIMIT,
) -> Undone:
    """Run every step of ``armed``, in order; a step that fails does not stop the next.

    Shielded from cancellation. Never raises: what went wrong is in the result's
    ``detail``, with the command that does it by hand. ``at`` and ``wall`` are left at 0.

    Args:
        armed: What was armed.
        box: Its sandbox, or why that cannot be reached.
        resolve_page: What resolves pages; without it, `ResolvePage` steps fail.
        limit: Seconds for each step (`TearDown` has 30 s, or more if ``limit`` is more).
    """
    results = []
    with anyio.CancelScope(shield=True):
        for step in armed.steps:
            patience = max(limit, _TEAR_DOWN_LIMIT) if isinstance(step, TearDown) else limit
            results.append(await _run_limited(step, armed, box, resolve_page, patience))
    return _sum_up(armed.id, results)


async def _run_limited(
    step: Step,
    armed: Armed,
    box: Sandbox | SandboxGone,
    resolve_page: PageResolver | None,
    limit: float,
) -> StepResult:
    try:
        with anyio.fail_after(limit):
            return await _run(step, box, resolve_page)
    except TimeoutError:
        why = f"not done within {limit:g} s"
    except GamedayError as error:
        why = error.message
    except Exception as error:
        # A driver's bug is a verdict on this step; every other step still runs.
        why = f"{type(error).__name__}: {error}"
    return StepResult(Outcome.FAILED, f"{why}; by hand: {by_hand(step, armed.sandbox)}")


async def _run(
    step: Step, box: Sandbox | SandboxGone, resolve_page: PageResolver | None
) -> StepResult:
    if isinstance(step, ResolvePage):
        if resolve_page is None:
            return StepResult(Outcome.FAILED, "nothing here can resolve pages")
        return await resolve_page(step)
    if isinstance(box, SandboxGone):
        return _without_sandbox(step)
    for pause in (_ASK_AGAIN, None):
        try:
            return await box.run_step(step)
        except SandboxGone:
            if pause is not None:
                await anyio.sleep(pause)  # one that is only slow to answer is not gone
    return _without_sandbox(step)


def _without_sandbox(step: Step) -> StepResult:
    """What a step comes to where its sandbox does not answer any more."""
    if isinstance(step, SignalProcess) and is_alive(step.process):
        # Its keeper is dead, the process is not: a stopped one could not even be ended.
        signal_process(step.process, step.signal)
        return StepResult(Outcome.PUT_BACK, "done without its sandbox, which is gone")
    return StepResult(Outcome.NOTHING, "gone with its sandbox")


def _sum_up(id: str, results: list[StepResult]) -> Undone:  # noqa: A002 - the record's own word
    """One outcome for all steps: a failure outweighs a takeover, that outweighs the rest."""
    found = {result.outcome for result in results}
    order = (Outcome.FAILED, Outcome.TAKEN_OVER, Outcome.PUT_BACK, Outcome.NOTHING)
    outcome = next((each for each in order if each in found), Outcome.NOTHING)
    details = dict.fromkeys(result.detail for result in results if result.detail)
    by = dict.fromkeys(result.by for result in results if result.by)
    return Undone(id=id, outcome=outcome, detail="; ".join(details), by=", ".join(by))


def page_resolver(folder: Path) -> PageResolver:
    """What resolves pages by what the drill's folder keeps about its channels."""

    async def resolve(step: ResolvePage) -> StepResult:
        from gameday.drills import channels

        return await channels.resolve_page(step, folder)

    return resolve
