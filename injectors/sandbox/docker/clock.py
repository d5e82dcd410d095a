"""The part ``clock`` of a Docker sandbox: the wall clock that a container's programs see.

Linux has no wall clock of a container's own. But an image can let its programs preload
libfaketime, and name a file that says how far their clock is off. Then a fault needs to write
nothing but that file. It is replaced as a whole, never written in place: a program that read half
an offset would see half the time, or, with an empty file, be ended by the library.

What would make it anything else than a wrong wall clock is refused before, with what to do: a
library that breaks sleeping, a monotonic clock that would jump, too, a file that others share.
"""

from __future__ import annotations

import os
import re
import stat
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, NamedTuple

import anyio.to_thread
import msgspec

from gameday.injectors.errors import SandboxError, Unsupported, UsageError
from gameday.injectors.sandbox import process
from gameday.injectors.sandbox.base import Skew
from gameday.injectors.sandbox.docker import files
from gameday.injectors.sandbox.docker.containers import Container
from gameday.injectors.sandbox.docker.keeping import keep, kept_path, read_kept
from gameday.injectors.sandbox.docker.parts import Part, tmpfs_devices
from gameday.injectors.undo import Outcome, ProcessId, RestoreClock, StepResult

if TYPE_CHECKING:
    from gameday.injectors.sandbox.docker.driver import DockerSandbox

__all__ = ["Clock", "restore"]

_FILE = "FAKETIME_TIMESTAMP_FILE"
_LIBRARY = re.compile(r"^([0-9a-f]+-[0-9a-f]+) .*/(libfaketime[^/ ]*\.so[^/ ]*)$", re.MULTILINE)
_SIZE = 4 << 20
"""Bytes that the library has at most."""
_SLEEPS, _MENDED = b"\0clock_nanosleep\0", b"FAKETIME_DISABLE_SHM"
"""What the library contains if it stands between programs and their sleep; and since when it does
so right. The release 0.9.10 takes an absolute sleep on the monotonic clock for one on the wall clock,
and it ends with EINVAL: `time.sleep` of Python 3.11 and later does."""
_WAITS, _MACHINE = b"\0pthread_cond_timedwait\0", "/libjvm.so"
"""And if it stands between them and their waits on each other: those on the monotonic clock end at
once, in every release up to 0.9.12. A Java virtual machine has no other."""
_WITHIN = 5
"""Seconds after which the file must be read again at the latest."""
_ASIDE = (
    *("FAKETIME", "FAKETIME_UPDATE_TIMESTAMP_FILE", "FAKETIME_LOAD_FILE"),
    *("FAKETIME_ONLY_CMDS", "FAKETIME_SKIP_CMDS"),
    *("FAKETIME_START_AFTER_SECONDS", "FAKETIME_STOP_AFTER_SECONDS"),
    *("FAKETIME_START_AFTER_NUMCALLS", "FAKETIME_STOP_AFTER_NUMCALLS"),
)
"""Variables by which the library would not, or not only, go by the file."""
_RIGHT = re.compile(rb"[+-]0+(\.0*)?\s*")
_SETUP = "docs/docker.md shows how an image lets its clock be set."


class _Kept(msgspec.Struct, frozen=True):
    """What the file held, and what we wrote."""

    path: str
    before: str
    ours: str


class _Program(NamedTuple):
    """A program that goes by a file."""

    pid: int
    path: str


class Clock(Part):
    """The part."""

    async def check(self, slot: str) -> str:
        _, who = await self._filled(slot)
        return await anyio.to_thread.run_sync(_check, slot, who)

    async def skew(self, slot: str, process: ProcessId | None, tag: str, *, offset: float) -> None:
        _, who = await self._filled(slot)
        if who != process:
            raise SandboxError(f"another process fills {slot} than when the fault was planned")
        await anyio.to_thread.run_sync(_skew, slot, who, tag, offset, self._box)

    async def skewed(self, slot: str, tag: str) -> Skew:
        kept = read_kept(kept_path("clocks", tag, self._box), _Kept)
        container = await self._box.find(slot)
        if kept is None or container is None or container.process is None:
            return Skew(told=False, read=False)
        return await anyio.to_thread.run_sync(_look, slot, container.process, kept)


