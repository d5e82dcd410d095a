"""From which CPUs we measure: never from one that a fault burns, where there are others."""

from __future__ import annotations

import os

__all__ = ["Affinity"]


class Affinity:
    """The CPUs that the runner and the load may use, as they were when it was made.

    Where the system has no such notion (macOS), nobody is moved.

    Attributes:
        cpus: All of them; empty where the system does not say.
        load_pid: The load's process, which is moved too; 0 while there is none.
    """

    def __init__(self) -> None:
        self.cpus = os.sched_getaffinity(0) if hasattr(os, "sched_getaffinity") else set()
        self.load_pid = 0

    def keep_off(self, cpus: frozenset[int]) -> None:
        """Measure from the other CPUs, where there are others; none burns: from all again."""
        if not hasattr(os, "sched_setaffinity"):
            return
        rest = self.cpus - cpus or self.cpus
        os.sched_setaffinity(0, rest)
        if self.load_pid:
            try:
                os.sched_setaffinity(self.load_pid, rest)
            except ProcessLookupError:
                pass  # the load has ended, which is said elsewhere

    def restore(self) -> None:
        """Give the runner back all that it had; the load has ended by then."""
        if hasattr(os, "sched_setaffinity") and self.cpus:
            os.sched_setaffinity(0, self.cpus)
