"""The part ``files`` of a Docker sandbox: single files of a container, as its own processes see them.

A file is corrupted in place, so that whoever has it open reads the noise, too. What the places
held is kept in a private file of the drill; the undo gives each place back what it held,
unless somebody has written there since.

A file is denied by a cover: a device on a file system without devices, mounted over it in the
container's own mount namespace. Opening that fails with EACCES, for root as well. The cover
carries the injection's tag as its source, and goes with the container's processes.
"""

from __future__ import annotations

import ctypes
import hashlib
import io
import os
import stat
import tarfile
import threading
from collections.abc import Callable
from pathlib import Path
from random import Random
from typing import TYPE_CHECKING, NamedTuple, TypeVar

import anyio.to_thread
import msgspec

from gameday.injectors.errors import SandboxError, UsageError
from gameday.injectors.sandbox.base import GONE
from gameday.injectors.sandbox.docker.containers import Container
from gameday.injectors.sandbox.docker.engine import EngineSilent
from gameday.injectors.sandbox.docker.keeping import keep, kept_path, read_kept
from gameday.injectors.sandbox.docker.parts import Part
from gameday.injectors.undo import AllowFile, Outcome, ProcessId, RestoreFile, StepResult

if TYPE_CHECKING:
    from gameday.injectors.sandbox.docker.driver import DockerSandbox

__all__ = [
    "AtRest",
    "Files",
    "allow",
    "fingerprint",
    "open_folder",
    "open_inside",
    "read_at_rest",
    "restore",
    "write_at_rest",
]

T = TypeVar("T")

_BLOCK = 16
_HASHED = 64 << 20
"""Bytes up to which a file's contents are part of its fingerprint."""

# System calls that Python has no names for; the numbers are those of every architecture (5.6 and later).
_OPEN_TREE, _MOVE_MOUNT, _FSOPEN, _FSCONFIG, _FSMOUNT, _OPENAT2 = 428, 429, 430, 431, 432, 437
_RESOLVE = 0x10 | 0x02  # RESOLVE_IN_ROOT, RESOLVE_NO_MAGICLINKS
_NEW_MOUNTS, _NEW_FS = 0x00020000, 0x00000200  # CLONE_NEWNS, CLONE_FS
_SET_STRING, _CREATE = 1, 6  # FSCONFIG_SET_STRING, FSCONFIG_CMD_CREATE
_NO_DEVICES = 0x2 | 0x4 | 0x8  # MOUNT_ATTR_NOSUID, _NODEV, _NOEXEC
_CLONE = 1 | os.O_CLOEXEC  # OPEN_TREE_CLONE
_HERE = 0x4 | 0x10  # MOVE_MOUNT_F_EMPTY_PATH, MOVE_MOUNT_T_SYMLINKS
_AT_CWD, _DETACH = -100, 2


class _Kept(msgspec.Struct, frozen=True):
    """What places of a file held: offset, and bytes in hexadecimal."""

    places: tuple[tuple[int, str], ...]


class Files(Part):
    """The part."""

    async def check(self, slot: str, path: str) -> None:
        _, who = await self._filled(slot)
        os.close(open_inside(who.pid, path, slot))

    async def corrupt(
        self, slot: str, process: ProcessId | None, path: str, tag: str, *, blocks: int
    ) -> None:
        who = await self._meant(slot, process)
        await anyio.to_thread.run_sync(_corrupt, who.pid, slot, path, tag, blocks, self._box)

    async def corrupted(self, slot: str, path: str, tag: str) -> int:
        kept = read_kept(kept_path("files", tag, self._box), _Kept)
        container = await self._box.find(slot)
        if kept is None or container is None or container.process is None:
            return 0
        try:
            fd = open_inside(container.process.pid, path, slot)
        except (SandboxError, UsageError):
            return 0
        try:
            return sum(
                os.pread(fd, len(old), at) == _noise(tag, at, old) for at, old in _places(kept)
            )
        finally:
            os.close(fd)

    async def deny(self, slot: str, process: ProcessId | None, path: str, tag: str) -> None:
        who = await self._meant(slot, process)
        await anyio.to_thread.run_sync(_in_mounts, who.pid, lambda: _cover(path, tag))

    async def denied(self, slot: str, tag: str) -> bool:
        container = await self._box.find(slot)
        return (
            container is not None
            and container.process is not None
            and bool(_covers(container.process.pid, tag))
        )

    async def _meant(self, slot: str, process: ProcessId | None) -> ProcessId:
        _, who = await self._filled(slot)
        if who != process:
            raise SandboxError(f"another process fills {slot} than when the fault was planned")
        return who


