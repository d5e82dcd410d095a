"""Files that must survive: appended whole, synced, with space set aside.

No imports beyond the standard library: the watchdog uses it too.
"""

from __future__ import annotations

import ctypes
import errno
import os
import sys
from pathlib import Path

__all__ = [
    "append",
    "is_at",
    "is_storage",
    "open_append",
    "replace_file",
    "set_aside",
    "split_lines",
    "storage_hint",
    "sync_directory",
    "write_private",
]

_NO_STORAGE = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EROFS, errno.EIO)
_KEEP_SIZE = 1  # FALLOC_FL_KEEP_SIZE: space beyond the end of file, without making it longer


def open_append(path: Path) -> int:
    """Open a file for appending, for us alone (0600); a symbolic link is refused.

    Raises:
        OSError: if it cannot be opened.
    """
    flags = os.O_RDWR | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW
    return os.open(path, flags, 0o600)


def is_at(fd: int, path: Path, size: int = 0) -> bool:
    """Whether an open file is the one of that name still, and as long: nobody has removed,
    replaced or cut it.

    Args:
        size: How many bytes it has at least.
    """
    try:
        found = os.fstat(fd)
        return found.st_size >= size and os.path.samestat(found, path.stat(follow_symlinks=False))
    except OSError:
        return False


def sync_directory(path: Path) -> None:
    """Make the names in a folder durable (a synced file in an unsynced folder can vanish)."""
    fd = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(fd)
    except OSError as error:
        if error.errno not in (errno.EINVAL, errno.ENOTSUP):  # some file systems cannot
            raise
    finally:
        os.close(fd)


def set_aside(fd: int, size: int) -> bool:
    """Reserve ``size`` bytes of disk for what will be appended; False where it cannot be done."""
    if not sys.platform.startswith("linux"):
        return False
    libc = ctypes.CDLL(None, use_errno=True)
    end = os.fstat(fd).st_size
    result: int = libc.fallocate(fd, _KEEP_SIZE, ctypes.c_int64(end), ctypes.c_int64(size))
    return result == 0


def append(fd: int, line: bytes) -> None:
    """Append one line and sync it; either all of it is there, or (as far as we can) nothing.

    Only for files with one writer: what was written of a failed line is cut off again.

    Raises:
        OSError: if the disk does not take it.
    """
    size = os.fstat(fd).st_size
    torn = size > 0 and os.pread(fd, 1, size - 1) != b"\n"
    data = b"\n" * torn + line + b"\n"
    try:
        while data:
            data = data[os.write(fd, data) :]
        os.fdatasync(fd) if hasattr(os, "fdatasync") else os.fsync(fd)
    except OSError:
        try:
            os.ftruncate(fd, size)
        except OSError:
            pass  # then a torn line stays, which every reader drops
        raise


def replace_file(path: Path, data: bytes, *, sync: bool = True) -> None:
    """Write a small file so that any reader, at any instant, sees the old one or the new one.

    Without ``sync`` the caller has `sync_directory` follow, once for several files.

    Raises:
        OSError: if it cannot be written.
    """
    draft = path.with_name(f".{path.name}.{os.getpid()}")
    fd = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
    try:
        while data:
            data = data[os.write(fd, data) :]
        os.fsync(fd)
        draft.replace(path)
    except OSError:
        draft.unlink(missing_ok=True)
        raise
    finally:
        os.close(fd)
    if sync:
        sync_directory(path.parent)


def write_private(path: Path, data: bytes) -> None:
    """Write a file for us alone (0600); not synced.

    Raises:
        OSError: if it cannot be written.
    """
    fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
    with open(fd, "wb") as file:  # noqa: PTH123 - it is open already
        file.write(data)


def split_lines(data: bytes) -> tuple[list[bytes], bytes]:
    """The whole lines of ``data``, and the torn rest after the last line feed."""
    *lines, rest = data.split(b"\n")
    return lines, rest


def is_storage(error: OSError) -> bool:
    """Does the error say that the disk takes nothing more? Then it is no fault of Gameday's own."""
    return error.errno in _NO_STORAGE


def storage_hint(error: OSError) -> str:
    """What a person can do about a disk that does not take our record."""
    if error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG):
        return "Free some space (or raise the quota), then run the drill again."
    if error.errno == errno.EROFS:
        return "Run it where files can be written, or mount this writable again."
    return "Look at the disk and its mount (`dmesg`), then run the drill again."
