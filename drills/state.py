"""The machine's own state: which drills are open, who holds a sandbox, and the stop file.

``$XDG_STATE_HOME/gameday`` (by default ``~/.local/state/gameday``; root:
``/var/lib/gameday``; ``$GAMEDAY_STATE`` overrides), for its user alone. By it any
command in any folder finds the running drill, and says what is outstanding. It
tells fixers nothing: no fault, no target, no hypothesis.
"""

from __future__ import annotations

import fcntl
import hashlib
import os
import signal
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import msgspec

from gameday.drills.channels import forget_book
from gameday.drills.durable import is_at, replace_file, storage_hint
from gameday.drills.folder import DrillFolder
from gameday.drills.ownership import not_ours, refuse_foreign
from gameday.drills.places import state_folder
from gameday.drills.undo_log import read_undo_log
from gameday.injectors.errors import Refused, StorageError
from gameday.injectors.reading import UNREADABLE
from gameday.injectors.sandbox.process import (
    is_alive,
    is_stopped,
    process_id,
    signal_process,
    wait_gone,
)
from gameday.injectors.undo import ProcessId, SandboxRef
from gameday.injectors.writing import encode

__all__ = [
    "OpenDrill",
    "SandboxLock",
    "Stop",
    "allow",
    "away_drills",
    "blocked",
    "check_noted",
    "end_stopped_watchdogs",
    "forget",
    "lock_sandbox",
    "move",
    "open_drills",
    "outstanding_drills",
    "outstanding_message",
    "remember",
    "running_drills",
    "state_folder",
    "stop",
]


_AWAKE = 20.0
"""Seconds for a watchdog that was stopped to put everything back."""


class OpenDrill(msgspec.Struct, frozen=True, kw_only=True):
    """A drill that has begun and was not yet closed, as any command may see it.

    Attributes:
        folder: Its directory.
        title: The scenario's title or name, never its faults.
        started: Unix time; ``clock``: CLOCK_MONOTONIC of zero on its axis.
    """

    id: str
    folder: str
    runner: ProcessId
    title: str = ""
    sandbox: SandboxRef | None = None
    watchdog: ProcessId | None = None
    uid: int = msgspec.field(default_factory=os.getuid)
    started: float = msgspec.field(default_factory=time.time)
    clock: float = 0.0

    @property
    def runs(self) -> bool:
        """True while its runner lives (a stopped one counts)."""
        return is_alive(self.runner)

    @property
    def guarded(self) -> bool:
        """True while its watchdog lives and is not stopped: then it puts everything back by itself."""
        watchdog = self.watchdog
        return watchdog is not None and is_alive(watchdog) and not is_stopped(watchdog)

    @property
    def watched(self) -> bool:
        """True while its watchdog lives, stopped or not: it holds the sandbox's lock."""
        return self.watchdog is not None and is_alive(self.watchdog)

    @property
    def frozen(self) -> bool:
        """True if its runner is stopped and no watchdog will end it: only `recover` helps."""
        return is_stopped(self.runner) and not self.guarded

    @property
    def where(self) -> DrillFolder:
        """Its directory."""
        return DrillFolder(Path(self.folder))


class Stop(msgspec.Struct, frozen=True):
    """Who stopped all drills on this machine, when (Unix time), and why."""

    why: str = ""
    by: str = ""
    wall: float = 0.0


_drill_decoder = msgspec.json.Decoder(OpenDrill)
_stop_decoder = msgspec.json.Decoder(Stop)


def _made(*parts: str) -> Path:
    path = state_folder()
    try:
        path.mkdir(mode=0o700, parents=True, exist_ok=True)
        refuse_foreign(path)
        for part in parts:
            path = path / part
            path.mkdir(mode=0o700, exist_ok=True)
            refuse_foreign(path)
    except OSError as error:
        raise StorageError(
            f"Gameday's state cannot be kept in {path}: {error.strerror}",
            hint="Set GAMEDAY_STATE to a folder that you can write to.",
        ) from None
    return path


# Open drills


def remember(drill: OpenDrill) -> None:
    """Note that a drill is open, or what is new about it. Call it before anything is started.

    Raises:
        StorageError: if it cannot be noted.
        Refused: if the state's folder is not ours alone.
    """
    path = _made("drills") / f"{drill.id}.json"
    try:
        replace_file(path, encode(drill))
    except OSError as error:
        raise StorageError(
            f"{path} cannot be written: {error.strerror}", hint=storage_hint(error)
        ) from None