async def fingerprint(container: Container | None, path: str) -> dict[str, str]:
    """What a fault could have changed about a file: its contents, who may open it."""
    if container is None:
        return dict(GONE)
    if container.process is None:
        return {"file": "its container does not run"}
    try:
        # A look leaves no trace: the time of the last access tells who read an offset (`clock`).
        fd = open_inside(container.process.pid, path, container.slot, os.O_RDONLY | os.O_NOATIME)
    except (SandboxError, UsageError) as error:
        return {"file": error.message}
    with os.fdopen(fd, "rb") as file:
        status = os.fstat(fd)
        digest = (
            hashlib.file_digest(file, "sha256").hexdigest() if status.st_size <= _HASHED else ""
        )
    owner = f"{status.st_uid}:{status.st_gid} {stat.filemode(status.st_mode)}"
    return {"file": f"{status.st_size} bytes {digest}", "owner": owner}


# Undo


async def restore(step: RestoreFile, box: DockerSandbox) -> StepResult:
    """Carry out the step."""
    path = kept_path("files", step.tag, box)
    kept = read_kept(path, _Kept)
    if kept is None:
        return StepResult(Outcome.NOTHING, "it was not corrupted by us, or is as it was")
    container = await box.find(step.slot)
    if container is None:
        path.unlink(missing_ok=True)
        return StepResult(Outcome.TAKEN_OVER, "somebody removed the container")
    if container.process is None:
        result = await _restore_at_rest(step, kept, container, box)
    else:
        result = await anyio.to_thread.run_sync(_restore, step, kept, container.process.pid)
    path.unlink(missing_ok=True)
    return result


async def allow(step: AllowFile, box: DockerSandbox) -> StepResult:
    """Carry out the step."""
    container = await box.find(step.slot)
    if container is None or container.process is None:
        return StepResult(Outcome.NOTHING, "the cover went with the container's processes")
    pid = container.process.pid
    covers = _covers(pid, step.tag)
    for place in covers:
        await anyio.to_thread.run_sync(_in_mounts, pid, lambda place=place: _uncover(place))
    if covers:
        return StepResult(Outcome.PUT_BACK, f"{step.path} can be opened again")
    return StepResult(Outcome.NOTHING, "nothing of ours is over the file")


def _restore(step: RestoreFile, kept: _Kept, pid: int) -> StepResult:
    try:
        fd = open_inside(pid, step.path, step.slot, os.O_RDWR)
    except UsageError:
        return StepResult(Outcome.TAKEN_OVER, f"somebody removed {step.path}")
    try:
        count = written = 0
        for at, old in _places(kept):
            now = os.pread(fd, len(old), at)
            if now == _noise(step.tag, at, old):
                os.pwrite(fd, old, at)
                count += 1
            elif now != old:
                written += 1
    finally:
        os.close(fd)
    return _told(step.path, count, written)


async def _restore_at_rest(
    step: RestoreFile, kept: _Kept, container: Container, box: DockerSandbox
) -> StepResult:
    """The same where no process runs, through the engine; what was on a tmpfs has gone by then."""
    found = await read_at_rest(step.path, container, box)
    if isinstance(found, StepResult):
        return found
    content = bytearray(found.content)
    count = written = 0
    for at, old in _places(kept):
        now = bytes(content[at : at + len(old)])
        if now == _noise(step.tag, at, old):
            content[at : at + len(old)] = old
            count += 1
        elif now != old:
            written += 1
    if count:
        await write_at_rest(step.path, found, bytes(content), container, box)
    return _told(step.path, count, written)


