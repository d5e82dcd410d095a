"""Busy processes that take a CPU from one of the sandbox's."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
import time

from gameday.injectors.sandbox import process
from gameday.injectors.sandbox.local.child import Child
from gameday.injectors.undo import ProcessId

__all__ = ["Burners"]

_PROGRAM = "while True: pass"
_SEEN_WITHIN = 1.0


class Burners:
    """The burners of one sandbox, by the tag of the fault that they belong to.

    Args:
        sandbox: The sandbox's tag.
    """

    def __init__(self, sandbox: str) -> None:
        self.sandbox = sandbox
        self._children: dict[str, list[Child]] = {}
        self._cpus: dict[str, int] = {}
        self._all_cpus = frozenset(os.sched_getaffinity(0))

    def cpus(self) -> tuple[int, ...]:
        """CPUs on which burners run."""
        return tuple(sorted(set(self._cpus.values())))

    async def start(self, slot: str, who: ProcessId, tag: str, workers: int) -> bool:
        """Pin a slot's process to one CPU, with so many burners beside it; False if it is gone."""
        stat = process.read_stat(who.pid)
        if stat is None:
            return False
        allowed = process.affinity(who)
        cpu = stat.cpu if stat.cpu in allowed else allowed[-1]
        self._cpus[tag] = cpu
        self._keep_off()
        for member in process.tree(who):
            process.set_affinity(member, [cpu])
        children = self._children.setdefault(tag, [])
        children += [self._burner(slot, tag) for _ in range(workers - len(children))]
        # Pinned only once it can be seen by its tag: among the others that would take long.
        for child in children:
            deadline = time.monotonic() + _SEEN_WITHIN
            while not process.has_environment(child.pid):
                if time.monotonic() > deadline:
                    break
                await asyncio.sleep(0.001)
            process.set_affinity(child.identity, [cpu])
        return True

    async def end(self, tag: str) -> bool:
        """End those that carry a tag; False if there were none."""
        children = [child for child in self._children.pop(tag, []) if child.code is None]
        for child in children:
            child.signal(signal.SIGKILL)
        for child in children:
            await child.wait(1.0)
        if self._cpus.pop(tag, None) is not None:
            self._keep_off()
        return bool(children)

    def kill(self) -> None:
        """Kill all of them, at the sandbox's end."""
        for children in self._children.values():
            for child in children:
                child.signal(signal.SIGKILL)

    def _burner(self, slot: str, tag: str) -> Child:
        environment = {
            "GAMEDAY_SANDBOX": self.sandbox,
            "GAMEDAY_SLOT": slot,
            "GAMEDAY_HELPER": tag,
        }
        null = os.open(os.devnull, os.O_RDWR)
        try:
            return Child(
                [sys.executable, "-I", "-S", "-c", _PROGRAM, tag],
                environment=environment,
                folder="/",
                stdio=(null, null, null),
            )
        finally:
            os.close(null)

    def _keep_off(self) -> None:
        """The proxies live in this process: stay off the CPUs that burn, where there is another."""
        cool = self._all_cpus - set(self.cpus())
        os.sched_setaffinity(0, cool or self._all_cpus)
        Child.cpus = self._all_cpus if cool and cool != self._all_cpus else None
