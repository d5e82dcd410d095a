"""Compose projects that stand on the engine, for those who look after them by hand."""

from __future__ import annotations

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
    return anyio.run(_projects, where)


async def _projects(where: dict[str, str]) -> list[SandboxRef]:
    engine = Engine(where)
    try:
        found = await engine.call(
            "containers", all=True, filters={"label": [OPT_IN]}, within=_WITHIN
        )
    except SandboxError:
        return []
    finally:
        engine.close()
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