def _skew(slot: str, who: ProcessId, tag: str, offset: float, box: DockerSandbox) -> None:
    path = _check(slot, who)
    with _folder(who.pid, path, slot) as folder:
        held = folder.read()
        ours = _written(offset)
        kept = _Kept(path, held.decode(errors="replace"), ours)
        keep(kept_path("clocks", tag, box), msgspec.json.encode(kept))
        folder.replace(ours.encode(), tag)


def _written(offset: float) -> str:
    """As libfaketime reads it; without a point where it can be, as some locales have a comma there."""
    return f"{offset:+.6f}".rstrip("0").rstrip(".") + "\n"


def _look(slot: str, who: ProcessId, kept: _Kept) -> Skew:
    try:
        with _folder(who.pid, kept.path, slot) as folder:
            ours = folder.read() == kept.ours.encode()
            read = ours and folder.was_read()
    except (SandboxError, Unsupported, UsageError):
        return Skew(told=False, read=False)
    program = _program(who) if ours else None
    told = program is not None and program.path == kept.path
    return Skew(told, told and read)


# Undo


async def restore(step: RestoreClock, box: DockerSandbox) -> StepResult:
    """Carry out the step."""
    path = kept_path("clocks", step.tag, box)
    kept = read_kept(path, _Kept)
    if kept is None:
        return StepResult(Outcome.NOTHING, "the clock was not set by us, or is as it was")
    container = await box.find(step.slot)
    if container is None:
        result = StepResult(Outcome.TAKEN_OVER, "somebody removed the container")
    elif container.process is None:
        result = await _restore_at_rest(step, kept, container, box)
    else:
        pid = container.process.pid
        result = await anyio.to_thread.run_sync(_restore, step, kept, pid)
    path.unlink(missing_ok=True)
    return result


def _restore(step: RestoreClock, kept: _Kept, pid: int) -> StepResult:
    try:
        with _folder(pid, step.path, step.slot) as folder:
            folder.clear(step.tag)
            held = folder.read()
            result = _told(step.path, kept, held)
            if result.outcome is Outcome.PUT_BACK:
                folder.replace(kept.before.encode(), step.tag)
    except UsageError:
        return StepResult(Outcome.TAKEN_OVER, f"somebody removed {step.path}")
    return result


async def _restore_at_rest(
    step: RestoreClock, kept: _Kept, container: Container, box: DockerSandbox
) -> StepResult:
    found = await files.read_at_rest(step.path, container, box)
    if isinstance(found, StepResult):
        return found
    result = _told(step.path, kept, found.content)
    if result.outcome is Outcome.PUT_BACK:
        await files.write_at_rest(step.path, found, kept.before.encode(), container, box)
    return result


def _told(path: str, kept: _Kept, held: bytes) -> StepResult:
    """How the undo of a file that holds this ends; ``put-back`` is still to be done."""
    if held == kept.ours.encode():
        return StepResult(Outcome.PUT_BACK, "the clock is right again")
    if held == kept.before.encode():
        return StepResult(Outcome.NOTHING, f"{path} is as it was")
    return StepResult(Outcome.TAKEN_OVER, f"somebody has written {path} anew")


# What can be done honestly


def _check(slot: str, who: ProcessId) -> str:
    """The file by which the clock is set. Raises Unsupported, as `WallClock.check`."""
    program = _program(who)
    if program is None:
        raise Unsupported(
            f"no program of {slot} has libfaketime loaded, and Linux has no wall clock of "
            "a container's own",
            hint=f"{_SETUP} It cannot be done for static programs.",
        )
    _check_library(slot, program.pid)
    _check_variables(slot, _environment(program.pid))
    try:
        with _folder(who.pid, program.path, slot) as folder:
            folder.check()
    except (SandboxError, UsageError) as error:
        raise Unsupported(
            error.message, hint=f"Let the image have it, with the line +0. {_SETUP}"
        ) from None
    return program.path