def check_noted(drill: OpenDrill) -> None:
    """Whether any command would find the drill; if not, it is noted anew.

    Raises:
        StorageError: if somebody removed or changed the entry.
    """
    path = state_folder() / "drills" / f"{drill.id}.json"
    found = _read_drill(path)
    if found is not None and found.runner == drill.runner:
        return
    with suppress(StorageError, Refused):
        remember(drill)  # it is to be found until its end, and after its death
    raise StorageError(
        f"{path} was removed or changed; no command would have found the drill, so it ends",
        hint="Leave Gameday's state alone while drills run.",
    )


def move(drill_id: str, folder: DrillFolder) -> None:
    """Note that a drill's record is in another folder now. Never raises."""
    for drill in open_drills():
        if drill.id == drill_id and drill.folder != str(folder.path):
            with suppress(StorageError, Refused):
                remember(msgspec.structs.replace(drill, folder=str(folder.path)))


def forget(drill_id: str) -> None:
    """Note that a drill is closed; harmless to repeat. Never raises."""
    try:
        (state_folder() / "drills" / f"{drill_id}.json").unlink()
    except OSError:
        pass  # an entry that stays is found to be neither running nor outstanding


def open_drills() -> list[OpenDrill]:
    """Every drill that is noted, newest first. What cannot be read is passed over."""
    return sorted(_read_drills(), key=lambda drill: drill.started, reverse=True)


def _read_drills() -> Iterator[OpenDrill]:
    drills = state_folder() / "drills"
    if not_ours(drills.parent) or not_ours(drills):
        return  # whoever wrote that could have us undo what was never done
    try:
        paths = list(drills.glob("[!.]*.json"))
    except OSError:
        return
    for path in paths:
        if (drill := _read_drill(path)) is not None:
            yield drill


def _read_drill(path: Path) -> OpenDrill | None:
    try:
        drill = _drill_decoder.decode(path.read_bytes())
    except (OSError, *UNREADABLE):
        return None
    sound = drill.id == path.stem and "\0" not in drill.folder  # else it was changed
    return drill if sound else None


def running_drills() -> list[OpenDrill]:
    """The drills whose runner lives, newest first."""
    return [drill for drill in open_drills() if drill.runs]


def outstanding_drills() -> list[OpenDrill]:
    """The drills whose runner is dead or frozen and that have something to put back, newest first.

    Where the watchdog lives (``guarded``) it is at it. A drill whose undo log cannot be
    read counts; one whose folder is away is among the `away_drills`. Entries with nothing
    outstanding are forgotten.
    """
    found = []
    for drill in open_drills():
        if drill.runs and not drill.frozen:
            continue
        read = read_undo_log(drill.where.undo, drill.where.recovery)
        away = drill.where.away
        if read.outstanding or read.problems or (away and drill.watched and not drill.guarded):
            found.append(drill)
        elif not away and not drill.watched and not drill.runs:
            _close(drill)
    return found


def away_drills() -> list[OpenDrill]:
    """The drills that have died and whose folder is not where it was, newest first.

    It may come back (a mount after a reboot, a folder that was renamed), so nothing but a
    person's word dismisses them: `gameday recover --forget`.
    """
    return [
        drill
        for drill in open_drills()
        if not drill.runs and not drill.watched and drill.where.away
    ]


def _close(drill: OpenDrill) -> None:
    """Nothing is outstanding, and nobody was left to note it: nor is a webhook's secret needed."""
    if not not_ours(drill.where.path):
        forget_book(drill.where.path)
    forget(drill.id)


def outstanding_message() -> str:
    """What every other command says first if something was not put back; else empty."""
    lines = [
        f"The drill {drill.id} has died, and {drill.folder} is away: "
        f"`gameday recover {drill.id}` says what to do."
        for drill in away_drills()
    ]
    lost = [drill for drill in outstanding_drills() if not drill.guarded]
    if not lost:
        return "\n".join(lines)
    for drill in lost:
        read = read_undo_log(drill.where.undo, drill.where.recovery)
        count = max(1, len(read.outstanding) + len(read.problems))
        things = "1 thing is" if count == 1 else f"{count} things are"
        what = "is frozen" if drill.runs else "has died"
        lines.append(f"The drill {drill.id} {what}, and {things} not put back yet.")
    which = "" if len(lost) > 1 else f" {lost[0].id}"
    return "\n".join([*lines, f"`gameday recover{which}` puts everything back."])


# Locks by sandbox


class _Holder(msgspec.Struct):
    drill: str
    process: ProcessId | None = None


