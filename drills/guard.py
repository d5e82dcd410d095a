"""The watchdog's own process: it waits beside a drill, and puts everything back if the runner cannot.

``python -m gameday.drills.watchdog``. It runs in a session of its own, ignores
every signal that can be ignored, and holds nothing of the runner's but a socket. It
is told what to guard once there is a drill, and has imported all that it will need
before it says that it is ready. If the runner lets go of it before that, it leaves.

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
from collections.abc import Sequence
from pathlib import Path

import anyio
import anyio.lowlevel
import msgspec

from gameday.drills import state
from gameday.drills.channels import forget_book
from gameday.drills.durable import is_at, replace_file
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
    "gameday.injectors.sandbox.kinds",
    "gameday.drills.channels.delivery",
    "gameday.drills.channels.file",
)


class Settings(msgspec.Struct, frozen=True, tag=True):
    """What the watchdog guards: the first that it is told.

    With it come its log, and what it holds as long as it lives.

    Attributes:
        drill: The drill's id; ``folder``: its directory.
        drivers: Modules that it imports before it is ready.
        late: Seconds without a beat after which the runner is ended.
        limit: CLOCK_BOOTTIME in seconds at which the drill must be over.
        pauses: Seconds before each further round over what could not be undone.
    """

    drill: str
    folder: str
    runner: ProcessId
    drivers: tuple[str, ...]
    late: float
    limit: float
    pauses: tuple[float, ...] = (0.3, 1.0, 3.0, 10.0)


class Beat(msgspec.Struct, frozen=True, tag=True):
    """The runner is well. ``at``: CLOCK_MONOTONIC when it said so, in seconds."""

    at: float


class Register(msgspec.Struct, frozen=True, tag=True):
    """A helper of the runner: it is ended with it, and so is the session that it leads."""

    process: ProcessId


class Limit(msgspec.Struct, frozen=True, tag=True):
    """A later hard deadline, on CLOCK_BOOTTIME."""

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


Order = Settings | Beat | Register | Limit | Done
Answer = Ready | Failed | Beaten | Ended


def main() -> int:
    """Guard one drill. The exit code: 0, or 5 if something could not be put back."""
    _stand_fast()
    peer = socket.socket(fileno=int(sys.argv[1]))
    peer.set_inheritable(False)
    wire: Wire[Order] = Wire(peer, msgspec.json.Decoder(Order))
    failure = _preload(_PRELOADED)
    anyio.run(anyio.lowlevel.checkpoint)  # has the event loop imported and built once
    match _first(wire):
        case [Settings() as settings, *orders]:
            _open_log(wire)
            failure = failure or _preload(settings.drivers)
            if failure:
                wire.send(Failed(failure))
                return 70
            return _Guard(settings, wire, orders).run()
    return 0


def _preload(modules: Sequence[str]) -> str:
    """Import what will be needed; why that is not possible."""
    try:
        for module in modules:
            importlib.import_module(module)
    except (ImportError, SyntaxError) as error:
        return f"{type(error).__name__}: {error}"
    return ""


def _first(wire: Wire[Order]) -> list[Order]:
    """Wait to be told; nothing, if the runner lets go before: then there is no drill."""
    orders: list[Order] = []
    poll = select.poll()
    poll.register(wire, select.POLLIN)
    while not orders and not wire.closed:
        poll.poll()
        orders = wire.receive()
    return orders


def _open_log(wire: Wire[Order]) -> None:
    """What is said from now on goes to the log, which came first; the rest is only held."""
    log, *_ = wire.passed
    for standard in (1, 2):
        os.dup2(log, standard)
    os.close(log)


def _stand_fast() -> None:
    """Let no signal end it. Handlers, not SIG_IGN: what it starts must not inherit deafness."""
    for signal in ("SIGHUP", "SIGINT", "SIGQUIT", "SIGTERM", "SIGTSTP", "SIGTTIN", "SIGTTOU"):
        signals.signal(getattr(signals, signal), lambda *_: None)
    for signal in ("SIGUSR1", "SIGUSR2", "SIGALRM", "SIGVTALRM", "SIGPROF"):
        signals.signal(getattr(signals, signal), lambda *_: None)


def _log(text: str) -> None:
    with contextlib.suppress(OSError):  # a full disk must not stop it
        print(time.strftime("%Y-%m-%dT%H:%M:%S%z"), text, flush=True)


class _Guard:
    def __init__(self, settings: Settings, wire: Wire[Order], orders: Sequence[Order]) -> None:
        self._settings = settings
        self._wire = wire
        self._folder = DrillFolder(Path(settings.folder))
        self._undo = _held(self._folder.undo)
        self._record = b""
        self._helpers: set[ProcessId] = set()
        self._limit = settings.limit
        self._beat = time.monotonic()
        self._done = False
        self._closed = 0.0  # when the runner was found to have let go of us
        stat = read_stat(settings.runner.pid)
        self._session = stat.session if stat else -1
        self._follow(orders)

    def run(self) -> int:
        os.chdir("/")
        self._wire.send(Ready())
        _log(f"guarding {self._settings.drill}, runner {self._settings.runner.pid}")
        why = self._watch()
        if why is None:
            return self._finish()
        _log(f"{why}; putting everything back")
        self._end_runner()
        return self._put_back()

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
            self._follow(self._wire.receive())
            self._take_in()
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

    def _follow(self, orders: Sequence[Order]) -> None:
        for order in orders:
            match order:
                case Beat(at):
                    self._beat = max(self._beat, at)
                    self._wire.send(Beaten(at), droppable=True)
                case Register(process):
                    self._helpers.add(process)
                case Limit(at):
                    self._limit = max(self._limit, at)
                case Done():
                    self._done = True
                case Settings():
                    pass  # it guards one drill

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
        self._write_anew()
        self._recover(insist=True)
        left = self._left_over()
        if left.left or left.problems:
            _log(f"not put back: {', '.join((*left.left, *left.problems))}")
            return 5
        state.forget(self._settings.drill)
        forget_book(self._folder.path)
        _log("everything is put back")
        return 0

    def _finish(self) -> int:
        """The runner is done: see for ourselves; what it could not put back is tried once more."""
        self._write_anew()
        left = self._left_over()
        if left.left:
            self._recover(insist=False)
            left = self._left_over()
        if not left.left and not left.problems:
            state.forget(self._settings.drill)
        self._wire.send(left)
        _log("done")
        return 5 if left.left or left.problems else 0

    def _take_in(self) -> None:
        """Keep what the undo log says: somebody may remove it, or cut it, while the runner dies."""
        if self._undo < 0:
            self._undo = _held(self._folder.undo)
        try:
            size = os.fstat(self._undo).st_size if self._undo >= 0 else 0
            if size > len(self._record):
                self._record = os.pread(self._undo, size, 0)
        except OSError:
            pass

    def _write_anew(self) -> None:
        """An undo log that somebody removed, replaced or cut: it is needed, by its name."""
        self._take_in()
        if self._undo < 0 or is_at(self._undo, self._folder.undo, len(self._record)):
            return
        _log(f"{self._folder.undo} was removed, replaced or cut; it is written anew")
        elsewhere = state.state_folder() / "rescued" / self._settings.drill
        for folder in (self._folder, DrillFolder(elsewhere)):
            try:
                folder.path.mkdir(mode=0o700, parents=True, exist_ok=True)
                replace_file(folder.undo, self._record)
            except OSError as error:
                _log(f"{folder.undo} cannot be written: {error.strerror}")
                continue
            self._folder = folder
            state.move(self._settings.drill, folder)
            return

    def _left_over(self) -> Ended:
        read = read_undo_log(self._folder.undo, self._folder.recovery)
        return Ended(tuple(armed.id for armed in read.outstanding), read.problems)

    def _recover(self, *, insist: bool) -> None:
        for pause in (*self._settings.pauses, None):
            try:
                anyio.run(self._recover_all, insist)
            except GamedayError as error:
                _log(error.message)
            except Exception as error:  # nobody stands behind it: a bug of ours is tried again
                _log(f"recovering failed: {type(error).__name__}: {error}")
                if pause is not None:
                    select.select([], [], [], pause)
                    continue
            return

    async def _recover_all(self, insist: bool) -> None:
        pauses = self._settings.pauses
        await recover(self._folder, by="watchdog", pauses=pauses, wait=2.0, insist=insist, log=_log)


def _held(path: Path) -> int:
    """The file, open as long as we live; -1 if there is none."""
    try:
        return os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW)
    except OSError:
        return -1


def boottime() -> float:
    """CLOCK_BOOTTIME in seconds: it goes on while the host sleeps."""
    clock = getattr(time, "CLOCK_BOOTTIME", time.CLOCK_MONOTONIC)
    return time.clock_gettime(clock)
