"""Being asked to stop: signals, a lost watchdog, at whatever point the drill has reached."""

from __future__ import annotations

import signal

import anyio
import msgspec

from gameday.drills.runner import Runner

__all__ = ["Interruption", "Stopped"]


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
