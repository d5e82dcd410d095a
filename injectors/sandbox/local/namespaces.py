"""Namespaces of the sandbox's own: its disks and processes go when their holder goes.

In a mount namespace each slot's folder is a tmpfs of a fixed size. In a pid
namespace the kernel ends every process when the first one, a tiny init, ends,
and that one ends with the supervisor, even if the supervisor is killed. Without
root both come with a user namespace that maps us to ourselves.
"""

from __future__ import annotations

import ctypes
import os
import signal
from pathlib import Path

__all__ = [
    "become_reaper",
    "die_with_parent",
    "enter",
    "mount_disk",
    "start_init",
    "try_out",
    "unmount",
]

_CLONE_NEWNS = 0x00020000
_CLONE_NEWUSER = 0x10000000
_CLONE_NEWPID = 0x20000000
_MS_NOSUID, _MS_NODEV, _MS_REC, _MS_PRIVATE = 2, 4, 16384, 1 << 18
_MNT_DETACH = 2
_PR_SET_PDEATHSIG, _PR_SET_NAME, _PR_SET_CHILD_SUBREAPER = 1, 15, 36

_libc = ctypes.CDLL(None, use_errno=True)


def _check(result: int, what: str) -> None:
    if result != 0:
        number = ctypes.get_errno()
        raise OSError(number, f"{what}: {os.strerror(number)}")


def enter() -> None:
    """Leave the host's mount and pid namespaces; processes started from here on are in the new ones.

    The calling process may start no thread any more.

    Raises:
        OSError: where the machine does not permit it.
    """
    uid, gid = os.geteuid(), os.getegid()
    flags = _CLONE_NEWNS | _CLONE_NEWPID
    if uid == 0 and _libc.unshare(flags) == 0:
        _check(_libc.mount(b"none", b"/", None, _MS_REC | _MS_PRIVATE, None), "make mounts private")
        return
    _check(_libc.unshare(flags | _CLONE_NEWUSER), "unshare")
    # Ourselves to ourselves, so files keep their owners. setgroups has to be denied first.
    Path("/proc/self/uid_map").write_text(f"{uid} {uid} 1")
    Path("/proc/self/setgroups").write_text("deny")
    Path("/proc/self/gid_map").write_text(f"{gid} {gid} 1")
    _check(_libc.mount(b"none", b"/", None, _MS_REC | _MS_PRIVATE, None), "make mounts private")


def mount_disk(folder: Path, size: int) -> None:
    """Mount a tmpfs of ``size`` bytes on a folder.

    Raises:
        OSError: if that is not permitted.
    """
    options = f"size={size},mode=0700".encode()
    flags = _MS_NOSUID | _MS_NODEV
    _check(_libc.mount(b"gameday", os.fsencode(folder), b"tmpfs", flags, options), "mount tmpfs")


def unmount(folder: Path) -> None:
    """Unmount a folder as soon as nobody uses it; harmless where nothing is mounted."""
    _libc.umount2(os.fsencode(folder), _MNT_DETACH)


def try_out(folder: Path) -> str:
    """Why namespaces and sized disks are not to be had here; empty if they are.

    Tried in a child: a user namespace that turns out to be useless cannot be left again.
    """
    reader, writer = os.pipe()
    child = os.fork()
    if child == 0:
        why = ""
        try:
            enter()
            mount_disk(folder, 1 << 16)
            first = os.fork()
            if first == 0:
                os._exit(0)
            os.waitpid(first, 0)
        except OSError as error:
            why = error.strerror or str(error)
        os.write(writer, why.encode())
        os._exit(0)
    os.close(writer)
    why = os.read(reader, 4096).decode()
    os.close(reader)
    os.waitpid(child, 0)
    return why


def start_init() -> int:
    """Start the pid namespace's first process, which reaps, and ends with us; its pid."""
    reader, writer = os.pipe()
    pid = os.fork()
    if pid:
        os.close(reader)
        os.set_inheritable(writer, False)  # held open by us alone, until we end
        return pid
    try:
        _libc.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
        _libc.prctl(_PR_SET_NAME, b"gameday-init", 0, 0, 0)
        signal.signal(signal.SIGCHLD, signal.SIG_IGN)  # the kernel reaps for us
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            signal.signal(number, signal.SIG_IGN)
        os.dup2(reader, 0)
        os.closerange(1, 65536)
        os.read(0, 1)
    finally:
        os._exit(0)


def become_reaper() -> None:
    """Without a pid namespace: what our children leave behind becomes our child."""
    _libc.prctl(_PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)


def die_with_parent() -> None:
    """Without a pid namespace: run in a new child, so that it is killed when we end."""
    _libc.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
