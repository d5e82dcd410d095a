"""A local sandbox as a drill, a watchdog or a fixer's terminal holds it.

Light to import: the watchdog does so before anything is armed.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import anyio
import msgspec

from gameday.injectors.errors import SandboxError, SandboxGone
from gameday.injectors.sandbox import process
from gameday.injectors.sandbox.base import Change, Link, Sandbox, Slot
from gameday.injectors.sandbox.local import orders, parts, teardown, undoing
from gameday.injectors.sandbox.local.client import Client
from gameday.injectors.undo import ProcessId, SandboxRef, Step, StepResult

if TYPE_CHECKING:
    from gameday.injectors.sandbox.local.cluster import Cluster

__all__ = ["LocalSandbox"]


class LocalSandbox(Sandbox):
    """A cluster of real processes on this machine, held by a supervisor.

    What it can do is settled by `up` or `connect`: a machine may lack sized disks.
    """

    def __init__(self, ref: SandboxRef, lacks: Mapping[str, str] | None = None) -> None:
        self.ref = ref
        self._client = Client(Path(ref.address))
        self._lacks = dict(lacks or {})
        every: dict[str, Any] = parts.make(self._client)
        self.parts = {name: part for name, part in every.items() if name not in self._lacks}

    def lacks(self) -> Mapping[str, str]:
        """Parts that this machine cannot give, each with the reason."""
        return self._lacks

    # Making and finding one

    @classmethod
    def plan_ref(cls, run_dir: Path | None, tag: str) -> SandboxRef:
        """Where a sandbox will be found; nothing is made yet, so `TearDown` can be armed first.

        Args:
            run_dir: The folder in which the sandbox makes its own, short-lived one;
                None for the user's runtime folder. Where its path is too long for a
                socket, the system's folder for temporary files is taken instead.
            tag: Unique; what everything in the sandbox carries.
        """
        from gameday.injectors.sandbox.local import launch  # only who starts one needs it

        return launch.plan_ref(run_dir, tag)

    @classmethod
    async def up(
        cls,
        cluster: Cluster,
        ref: SandboxRef,
        *,
        log_dir: Path,
        owners: Sequence[ProcessId],
        folder: Path,
        isolate: bool = True,
    ) -> LocalSandbox:
        """Bring a cluster up and wait until every service is healthy.

        Args:
            cluster: What to run.
            ref: From `plan_ref`.
            log_dir: Where each slot's output goes, and the supervisor's.
            owners: The sandbox ends when all of these have; none: when it is told to.
            folder: The folder of the file that declares the cluster.
            isolate: False to do without namespaces and control groups, even where they can
                be had: as on a machine that permits none.

        Raises:
            UsageError: if a template cannot be filled in; nothing was started.
            SandboxError: if a service does not become healthy, with the end of its log.
                Nothing is left then.
        """
        from gameday.injectors.sandbox.local import launch

        supervisor = await launch.launch(
            cluster, ref, log_dir=log_dir, owners=owners, folder=folder, isolate=isolate
        )
        started = False
        try:
            await Client(Path(ref.address)).ask(orders.Up(), orders.Done, within=600.0)
            started = True
        except SandboxGone as error:
            await anyio.sleep(0.05)
            how = launch.how_it_ended(supervisor) or "without a word"
            raise SandboxError(
                f"the sandbox's supervisor ended while it started the cluster, {how}",
                hint=launch.tail(log_dir / launch.LOG),
            ) from error
        finally:
            if not started:
                with anyio.CancelScope(shield=True):
                    await teardown.tear_down(ref)
        return await cls.connect(ref)

    @classmethod
    async def connect(cls, ref: SandboxRef) -> LocalSandbox:
        """The sandbox that runs there.

        Where its supervisor is gone this works too: everything is gone with it, and
        undo steps find that out.
        """
        try:
            about = await Client(Path(ref.address)).ask(orders.Hello(), orders.About, within=3.0)
        except SandboxError:
            return cls(ref)
        return cls(ref, about.lacks)

    # Looking at it

    async def list_slots(self) -> tuple[Slot, ...]:
        """Every slot, by service as declared, then by number."""
        return (await self._client.ask(orders.FindSlots(), orders.SlotList)).slots

    async def list_links(self) -> tuple[Link, ...]:
        """Every link."""
        return (await self._client.ask(orders.FindLinks(), orders.LinkList)).links

    async def fingerprint(self, slot: str) -> Mapping[str, str]:
        """What a fault could have changed at a slot or link, without identity."""
        if "->" in slot:
            answer = await self._client.ask(orders.GetToxics(slot), orders.ToxicList)
            return {"toxics": _show(sorted(answer.toxics, key=lambda toxic: toxic.tag))}
        status = (await self._client.ask(orders.GetStatus(slot), orders.StatusOf)).status
        files = (await self._client.ask(orders.Files(slot), orders.Names)).names
        limit = await parts.Memory(self._client).limit(slot)
        members = process.tree(status.process) if status.process else ()
        masks = {process.affinity(member) for member in members} - {()}
        return {
            "process": status.state,
            "stopped processes": _show(sum(map(process.is_stopped, members))),
            "holds": _show(sorted(status.holds)),
            "cpus": _show(sorted(masks)),
            "burners": _show(parts.burners(self.ref.options["tag"], slot)),
            "limit": _show(limit),
            "limits of its processes": _show(parts.address_space_limits(members)),
            "files": _show(files),
        }

    async def changes(self) -> AsyncIterator[Change]:
        """What happens in the sandbox, from now on; ends when the sandbox does."""
        async for change in self._client.watch():
            yield change

    # Putting back

    async def run_step(self, step: Step) -> StepResult:
        """Carry out one undo step; see `undoing` for how each of them ends."""
        return await undoing.run_step(step, self.ref, self._client)


def _show(value: object) -> str:
    return msgspec.json.encode(value).decode()
