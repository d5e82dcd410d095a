"""The image of helper containers: which one it is, whether it is there, and how it is built."""

from __future__ import annotations

import hashlib
import io
import os
import shlex
import tarfile
from functools import cache
from pathlib import Path

from gameday.injectors.errors import SandboxError, Unsupported
from gameday.injectors.sandbox.docker.engine import Engine

__all__ = ["BASE", "by_hand", "is_there", "name", "require"]

BASE = "GAMEDAY_HELPER_BASE"
"""The variable that names another image to build upon."""
_FOLDER = Path(__file__).resolve().parents[2]
_RECIPE = "sandbox/netns/Dockerfile"
_WITHIN = 600.0
"""Seconds that it may take to build: packages may have to be fetched."""


@cache
def name() -> str:
    """Its name, which follows from what is in it: another version of ours has another."""
    digest = hashlib.sha256()
    for path in _files():
        digest.update(path.encode() + b"\0" + (_FOLDER / path).read_bytes())
    return f"gameday-helper:{digest.hexdigest()[:12]}"


def by_hand() -> str:
    """The command that builds it."""
    base = os.environ.get(BASE, "")
    words = ["docker", "build", "--tag", name()]
    words += ["--build-arg", f"BASE={base}"] if base else []
    return shlex.join([*words, "--file", str(_FOLDER / _RECIPE), str(_FOLDER)])


async def is_there(engine: Engine) -> bool:
    """Whether the engine has it."""
    try:
        await engine.call("inspect_image", name())
    except SandboxError as error:
        if "No such image" in error.message:
            return False
        raise
    return True


async def require(engine: Engine, why: str) -> None:
    """Build it, unless the engine has it.

    Args:
        why: Why a helper container is needed.

    Raises:
        Unsupported: if it cannot be built; says why, and the command that does it.
        EngineSilent: if the engine does not answer.
    """
    if await is_there(engine):
        return
    base = os.environ.get(BASE, "")
    try:
        said = await engine.call(
            "build",
            fileobj=io.BytesIO(_context()),
            custom_context=True,
            dockerfile=_RECIPE,
            tag=name(),
            buildargs={"BASE": base} if base else {},
            rm=True,
            forcerm=True,
            decode=True,
            timeout=int(_WITHIN),
            within=_WITHIN,
            whole=True,
        )
    except SandboxError as error:
        failed = error.message
    else:
        if await is_there(engine):
            return
        failed = next((str(line["error"]) for line in said if "error" in line), "it is not there")
    raise Unsupported(
        f"network faults need a helper container here, as {why}; its image ({name()}) "
        f"is not there and cannot be built: {failed}",
        hint=f"{BASE} names another image to build upon. By hand: {by_hand()}",
    )


def _files() -> list[str]:
    """What its recipe copies, and the recipe."""
    copied = [
        pattern
        for line in (_FOLDER / _RECIPE).read_text().splitlines()
        if line.startswith("COPY ")
        for pattern in line.split()[1:-1]
    ]
    found = {path.relative_to(_FOLDER) for one in copied for path in _FOLDER.glob(one)}
    return [_RECIPE, *sorted(map(str, found))]


def _context() -> bytes:
    held = io.BytesIO()
    with tarfile.open(fileobj=held, mode="w") as archive:
        for path in _files():
            archive.add(_FOLDER / path, path)
    return held.getvalue()
