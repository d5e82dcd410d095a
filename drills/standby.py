"""A watchdog that stands by: its process has started, and has not yet been told what to guard.

It imports while its runner does, so that nobody waits for it later. Told nothing, it
leaves as soon as the runner lets go of it, and has touched nothing.
"""

from __future__ import annotations

import os
import socket
import subprocess
import sys

from gameday.injectors.errors import Refused

__all__ = ["Standby"]


class Standby:
    """The process, and our end of the socket that it listens to; made by `start`.

    As a context manager it is dismissed at the end, unless a drill has taken it.
    """

    def __init__(self, process: subprocess.Popen[bytes], peer: socket.socket) -> None:
        self._process = process
        self._peer = peer
        self._taken = False

    @classmethod
    def start(cls) -> Standby:
        """Start the process; returns at once.

        Raises:
            Refused: if it cannot be started.
        """
        ours, theirs = socket.socketpair()
        environment = {k: v for k, v in os.environ.items() if k != "GAMEDAY_DRILL"}
        try:
            process = subprocess.Popen(
                [sys.executable, "-P", "-m", "gameday.drills.watchdog", str(theirs.fileno())],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,  # until it knows its log
                stderr=subprocess.DEVNULL,
                env=environment,
                pass_fds=(theirs.fileno(),),
                start_new_session=True,
            )
        except OSError as error:
            ours.close()
            raise Refused(f"the watchdog cannot be started: {error.strerror}") from None
        finally:
            theirs.close()
        return cls(process, ours)

    @property
    def pid(self) -> int:
        """The process's."""
        return self._process.pid

    def take(self) -> tuple[subprocess.Popen[bytes], socket.socket]:
        """The process and the socket, for the one drill that it will guard."""
        self._taken = True
        return self._process, self._peer

    def dismiss(self) -> None:
        """End it, unless it was taken: it guards nothing yet. Harmless to repeat."""
        if not self._taken:
            self._peer.close()
            self._process.kill()
            self._process.wait()

    def __enter__(self) -> Standby:
        return self

    def __exit__(self, *exc: object) -> None:
        self.dismiss()
