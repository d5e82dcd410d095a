"""The ``attached`` sandbox: processes that are already there, named on the command line.

Each name is one service with one slot: ``web`` is filled by the process with this pid,
or by the one that a search finds, and is put back by a command. Nothing of ours
stands around them, so faults act through signals only.
"""

from __future__ import annotations

import os
import re
import select
import shlex
import shutil
import signal as signals
import time
from collections.abc import AsyncIterator, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import anyio
import msgspec

from gameday.injectors.errors import Refused, SandboxError, UsageError
from gameday.injectors.reading import UNREADABLE
from gameday.injectors.sandbox import process
from gameday.injectors.sandbox.base import Change, Link, ProcessStatus, Sandbox, Slot
from gameday.injectors.sandbox.listeners import listening_ports
from gameday.injectors.sandbox.process import signal_slot
from gameday.injectors.undo import (
    Outcome,
    ProcessId,
    RunCommand,
    SandboxRef,
    SignalProcess,
    StartSlot,
    Step,
    StepResult,
    TearDown,
)

__all__ = ["AttachedSandbox"]

_NAME = re.compile(r"[a-z]([a-z0-9-]{0,38}[a-z0-9])?")
_LOOK_EVERY = 0.05
_SETTLE_EVERY = 0.005
_SETTLED = 0.2
"""Seconds that a process which listens nowhere must have filled its slot to count as started again."""
_LISTENS = 1.0
"""Seconds that a process has to listen where the first one did; later it counts if it still runs."""
_HANDED_OVER = 1.0
"""Seconds that a restart command which ended well (a service manager's) has until a process is there."""
_WATCHDOG = "gameday.drills.watchdog"
_LACKS = {
    "holds": "an attached process is started by others, who cannot be kept from it",
    "links": "traffic to an attached process does not pass through our proxies",
    "cpu": "burners need a sandbox of ours around them",
    "memory": "its limit is the concern of whoever started it",
    "disk": "an attached process has no disk of its own",
    "hands": "restart an attached process as you would in production",
}


class _Attachment(msgspec.Struct, frozen=True):
    """One name: who filled it first, how a successor is found, how it is put back.

    ``search`` is what the user gave instead of a pid; without it a successor is one
    with the same command line. ``ports`` are those on which the first one listened: a
    successor is there once it listens on them, too.
    """

    first: ProcessId
    command: tuple[str, ...]
    ports: tuple[int, ...] = ()
    search: str = ""
    restart: tuple[str, ...] = ()
    folder: str = ""
    log: str = ""


class _HowItRuns(msgspec.Struct):
    restart: tuple[str, ...] = ()
    command: tuple[str, ...] = ()


def _command(pid: int) -> tuple[str, ...]:
    text = process.read_proc(f"/proc/{pid}/cmdline")
    return tuple(text.decode(errors="replace").rstrip("\0").split("\0"))


def _comm(pid: int) -> str:
    return process.read_proc(f"/proc/{pid}/comm").decode(errors="replace").rstrip("\n")


def _is_ours(pid: int) -> bool:
    try:
        return os.stat(f"/proc/{pid}").st_uid == os.geteuid()  # noqa: PTH116 - in loops over /proc
    except OSError:
        return False


def _ancestors() -> set[int]:
    """Ourselves and those who started us: their command lines hold what is searched for."""
    found, pid = set(), os.getpid()
    while pid > 0 and pid not in found:
        found.add(pid)
        stat = process.read_stat(pid)
        pid = stat.parent if stat is not None else 0
    return found


def _guards(command: Sequence[str]) -> bool:
    """A drill's watchdog: whoever searches for a Python program does not mean it."""
    return _WATCHDOG in command


def _candidates() -> dict[int, tuple[str, ...]]:
    """Processes of ours that somebody could mean, with their commands; the kernel's have none."""
    ourselves = _ancestors()
    seen = ((p, _command(p)) for p in process.processes() if p not in ourselves and _is_ours(p))
    return {pid: command for pid, command in seen if command[0] and not _guards(command)}


def _oldest_first(fitting: Iterable[int]) -> list[ProcessId]:
    """Those that live, oldest first; of a process and its descendants only the first."""
    stats = {pid: stat for pid in fitting if (stat := process.read_stat(pid)) is not None}
    alive = [stat for stat in stats.values() if stat.state not in "ZXx"]
    roots = [stat for stat in alive if stat.parent not in stats]
    return [
        ProcessId(process.boot_id(), stat.pid, stat.started)
        for stat in sorted(roots, key=lambda stat: (stat.started, stat.pid))
    ]


