"""Putting a process of this machine back: its signals, its CPUs, its limits."""

from __future__ import annotations

import os
import resource
import signal as signals
from pathlib import Path

from gameday.injectors.errors import SandboxError
from gameday.injectors.sandbox import process
from gameday.injectors.sandbox.process import signal_slot
from gameday.injectors.undo import (
    Outcome,
    ProcessId,
    RestoreAffinity,
    RestoreLimit,
    SignalProcess,
    StepResult,
)

__all__ = ["put_back", "restore_group", "was_there"]


def was_there(there: bool, yes: str, no: str) -> StepResult:
    """``put-back`` if there was something to undo, else ``nothing``."""
    return StepResult(Outcome.PUT_BACK, yes) if there else StepResult(Outcome.NOTHING, no)


def put_back(step: SignalProcess | RestoreAffinity | RestoreLimit) -> StepResult | None:
    """Carry out a step on the very process that it means; None if that is gone.

    Raises:
        SandboxError: if it is another user's.
    """
    if not process.is_alive(step.process):
        return None
    try:
        return _put_back(step, step.process)
    except ProcessLookupError:  # just now
        return None
    except PermissionError as error:
        raise SandboxError(
            f"process {step.process.pid} may not be changed: {error.strerror}"
        ) from error


def _put_back(step: SignalProcess | RestoreAffinity | RestoreLimit, who: ProcessId) -> StepResult:
    match step:
        case SignalProcess():
            name = signals.Signals(step.signal).name
            members = process.tree(who)
            stopped = any(process.state(member) == "T" for member in members)
            # Sent whatever was seen: a SIGSTOP that was sent just now may not show yet.
            done = signal_slot(who, step.signal)
            if step.signal == signals.SIGCONT and not stopped:
                return StepResult(Outcome.NOTHING, "the process was not stopped")
            return was_there(done, f"{name} was sent", "the process is gone")
        case RestoreAffinity():
            return _restore_affinity(step, who)
        case RestoreLimit():
            soft, _, hard = step.value.partition(" ")
            return _restore_limit((int(soft), int(hard)), who)


def _restore_limit(wanted: tuple[int, int], who: ProcessId) -> StepResult:
    """What the process started meanwhile has inherited ours, and gets its own back as well."""
    ours = resource.prlimit(who.pid, resource.RLIMIT_AS)
    if ours == wanted:
        return StepResult(Outcome.NOTHING, "the limit is as it was")
    resource.prlimit(who.pid, resource.RLIMIT_AS, wanted)
    for member in process.tree(who)[1:]:
        try:
            if resource.prlimit(member.pid, resource.RLIMIT_AS) == ours:
                resource.prlimit(member.pid, resource.RLIMIT_AS, wanted)
        except ProcessLookupError:
            continue
    return StepResult(Outcome.PUT_BACK, "the limit was put back")


def _restore_affinity(step: RestoreAffinity, who: ProcessId) -> StepResult:
    members = [m for m in process.tree(who) if process.affinity(m) not in ((), step.cpus)]
    for member in members:
        process.set_affinity(member, step.cpus)
    return was_there(
        bool(members), "it may run on all its CPUs again", "it may run on all its CPUs"
    )


def restore_group(step: RestoreLimit) -> StepResult:
    """Give a control group its limit back.

    Raises:
        SandboxError: if its file cannot be written.
    """
    path = Path(step.limit)
    try:
        if path.read_text().strip() == step.value:
            return StepResult(Outcome.NOTHING, "the limit is as it was")
        path.write_text(step.value)
    except FileNotFoundError:
        return StepResult(Outcome.NOTHING, "the control group is gone")
    except OSError as error:
        raise SandboxError(f"{path} cannot be written: {os.strerror(error.errno or 0)}") from error
    return StepResult(Outcome.PUT_BACK, "the limit was put back")
