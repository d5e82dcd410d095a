"""A scenario on containers: of a Compose project that is brought up for it, or that run already."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from gameday.drills.folder import DrillFolder
from gameday.drills.production import Production, runbook_of
from gameday.drills.productions.standing import name_it
from gameday.injectors.errors import Refused, Unsupported, UsageError
from gameday.injectors.link_fault import NetworkFault
from gameday.injectors.sandbox.base import Sandbox
from gameday.injectors.sandbox.docker import elsewhere
from gameday.injectors.sandbox.docker.containers import OPT_IN
from gameday.injectors.sandbox.docker.driver import DockerSandbox, why_outside
from gameday.injectors.sandbox.docker.engine import Engine, surroundings
from gameday.injectors.sandbox.netns.preflight import lacks
from gameday.injectors.undo import ProcessId, SandboxRef
from gameday.scenarios.load import LoadedScenario
from gameday.scenarios.model import Scenario

__all__ = ["bring_up_standing", "produce"]

_REHEARSAL = "plan"


def produce(
    loaded: LoadedScenario, attach: Mapping[str, str], restarts: Mapping[str, str]
) -> Production:
    """A production on containers.

    Raises:
        UsageError: if processes are named on the command line, too.
    """
    if attach or restarts:
        raise UsageError(
            "the scenario breaks containers",
            hint="--attach and --restart are for scenarios with `sandbox: {kind: attached}`.",
        )
    choice, shape, path = loaded.scenario.sandbox, loaded.shape, loaded.cluster_path

    def named(tag: str, folder: DrillFolder | None) -> SandboxRef:
        return DockerSandbox.plan_ref(
            tag,
            project=choice.project or "",
            label=choice.label or "",
            bring_up=choice.brings_up,
            deeds=folder.logs / "hands.jsonl" if folder is not None else None,
        )

    async def bring_up(folder: DrillFolder, ref: SandboxRef, owners: list[ProcessId]) -> Sandbox:
        if path is None:
            box = await DockerSandbox.connect(ref)
            await _check_there(box)
            box.owners = tuple(owners)
            return box
        return await DockerSandbox.up(
            ref,
            files=[path],
            replicas=choice.replicas,
            environment=choice.environment,
            owners=owners,
            log_dir=folder.logs,
        )

    async def preflight() -> None:
        if choice.brings_up:
            await DockerSandbox.preflight(choice.project or "")
        await _refuse_packets(loaded.scenario, brings_up=choice.brings_up)

    def rehearsal() -> Sandbox:
        """What runs already, read only; else a fake of the same shape, for the same choice of targets."""
        if shape is None:
            return DockerSandbox(named(_REHEARSAL, None), DockerSandbox.lacks_beforehand())
        from gameday.injectors.sandbox.fake import FakeSandbox

        services = {name: service.replicas for name, service in shape.services.items()}
        lacking = DockerSandbox.lacks_beforehand()
        return FakeSandbox(
            services,
            list(shape.links),
            lacks=lacking,
            drill=_REHEARSAL,
            labels=shape.labels,
            networks={name: service.networks for name, service in shape.services.items()},
        )

    return Production(
        scenario=loaded.scenario,
        source=loaded.text,
        reference=lambda folder: named(folder.id, folder),
        bring_up=bring_up,
        rehearsal=rehearsal,
        preflight=preflight,
        entry=(shape.entry if shape is not None else None) or "",
        teardown=choice.brings_up,
        locustfile=loaded.locustfile,
        user=loaded.user,
        runbook=runbook_of(loaded),
        protected=shape.protected if shape is not None else (),
    )


async def bring_up_standing(
    path: Path, logs: Path | None, owners: list[ProcessId]
) -> tuple[Sandbox, Path]:
    """A Compose project that stands outside any drill, and the folder of its logs.

    Raises:
        GamedayError: if it does not come up; nothing is left of it then.
    """
    await DockerSandbox.preflight()
    usual = path.stem in ("compose", "docker-compose")  # then its folder says what it is
    tag, log_dir = name_it(path.absolute().parent.name if usual else path.stem, logs)
    ref = DockerSandbox.plan_ref(tag, bring_up=True, deeds=log_dir / "hands.jsonl")
    box = await DockerSandbox.up(ref, files=[path], owners=owners, log_dir=log_dir)
    return box, log_dir


async def _refuse_packets(scenario: Scenario, *, brings_up: bool) -> None:
    """Raises: Unsupported: if one of the network faults cannot be made; they are tried out."""
    wanted = [entry.breaks for entry in scenario.faults if isinstance(entry.breaks, NetworkFault)]
    engine = Engine(surroundings())
    lacking: dict[str, str] = {}
    try:
        if wanted and (why := why_outside(engine)):
            lacking = await elsewhere.lacks(engine, why)
        elif wanted and brings_up:
            lacking = lacks()
    finally:
        engine.close()
    for fault in wanted:
        if fault.toxic in lacking:
            raise Unsupported(
                f"{fault.kind} cannot be done here: {lacking[fault.toxic]}",
                hint="`gameday doctor` says what can.",
            )


async def _check_there(box: DockerSandbox) -> None:
    """Raises: Refused: if nothing there may be broken, or something there cannot be put back."""
    for one in await box.list_containers():
        if one.inspected["HostConfig"].get("AutoRemove"):
            raise Refused(
                f"{one.name} was started with --rm, so nothing could put it back once it ends",
                hint=f"Start it without --rm, or take the label {OPT_IN} off it.",
            )
    if not await box.list_containers():
        raise Refused(
            f"no container of {box.ref.address!r} has the label {OPT_IN}",
            hint="Only what opted in is ever broken; docker ps shows what runs.",
        )
