"""What is played, and where: a scenario with the sandbox that it names."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from pathlib import Path

import msgspec

from gameday.drills.blast_radius import BlastRadius, reach_of
from gameday.drills.director import lots
from gameday.drills.folder import DrillFolder
from gameday.drills.planned import Planned
from gameday.injectors.errors import Unsupported, UsageError
from gameday.injectors.sandbox.base import Sandbox
from gameday.injectors.undo import ProcessId, SandboxRef
from gameday.scenarios.load import LoadedScenario
from gameday.scenarios.model import Scenario

__all__ = ["Production", "plan_drill", "plan_on", "produce"]

BringUp = Callable[[DrillFolder, SandboxRef, list[ProcessId]], Awaitable[Sandbox]]


class Production(msgspec.Struct, frozen=True):
    """A scenario, ready to be played.

    Attributes:
        source: The scenario file's text, kept as run.
        reference: Where the sandbox will be found.
        bring_up: Starts the sandbox, or finds it; it ends with the processes that it is given.
        teardown: Whether the sandbox is ours to end.
        rehearsal: A sandbox that may be read for a plan before anything is started.
        entry: The service that users reach.
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
    if loaded.scenario.sandbox.kind == "attached":
        return _attached(loaded, attach, restarts)
    if attach or restarts:
        raise UsageError(
            f"the scenario brings its own sandbox ({loaded.scenario.sandbox.kind})",
            hint="--attach and --restart are for scenarios with `sandbox: {kind: attached}`.",
        )
    return _local(loaded)


async def plan_drill(production: Production, seed: int) -> list[Planned]:
    """The injections that the drill would make with that seed; nothing is touched.

    Raises:
        UsageError: if a target matches nothing.
        Unsupported: if this machine cannot do one of the faults.
        Refused: if it would go further than its blast radius.
    """
    return await plan_on(production.rehearsal(), production, seed)


async def plan_on(box: Sandbox, production: Production, seed: int) -> list[Planned]:
    """As `plan_drill`, on that sandbox."""
    scenario = production.scenario
    planned = []
    for index, entry in enumerate(scenario.faults):
        found = await entry.breaks.plan(box, lots(seed, index))
        until = scenario.duration if entry.lasts is None else entry.at + entry.lasts
        planned += [Planned(entry.at, injection, until, index) for injection in found]
    limits = BlastRadius.of(scenario, production.protected)
    limits.check(planned, await reach_of(box))
    return sorted(planned, key=lambda each: each.at)


def _local(loaded: LoadedScenario) -> Production:
    from gameday.drills.programs import check_programs

    cluster, path = loaded.cluster, loaded.cluster_path
    assert cluster is not None
    assert path is not None
    check_programs(cluster, path.parent)
    entry = cluster.entry or next(iter(cluster.services))

    def reference(folder: DrillFolder) -> SandboxRef:
        from gameday.injectors.sandbox.local.driver import LocalSandbox

        return LocalSandbox.plan_ref(None, folder.id)

    async def bring_up(folder: DrillFolder, ref: SandboxRef, owners: list[ProcessId]) -> Sandbox:
        from gameday.injectors.sandbox.local.driver import LocalSandbox

        return await LocalSandbox.up(
            cluster, ref, log_dir=folder.logs, owners=owners, folder=path.parent
        )

    def rehearsal() -> Sandbox:
        """A fake of the same shape: the same seed chooses the same slots and links."""
        from gameday.drills.machine import local_lacks
        from gameday.injectors.sandbox.fake import FakeSandbox

        services = {name: service.replicas for name, service in cluster.services.items()}
        links = [
            f"{name}->{other}"
            for name, service in cluster.services.items()
            for other in service.links
        ]
        lacks = local_lacks() if _needs(loaded.scenario, "disk") else {}
        return FakeSandbox(services, links, lacks=lacks, drill="plan")

    return Production(
        scenario=loaded.scenario,
        source=loaded.text,
        reference=reference,
        bring_up=bring_up,
        rehearsal=rehearsal,
        entry=entry,
        locustfile=loaded.locustfile,
        user=loaded.user,
        runbook=_runbook(loaded),
        protected=tuple(name for name, service in cluster.services.items() if service.protected),
    )


def _needs(scenario: Scenario, part: str) -> bool:
    return any(part in entry.breaks.needs for entry in scenario.faults)


def _attached(
    loaded: LoadedScenario, attach: Mapping[str, str], restarts: Mapping[str, str]
) -> Production:
    from gameday.injectors.sandbox.attached import AttachedSandbox

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
        runbook=_runbook(loaded),
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


def _runbook(loaded: LoadedScenario) -> str:
    """The fixers' runbook: the scenario's own, and those of its alerts."""
    names = [loaded.scenario.runbook, *(alert.runbook for alert in loaded.scenario.alerts)]
    wanted = dict.fromkeys(name for name in names if name)
    return "\n\n".join(loaded.runbooks[name] for name in wanted if name in loaded.runbooks)