class AtRest(NamedTuple):
    """A file of a container in which no process runs: what an archive says of it, and its content."""

    member: tarfile.TarInfo
    content: bytes


async def read_at_rest(path: str, container: Container, box: DockerSandbox) -> AtRest | StepResult:
    """The file, through the engine; how an undo ends there if it is none any more."""
    try:
        data = await box.engine.fetch(container.id, path)
    except EngineSilent:
        raise
    except SandboxError as error:
        if "o such" in error.message or "ould not find" in error.message:
            return StepResult(Outcome.NOTHING, "the file went with the container's processes")
        raise
    with tarfile.open(fileobj=io.BytesIO(data)) as archive:
        member = archive.next()
        file = archive.extractfile(member) if member is not None and member.isfile() else None
        if member is None or file is None:
            return StepResult(Outcome.TAKEN_OVER, f"{path} is no file any more")
        return AtRest(member, file.read())


async def write_at_rest(
    path: str, found: AtRest, content: bytes, container: Container, box: DockerSandbox
) -> None:
    """Give the file another content, through the engine; nothing else of it changes."""
    found.member.size = len(content)
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w") as archive:
        archive.addfile(found.member, io.BytesIO(content))
    await box.engine.call("put_archive", container.id, str(Path(path).parent), packed.getvalue())


def _told(path: str, count: int, written: int) -> StepResult:
    if count:
        return StepResult(Outcome.PUT_BACK, f"{count} places of {path} hold what they held")
    if written:
        return StepResult(Outcome.TAKEN_OVER, f"somebody has written {path} anew")
    return StepResult(Outcome.NOTHING, f"{path} is as it was")


# Corrupting


def _corrupt(pid: int, slot: str, path: str, tag: str, blocks: int, box: DockerSandbox) -> None:
    fd = open_inside(pid, path, slot, os.O_RDWR)
    try:
        size = os.fstat(fd).st_size
        if not size:
            raise SandboxError(f"{path} of {slot} is empty: there is nothing to corrupt")
        every = (size + _BLOCK - 1) // _BLOCK
        chosen = sorted(Random(tag).sample(range(every), min(blocks, every)))
        places = [(number * _BLOCK, os.pread(fd, _BLOCK, number * _BLOCK)) for number in chosen]
        kept = _Kept(tuple((at, old.hex()) for at, old in places))
        keep(kept_path("files", tag, box), msgspec.json.encode(kept))
        for at, old in places:
            os.pwrite(fd, _noise(tag, at, old), at)
    except OSError as error:
        raise SandboxError(f"{path} of {slot} cannot be written: {error.strerror}") from None
    finally:
        os.close(fd)


def _noise(tag: str, at: int, old: bytes) -> bytes:
    """As many other bytes; the same each time."""
    rng = Random(f"{tag} {at}")
    return bytes(byte ^ rng.randrange(1, 256) for byte in old)


def _places(kept: _Kept) -> list[tuple[int, bytes]]:
    return [(at, bytes.fromhex(old)) for at, old in kept.places]


# The kernel


class _How(ctypes.Structure):
    _fields_ = [(name, ctypes.c_uint64) for name in ("flags", "mode", "resolve")]


def _call(number: int, *given: object) -> int:
    libc = ctypes.CDLL(None, use_errno=True)
    result = int(libc.syscall(ctypes.c_long(number), *given))
    if result < 0:
        error = ctypes.get_errno()
        raise OSError(error, os.strerror(error))
    return result


def open_inside(pid: int, path: str, slot: str, flags: int = os.O_RDONLY) -> int:
    """Open a file of a container as its own processes see it; links lead nowhere else.

    Raises:
        UsageError: if there is none, or it is no plain file.
        SandboxError: if it cannot be opened.
    """
    fd = _open(pid, path, slot, flags | os.O_NONBLOCK | os.O_NOCTTY)
    if not stat.S_ISREG(os.fstat(fd).st_mode):
        os.close(fd)
        raise UsageError(f"{path} of {slot} is no plain file", hint="Give the path of a file.")
    return fd


