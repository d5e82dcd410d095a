"""What the undo of a fault needs and no record may show: in private files of the drill."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

import msgspec

from gameday.injectors.errors import SandboxError
from gameday.injectors.reading import UNREADABLE

if TYPE_CHECKING:
    from gameday.injectors.sandbox.docker.driver import DockerSandbox

__all__ = ["keep", "kept_path", "read_kept"]

T = TypeVar("T")


def kept_path(kind: str, tag: str, box: DockerSandbox) -> Path:
    """The file for what an injection changes; ``kind`` names its folder.

    Raises:
        SandboxError: if the sandbox keeps nothing.
    """
    folder = box.deeds.beside(kind)
    if folder is None:
        raise SandboxError("there is no folder in which to keep what is to be put back")
    return folder / f"{Path(tag).name}.json"


def keep(path: Path, data: bytes) -> None:
    """Write it, for us alone; on the disk when it returns.

    Raises:
        SandboxError: if that does not work.
    """
    try:
        path.parent.mkdir(mode=0o700, exist_ok=True)
        file = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
        with os.fdopen(file, "wb") as out:
            out.write(data)
            out.flush()
            os.fsync(file)
    except OSError as error:
        raise SandboxError(
            f"{path} cannot be written: {error.strerror}; nothing was changed"
        ) from None


def read_kept(path: Path, kind: type[T]) -> T | None:
    """What was kept; None if there is nothing, or it is torn: then nothing was changed yet.

    Raises:
        SandboxError: if it cannot be read.
    """
    try:
        return msgspec.json.decode(path.read_bytes(), type=kind)
    except (FileNotFoundError, *UNREADABLE):
        return None
    except OSError as error:
        raise SandboxError(f"{path} cannot be read: {error.strerror}") from None