def _search(text: str) -> list[ProcessId]:
    try:
        pattern = re.compile(text)
    except re.error as error:
        raise UsageError(f"{text!r} is not a pattern: {error}") from None
    commands = _candidates()
    named = _oldest_first(
        pid
        for pid, command in commands.items()
        if text in (os.path.basename(command[0]), _comm(pid))  # noqa: PTH119 - in a loop over /proc
    )
    return named or _oldest_first(
        pid for pid, command in commands.items() if pattern.search(" ".join(command)) is not None
    )


def _show(found: Sequence[ProcessId]) -> str:
    return "\n  ".join(f"{who.pid}  {shlex.join(_command(who.pid))}" for who in found)


def _resolve(name: str, wanted: str) -> ProcessId:
    if wanted.isdigit():
        who = process.process_id(int(wanted))
        if who is None:
            raise UsageError(f"{name}: no process has the pid {wanted}")
        _refuse_vital(name, who.pid)
        return who
    found = _search(wanted)
    if not found:
        raise UsageError(
            f"{name}: no process of yours matches {wanted!r}", hint="Give its pid, or look with: ps"
        )
    if len(found) > 1:
        raise UsageError(
            f"{name}: {len(found)} processes match {wanted!r}; name one, by its pid\n  {_show(found)}"
        )
    _refuse_vital(name, found[0].pid)
    return found[0]


def _refuse_vital(name: str, pid: int) -> None:
    """Keep off what must not be broken, or cannot be.

    Raises:
        Refused: with the reason.
    """
    why = _vital(pid)
    if why:
        raise Refused(
            f"{name}: process {pid} {why}", hint="Name a process that may be broken: your server's."
        )


def _vital(pid: int) -> str:
    if pid == 1:
        return "is the init process: the whole machine or container ends with it"
    if process.is_kernel_thread(pid):
        return "is a thread of the kernel"
    if pid == os.getpid():
        return "is Gameday itself"
    if pid in _ancestors():
        return "runs Gameday: it started the shell or program that runs this drill"
    if _guards(_command(pid)):
        return "is the watchdog of a drill"
    try:
        os.kill(pid, 0)
    except PermissionError:
        return "is another user's, and may not be signalled"
    except ProcessLookupError:
        return "has just ended"
    return ""


def _read_restart(name: str, restart: str) -> tuple[str, ...]:
    """The words of a restart command that can be run.

    Raises:
        UsageError: if it is none: there would be no way back.
    """
    try:
        argv = tuple(shlex.split(restart))
    except ValueError as error:
        raise UsageError(f"{name}: the restart command cannot be read: {error}") from None
    if not argv:
        raise UsageError(f"{name}: the restart command is empty")
    try:
        _program(name, argv, os.getcwd())  # noqa: PTH109 - a string is wanted
    except SandboxError:
        raise UsageError(
            f"{name}: the restart command's program {argv[0]!r} is not there, or cannot be run",
            hint="Give its path; what needs a shell is written as --restart "
            f"{name}=\"sh -c 'COMMAND'\".",
        ) from None
    return argv


def _program(name: str, argv: Sequence[str], folder: str) -> str:
    """The path of a restart command's program.

    Raises:
        SandboxError: if there is none that can be run.
    """
    # With a slash it is relative to the folder, else it is searched for on PATH.
    wanted = os.path.join(folder, argv[0]) if os.sep in argv[0] else argv[0]  # noqa: PTH118
    found = shutil.which(wanted)
    if found is None:
        raise SandboxError(
            f"{name} cannot be started again: {argv[0]} is not there, or not a program",
            hint=f"Start it by hand: {shlex.join(argv)}",
        )
    return found