class SandboxLock:
    """Held as long as a process has `fileno` open; the watchdog inherits it."""

    def __init__(self, fd: int, path: Path) -> None:
        self._fd = fd
        self._path = path

    def check_there(self) -> None:
        """Whether another drill would find the lock.

        Raises:
            StorageError: if somebody removed it.
        """
        if self._fd >= 0 and not is_at(self._fd, self._path):
            raise StorageError(
                f"{self._path} was removed; nothing keeps another drill off this sandbox",
                hint="Leave Gameday's state alone while drills run.",
            )

    def fileno(self) -> int:
        """The lock's file descriptor, to be passed on."""
        return self._fd

    def release(self) -> None:
        """Let go of it; harmless to repeat."""
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1


def lock_sandbox(identity: str, drill_id: str) -> SandboxLock:
    """Take the sandbox of that identity for a drill.

    Raises:
        Refused: if another drill has it, or has left something in it.
        StorageError: if the lock cannot be made.
    """
    for drill in away_drills():
        if drill.sandbox is not None and drill.sandbox.identity == identity:
            raise Refused(
                f"the drill {drill.id} may have left something in this sandbox: it has died, and "
                f"{drill.folder} is away",
                hint=f"`gameday recover {drill.id}` says what to do.",
            )
    for drill in outstanding_drills():
        if drill.sandbox is not None and drill.sandbox.identity == identity:
            raise Refused(
                f"the drill {drill.id} has left something in this sandbox that is not put back yet",
                hint="Its watchdog is at it; try again in a moment."
                if drill.guarded
                else f"`gameday recover {drill.id}` puts it back.",
            )
    name = hashlib.sha256(identity.encode()).hexdigest()[:32]
    path = _made("locks") / f"{name}.lock"
    end_stopped_watchdogs(identity)
    try:
        fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
        return _lock(fd, path, drill_id)
    except OSError as error:
        raise StorageError(
            f"{path} cannot be locked: {error.strerror}", hint=storage_hint(error)
        ) from None


def end_stopped_watchdogs(identity: str = "") -> None:
    """One that is stopped holds its sandbox's lock for ever, though nothing is left to put back.

    Args:
        identity: Of the sandbox; by default, of any.
    """
    for drill in open_drills():
        other = drill.sandbox is None or drill.sandbox.identity != identity
        if drill.runs or (identity and other):
            continue
        read = read_undo_log(drill.where.undo, drill.where.recovery)
        if read.outstanding or read.problems:
            continue
        if drill.watchdog is None or not is_stopped(drill.watchdog):
            continue
        if drill.where.away:
            # It alone knows what is outstanding: awake, it finds the runner dead, and puts it back.
            signal_process(drill.watchdog, signal.SIGCONT)
            wait_gone([drill.watchdog], _AWAKE)
            continue
        signal_process(drill.watchdog, signal.SIGKILL)
        wait_gone([drill.watchdog], 1.0)
        _close(drill)


def _lock(fd: int, path: Path, drill_id: str) -> SandboxLock:
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        os.ftruncate(fd, 0)
        os.pwrite(fd, msgspec.json.encode(_Holder(drill_id, process_id(os.getpid()))), 0)
    except BlockingIOError:
        holder = _read_holder(fd)
        os.close(fd)
        raise Refused(
            f"the drill {holder} has this sandbox", hint="Wait for its end, or `gameday abort` it."
        ) from None
    except OSError:
        os.close(fd)
        raise
    return SandboxLock(fd, path)


def _read_holder(fd: int) -> str:
    try:
        return msgspec.json.decode(os.pread(fd, 4096, 0), type=_Holder).drill
    except (OSError, *UNREADABLE):
        return "of another process"


# The stop file


def blocked() -> Stop | None:
    """Who stopped all drills on this machine; None if they may run.

    A stop file that cannot be read stops all the same.
    """
    path = state_folder() / "stop"
    try:
        return _stop_decoder.decode(path.read_bytes())
    except (FileNotFoundError, NotADirectoryError):
        return None
    except (OSError, *UNREADABLE):
        return Stop(why=f"{path} is there, but cannot be read")


def stop(why: str, by: str) -> None:
    """Stop all drills on this machine: runners look for it, and no new drill begins.

    Raises:
        StorageError: if the stop file cannot be written.
    """
    path = _made() / "stop"
    try:
        replace_file(path, encode(Stop(why, by, round(time.time(), 3))))
    except OSError as error:
        raise StorageError(
            f"{path} cannot be written: {error.strerror}", hint=storage_hint(error)
        ) from None


def allow() -> bool:
    """Let drills run again; False if nothing stopped them.

    Raises:
        StorageError: if the stop file cannot be removed.
    """
    path = state_folder() / "stop"
    try:
        path.unlink()
    except FileNotFoundError:
        return False
    except OSError as error:
        raise StorageError(f"{path} cannot be removed: {error.strerror}") from None
    return True
