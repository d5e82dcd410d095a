"""What stands on the engine outside any drill, for those who look after it by hand."""

from __future__ import annotations

import anyio

from gameday.injectors.errors import SandboxError, UsageError
from gameday.injectors.sandbox.docker.containers import OPT_IN
from gameday.injectors.sandbox.docker.driver import DockerSandbox
from gameday.injectors.sandbox.docker.engine import Engine, surroundings
from gameday.injectors.sandbox.docker.teardown import PROJECT
from gameday.injectors.undo import SandboxRef

__all__ = ["at", "projects"]

_WITHIN = 3.0


def projects() -> list[SandboxRef]:
    """Compose projects with a container that opted in, by name; none where no engine answers.

    Those that `gameday sandbox up` made can be ended by `gameday sandbox down`.
    """
    names = sorted({labels.get(PROJECT, "") for labels in anyio.run(_labels)} - {""})
    return [_of_project(name) for name in names]


def at(address: str) -> list[SandboxRef]:
    """What an undo step calls so: a project, or the label that a drill attached by."""
    name, _, value = address.partition("=")
    for labels in anyio.run(_labels):
        if labels.get(PROJECT) == address:
            return [_of_project(address)]
        if name in labels and value in ("", labels[name]):
            return [DockerSandbox.plan_ref(address, label=address)]
    return []


def _of_project(name: str) -> SandboxRef:
    ours = name.startswith("gameday-")
    return DockerSandbox.plan_ref(name.removeprefix("gameday-"), project=name, bring_up=ours)


async def _labels() -> list[dict[str, str]]:
    """The labels of each container that opted in."""
    try:
        engine = Engine(surroundings())
    except UsageError:
        return []
    try:
        found = await engine.call(
            "containers", all=True, filters={"label": [OPT_IN]}, within=_WITHIN
        )
    except SandboxError:
        return []
    finally:
        engine.close()
    return [one["Labels"] for one in found]