class AttachedSandbox(Sandbox):
    """Processes attached by name.

    How undo steps end: StartSlot (and RunCommand) is ``put-back`` if nothing filled the
    slot, the restart command was run, and a process then fills it; ``nothing`` if the first process or one that we
    started runs, ``taken-over`` if another one does. SignalProcess is ``put-back``,
    ``nothing`` if the process is as it should be or gone, ``taken-over`` if another one
    fills the slot.
    """

    def __init__(self, ref: SandboxRef) -> None:
        self.ref = ref
        self._attached = msgspec.json.decode(ref.options["attached"], type=dict[str, _Attachment])
        self._now = {name: one.first for name, one in self._attached.items()}
        self.parts: dict[str, Any] = {"processes": self}

    @classmethod
    def attach(
        cls,
        processes: Mapping[str, str],
        restarts: Mapping[str, str],
        *,
        log_dir: Path,
    ) -> AttachedSandbox:
        """Name processes that run.

        Args:
            processes: By name, a pid, or what to search for: the name of a program, else a
                pattern in its command line. Exactly one process of yours has to match.
            restarts: By name, the command that starts it again; words as in a shell.
            log_dir: Where the output of what those commands start goes.

        Raises:
            UsageError: if a name or a search does not lead to exactly one process, or a
                restart command is none.
            Refused: if it leads to a process that must not be broken: init, Gameday itself.
        """
        attached = {}
        for name, wanted in processes.items():
            if not _NAME.fullmatch(name):
                raise UsageError(f"{name!r} cannot name a process; use letters, digits and dashes")
            attached[name] = cls._attachment(name, wanted, restarts.get(name))
        unknown = sorted(set(restarts) - set(processes))
        if unknown:
            raise UsageError(f"a restart command names {', '.join(unknown)}, which is not attached")
        return cls._of(attached).logging_to(log_dir)

    @classmethod
    def _of(cls, attached: Mapping[str, _Attachment]) -> AttachedSandbox:
        pids = ",".join(sorted(f"{one.first.pid}/{one.first.started}" for one in attached.values()))
        options = {"attached": msgspec.json.encode(attached).decode()}
        return cls(SandboxRef("attached", f"attached:{process.boot_id()}:{pids}", "", options))

    def logging_to(self, folder: Path) -> AttachedSandbox:
        """The same; the output of what the restart commands start goes into that folder."""
        return self._of(
            {
                name: msgspec.structs.replace(one, log=os.path.abspath(folder / f"{name}-1.log"))  # noqa: PTH100 - a string is wanted
                for name, one in self._attached.items()
            }
        )

    @staticmethod
    def _attachment(name: str, wanted: str, restart: str | None) -> _Attachment:
        first = _resolve(name, wanted)
        argv = () if restart is None else _read_restart(name, restart)
        return _Attachment(
            first=first,
            command=_command(first.pid),
            ports=tuple(sorted(listening_ports(first))),
            search="" if wanted.isdigit() else wanted,
            restart=argv,
            folder=os.getcwd(),  # noqa: PTH109 - a string is wanted
        )

    @classmethod
    async def connect(cls, ref: SandboxRef) -> AttachedSandbox:
        """The sandbox that ``ref`` leads to."""
        return cls(ref)

    def lacks(self) -> Mapping[str, str]:
        """Everything but signals, with the reasons."""
        return _LACKS

    # Who fills a slot

    def _name(self, slot: str) -> str:
        name = slot.removesuffix("-1")
        if name not in self._attached or name == slot:
            known = ", ".join(f"{known}-1" for known in self._attached)
            raise UsageError(f"there is no slot {slot!r}", hint=f"There are: {known}.")
        return name

    def _who(self, name: str) -> ProcessId | None:
        if process.is_alive(self._now[name]):
            return self._now[name]
        one = self._attached[name]
        found = [*process.find_by_environment("GAMEDAY_ATTACHED", self._mark(name))]
        if not found and one.search:
            found = _search(one.search)
        elif not found:
            same = (pid for pid, command in _candidates().items() if command == one.command)
            found = _oldest_first(same)
        if not found:
            return None
        self._now[name] = min(found, key=lambda who: (who.started, who.pid))
        return self._now[name]

    def _mark(self, name: str) -> str:
        first = self._attached[name].first
        return f"{name}:{first.pid}:{first.started}"

    async def status(self, slot: str) -> ProcessStatus:
        """Look at the slot's process."""
        name = self._name(slot)
        who = self._who(name)
        state = "gone" if who is None else "paused" if process.is_stopped(who) else "running"
        return ProcessStatus(who, state, restarts=int(who != self._attached[name].first))

    async def check_end(self, slots: Sequence[str]) -> None:
        """Nothing stands against it."""

    async def signal(self, process: ProcessId, signal: int) -> bool:
        """Send a signal to a process; False if it is no longer that process."""
        return signal_slot(process, signal)

    async def list_slots(self) -> tuple[Slot, ...]:
        """One slot for each name."""
        slots = []
        for name in self._attached:
            status = await self.status(f"{name}-1")
            state = "exited" if status.state == "gone" else status.state
            slots.append(
                Slot(f"{name}-1", name, state, process=status.process, restarts=status.restarts)
            )
        return tuple(slots)

    async def list_links(self) -> tuple[Link, ...]:
        """None: we do not stand between attached processes."""
        return ()

    async def fingerprint(self, slot: str) -> Mapping[str, str]:
        """Whether a process fills the slot, and whether it or one of its descendants is paused."""
        status = await self.status(slot)
        members = process.tree(status.process) if status.process else ()
        stopped = sum(map(process.is_stopped, members))
        return {"process": status.state, "stopped processes": str(stopped)}

    async def changes(self) -> AsyncIterator[Change]:
        """Exits as they happen, starts within a twentieth of a second."""
        with select.epoll() as exits:
            watched: dict[int, str] = {}
            seen: dict[str, ProcessId | None] = {}
            try:
                while True:
                    for name in self._attached:
                        if seen.get(name) is None and (who := self._who(name)) is not None:
                            if name in seen:
                                yield Change(time.monotonic(), "started", f"{name}-1")
                            seen[name] = self._watch(who, name, exits, watched)
                        seen.setdefault(name, None)
                    with anyio.move_on_after(_LOOK_EVERY if None in seen.values() else None):
                        await anyio.wait_readable(exits.fileno())
                    at = time.monotonic()
                    for pidfd, _ in exits.poll(0):
                        exits.unregister(pidfd)
                        os.close(pidfd)
                        name = watched.pop(pidfd)
                        seen[name] = None
                        yield Change(at, "exited", f"{name}-1")
            finally:
                for pidfd in watched:
                    os.close(pidfd)

    def _watch(
        self, who: ProcessId, name: str, exits: select.epoll, watched: dict[int, str]
    ) -> ProcessId | None:
        try:
            pidfd = os.pidfd_open(who.pid)
        except ProcessLookupError:
            return None
        exits.register(pidfd, select.EPOLLIN)
        watched[pidfd] = name
        return who

    # Putting back

    @classmethod
    def by_hand(cls, step: Step, ref: SandboxRef) -> str:
        """A process is started as the user said, else as it had been started."""
        if not isinstance(step, StartSlot):
            return super().by_hand(step, ref)
        try:
            known = msgspec.json.decode(
                ref.options.get("attached", "{}"), type=dict[str, _HowItRuns]
            )
        except UNREADABLE:
            known = {}  # damaged; there is still the name
        one = known.get(step.slot.removesuffix("-1"), _HowItRuns())
        return shlex.join(one.restart or one.command) or f"start {shlex.quote(step.slot)} again"

    async def run_step(self, step: Step) -> StepResult:
        """Carry out one undo step; the class says how each of them ends."""
        match step:
            case StartSlot(slot):
                name = self._name(slot)
                return await self._start(name, self._attached[name].restart)
            case RunCommand(slot, argv):
                return await self._start(self._name(slot), argv)
            case SignalProcess():
                return self._signal_back(step)
            case TearDown():
                return StepResult(Outcome.NOTHING, "attached processes are not ours to end")
        raise SandboxError(f"an attached sandbox cannot undo {type(step).__name__}")

    def _signal_back(self, step: SignalProcess) -> StepResult:
        if not process.is_alive(step.process):
            who = self._who(self._name(step.slot))
            if who is None:
                return StepResult(Outcome.NOTHING, "the process is gone")
            return StepResult(Outcome.TAKEN_OVER, "another process fills the slot")
        stopped = any(process.state(member) == "T" for member in process.tree(step.process))
        # Sent whatever was seen: a SIGSTOP that was sent just now may not show yet.
        signal_slot(step.process, step.signal)
        if step.signal == signals.SIGCONT and not stopped:
            return StepResult(Outcome.NOTHING, "the process was not stopped")
        return StepResult(Outcome.PUT_BACK, f"{signals.Signals(step.signal).name} was sent")

    async def _start(self, name: str, argv: Sequence[str]) -> StepResult:
        who = self._who(name)
        if who is not None and process.is_dying(who):
            with anyio.move_on_after(process.DIES_WITHIN):
                while process.is_alive(who):  # noqa: ASYNC110 - no file of ours tells us
                    await anyio.sleep(0.005)
            if process.is_alive(who):
                raise process.still_dying(name)
            who = self._who(name)
        if who is not None:
            first = who == self._attached[name].first
            if first or who in process.find_by_environment("GAMEDAY_ATTACHED", self._mark(name)):
                return StepResult(Outcome.NOTHING, "its process runs")
            return StepResult(Outcome.TAKEN_OVER, "somebody started a process")
        if not argv:
            raise SandboxError(
                f"{name} is gone, and no command is known that starts it again",
                hint=f"Start it by hand. It was: {shlex.join(self._attached[name].command)}",
            )
        self._now[name] = command = self._spawn(name, argv)
        silent = await self._settle(name, command, argv)
        note = f"; it does not listen on port {silent} yet" if silent else ""
        return StepResult(
            Outcome.PUT_BACK, f"the restart command was run: {shlex.join(argv)}{note}"
        )

    async def _settle(self, name: str, command: ProcessId, argv: Sequence[str]) -> str:
        """Wait until a process fills the slot, stays, and listens where the first one did.

        It is the command itself, or what the command starts.

        Returns:
            The ports on which it does not listen yet, though it stays.

        Raises:
            SandboxError: if there is none.
        """
        filler, since, ended, code = None, time.monotonic(), None, None
        while True:
            if ended is None and not process.is_alive(command):
                ended, code = time.monotonic(), _reap(command.pid)
            who, now = self._who(name), time.monotonic()
            if who is None or who != filler:
                filler, since = who, now
            else:
                missing = set(self._attached[name].ports) - listening_ports(who)
                if self._stays(name, now - since, missing):
                    return ", ".join(map(str, sorted(missing)))
            if who is None and ended is not None and (code or now - ended >= _HANDED_OVER):
                how = "" if code is None else f" with code {code}"
                raise SandboxError(
                    f"{name} is gone: the restart command ended{how}, and no process is there; "
                    f"what it said is in {self._attached[name].log}",
                    hint=f"Start it by hand: {shlex.join(argv)}",
                )
            await anyio.sleep(_SETTLE_EVERY if who is not None else _LOOK_EVERY)

    def _stays(self, name: str, seconds: float, missing: set[int]) -> bool:
        """Whether a process is there to stay, as far as can be seen after so many seconds."""
        if not self._attached[name].ports:
            return seconds >= _SETTLED
        return seconds >= _LISTENS or not missing

    def _spawn(self, name: str, argv: Sequence[str]) -> ProcessId:
        """Start a process that outlives us, in a session of its own, its output in a file."""
        one = self._attached[name]
        _program(name, argv, one.folder)  # within a shell nobody would hear of it
        os.makedirs(os.path.dirname(one.log), exist_ok=True)  # noqa: PTH103, PTH120 - strings
        if one.folder != os.getcwd():  # noqa: PTH109 - the same
            argv = ["/bin/sh", "-c", 'cd "$1" && shift && exec "$@"', "sh", one.folder, *argv]
        flags = os.O_WRONLY | os.O_CREAT | os.O_APPEND
        try:
            pid = os.posix_spawnp(
                argv[0],
                list(argv),
                os.environ | {"GAMEDAY_ATTACHED": self._mark(name)},
                file_actions=[
                    (os.POSIX_SPAWN_OPEN, 0, os.devnull, os.O_RDONLY, 0),
                    (os.POSIX_SPAWN_OPEN, 1, one.log, flags, 0o600),
                    (os.POSIX_SPAWN_DUP2, 1, 2),
                ],
                setsid=True,
                setsigmask=[],
                setsigdef=[signals.SIGINT, signals.SIGTERM, signals.SIGPIPE, signals.SIGCHLD],
            )
        except OSError as error:
            raise SandboxError(
                f"{name} cannot be started again: {argv[0]}: {error.strerror}",
                hint=f"Start it by hand: {shlex.join(argv)}",
            ) from error
        stat = process.read_stat(pid)
        return ProcessId(process.boot_id(), pid, stat.started if stat is not None else 0)


def _reap(pid: int) -> int | None:
    """The exit code of a child that has ended (a signal's is negative); None if that is unknown."""
    try:
        ended, status = os.waitpid(pid, os.WNOHANG)
    except ChildProcessError:
        return None
    return os.waitstatus_to_exitcode(status) if ended else None
