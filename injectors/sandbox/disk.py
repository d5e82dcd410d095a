"""Filling a slot's disk, in steps small enough that the links do not notice."""

from __future__ import annotations

import asyncio
import errno
import os
import subprocess
from pathlib import Path

from gameday.injectors.errors import UsageError

__all__ = ["fill", "free", "inside"]

_CHUNK = 4 << 20


def inside(folder: Path, name: str) -> Path:
    """The file ``name`` in a folder, and nowhere else.

    Raises:
        UsageError: if the name leads out of it.
    """
    if name in ("", ".", "..") or "/" in name or "\0" in name:
        raise UsageError(f"{name!r} does not name a file in the slot's folder")
    return folder / name


def free(folder: Path) -> int:
    """Bytes free on the disk that holds a folder."""
    status = os.statvfs(folder)
    return status.f_bavail * status.f_frsize


async def fill(path: Path, leave: int) -> None:
    """Write a file until ``leave`` bytes are free beside it.

    Raises:
        OSError, CalledProcessError: if it cannot be made.
    """
    file = _open(path)
    try:
        page = os.statvfs(path.parent).f_frsize
        while True:
            wanted = (free(path.parent) - leave) // page * page
            if wanted <= 0:
                return
            end = os.fstat(file).st_size
            try:
                os.posix_fallocate(file, end, min(wanted, _CHUNK))
            except OSError as error:
                if error.errno != errno.ENOSPC:
                    raise
                # The service took some of it meanwhile; look again how much is left.
            await asyncio.sleep(0)
    finally:
        os.close(file)


def _open(path: Path) -> int:
    flags = os.O_WRONLY | os.O_CLOEXEC | os.O_NOFOLLOW
    try:
        return os.open(path, flags | os.O_CREAT, 0o600)
    except OSError as error:
        if error.errno != errno.EOVERFLOW:
            raise
    # A disk of another user namespace takes no file of a user whom that does not know: not even root's.
    owner = path.parent.stat()
    subprocess.run(
        ["touch", "--", path.name],
        cwd=path.parent,
        user=owner.st_uid,
        group=owner.st_gid,
        extra_groups=(),
        umask=0o077,
        check=True,
        capture_output=True,
    )
    return os.open(path, flags)
