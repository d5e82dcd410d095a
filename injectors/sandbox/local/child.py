"""One process that the supervisor started, and the moment at which it ends."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import time
from collections.abc import Callable, Mapping, Sequence
from typing import ClassVar

from gameday.injectors.sandbox import process
from gameday.injectors.sandbox.local import namespaces
from gameday.injectors.sandbox.local.cgroups import Group
from gameday.injectors.undo import ProcessId

__all__ = ["Child"]

_AGAIN = 0.005


class Child:
    """A child in a session of its own; whatever is left of that session ends with it.

    Raises:
        OSError: if the program cannot be started.

    Attributes:
        identity: Who it is.
        started: CLOCK_MONOTONIC of its start.
        code: Its exit code (minus the signal that killed it); None while it runs.
        ended: Done when it has ended, with the code.
    """

    bound: ClassVar[bool] = False
    """True where no pid namespace ends our children: then the kernel kills each with us."""

    cpus: ClassVar[frozenset[int] | None] = None
    """CPUs for new children, where our own affinity is narrower than it was at first."""

    beside: ClassVar[Group | None] = None
    """The control group of each child that gets no other, where there is one."""

    _living: ClassVar[set[int]] = set()

    def __init__(
        self,
        argv: Sequence[str],
        *,
        environment: Mapping[str, str],
        folder: str,
        stdio: tuple[int, int, int],
        group: Group | None = None,
        on_exit: Callable[[Child], None] | None = None,
    ) -> None:
        self._group = group or self.beside
        self._popen = subprocess.Popen(
            list(argv),
            env=dict(environment),
            cwd=folder,
            stdin=stdio[0],
            stdout=stdio[1],
            stderr=stdio[2],
            start_new_session=True,
            preexec_fn=self._begin if self.bound or self._group is not None else None,
        )
        self.pid = self._popen.pid
        self.started = time.monotonic()
        stat = process.read_stat(self.pid)
        self.identity = ProcessId(
            process.boot_id(), self.pid, stat.started if stat is not None else 0
        )
        self.code: int | None = None
        loop = asyncio.get_running_loop()
        self.ended: asyncio.Future[int] = loop.create_future()
        self._on_exit = on_exit
        if self.cpus is not None:
            process.set_affinity(self.identity, self.cpus)
        self._living.add(self.pid)
        self._pidfd = os.pidfd_open(self.pid)
        loop.add_reader(self._pidfd, self._reap)

    def _begin(self) -> None:
        """Run in the new process, before its program: from then on it may start others."""
        if self.bound:
            namespaces.die_with_parent()
        if self._group is not None:
            self._group.join()

    @classmethod
    def reap_orphans(cls) -> None:
        """Forget those whom we got as their subreaper; our own are reaped when we are told."""
        while True:
            try:
                found = os.waitid(os.P_ALL, 0, os.WEXITED | os.WNOHANG | os.WNOWAIT)
            except ChildProcessError:
                return
            if found is None or found.si_pid in cls._living:
                return
            os.waitpid(found.si_pid, os.WNOHANG)

    @classmethod
    async def kill_all(cls, within: float) -> tuple[ProcessId, ...]:
        """Kill all that descends from us, those whom we adopted too, until nobody is left.

        Returns:
            Who is left after ``within`` seconds.
        """
        deadline = time.monotonic() + within
        me = process.process_id(os.getpid())
        assert me is not None
        while _have_children() and time.monotonic() < deadline:
            process.kill(process.tree(me)[1:])
            await asyncio.sleep(_AGAIN)  # those that we know are reaped meanwhile
            cls.reap_orphans()
        return process.tree(me)[1:]

    def _reap(self) -> None:
        asyncio.get_running_loop().remove_reader(self._pidfd)
        os.close(self._pidfd)
        # Before it is reaped nobody else can get its number, so the group is still its own.
        self.signal_group(signal.SIGKILL)
        _, status = os.waitpid(self.pid, 0)
        self.code = self._popen.returncode = os.waitstatus_to_exitcode(status)
        self.ended.set_result(self.code)
        self._living.discard(self.pid)
        if self._on_exit is not None:
            self._on_exit(self)

    @property
    def running(self) -> bool:
        return self.code is None

    def signal(self, number: int) -> None:
        """Signal the process itself; harmless once it has ended."""
        if self.code is None:
            os.kill(self.pid, number)

    def signal_group(self, number: int) -> None:
        """Signal the process and those of its session that made no group of their own."""
        if self.code is None:
            try:
                os.killpg(self.pid, number)
            except ProcessLookupError:
                pass

    async def wait(self, within: float) -> bool:
        """Wait until it has ended; False if it has not, after ``within`` seconds."""
        done, _ = await asyncio.wait([self.ended], timeout=within)
        return bool(done)

    async def end(self, number: int, grace: float) -> None:
        """Ask it to stop, and kill it after ``grace`` seconds."""
        self.signal(number)
        self.signal_group(signal.SIGCONT)  # one that is paused could not even hear it
        if not await self.wait(grace):
            self.signal_group(signal.SIGKILL)
            await self.wait(max(grace, process.DIES_WITHIN))


def _have_children() -> bool:
    """Whether we have a child still, a zombie too.

    A look through ``/proc`` can miss one that appears meanwhile; this cannot.
    """
    try:
        os.waitid(os.P_ALL, 0, os.WEXITED | os.WNOHANG | os.WNOWAIT)
    except ChildProcessError:
        return False
    return True