def open_folder(pid: int, path: str, slot: str) -> int:
    """Open a folder of a container in the same way, to reach what lies in it.

    Raises:
        UsageError: if there is none.
        SandboxError: if it cannot be opened.
    """
    return _open(pid, path, slot, os.O_PATH | os.O_DIRECTORY)


def _open(pid: int, path: str, slot: str, flags: int) -> int:
    try:
        root = os.open(f"/proc/{pid}/root", os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    except OSError:
        raise SandboxError(f"the processes of {slot} have ended") from None
    how = _How(flags | os.O_CLOEXEC, 0, _RESOLVE)
    name = ctypes.c_char_p(path.lstrip("/").encode() or b".")
    try:
        return _call(
            _OPENAT2,
            ctypes.c_int(root),
            name,
            ctypes.byref(how),
            ctypes.c_size_t(ctypes.sizeof(how)),
        )
    except FileNotFoundError:
        raise UsageError(
            f"{slot} has no file {path}", hint="Give a path in the container."
        ) from None
    except OSError as error:
        raise SandboxError(f"{path} of {slot} cannot be opened: {error.strerror}") from None
    finally:
        os.close(root)


def _in_mounts(pid: int, act: Callable[[], T]) -> T:
    """Do something in a process's mount namespace, which is a thread's own.

    Raises:
        SandboxError: if it does not work.
    """
    done: list[T] = []
    failed: list[OSError] = []

    def enter() -> None:
        libc = ctypes.CDLL(None, use_errno=True)
        try:
            mounts = os.open(f"/proc/{pid}/ns/mnt", os.O_RDONLY | os.O_CLOEXEC)
            try:
                if libc.unshare(_NEW_FS) or libc.setns(mounts, _NEW_MOUNTS):
                    raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))
            finally:
                os.close(mounts)
            done.append(act())
        except OSError as error:
            failed.append(error)

    thread = threading.Thread(target=enter)
    thread.start()
    thread.join()
    if failed:
        raise SandboxError(f"the container's mounts cannot be changed: {failed[0].strerror}")
    return done[0]


def _cover(path: str, tag: str) -> None:
    """Mount a device over the file where there are no devices."""
    text = ctypes.c_char_p
    context = _call(_FSOPEN, text(b"tmpfs"), ctypes.c_uint(1))
    try:
        source = (text(b"source"), text(tag.encode()), ctypes.c_int(0))
        _call(_FSCONFIG, ctypes.c_int(context), ctypes.c_uint(_SET_STRING), *source)
        nothing = (text(None), text(None), ctypes.c_int(0))
        _call(_FSCONFIG, ctypes.c_int(context), ctypes.c_uint(_CREATE), *nothing)
        mount = _call(_FSMOUNT, ctypes.c_int(context), ctypes.c_uint(1), ctypes.c_uint(_NO_DEVICES))
    finally:
        os.close(context)
    try:
        os.mknod("denied", stat.S_IFCHR | 0o600, os.makedev(1, 3), dir_fd=mount)
        tree = _call(_OPEN_TREE, ctypes.c_int(mount), text(b"denied"), ctypes.c_uint(_CLONE))
    finally:
        os.close(mount)
    try:
        to = (ctypes.c_int(_AT_CWD), text(path.encode()), ctypes.c_uint(_HERE))
        _call(_MOVE_MOUNT, ctypes.c_int(tree), text(b""), *to)
    finally:
        os.close(tree)


def _uncover(place: str) -> None:
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.umount2(place.encode(), _DETACH):
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))


def _covers(pid: int, tag: str) -> list[str]:
    """Where in a process's mounts ours with that tag are (proc(5), mountinfo)."""
    try:
        lines = Path(f"/proc/{pid}/mountinfo").read_text().splitlines()
    except OSError:
        return []
    found = []
    for line in lines:
        fields = line.split()
        if fields[fields.index("-") + 2] == tag:
            found.append(fields[4].encode().decode("unicode_escape"))
    return found
