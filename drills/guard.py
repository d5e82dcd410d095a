"""The watchdog's own process: it waits beside a drill, and puts everything back if the runner cannot.

``python -m gameday.drills.watchdog``. It runs in a session of its own, ignores
every signal that can be ignored, holds nothing of the runner's but a socket, and
has imported all that it will need before it says that it is ready.

    it ends, or lets go of the socket   the runner died
    no `Beat` for a while               it hangs, or is stopped      } CLOCK_MONOTONIC
    the hard deadline has passed        it does not come to an end   } CLOCK_BOOTTIME

Then it first ends the runner and its helpers, so that a frozen runner that wakes
cannot inject again, and after that undoes what is outstanding.
"""

from __future__ import annotations

import contextlib
import importlib
import os
import select
import signal as signals
import socket
import sys
import time
from pathlib import Path

import anyio
import anyio.lowlevel
import msgspec

from gameday.drills import state
from gameday.drills.ending import end_runner
from gameday.drills.folder import DrillFolder
from gameday.drills.recover import recover
from gameday.drills.undo_log import read_undo_log
from gameday.drills.wire import Wire
from gameday.injectors.errors import GamedayError
from gameday.injectors.sandbox.process import is_alive, read_stat
from gameday.injectors.undo import ProcessId

__all__ = ["Answer", "Beat", "Beaten", "Done", "Ended", "Failed", "Limit", "Order", "Ready"]
__all__ += ["Register", "Settings", "boottime", "main"]

_POLL = 0.2
_STALL = 1.0
_LAST_WORDS = 5.0
_PRELOADED = (
    "gameday.injectors.sandbox.connect",
    "gameday.drills.channels.delivery",
    "gameday.drills.channels.file",
)


class Settings(msgspec.Struct, frozen=True):
    """What the watchdog is started with.

    Attributes:
        drill: The drill's id; ``folder``: its directory.
        drivers: Modules that it imports before it is ready.
        late: Seconds without a beat after which the runner is ended.
        limit: CLOCK_BOOTTIME in seconds at which the drill must be over.
        fd: Its end of the socket pair.
        pauses: Seconds before each further round over what could not be undone.
    """

    drill: str
    folder: str
    runner: ProcessId
    drivers: tuple[str, ...]
    late: float
    limit: float
    fd: int
    pauses: tuple[float, ...] = (0.3, 1.0, 3.0, 10.0)


class Beat(msgspec.Struct, frozen=True, tag=True):
    """The runner is well. ``at``: CLOCK_MONOTONIC when it said so, in seconds."""

    at: float


class Register(msgspec.Struct, frozen=True, tag=True):
    """A helper of the runner: it is ended with it, and so is the session that it leads."""

    process: ProcessId


class Limit(msgspec.Struct, frozen=True, tag=True):
    """A new hard deadline, on CLOCK_BOOTTIME."""

    at: float


class Done(msgspec.Struct, frozen=True, tag=True):
    """The runner has put everything back, and ends."""


class Ready(msgspec.Struct, frozen=True, tag=True):
    """The watchdog stands: from now on it can put back."""


class Failed(msgspec.Struct, frozen=True, tag=True):
    """The watchdog cannot stand."""

    why: str


class Beaten(msgspec.Struct, frozen=True, tag=True):
    """A beat arrived."""

    at: float


class Ended(msgspec.Struct, frozen=True, tag=True):
    """The answer to `Done`: ids of what could not be put back, and what cannot be read."""

    left: tuple[str, ...] = ()
    problems: tuple[str, ...] = ()


Order = Beat | Register | Limit | Done
Answer = Ready | Failed | Beaten | Ended


def main() -> int:
    """Guard one drill. The exit code: 0, or 5 if something could not be put back."""
    settings = msgspec.json.decode(sys.argv[1], type=Settings)
    _stand_fast()
    peer = socket.socket(fileno=settings.fd)
    peer.set_inheritable(False)
    guard = _Guard(settings, Wire(peer, msgspec.json.Decoder(Order)))
    return guard.run()


def _stand_fast() -> None:
    """Let no signal end it. Handlers, not SIG_IGN: what it starts must not inherit deafness."""
    for signal in ("SIGHUP", "SIGINT", "SIGQUIT", "SIGTERM", "SIGTSTP", "SIGTTIN", "SIGTTOU"):
        signals.signal(getattr(signals, signal), lambda *_: None)
    for signal in ("SIGUSR1", "SIGUSR2", "SIGALRM", "SIGVTALRM", "SIGPROF"):
        signals.signal(getattr(signals, signal), lambda *_: None)


def _log(text: str) -> None:
    with contextlib.suppress(OSError):  # a full disk must not stop it
        print(time.strftime("%Y-%m-%dT%H:%M:%S%z"), text, flush=True)


