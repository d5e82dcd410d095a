"""Commands that a drill would run of itself, and whether the user has said yes to them.

A sandbox declaration starts the services that it names, and load runs its locustfile: that
is what the user asks for by running the scenario. What a script or a fault runs beyond
that, in the middle of a drill, is shown in the plan and runs only with ``--allow-exec``.
"""

from __future__ import annotations

import shlex
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING

from gameday.injectors.errors import Refused
from gameday.injectors.undo import RunCommand, Step

if TYPE_CHECKING:
    from gameday.drills.planned import Planned
    from gameday.scenarios.model import Scenario

__all__ = [
    "WORDS",
    "check_permission",
    "commands_of",
    "refuse_commands",
    "refuse_where_none_runs",
]

WORDS = "--allow-exec"
"""How people say yes."""


def commands_of(scenario: Scenario, planned: Sequence[Planned], *, scripted: bool) -> list[str]:
    """Each such command, with who would run it and where; ``scripted``: whether scripts take part."""
    from gameday.scenarios.steps import Execute

    script = scenario.fixers.scripted
    steps = script.script if script is not None and scripted else ()
    found = [
        f"the scripted fixer, at {step.slot}: {shlex.join(step.argv)}"
        for step in steps
        if isinstance(step, Execute)
    ]
    for each in planned:
        found += [
            f"the undo of {each.injection.fault}, for {step.slot}: {shlex.join(step.argv)}"
            for step in each.injection.undo
            if isinstance(step, RunCommand)
        ]
    return list(dict.fromkeys(found))


def check_permission(commands: Sequence[str], *, allowed: bool) -> None:
    """Go on only if there are none, or the user has said yes.

    Raises:
        Refused: shows them, and the words that say yes.
    """
    if commands and not allowed:
        shown = "".join(f"\n  {command}" for command in commands)
        raise Refused(
            f"the drill would run commands of its own:{shown}",
            hint=f"Read them; {WORDS} lets them run.",
        )


def refuse_commands(steps: Iterable[Step]) -> None:
    """The last look before anything is armed: a fault may plan otherwise than it showed.

    Raises:
        Refused: if one of the steps runs a command.
    """
    for step in steps:
        if isinstance(step, RunCommand):
            raise Refused(
                f"the undo would run a command: {shlex.join(step.argv)}",
                hint=f"Read it; {WORDS} lets it run.",
            )


def refuse_where_none_runs(steps: Iterable[Step], kind: str) -> None:
    """An undo that its sandbox cannot run is none.

    Raises:
        Refused: if one of the steps runs a command, and a sandbox of that kind runs none.
    """
    from gameday.injectors.sandbox.kinds import KINDS

    if any(isinstance(step, RunCommand) for step in steps) and not KINDS[kind].commands:
        raise Refused(
            f"the undo runs a command, and a sandbox of kind {kind} runs none",
            hint="Compose it from other steps; attached processes can have commands.",
        )
