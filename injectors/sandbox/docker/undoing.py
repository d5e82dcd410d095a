"""Undo steps on a Docker sandbox, and how each of them ends.

Every step can be run by any process that holds the `SandboxRef`, any number of
times, and also when the injection never happened.

SignalProcess
    The very container process is paused: ``put-back``; it runs: ``nothing``. Another
    one fills the slot: ``taken-over``. Nobody does: ``nothing``.
StartSlot
    Nobody filled the slot: ``put-back``, it was started; where somebody stopped it by
    `gameday sandbox stop`, or removed the container: ``taken-over``.
    The process that was there when it was armed runs: ``nothing``, unless we told it to stop: then it is
    ended, and a new one started; another one runs: ``taken-over``.
ClearHold
    The hold was there: ``put-back``. Else as StartSlot.
RestoreAffinity, RestoreLimit
    As on a local sandbox; a limit is that of the container's control group. If somebody changed it
    with Docker meanwhile, it is ``taken-over``.
RemoveToxic, EndHelpers, DeleteFile
    It was there: ``put-back``; else ``nothing``; the container that it was in is gone: ``taken-over``.
ConnectNetwork
    It is not in the network: ``put-back``; somebody connected it, or removed the container:
    ``taken-over``; we connected it before, or never took it off: ``nothing``.
CreateContainer
    Nobody fills the slot, and we removed who did: ``put-back``, it was made again and started.
    The same process runs, or we made it again before: ``nothing``; another: ``taken-over``.
RestoreFile
    Our noise is in the file: ``put-back``; somebody has written there: ``taken-over``; else ``nothing``.
AllowFile
    The cover is there: ``put-back``; it went with the processes: ``nothing``.
RestoreClock
    The file holds our offset: ``put-back``; what it held before, or we never wrote: ``nothing``; anything
    else: ``taken-over``.
TearDown
    A project that was brought up for the sandbox is removed: ``put-back``; else ``nothing``.
"""

from __future__ import annotations

import signal as signals
from typing import TYPE_CHECKING, TypeGuard

import anyio
import anyio.to_thread

from gameday.injectors.errors import SandboxError, Unsupported
from gameday.injectors.sandbox import disk, process
from gameday.injectors.sandbox.docker import (
    clock,
    files,
    links,
    neighbours,
    networks,
    teardown,
    whole,
)
from gameday.injectors.sandbox.docker.containers import Container
from gameday.injectors.sandbox.docker.limits import was_updated
from gameday.injectors.sandbox.docker.parts import data_folder
from gameday.injectors.sandbox.restoring import put_back, restore_group, was_there
from gameday.injectors.undo import (
    AllowFile,
    ClearHold,
    ConnectNetwork,
    CreateContainer,
    DeleteFile,
    EndHelpers,
    Outcome,
    ProcessId,
    RemoveToxic,
    RestoreAffinity,
    RestoreClock,
    RestoreFile,
    RestoreLimit,
    SignalProcess,
    StartSlot,
    Step,
    StepResult,
    TearDown,
)

if TYPE_CHECKING:
    from gameday.injectors.sandbox.docker.driver import DockerSandbox

__all__ = ["run_step"]

_IN_FLIGHT = 0.15
"""Seconds in which the engine may still do what a runner asked that is dead by now."""
_UP_WITHIN = 5.0


async def run_step(step: Step, box: DockerSandbox) -> StepResult:
    """Carry out one undo step.

    Raises:
        SandboxError: if it could not be done, the engine's silence included.
    """
    match step:
        case TearDown():
            return await teardown.tear_down(box)
        case SignalProcess():
            return await _go_on(step, box)
        case StartSlot(slot, who):
            return await _start(slot, who, box)
        case ClearHold(slot, tag):
            return await _clear_hold(slot, tag, box)
        case EndHelpers(_, tag):
            found = await anyio.to_thread.run_sync(_end_burners, tag)
            return was_there(found, "the burners were ended", "no burner ran")
        case RestoreLimit():
            container = await box.find(step.slot)
            if container is not None and was_updated(step, container):
                return StepResult(Outcome.TAKEN_OVER, "somebody gave it another limit", by="fixer")
            return restore_group(step)
        case RestoreAffinity():
            return await _restore_affinity(step, box)
        case DeleteFile():
            return await _delete(step, box)
        case ConnectNetwork():
            return await networks.reconnect(step, box)
        case RestoreFile():
            return await files.restore(step, box)
        case AllowFile():
            return await files.allow(step, box)
        case RestoreClock():
            return await clock.restore(step, box)
        case CreateContainer():
            return await whole.create(step, box)
        case RemoveToxic(link, tag):
            found = await links.clear(link, tag, box)
            if not found and await box.find(link.partition("->")[0]) is None:
                return StepResult(Outcome.TAKEN_OVER, "somebody removed the container")
            return was_there(found, "it was taken off the link", "nothing of ours was on it")
    raise SandboxError(f"a Docker sandbox cannot undo {type(step).__name__}")