async def _warm_up() -> None:
    """Have the event loop imported and built once."""
    await anyio.lowlevel.checkpoint()


class _Guard:
    def __init__(self, settings: Settings, wire: Wire[Order]) -> None:
        self._settings = settings
        self._wire = wire
        self._folder = DrillFolder(Path(settings.folder))
        self._helpers: set[ProcessId] = set()
        self._limit = settings.limit
        self._beat = time.monotonic()
        self._done = False
        self._closed = 0.0  # when the runner was found to have let go of us
        stat = read_stat(settings.runner.pid)
        self._session = stat.session if stat else -1

    def run(self) -> int:
        try:
            self._preload()
        except (ImportError, SyntaxError) as error:
            self._wire.send(Failed(f"{type(error).__name__}: {error}"))
            return 70
        os.chdir("/")
        self._wire.send(Ready())
        _log(f"guarding {self._settings.drill}, runner {self._settings.runner.pid}")
        why = self._watch()
        if why is None:
            return self._finish()
        _log(f"{why}; putting everything back")
        self._end_runner()
        return self._put_back()

    def _preload(self) -> None:
        for module in (*_PRELOADED, *self._settings.drivers):
            importlib.import_module(module)
        anyio.run(_warm_up)

    def _watch(self) -> str | None:
        """Wait; why the runner must be ended, or None if it is done."""
        poll = select.poll()
        poll.register(self._wire, select.POLLIN)
        pidfd = self._open_runner()
        if pidfd >= 0:
            poll.register(pidfd, select.POLLIN)
        self._beat = time.monotonic()
        while True:
            before = time.monotonic()
            poll.poll(_POLL * 1000)
            # What was sent before it hung counts; and time in which we did not run counts for nobody.
            self._receive()
            stalled = time.monotonic() - before > _POLL + _STALL
            if stalled:
                self._beat = max(self._beat, time.monotonic() - self._settings.late / 2)
            if self._done:
                return None
            if why := self._complaint():
                return why

    def _open_runner(self) -> int:
        try:
            return os.pidfd_open(self._settings.runner.pid)
        except (OSError, AttributeError):
            return -1  # then looking at its state has to do

    def _receive(self) -> None:
        for order in self._wire.receive():
            match order:
                case Beat(at):
                    self._beat = max(self._beat, at)
                    self._wire.send(Beaten(at), droppable=True)
                case Register(process):
                    self._helpers.add(process)
                case Limit(at):
                    self._limit = at
                case Done():
                    self._done = True

    def _complaint(self) -> str:
        if not is_alive(self._settings.runner):
            return "the runner has died"
        if self._wire.closed:
            return self._let_go()
        silent = time.monotonic() - self._beat
        if silent > self._settings.late:
            return f"the runner gave no sign of life for {silent:.1f} s"
        if boottime() > self._limit:
            return "the drill has lasted longer than it may"
        return ""

    def _let_go(self) -> str:
        """The runner lives, but has let go of us: if nothing is at stake, let it say why and end."""
        left = self._left_over()
        now = time.monotonic()
        self._closed = self._closed or now
        if left.left or left.problems or now - self._closed > _LAST_WORDS:
            return "the runner has let go of its watchdog"
        time.sleep(_POLL)
        return ""

    def _end_runner(self) -> None:
        settings = self._settings
        end_runner(settings.runner, settings.drill, self._helpers, self._session, log=_log)

    def _put_back(self) -> int:
        self._recover(insist=True)
        left = self._left_over()
        if left.left or left.problems:
            _log(f"not put back: {', '.join((*left.left, *left.problems))}")
            return 5
        state.forget(self._settings.drill)
        _log("everything is put back")
        return 0

    def _finish(self) -> int:
        """The runner is done: see for ourselves; what it could not put back is tried once more."""
        left = self._left_over()
        if left.left:
            self._recover(insist=False)
            left = self._left_over()
        if not left.left and not left.problems:
            state.forget(self._settings.drill)
        self._wire.send(left)
        _log("done")
        return 5 if left.left or left.problems else 0

    def _left_over(self) -> Ended:
        read = read_undo_log(self._folder.undo, self._folder.recovery)
        return Ended(tuple(armed.id for armed in read.outstanding), read.problems)

    def _recover(self, *, insist: bool) -> None:
        try:
            anyio.run(self._recover_all, insist)
        except GamedayError as error:
            _log(error.message)

    async def _recover_all(self, insist: bool) -> None:
        pauses = self._settings.pauses
        await recover(self._folder, by="watchdog", pauses=pauses, wait=2.0, insist=insist, log=_log)


def boottime() -> float:
    """CLOCK_BOOTTIME in seconds: it goes on while the host sleeps."""
    clock = getattr(time, "CLOCK_BOOTTIME", time.CLOCK_MONOTONIC)
    return time.clock_gettime(clock)
