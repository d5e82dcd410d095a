"""The main process of a helper container: ``python -m gameday.injectors.sandbox.netns.keeper``.

The container shares the network of its target, and is where `errands` run. It lives as long as
somebody says once in a while, by SIGUSR1, that it is needed; then, and at SIGTERM, what was
made from here is removed, and it ends. So it needs nobody who removes it.
"""

from __future__ import annotations

import signal
import time

from gameday.injectors.errors import GamedayError
from gameday.injectors.sandbox.netns.errands import ADDED, KEEPER
from gameday.injectors.sandbox.netns.namespace import Namespace

__all__ = ["LEASE", "main"]

LEASE = 15.0
"""Seconds that it lives after it was said last that it is needed."""
_NEEDED, _ENOUGH = signal.SIGUSR1, (signal.SIGTERM, signal.SIGINT)


def main() -> None:
    """Live until the lease is over, or enough is said."""
    # A first process is never sent what it neither blocks nor handles.
    signal.pthread_sigmask(signal.SIG_BLOCK, {_NEEDED, *_ENOUGH})
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)  # orphans of errands are nobody else's to reap
    end = time.monotonic() + LEASE
    while (left := end - time.monotonic()) > 0:
        told = signal.sigtimedwait({_NEEDED, *_ENOUGH}, left)
        if told is not None and told.si_signo in _ENOUGH:
            break
        if told is not None:
            end = time.monotonic() + LEASE
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    namespace = Namespace(KEEPER, here=True)
    for made in sorted(ADDED.iterdir()) if ADDED.is_dir() else ():
        try:
            namespace.remove_now(made.name)
        except GamedayError:
            continue  # the others can be removed all the same


if __name__ == "__main__":
    main()
