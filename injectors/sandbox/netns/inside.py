"""Commands in the network namespace of one process: of that very process, or not at all."""

from __future__ import annotations

import contextlib
import fcntl
import os
import shutil
import subprocess
import threading
import time
from collections.abc import Iterator
from pathlib import Path

from gameday.injectors.errors import Refused, SandboxError, SandboxGone, Unsupported
from gameday.injectors.sandbox import process
from gameday.injectors.undo import ProcessId

__all__ = ["PATH", "Inside"]

PATH = os.pathsep.join((os.environ.get("PATH", "/usr/bin:/bin"), "/usr/sbin", "/sbin"))
"""Where programs are looked for; ``iptables`` and ``tc`` are on no plain user's path."""
_WITHIN = 15.0
"""Seconds that a command may take."""


_turns: dict[tuple[int, int], threading.Lock] = {}
"""By namespace: whose turn it is among our own threads, none of which can be frozen alone."""


@contextlib.contextmanager
def _turn(fd: int) -> Iterator[None]:
    found = os.fstat(fd)
    with _turns.setdefault((found.st_dev, found.st_ino), threading.Lock()):
        yield


class Inside:
    """The network namespace of a process.

    The namespace is opened first and the process looked at second, so a pid that is
    reused in between leads nowhere.

    Args:
        here: We are in it ourselves, and that it is no machine's was seen from outside.
    """

    def __init__(self, who: ProcessId, *, here: bool = False) -> None:
        self.who, self.here = who, here

    @property
    def there(self) -> bool:
        """Whether the process still runs, and so its namespace is there."""
        return process.is_alive(self.who)

    @contextlib.contextmanager
    def opened(self) -> Iterator[int]:
        """A descriptor of the namespace.

        Raises:
            SandboxGone: if the process is gone.
            Unsupported: if it may not be opened.
        """
        pid = self.who.pid
        try:
            fd = os.open(f"/proc/{pid}/ns/net", os.O_RDONLY | os.O_CLOEXEC)
        except FileNotFoundError:
            raise SandboxGone(f"process {pid} is gone, and with it its network") from None
        except PermissionError:
            raise Unsupported(
                f"the network of process {pid} may not be entered",
                hint="Network faults on a process need root on its host.",
            ) from None
        try:
            if not self.there:
                raise SandboxGone(f"process {pid} is gone, and with it its network")
            yield fd
        finally:
            os.close(fd)

    def refuse_hosts(self) -> None:
        """Refuse a namespace that is this machine's own: a fault there would hit everybody.

        Raises:
            Refused: if it is; nothing was touched.
        """
        if self.here:
            return
        with self.opened() as fd:
            theirs = os.fstat(fd)
            for own in ("/proc/self/ns/net", "/proc/1/ns/net"):
                with contextlib.suppress(OSError):
                    ours = Path(own).stat()
                    if (ours.st_dev, ours.st_ino) == (theirs.st_dev, theirs.st_ino):
                        raise Refused(
                            f"process {self.who.pid} has no network of its own: "
                            "it uses this machine's",
                            hint="A network fault there would hit the whole machine.",
                        )

    @contextlib.contextmanager
    def alone(self, *, within: float = _WITHIN, insist: bool = True) -> Iterator[None]:
        """Hold off others who would change the faults here at the same time, in any process.

        Args:
            within: Seconds to wait for another who does.
            insist: False to go on beside them then: who undoes must not wait for the frozen.

        Raises:
            SandboxError: if another does not finish.
        """
        with self.opened() as fd, _turn(fd):
            deadline = time.monotonic() + within
            while True:
                try:
                    fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
                    break
                except BlockingIOError:
                    if time.monotonic() > deadline and not insist:
                        break
                    if time.monotonic() > deadline:
                        raise SandboxError(
                            f"somebody else has been changing the network of process "
                            f"{self.who.pid} for {within:.0f} s"
                        ) from None
                    time.sleep(0.005)
            yield

    def entering(self, fd: int) -> list[str]:
        """What a command begins with, to run there; ``fd`` is from `opened`, and passed on to it."""
        return [] if self.here else ["nsenter", f"--net=/proc/self/fd/{fd}"]

    def run(self, *words: str, given: str | None = None) -> str:
        """Run a command there; what it printed.

        Raises:
            SandboxGone: if the process is gone.
            SandboxError: if the command failed.
        """
        with self.opened() as fd:
            try:
                done = subprocess.run(
                    [*self.entering(fd), *words],
                    input=given,
                    stdin=subprocess.DEVNULL if given is None else None,
                    capture_output=True,
                    text=True,
                    check=False,
                    pass_fds=(fd,),
                    env={"PATH": PATH, "LC_ALL": "C"},
                    timeout=_WITHIN,
                )
            except FileNotFoundError:
                missing = words[0] if self.here else "nsenter"
                raise Unsupported(f"{missing} is not on this machine") from None
            except subprocess.TimeoutExpired:
                raise SandboxError(
                    f"{words[0]} did not finish within {_WITHIN:.0f} s in the network of "
                    f"process {self.who.pid}"
                ) from None
        if done.returncode:
            said = " ".join((done.stderr or done.stdout).split())
            raise SandboxError(
                f"{words[0]} failed in the network of process {self.who.pid}: {said}"
            )
        return done.stdout

    def has(self, program: str) -> bool:
        """Whether this machine has a program."""
        return shutil.which(program, path=PATH) is not None

    @property
    def has_ipv6(self) -> bool:
        """Whether IPv6 can be spoken there."""
        return self._addresses_6.exists()

    @property
    def speaks_ipv6(self) -> bool:
        """Whether it is: an interface other than loopback has an address."""
        if not self.has_ipv6:
            return False
        lines = self._addresses_6.read_text().splitlines()
        return any(line.split()[-1] != "lo" for line in lines)

    @property
    def _addresses_6(self) -> Path:
        return Path(f"/proc/{self.who.pid}/net/if_inet6")
