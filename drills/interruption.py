"""Being asked to stop: signals, a lost watchdog, at whatever point the drill has reached.

Once the runner stands it heeds the inbox and the stop signals itself; until then, while the
sandbox starts, it is done here.
"""

from __future__ import annotations

import signal
from collections.abc import Callable

import anyio
import msgspec

from gameday.drills import state
from gameday.drills.folder import DrillFolder
from gameday.drills.inbox import Heard, tail
from gameday.drills.runner import Runner
from gameday.drills.stop_signals import StopSignals
from gameday.injectors.errors import GamedayError, Refused

__all__ = ["Interruption", "Stopped", "heed_while_starting"]

_TICK = 0.25
_ASK_EVERY = 1.0


class Stopped(Exception):
    """Somebody asked to stop while the sandbox started."""


class Interruption(msgspec.Struct):
    """Before the runner stands it cancels the bringing up, afterwards it aborts.

    Attributes:
        runner: What is aborted, once it stands.
        scope: What is cancelled until then.
        by: Who asked first; ``received``: what was asked, empty where nobody did.
    """

    runner: Runner | None = None
    scope: anyio.CancelScope | None = None
    by: str = ""
    received: str = ""

    async def listen(self) -> None:
        """Stop at the signals by which people and service managers ask for it."""
        wanted = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
        with anyio.open_signal_receiver(*wanted) as received:
            async for number in received:
                self.stop("signal", f"{signal.Signals(number).name} was received")

    def stop(self, by: str, why: str) -> None:
        """End the drill; everything is put back."""
        if not self.received:
            self.by, self.received = by, why
        if self.runner is not None:
            self.runner.abort(by, why)
        elif self.scope is not None:
            self.scope.cancel()


async def heed_while_starting(
    interruption: Interruption,
    folder: DrillFolder,
    signals: StopSignals,
    check: Callable[[], None],
) -> None:
    """Stop where somebody aborts, stops all drills, or a stop signal says so; until the runner stands.

    ``check`` raises where the drill's own record is no more.
    """
    async with anyio.create_task_group() as group:
        group.start_soon(_heed_inbox, interruption, folder)
        group.start_soon(_heed_files, interruption, signals, check)
        group.start_soon(_heed_url, interruption, signals)
        group.start_soon(_until_standing, interruption, group.cancel_scope)


async def _until_standing(interruption: Interruption, scope: anyio.CancelScope) -> None:
    while True:
        if interruption.runner is not None or interruption.received:
            scope.cancel()
        await anyio.sleep(_TICK)


async def _heed_inbox(interruption: Interruption, folder: DrillFolder) -> None:
    try:
        async for heard in tail(folder):
            if isinstance(heard, Heard) and heard.entry.verb == "abort":
                entry = heard.entry
                interruption.stop("person", entry.text or f"{entry.role} asked to stop")
                return
    except GamedayError:
        return  # the runner says so when it listens


async def _heed_files(
    interruption: Interruption, signals: StopSignals, check: Callable[[], None]
) -> None:
    while True:
        try:
            check()
        except GamedayError as error:
            interruption.stop("gameday", error.message)
            return
        if (stop := state.blocked()) is not None:
            interruption.stop("person", f"all drills were stopped: {stop.why}")
            return
        if why := signals.file_says():
            interruption.stop("monitoring", why)
            return
        await anyio.sleep(_TICK)


async def _heed_url(interruption: Interruption, signals: StopSignals) -> None:
    while signals.url:
        try:
            why = await signals.url_says()
        except Refused:
            why = ""  # one that falls silent is judged by the runner
        if why:
            interruption.stop("monitoring", why)
            return
        await anyio.sleep(_ASK_EVERY)
