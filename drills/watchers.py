"""What is watched beside a drill until its end: the sandbox, the machine, and whether we run at all."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator, Callable
from contextlib import aclosing
from pathlib import Path
from typing import Any

import anyio

from gameday.drills import state
from gameday.drills.runner import Runner
from gameday.drills.stop_signals import StopSignals
from gameday.drills.watchdog import LATE
from gameday.injectors.errors import Refused, SandboxGone
from gameday.scoring import events
from gameday.scoring.instants import show_suspends

__all__ = ["asleep", "watch_changes", "watch_machine", "watch_pace", "watch_stop_url"]

_TICK = 0.25
_SLEEP_WORTH_SAYING = 0.5
_STOP_WORTH_SAYING = 2.0
_ASK_EVERY = 1.0
_SILENT = 3
"""Times in a row that a stop URL may fail to say anything."""


async def watch_changes(runner: Runner) -> None:
    """Journal what happens in the sandbox, as it happens.

    Raises:
        SandboxGone: once it tells no more: also where nothing is broken yet, and nobody else asks it.
    """
    stream: AsyncIterator[Any] = runner.stage.box.changes()
    async with aclosing(stream) as changes:  # type: ignore[type-var]
        async for change in changes:
            runner.emit(
                events.SandboxChanged(
                    at=change.at - runner.zero,
                    action=change.action,
                    slot=change.slot,
                    by=change.by,
                    detail=change.detail,
                )
            )
    raise SandboxGone("the sandbox has gone")


async def watch_stop_url(signals: StopSignals, runner: Runner) -> None:
    """Ask the stop URL once a second; one that falls silent for a while ends the drill, too."""
    silent = 0
    while signals.url and not runner.direction.abort:
        try:
            why = await signals.url_says()
            silent = 0
        except Refused as error:
            silent += 1
            why = error.message if silent >= _SILENT else ""
        if why and not runner.direction.abort:
            runner.abort("monitoring", why)
        await anyio.sleep(_ASK_EVERY)


def asleep() -> float:
    """Seconds that this host has slept since it was booted: CLOCK_BOOTTIME goes on meanwhile."""
    if not hasattr(time, "CLOCK_BOOTTIME"):
        return 0.0
    return time.clock_gettime(time.CLOCK_BOOTTIME) - time.monotonic()


async def watch_machine(
    signals: StopSignals, runner: Runner, asleep: Callable[[], float] = asleep
) -> None:
    """The stop files, and sleep: ``asleep`` says how long this host has slept so far, in seconds."""
    slept = asleep()
    while True:
        await anyio.sleep(_TICK)
        if (jump := asleep() - slept) > _SLEEP_WORTH_SAYING:
            runner.emit(events.Suspended(at=runner.now(), seconds=round(jump, 3)))
        slept = asleep()
        if (stop := state.blocked()) is not None and not runner.direction.abort:
            runner.abort("person", f"all drills were stopped: {stop.why}")
        if (why := signals.file_says()) and not runner.direction.abort:
            runner.abort("monitoring", why)


async def watch_pace(runner: Runner, late: float = LATE) -> None:
    """Notice that we stood still ourselves: stopped, in a frozen cgroup, or held up.

    After ``late`` seconds the watchdog should have ended us; if it stood still as well, the drill
    is aborted here. Time in which we computed, or waited for a CPU, is no standstill.
    """
    seen, occupied = runner.now(), _occupied()
    while True:
        await anyio.sleep(_TICK)
        gap, busy = runner.now() - seen, _occupied() - occupied
        seen, occupied = seen + gap, occupied + busy
        if gap > late or gap - _TICK - busy > _STOP_WORTH_SAYING:
            stop = events.Suspended(at=seen, seconds=round(gap - _TICK, 3), who="runner")
            runner.emit(stop)
            if gap > late and not runner.direction.ended and not runner.direction.abort:
                runner.abort("gameday", f"{show_suspends([stop])}; its watchdog allows {late:g} s")


def _occupied() -> float:
    """Seconds that this thread has run, or waited for a CPU, so far; 0 where the kernel does not count."""
    try:
        ran, waited, _ = Path("/proc/thread-self/schedstat").read_text().split()
    except (OSError, ValueError):
        return 0.0
    return (int(ran) + int(waited)) / 1e9
