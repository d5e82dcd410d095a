"""Whom a helper process lives with: it ends once all of them are gone."""

from __future__ import annotations

import os
import select
import time
from collections.abc import Sequence

from gameday.injectors.sandbox import process
from gameday.injectors.undo import ProcessId

__all__ = ["Owners"]


class Owners:
    """Whoever has to be there for us to go on."""

    def __init__(self, owners: Sequence[ProcessId]) -> None:
        self._poll = select.poll()
        self._left = 0
        self._bound = bool(owners)
        for owner in owners:
            try:
                pidfd = os.pidfd_open(owner.pid)
            except OSError:
                continue
            if process.is_alive(owner):
                self._poll.register(pidfd, select.POLLIN)
                self._left += 1
            else:
                os.close(pidfd)

    def wait(self, seconds: float) -> None:
        """Return after so many seconds; ends this process once the last owner is gone."""
        deadline = time.monotonic() + seconds
        while True:
            if self._bound and not self._left:
                os._exit(0)
            rest = max(0.0, deadline - time.monotonic())
            gone = self._poll.poll(rest * 1000)
            for pidfd, _ in gone:
                self._poll.unregister(pidfd)
                os.close(pidfd)
                self._left -= 1
            if not gone and time.monotonic() >= deadline:
                return
