"""Processes beyond doubt: who a pid is, what state it is in, and signals that cannot go astray.

A pid is reused; its boot id, pid and start time together are not
(`gameday.injectors.undo.ProcessId`). Reads ``/proc``, so Linux only; importing
it works anywhere.
"""

from __future__ import annotations

import functools
import os
import signal as signals
import time
from collections.abc import Iterable
from pathlib import Path

import msgspec

from gameday.injectors.errors import SandboxError
from gameday.injectors.undo import ProcessId

__all__ = [
    "DIES_WITHIN",
    "Stat",
    "affinity",
    "boot_id",
    "find_by_environment",
    "find_by_session",
    "has_environment",
    "is_alive",
    "is_dying",
    "is_kernel_thread",
    "is_stopped",
    "kill",
    "process_id",
    "processes",
    "read_proc",
    "read_stat",
    "set_affinity",
    "signal_process",
    "signal_slot",
    "state",
    "still_dying",
    "tree",
    "variables",
    "wait_gone",
    "with_descendants",
]

DIES_WITHIN = 8.0
"""Seconds that one has who was killed: on a busy CPU, the end comes late. An undo step has 10."""
_DEAD = "ZXx"
_STOPPED = "Tt"
_KERNEL_THREAD, _EXITING = 0x00200000, 0x4  # PF_KTHREAD, PF_EXITING: of the flags in proc(5)
_EXEC_TRIES, _EXEC_PAUSE = 4, 0.0005
_PART = 4096


class Stat(msgspec.Struct, frozen=True):
    """What ``/proc/PID/stat`` says.

    Attributes:
        state: ``R``, ``S``, ``D``, ``T``, ``Z`` …, as in proc(5).
        started: Start time in clock ticks since boot.
        cpu: The CPU on which it ran last.
    """

    pid: int
    state: str
    parent: int
    session: int
    started: int
    cpu: int


@functools.cache
def boot_id() -> str:
    """The id of this boot of this host; empty where the system has none."""
    try:
        return Path("/proc/sys/kernel/random/boot_id").read_text().strip()
    except OSError:
        return ""


def read_proc(path: str) -> bytes:
    """A file under ``/proc``; empty where it is gone or not for us.

    By plain calls: an object of Python's for each file would be most of the cost where every
    process is looked at.
    """
    try:
        fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    except OSError:
        return b""
    try:
        text = b""
        while part := os.read(fd, _PART):
            text += part
        return text
    except OSError:  # it ended meanwhile
        return b""
    finally:
        os.close(fd)


def _parse_stat(pid: int, path: str) -> Stat | None:
    text = read_proc(path)
    if not text:
        return None
    fields = text[text.rindex(b")") + 2 :].split()
    return Stat(
        pid=pid,
        state=fields[0].decode(),
        parent=int(fields[1]),
        session=int(fields[3]),
        started=int(fields[19]),
        cpu=int(fields[36]),
    )


def read_stat(pid: int) -> Stat | None:
    """The process's line in ``/proc``; None if there is no such process."""
    return _parse_stat(pid, f"/proc/{pid}/stat")


def process_id(pid: int) -> ProcessId | None:
    """Who has this pid now; None if nobody, or only a zombie."""
    stat = read_stat(pid)
    if stat is None or stat.state in _DEAD:
        return None
    return ProcessId(boot_id(), pid, stat.started)


def _is(process: ProcessId, stat: Stat | None) -> bool:
    return (
        stat is not None
        and stat.started == process.started
        and stat.state not in _DEAD
        and process.boot_id == boot_id()
    )


def is_alive(process: ProcessId) -> bool:
    """Whether that very process still runs (stopped counts; a zombie does not)."""
    return _is(process, read_stat(process.pid))


def is_kernel_thread(pid: int) -> bool:
    """Whether it is one of the kernel's own threads."""
    return bool(_flags(pid) & _KERNEL_THREAD)


def _flags(pid: int) -> int:
    text = read_proc(f"/proc/{pid}/stat")
    return int(text[text.rindex(b")") + 2 :].split()[6]) if text else 0


