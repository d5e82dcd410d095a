"""What is played, and where: a scenario with the sandbox that it names."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from importlib import import_module
from pathlib import Path

import msgspec

from gameday.drills.blast_radius import BlastRadius, reach_of
from gameday.drills.director import lots
from gameday.drills.folder import DrillFolder
from gameday.drills.foreign import foreign
from gameday.drills.permission import refuse_where_none_runs
from gameday.drills.planned import Planned
from gameday.injectors.sandbox.base import Sandbox
from gameday.injectors.undo import ProcessId, SandboxRef
from gameday.scenarios.load import LoadedScenario
from gameday.scenarios.model import Scenario

__all__ = ["Production", "plan_drill", "plan_on", "produce", "runbook_of"]

Produce = Callable[[LoadedScenario, Mapping[str, str], Mapping[str, str]], "Production"]
"""What each module of `gameday.drills.productions` does for its kind of sandbox."""
BringUp = Callable[[DrillFolder, SandboxRef, list[ProcessId]], Awaitable[Sandbox]]


async def _no_preflight() -> None:
    """Nothing has to be looked at before."""


class Production(msgspec.Struct, frozen=True):
    """A scenario, ready to be played.

    Attributes:
        source: The scenario file's text, kept as run.
        reference: Where the sandbox will be found.
        bring_up: Starts the sandbox, or finds it; it ends with the processes that it is given.
        teardown: Whether the sandbox is ours to end.
        rehearsal: A sandbox that may be read for a plan before anything is started.
        entry: The service that users reach; empty for the first that listens.
        preflight: Raises where the sandbox cannot be brought up; touches nothing.
        locustfile: The file with the load's journey; ``user`` is its user class.
        runbook: What the fixers may read.
        protected: Services that the sandbox itself protects from faults.
    """

    scenario: Scenario
    source: str
    reference: Callable[[DrillFolder], SandboxRef]
    bring_up: BringUp
    rehearsal: Callable[[], Sandbox]
    entry: str
    teardown: bool = True
    preflight: Callable[[], Awaitable[None]] = _no_preflight
    locustfile: Path | None = None
    user: str = ""
    runbook: str = ""
    protected: tuple[str, ...] = ()


def produce(
    loaded: LoadedScenario, attach: Mapping[str, str], restarts: Mapping[str, str]
) -> Production:
    """The production of a valid scenario.

    Args:
        loaded: The scenario with what it names.
        attach: By name, the processes to attach to: a pid or what to search for.
        restarts: By name, the command that starts it again.

    Raises:
        UsageError: if the sandbox and the command line do not fit together.
        Unsupported: if a program that the sandbox starts is not on this machine.
    """
    kind = loaded.scenario.sandbox.kind
    make: Produce = import_module(f"gameday.drills.productions.{kind}").produce
    return make(loaded, attach, restarts)


async def plan_drill(production: Production, seed: int) -> list[Planned]:
    """The injections that the drill would make with that seed; nothing is touched.

    Raises:
        SandboxError: if the sandbox cannot be brought up, or reached.
        UsageError: if a target matches nothing.
        Unsupported: if this machine cannot do one of the faults.
        Refused: if it would go further than its blast radius.
    """
    await production.preflight()
    return await plan_on(production.rehearsal(), production, seed)


async def plan_on(box: Sandbox, production: Production, seed: int) -> list[Planned]:
    """As `plan_drill`, on that sandbox."""
    scenario = production.scenario
    planned = []
    for index, entry in enumerate(scenario.faults):
        found = await foreign(entry.breaks.plan, box, lots(seed, index))
        until = scenario.duration if entry.lasts is None else entry.at + entry.lasts
        planned += [Planned(entry.at, injection, until, index) for injection in found]
    for each in planned:
        refuse_where_none_runs(each.injection.undo, scenario.sandbox.kind)
    limits = BlastRadius.of(scenario, production.protected)
    limits.check(planned, await reach_of(box))
    return sorted(planned, key=lambda each: each.at)


def runbook_of(loaded: LoadedScenario) -> str:
    """The fixers' runbook: the scenario's own, and those of its alerts."""
    names = [loaded.scenario.runbook, *(alert.runbook for alert in loaded.scenario.alerts)]
    wanted = dict.fromkeys(name for name in names if name)
    return "\n\n".join(loaded.runbooks[name] for name in wanted if name in loaded.runbooks)
