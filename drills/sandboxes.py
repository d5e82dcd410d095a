"""Finding the sandbox that somebody means: the running drill's, or one of `gameday sandbox up`."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator
from pathlib import Path

import msgspec

from gameday.drills.folder import is_drill_id
from gameday.drills.ownership import not_ours
from gameday.drills.state import running_drills
from gameday.injectors.errors import UsageError
from gameday.injectors.reading import UNREADABLE
from gameday.injectors.undo import SandboxRef

__all__ = ["find_sandbox", "standing"]


class _Spec(msgspec.Struct):
    tag: str
    name: str = ""


def standing() -> list[SandboxRef]:
    """Local sandboxes of this user that stand outside any drill."""
    return [
        ref
        for ref in _recorded()
        if not is_drill_id(ref.options["tag"]) and (Path(ref.address) / "socket").exists()
    ]


def _recorded() -> Iterator[SandboxRef]:
    """Every local sandbox of this user that was not cleared away, a dead drill's included."""
    for folder in _run_folders():
        try:
            spec = msgspec.json.decode((folder / "spec.json").read_bytes(), type=_Spec)
        except (OSError, *UNREADABLE):
            continue
        options = {"tag": spec.tag, "name": spec.name}
        yield SandboxRef("local", f"local:{folder}", str(folder), options)


def _run_folders() -> Iterator[Path]:
    homes = [os.environ.get("XDG_RUNTIME_DIR", ""), tempfile.gettempdir(), "/tmp"]
    for home in dict.fromkeys(home for home in homes if home):
        found = sorted(Path(home).glob(f"gameday-{os.geteuid()}-*"))
        yield from (folder for folder in found if not not_ours(folder))


def find_sandbox(name: str | None, drill: str | None) -> SandboxRef:
    """The sandbox that is meant; without a name the only running drill's, else the only one.

    Args:
        name: Its address, its tag, or the name of its cluster. By its address, which an undo
            step prints to be done by hand, that of a drill is found whose runner is dead.
        drill: Id of a running drill, whose sandbox is meant.

    Raises:
        UsageError: if there is none, or several fit.
    """
    from gameday.injectors.sandbox.docker import standing as docker

    drills = [each for each in running_drills() if drill is None or drill in each.id]
    found = [each.sandbox for each in drills if each.sandbox is not None]
    if drill is None and (name is not None or not found):
        found += standing() or docker.projects()
    if name is not None:
        found = [ref for ref in found if name in (ref.address, *ref.options.values())]
        if drill is None and not found:
            found = [ref for ref in _recorded() if name == ref.address]
            found = found or docker.at(name)
    if len(found) == 1:
        return found[0]
    if not found:
        raise UsageError(
            "no sandbox stands" if name is None else f"no sandbox {name!r} stands",
            hint="`gameday sandbox up` brings one up; a drill brings its own.",
        )
    raise UsageError(
        f"{len(found)} sandboxes stand",
        hint="Name one: " + ", ".join(f"--sandbox {ref.address}" for ref in found),
    )