def is_dying(process: ProcessId) -> bool:
    """Whether its end is certain though its state does not show it yet.

    It is ending, or has been sent a SIGKILL that it has not met.
    """
    if _flags(process.pid) & _EXITING:
        return True
    fields = (line.split() for line in read_proc(f"/proc/{process.pid}/status").splitlines())
    pending = [int(words[1], 16) for words in fields if words[:1] in ([b"SigPnd:"], [b"ShdPnd:"])]
    return any(mask & (1 << (signals.SIGKILL - 1)) for mask in pending)


def still_dying(slot: str) -> SandboxError:
    """What is said where one that was killed has not ended in `DIES_WITHIN`."""
    return SandboxError(
        f"the process of {slot} was killed, and has not ended yet",
        hint="The machine is very busy, or the process waits for a disk; try again later.",
    )


def state(process: ProcessId) -> str:
    """The process's state letter as in proc(5); empty if it is gone."""
    stat = read_stat(process.pid)
    return stat.state if stat is not None and _is(process, stat) else ""


def _threads(pid: int) -> list[int]:
    try:
        return [int(name) for name in os.listdir(f"/proc/{pid}/task")]  # noqa: PTH208 - in loops over /proc
    except OSError:
        return []


def is_stopped(process: ProcessId) -> bool:
    """Whether every thread of the process is stopped (SIGSTOP, or by a debugger)."""
    if state(process) not in tuple(_STOPPED):
        return False
    pid = process.pid
    stats = [_parse_stat(tid, f"/proc/{pid}/task/{tid}/stat") for tid in _threads(pid)]
    return all(stat.state in _STOPPED for stat in stats if stat is not None)


def signal_process(process: ProcessId, signal: int) -> bool:
    """Send a signal to that very process; False if it is gone.

    The pidfd is opened first and the identity checked second, so a pid that is
    reused in between cannot be hit.

    Raises:
        PermissionError: if the process is another user's.
    """
    try:
        pidfd = os.pidfd_open(process.pid)
    except ProcessLookupError:
        return False
    try:
        if not is_alive(process):
            return False
        signals.pidfd_send_signal(pidfd, signals.Signals(signal))
    except ProcessLookupError:
        return False
    finally:
        os.close(pidfd)
    return True


def kill(found: Iterable[ProcessId]) -> tuple[ProcessId, ...]:
    """Send each of them a SIGKILL; whom it reached. Those of other users are passed over."""
    reached = []
    for process in found:
        try:
            if signal_process(process, signals.SIGKILL):
                reached.append(process)
        except PermissionError:
            continue
    return tuple(reached)


def processes() -> Iterable[int]:
    """Every pid that this process can see."""
    for name in os.listdir("/proc"):  # noqa: PTH208 - in loops over /proc
        if name.isdigit():
            yield int(name)


def tree(process: ProcessId) -> tuple[ProcessId, ...]:
    """The process and all its descendants, parents first; empty if it is gone."""
    return with_descendants((process,))


def with_descendants(roots: Iterable[ProcessId]) -> tuple[ProcessId, ...]:
    """These processes and all their descendants, each once, parents first; who is gone is left out."""
    found = [process for process in roots if is_alive(process)]
    if not found:
        return ()
    children: dict[int, list[Stat]] = {}
    for pid in processes():
        stat = read_stat(pid)
        if stat is not None and stat.state not in _DEAD:
            children.setdefault(stat.parent, []).append(stat)
    for member in found:  # it grows meanwhile
        found += [
            ProcessId(member.boot_id, stat.pid, stat.started)
            for stat in children.pop(member.pid, ())
        ]
    return tuple(dict.fromkeys(found))


def find_by_environment(name: str, value: str) -> tuple[ProcessId, ...]:
    """Every process that was started with ``name=value`` in its environment, ourselves excepted.

    Processes of other users are not seen, nor are those that overwrote their environment.
    """
    wanted = f"{name}={value}".encode()
    found = []
    for pid in processes():
        hit = pid != os.getpid() and wanted in _environment(pid).split(b"\0")
        process = process_id(pid) if hit else None
        if process is not None:
            found.append(process)
    return tuple(found)


