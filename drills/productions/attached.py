"""A scenario on processes that already run, named on the command line."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from gameday.drills.folder import DrillFolder
from gameday.drills.production import Production, runbook_of
from gameday.injectors.errors import Unsupported, UsageError
from gameday.injectors.sandbox.attached import AttachedSandbox
from gameday.injectors.sandbox.base import Sandbox
from gameday.injectors.undo import ProcessId, SandboxRef
from gameday.scenarios.load import LoadedScenario
from gameday.scenarios.model import Scenario

__all__ = ["produce"]


def produce(
    loaded: LoadedScenario, attach: Mapping[str, str], restarts: Mapping[str, str]
) -> Production:
    """A production on processes that are already there.

    Raises:
        UsageError: if none is named.
        Unsupported: if one would be killed that nothing starts again.
    """
    if not attach:
        raise UsageError(
            "the scenario breaks processes that are already there, and none is named",
            hint="Name them: --attach web=PID_OR_PATTERN --restart web='COMMAND'.",
        )
    _check_restarts(loaded.scenario, attach, restarts)

    found = AttachedSandbox.attach(attach, restarts, log_dir=Path())

    def reference(folder: DrillFolder) -> SandboxRef:
        return found.logging_to(folder.logs).ref

    async def bring_up(folder: DrillFolder, ref: SandboxRef, owners: list[ProcessId]) -> Sandbox:
        return await AttachedSandbox.connect(ref)

    return Production(
        scenario=loaded.scenario,
        source=loaded.text,
        reference=reference,
        bring_up=bring_up,
        rehearsal=lambda: found,
        entry=next(iter(attach)),
        teardown=False,
        runbook=runbook_of(loaded),
    )


def _check_restarts(
    scenario: Scenario, attach: Mapping[str, str], restarts: Mapping[str, str]
) -> None:
    """No way back, no drill: a process that we kill must be one that can be started again."""
    for entry in scenario.faults:
        if entry.breaks.kind != "process.kill":
            continue
        target = entry.breaks.target
        name = target.service or (target.slot or "").removesuffix("-1")
        if name in attach and name not in restarts:
            raise Unsupported(
                f"{name} would be killed, and nothing says how it is started again",
                hint=f"Add --restart {name}='COMMAND'.",
            )
