"""Compose projects that stand on the engine, for those who look after them by hand."""

from __future__ import annotations

import os
import stat
from pathlib import Path
from urllib.parse import urlsplit

import anyio

from gameday.injectors.errors import SandboxError
from gameday.injectors.sandbox.docker.containers import OPT_IN
from gameday.injectors.sandbox.docker.driver import DockerSandbox
from gameday.injectors.sandbox.docker.engine import Engine, surroundings
from gameday.injectors.sandbox.docker.teardown import PROJECT
from gameday.injectors.undo import SandboxRef

__all__ = ["projects"]

_WITHIN = 3.0


def projects() -> list[SandboxRef]:
    """Projects with a container that opted in, by name; none where no engine answers.

    Those that `gameday sandbox up` made can be ended by `gameday sandbox down`.
    """
    where = surroundings()
    if not _may_answer(Engine(where).address):
        return []
    return anyio.run(_projects, where)


async def _projects(where: dict[str, str]) -> list[SandboxRef]:
    try:
        found = await Engine(where).call(
            "containers", all=True, filters={"label": [OPT_IN]}, within=_WITHIN
        )
    except SandboxError:
        return []
    names = sorted({one["Labels"].get(PROJECT, "") for one in found} - {""})
    return [
        DockerSandbox.plan_ref(
            name.removeprefix("gameday-"),
            project=name,
            bring_up=name.startswith("gameday-"),
            where=where,
        )
        for name in names
    ]


def _may_answer(address: str) -> bool:
    """Whether it is worth a try: the SDK takes a third of a second to import."""
    parts = urlsplit(address)
    if parts.scheme != "unix":
        return bool(os.environ.get("DOCKER_HOST"))
    try:
        return stat.S_ISSOCK(Path(parts.path).stat().st_mode)
    except OSError:
        return False
