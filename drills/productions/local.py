"""A scenario on a cluster of real processes of this machine, which is brought up for it."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from gameday.drills.folder import DrillFolder
from gameday.drills.production import Production, runbook_of
from gameday.drills.productions.standing import name_it
from gameday.drills.programs import check_programs
from gameday.injectors.errors import UsageError
from gameday.injectors.sandbox.base import Sandbox
from gameday.injectors.undo import ProcessId, SandboxRef
from gameday.scenarios.load import LoadedScenario, load_cluster
from gameday.scenarios.model import Scenario

__all__ = ["bring_up_standing", "produce"]


def produce(
    loaded: LoadedScenario, attach: Mapping[str, str], restarts: Mapping[str, str]
) -> Production:
    """A production on a cluster of processes that are started for it.

    Raises:
        UsageError: if processes are named on the command line, too.
        Unsupported: if a program that the cluster starts is not on this machine.
    """
    if attach or restarts:
        raise UsageError(
            "the scenario brings its own sandbox (local)",
            hint="--attach and --restart are for scenarios with `sandbox: {kind: attached}`.",
        )
    shape, cluster, path = loaded.shape, loaded.cluster, loaded.cluster_path
    assert shape is not None
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

        services = {name: service.replicas for name, service in shape.services.items()}
        lacks = local_lacks() if _needs(loaded.scenario, "disk") else {}
        return FakeSandbox(
            services, list(shape.links), lacks=lacks, drill="plan", labels=shape.labels
        )

    return Production(
        scenario=loaded.scenario,
        source=loaded.text,
        reference=reference,
        bring_up=bring_up,
        rehearsal=rehearsal,
        entry=entry,
        locustfile=loaded.locustfile,
        user=loaded.user,
        runbook=runbook_of(loaded),
        protected=shape.protected,
    )


async def bring_up_standing(
    path: Path, logs: Path | None, owners: list[ProcessId]
) -> tuple[Sandbox, Path]:
    """A cluster of processes that stands outside any drill, and the folder of its logs.

    Raises:
        GamedayError: if it does not come up; nothing is left of it then.
    """
    from gameday.injectors.sandbox.local.driver import LocalSandbox

    cluster = load_cluster(path).value
    tag, log_dir = name_it(cluster.name, logs)
    box = await LocalSandbox.up(
        cluster,
        LocalSandbox.plan_ref(None, tag),
        log_dir=log_dir,
        owners=owners,
        folder=path.absolute().parent,
    )
    return box, log_dir


def _needs(scenario: Scenario, part: str) -> bool:
    return any(part in entry.breaks.needs for entry in scenario.faults)