def _program(who: ProcessId) -> _Program | None:
    """The first of a container's programs that has the library: its main one, or what its init started."""
    for member in process.tree(who):
        if _library(member.pid):
            return _Program(member.pid, _environment(member.pid).get(_FILE, ""))
    return None


def _library(pid: int) -> tuple[str, str] | None:
    """Where a process has the library in its memory, and the library's name."""
    try:
        found = _LIBRARY.search(Path(f"/proc/{pid}/maps").read_text(errors="replace"))
    except OSError:
        return None
    return (found[1], found[2]) if found else None


def _environment(pid: int) -> dict[str, str]:
    """The variables with which a process was started."""
    try:
        text = Path(f"/proc/{pid}/environ").read_bytes().decode(errors="replace")
    except OSError:
        return {}
    pairs = (pair.partition("=") for pair in text.split("\0"))
    return {name: value for name, equals, value in pairs if equals}


def _check_library(slot: str, pid: int) -> None:
    place, name = _library(pid) or ("", "")
    try:
        # The very file that is mapped, whatever has its name by now.
        fd = os.open(f"/proc/{pid}/map_files/{place}", os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
        with os.fdopen(fd, "rb") as file:
            content = file.read(_SIZE)
        maps = Path(f"/proc/{pid}/maps").read_text(errors="replace")
        threads = sum(1 for _ in Path(f"/proc/{pid}/task").iterdir())
    except OSError as error:
        raise SandboxError(f"{name} of {slot} cannot be read: {error.strerror}") from None
    if _SLEEPS in content and _MENDED not in content:
        raise Unsupported(
            f"the libfaketime of {slot} breaks its sleep: up to 0.9.10, absolute sleeps end with "
            "EINVAL where the monotonic clock is left alone",
            hint=f"Take 0.9.11 or later, or that of Debian 13. {_SETUP}",
        )
    if _MACHINE in maps and _WAITS in content:
        raise Unsupported(
            f"the libfaketime of {slot} breaks the waits of its Java virtual machine: they end at once",
            hint=f"Take one that is built without FAKE_PTHREAD. {_SETUP}",
        )
    if threads > 1 and "MT" not in name:
        raise Unsupported(
            f"{slot} has {threads} threads, and {name} is made for one",
            hint=f"Preload libfaketimeMT.so.1. {_SETUP}",
        )


def _check_variables(slot: str, found: Mapping[str, str]) -> None:
    def refuse(what: str, hint: str) -> Unsupported:
        return Unsupported(f"the clock of {slot} cannot be set: {what}", hint=f"{hint} {_SETUP}")

    if not PurePosixPath(found.get(_FILE, "")).is_absolute():
        raise refuse(f"{_FILE} names no file", f"Set it, for example {_FILE}=/etc/clock.")
    for name in _ASIDE:
        if name in found:
            raise refuse(f"{name} is set, which counts more than the file", f"Leave {name} away.")
    # The library looks at this name first.
    apart = found.get("FAKETIME_DONT_FAKE_MONOTONIC", found.get("DONT_FAKE_MONOTONIC", ""))
    if apart != "1":
        raise refuse("its monotonic clock would jump, too", "Set FAKETIME_DONT_FAKE_MONOTONIC=1.")
    lasts = found.get("FAKETIME_CACHE_DURATION", "10").strip()
    if found.get("FAKETIME_NO_CACHE") != "1" and not (lasts.isdigit() and int(lasts) <= _WITHIN):
        raise refuse(
            f"it looks at the file less often than every {_WITHIN} s",
            "Set FAKETIME_NO_CACHE=1.",
        )


# The file


@contextmanager
def _folder(pid: int, path: str, slot: str) -> Iterator[_Folder]:
    """The folder of a file of a container, as its own processes see it; links lead nowhere else.

    Raises:
        UsageError: if there is none.
        SandboxError: if it cannot be opened.
    """
    where = PurePosixPath(path)
    try:
        fd = files.open_folder(pid, str(where.parent), slot)
    except UsageError:
        raise UsageError(f"{slot} has no file {path}") from None
    try:
        yield _Folder(fd, where.name, path, slot, pid)
    finally:
        os.close(fd)


class _Folder(NamedTuple):
    """A file by the open folder that it lies in."""

    fd: int
    name: str
    path: str
    slot: str
    pid: int

    def read(self) -> bytes:
        """What it holds.

        Raises:
            UsageError: if there is no plain file of that name.
            SandboxError: if it cannot be opened.
        """
        with os.fdopen(self._open(), "rb") as file:
            return file.read(_SIZE)

    def was_read(self) -> bool:
        """Whether anybody has read it since `replace`; also where a file system does not tell."""
        fd = self._open()
        try:
            quiet = os.fstatvfs(fd).f_flag & os.ST_NOATIME
            return bool(quiet) or os.fstat(fd).st_atime_ns > 0
        finally:
            os.close(fd)

    def check(self) -> None:
        """Whether it can be replaced, and nobody else be hit by that.

        Raises:
            Unsupported: if not.
        """
        if not _RIGHT.fullmatch(self.read()):
            raise Unsupported(
                f"{self.path} of {self.slot} says already how far off its clock is",
                hint="Let it hold +0: what is put back there must be the right time.",
            )
        if os.fstatvfs(self.fd).f_flag & os.ST_RDONLY:
            raise Unsupported(
                f"{self.path} of {self.slot} cannot be written: it lies where all is read-only",
                hint=f"Let {_FILE} name a file on a tmpfs, and put +0 there as the container starts.",
            )
        if not self._own():
            raise Unsupported(
                f"{self.path} of {self.slot} lies on a volume, which others may share",
                hint=f"Let {_FILE} name a file of the image, or one on a tmpfs.",
            )

    def _own(self) -> bool:
        """Whether it is the container's own: on its root, or a tmpfs."""
        fd = self._open()
        root = os.open(f"/proc/{self.pid}/root", os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            mounts = {_mount(each) for each in (fd, self.fd)}
            if os.fstat(fd).st_dev in tmpfs_devices(self.pid):
                return len(mounts) == 1
            return mounts == {_mount(root)}
        finally:
            os.close(root)
            os.close(fd)

    def replace(self, content: bytes, tag: str) -> None:
        """Put a file with that content in its place, of the same owner and mode, at once.

        Raises:
            SandboxError: if that does not work.
        """
        like = os.stat(self.name, dir_fd=self.fd, follow_symlinks=False)
        self.clear(tag)
        flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
        try:
            fd = os.open(self._fresh(tag), flags, 0o600, dir_fd=self.fd)
            with os.fdopen(fd, "wb") as file:
                file.write(content)
                file.flush()
                os.fchown(fd, like.st_uid, like.st_gid)
                os.fchmod(fd, stat.S_IMODE(like.st_mode))
                os.utime(fd, ns=(0, like.st_mtime_ns))  # the first read will set the first of them
            os.replace(self._fresh(tag), self.name, src_dir_fd=self.fd, dst_dir_fd=self.fd)
        except OSError as error:
            self.clear(tag)
            raise SandboxError(
                f"{self.path} of {self.slot} cannot be written: {error.strerror}"
            ) from None

    def clear(self, tag: str) -> None:
        """Remove what an interrupted `replace` left."""
        with suppress(FileNotFoundError):
            os.unlink(self._fresh(tag), dir_fd=self.fd)

    def _fresh(self, tag: str) -> str:
        return f".{tag}"

    def _open(self) -> int:
        flags = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC | os.O_NOATIME
        try:
            fd = os.open(self.name, flags, dir_fd=self.fd)
        except FileNotFoundError:
            raise UsageError(f"{self.slot} has no file {self.path}") from None
        except OSError as error:
            raise SandboxError(
                f"{self.path} of {self.slot} cannot be opened: {error.strerror}"
            ) from None
        if not stat.S_ISREG(os.fstat(fd).st_mode):
            os.close(fd)
            raise UsageError(f"{self.path} of {self.slot} is no plain file")
        return fd


def _mount(fd: int) -> str:
    """The mount that an open file lies on (proc(5), fdinfo)."""
    lines = Path(f"/proc/self/fdinfo/{fd}").read_text().splitlines()
    return next(line for line in lines if line.startswith("mnt_id:"))