async def _look(slot: str, who: ProcessId | None, box: DockerSandbox) -> Container | None:
    """The slot's container; one that nothing has happened to is looked at again a moment later.

    The end of a process is waited for that is not known to the engine yet: it would be told
    to start what it takes for running.

    Raises:
        SandboxError: if it does not end.
    """
    container = await box.find(slot)
    if who is None or not _seems(container, who) or container.state != "running":
        return container
    await anyio.sleep(_IN_FLIGHT)
    with anyio.move_on_after(process.DIES_WITHIN):
        while True:
            container = await box.find(slot)
            if not (_seems(container, who) and _ends(who)):
                return container
            await anyio.sleep(0.02)
    raise process.still_dying(slot)


def _seems(container: Container | None, who: ProcessId) -> TypeGuard[Container]:
    """Whether the engine says that this very process runs, though it may have none any more."""
    if container is None:
        return False
    state = container.inspected["State"]
    return bool(state.get("Running")) and state.get("Pid") == who.pid


def _ends(who: ProcessId) -> bool:
    """Whether a process has ended or is about to; of one elsewhere that cannot be told."""
    here = who.boot_id == process.boot_id()
    return here and (not process.is_alive(who) or process.is_dying(who))


async def _go_on(step: SignalProcess, box: DockerSandbox) -> StepResult:
    container = await _look(step.slot, step.process, box)
    if container is None or container.process is None:
        return StepResult(Outcome.NOTHING, "the process is gone")
    if container.process != step.process:
        return StepResult(
            Outcome.TAKEN_OVER, "another process fills the slot", by=box.who_restarted(container)
        )
    if step.signal == signals.SIGCONT and container.state != "paused":
        return StepResult(Outcome.NOTHING, "the process was not stopped")
    await box.signal(container, step.signal)
    return StepResult(Outcome.PUT_BACK, f"{signals.Signals(step.signal).name} was sent")


async def _start(slot: str, who: ProcessId | None, box: DockerSandbox) -> StepResult:
    container = await _look(slot, who, box)
    if container is not None and container.process == who and who is not None:
        container = await _ended(container, box)
    whole.forget_stopping(who, box)
    if container is None:
        return StepResult(Outcome.TAKEN_OVER, "somebody removed the container")
    if container.process is not None:
        if who is None or container.process == who:
            return StepResult(Outcome.NOTHING, "its process runs")
        by = box.who_restarted(container)
        if by == "gameday":
            return StepResult(Outcome.NOTHING, "it was started before")
        return StepResult(Outcome.TAKEN_OVER, "somebody started a process", by=by)
    stopped = box.who_stopped(slot)
    if stopped:
        return StepResult(Outcome.TAKEN_OVER, "the slot was taken out of use", by=stopped)
    await box.start(container)
    return StepResult(Outcome.PUT_BACK, "a new process was started")


async def _ended(container: Container, box: DockerSandbox) -> Container | None:
    """The container as it is once it has ended, if we told it to stop and it still may.

    Raises:
        SandboxError: if it does not end.
    """
    if not await whole.end_stopping(container, box):
        return container
    with anyio.move_on_after(_UP_WITHIN):
        while True:
            found = await box.find(container.slot)
            if found is None or found.process != container.process:
                return found
            await anyio.sleep(0.02)
    raise SandboxError(f"{container.slot} was told to stop, and has not ended")


async def _clear_hold(slot: str, tag: str, box: DockerSandbox) -> StepResult:
    if not teardown.end_helpers(tag):
        return await _start(slot, None, box)
    await anyio.sleep(_IN_FLIGHT)
    with anyio.move_on_after(_UP_WITHIN):
        while True:
            container = await box.find(slot)
            if container is None:
                break
            if container.process is not None:
                return StepResult(Outcome.PUT_BACK, "the hold was lifted, and a process runs")
            if container.state != "starting":
                await box.start(container)
            await anyio.sleep(0.02)
    raise SandboxError(f"the hold on {slot} was lifted, but no process runs there")


def _end_burners(tag: str) -> bool:
    return teardown.end_helpers(tag) | neighbours.remove(tag)


async def _restore_affinity(step: RestoreAffinity, box: DockerSandbox) -> StepResult:
    if (done := put_back(step)) is not None:
        return done
    container = await box.find(step.slot)
    if container is None or container.process is None:
        return StepResult(Outcome.NOTHING, "the process is gone")
    by = box.who_restarted(container)
    return StepResult(Outcome.TAKEN_OVER, "another process fills the slot", by=by)


async def _delete(step: DeleteFile, box: DockerSandbox) -> StepResult:
    container = await box.find(step.slot)
    if container is None or container.process is None:
        return StepResult(Outcome.NOTHING, "it went with its container's process")
    try:
        with data_folder(container, container.process) as folder:
            disk.inside(folder, step.name).unlink()
    except (FileNotFoundError, Unsupported):
        return StepResult(Outcome.NOTHING, f"there was no {step.name}")
    return StepResult(Outcome.PUT_BACK, f"{step.name} was deleted")
