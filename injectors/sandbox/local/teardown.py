"""Ending a sandbox and everything that belongs to it, whatever state it is in."""

from __future__ import annotations

import os
import shutil
import signal
from pathlib import Path

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


def _recorded(run: Path) -> list[ProcessId]:
    try:
        return msgspec.json.decode((run / "processes.json").read_bytes(), type=list[ProcessId])
    except (OSError, ValueError):
        return []


def _left(tag: str, recorded: list[ProcessId]) -> set[ProcessId]:
    by_tag = process.find_by_environment("GAMEDAY_SANDBOX", tag)
    return {*by_tag, *process.find_by_session(recorded)} - {process.process_id(os.getpid())}


async def tear_down(ref: SandboxRef) -> StepResult:
    """End the sandbox: ask its supervisor, then kill what is left, then clear away.

    Raises:
        SandboxError: if a process survives even that.
    """
    run, tag = Path(ref.address), ref.options["tag"]
    recorded = _recorded(run)
    existed = run.exists()
    if existed:
        await Client(run).until_closed(orders.Down(), within=_POLITELY)
    killed = await _kill(tag, recorded)
    found = cgroups.Groups.find(tag)
    if found is not None:
        with anyio.move_on_after(_BY_FORCE):
            while not cgroups.remove_groups(found[0]):  # noqa: ASYNC110 - no file tells us
                await anyio.sleep(0.01)  # the killed are about to leave them
    shutil.rmtree(run, ignore_errors=True)
    if run.exists():
        raise SandboxError(f"{run} cannot be removed", hint=f"Remove it by hand: rm -r {run}")
    if not existed and not killed:
        return StepResult(Outcome.NOTHING, "the sandbox is gone")
    left = f"; {killed} processes had to be killed" if killed else ""
    return StepResult(Outcome.PUT_BACK, f"the sandbox was ended{left}")


async def _kill(tag: str, recorded: list[ProcessId]) -> int:
    """Kill what still runs; it may start more until it is dead, so look until nothing is left."""
    killed: set[ProcessId] = set()
    with anyio.move_on_after(_BY_FORCE):
        for _ in range(_PATIENCE):  # the kernel may be about to end them with their init
            if not _left(tag, recorded):
                return 0
            await anyio.sleep(0.01)
        while left := _left(tag, recorded):
            for member in left:
                if process.is_alive(member) and process.signal_process(member, signal.SIGKILL):
                    killed.add(member)
            await anyio.sleep(0.01)
        return len(killed)
    pids = ", ".join(str(member.pid) for member in _left(tag, recorded))
    raise SandboxError(
        f"processes of the sandbox are left: {pids}", hint=f"Kill them by hand: kill -9 {pids}"
    )