def has_environment(pid: int) -> bool:
    """Whether the process can be found by its environment yet; in the midst of its exec it has none."""
    return bool(_environment(pid))


def variables(process: ProcessId, *names: str) -> tuple[str, ...]:
    """These variables of the environment with which a process was started; empty where unset."""
    pairs = (pair.partition(b"=") for pair in _environment(process.pid).split(b"\0"))
    known = {name: value for name, _, value in pairs} if is_alive(process) else {}
    return tuple(known.get(name.encode(), b"").decode(errors="replace") for name in names)


def _environment(pid: int) -> bytes:
    """The environment with which a process was started; empty if that cannot be seen.

    In the midst of its exec a process has none for a moment. Kernel threads never have one.
    """
    for _ in range(_EXEC_TRIES):
        if text := read_proc(f"/proc/{pid}/environ"):
            return text
        stat = read_stat(pid)
        if stat is None or stat.session == 0 or stat.state in _DEAD:
            return b""
        time.sleep(_EXEC_PAUSE)
    return b""


def find_by_session(leaders: Iterable[ProcessId]) -> tuple[ProcessId, ...]:
    """Every process in a session that one of ``leaders`` began, the leader gone or not."""
    sessions = {leader.pid: leader for leader in leaders if leader.boot_id == boot_id()}
    found = []
    for pid in processes() if sessions else ():
        stat = read_stat(pid)
        if stat is None or stat.state in _DEAD or stat.session not in sessions:
            continue
        leader = sessions[stat.session]
        now = read_stat(leader.pid)
        # A session's number is not given out again while one process is in it. So a
        # leader with another start time means that all of the session is somebody else's.
        if stat.started >= leader.started and (now is None or now.started == leader.started):
            found.append(ProcessId(leader.boot_id, pid, stat.started))
    return tuple(found)


def affinity(process: ProcessId) -> tuple[int, ...]:
    """CPUs on which any thread of the process may run; empty if it is gone."""
    cpus: set[int] = set()
    for tid in _threads(process.pid):
        try:
            cpus |= os.sched_getaffinity(tid)
        except ProcessLookupError:
            continue
    return tuple(sorted(cpus)) if is_alive(process) else ()


def set_affinity(process: ProcessId, cpus: Iterable[int]) -> bool:
    """Let every thread of the process run on these CPUs only; False if it is gone.

    Threads that appear meanwhile inherit the old mask, so it looks again until none is left over.

    Raises:
        PermissionError: if the process is another user's.
    """
    wanted = set(cpus)
    if not is_alive(process):
        return False
    for _ in range(5):
        changed = False
        for tid in _threads(process.pid):
            try:
                if os.sched_getaffinity(tid) != wanted:
                    os.sched_setaffinity(tid, wanted)
                    changed = True
            except ProcessLookupError:
                continue
        if not changed:
            break
    return is_alive(process)


def signal_slot(main: ProcessId, signal: int) -> bool:
    """Signal the process that fills a slot; False if it is gone.

    Stopping and continuing reach its descendants too: a server whose master sleeps
    while its workers serve is not paused.

    Raises:
        SandboxError: if it is another user's.
    """
    members = tree(main) if signal in (signals.SIGSTOP, signals.SIGCONT) else (main,)
    try:
        reached = [signal_process(member, signal) for member in members]
    except PermissionError:
        raise SandboxError(
            f"process {main.pid} is another user's, and may not be signalled"
        ) from None
    return bool(reached) and reached[0]


def wait_gone(found: Iterable[ProcessId], within: float) -> tuple[ProcessId, ...]:
    """Wait, blocking, until these processes are gone; what is left after ``within`` seconds."""
    deadline = time.monotonic() + within
    left = tuple(process for process in found if is_alive(process))
    while left and time.monotonic() < deadline:
        time.sleep(0.005)
        left = tuple(process for process in left if is_alive(process))
    return left
