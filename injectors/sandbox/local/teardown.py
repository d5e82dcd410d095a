"""Ending a sandbox and everything that belongs to it, whatever state it is in."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterable
from pathlib import Path
from typing import TypeVar

import anyio
import msgspec

from gameday.injectors.errors import SandboxError
from gameday.injectors.sandbox import process
from gameday.injectors.sandbox.local import cgroups, orders
from gameday.injectors.sandbox.local.client import Client
from gameday.injectors.undo import Outcome, ProcessId, SandboxRef, StepResult

__all__ = ["tear_down"]

_POLITELY = 2.5
_BY_FORCE = 3.0
_PATIENCE = 10

T = TypeVar("T")


def _read(path: Path, kind: type[T], otherwise: T) -> T:
    try:
        return msgspec.json.decode(path.read_bytes(), type=kind)
    except (OSError, ValueError):
        return otherwise


class _Traces:
    """What is known of a sandbox beside its supervisor: its tag, and what was written down.

    Attributes:
        groups: Where its control groups are: as written down, and as we would make them.
    """

    def __init__(self, run: Path, tag: str) -> None:
        self._run, self._tag = run, tag
        self._known: set[ProcessId] = set()
        found = cgroups.Groups.find(tag)
        ours = [] if found is None else [found[0]]
        noted = Path(_read(run / orders.GROUPS, str, ""))
        self.groups = {*ours, noted} if noted.name == tag else {*ours}
        self.read_processes()

    def read_processes(self) -> None:
        """Read who was written down, beside those whom we know."""
        self._known |= {*_read(self._run / orders.PROCESSES, list[ProcessId], [])}

    def left(self) -> list[ProcessId]:
        """Who still runs, we ourselves excepted; the youngest first, so the supervisor last.

        It adopts what the others leave behind; without it that could not be found any more.
        """
        found = {
            *process.find_by_environment("GAMEDAY_SANDBOX", self._tag),
            *process.find_by_session(self._known),
            *self._known,
            *(who for folder in self.groups for who in cgroups.members(folder)),
        }
        found = {*process.with_descendants(found)} - {process.process_id(os.getpid())}
        self._known |= found  # whoever adopts them next
        return sorted(found, key=lambda who: (who.started, who.pid), reverse=True)


async def tear_down(ref: SandboxRef) -> StepResult:
    """End the sandbox: ask its supervisor, then kill what is left, then clear away.

    Raises:
        SandboxError: if a process or a control group is left even then.
    """
    run, tag = Path(ref.address), ref.options["tag"]
    traces = _Traces(run, tag)
    existed = run.exists()
    if existed:
        await Client(run).until_closed(orders.Down(), within=_POLITELY)
        traces.read_processes()  # the supervisor writes down who did not end
    killed = await _kill(traces)
    await _remove_groups(traces.groups)
    shutil.rmtree(run, ignore_errors=True)
    if run.exists():
        raise SandboxError(f"{run} cannot be removed", hint=f"Remove it by hand: rm -r {run}")
    if not existed and not killed:
        return StepResult(Outcome.NOTHING, "the sandbox is gone")
    left = f"; {killed} processes had to be killed" if killed else ""
    return StepResult(Outcome.PUT_BACK, f"the sandbox was ended{left}")


async def _kill(traces: _Traces) -> int:
    """Kill what still runs; it may start more until it is dead, so look until nothing is left."""
    killed: set[ProcessId] = set()
    with anyio.move_on_after(_BY_FORCE):
        for _ in range(_PATIENCE):  # the kernel may be about to end them with their init
            if not traces.left():
                return 0
            await anyio.sleep(0.01)
        while left := traces.left():
            killed |= {*process.kill(left)}
            await anyio.sleep(0.01)
        return len(killed)
    pids = " ".join(str(who.pid) for who in traces.left())
    raise SandboxError(
        f"processes of the sandbox are left: {pids}", hint=f"Kill them by hand: kill -9 {pids}"
    )


async def _remove_groups(folders: Iterable[Path]) -> None:
    for folder in folders:
        with anyio.move_on_after(_BY_FORCE):
            while not cgroups.remove_groups(folder):  # noqa: ASYNC110 - no file tells us
                await anyio.sleep(0.01)  # the killed are about to leave them
            continue
        raise SandboxError(
            f"control groups of the sandbox cannot be removed: {folder}",
            hint=f"Remove them by hand: find {folder} -depth -type d -exec rmdir {{}} +",
        )
