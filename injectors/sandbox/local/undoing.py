"""Undo steps on a local sandbox, and how each of them ends.

Every step can be run by any process that holds the `SandboxRef`, any number of
times, and also when the injection never happened or the sandbox is gone: what
is gone needs no undo, so it ends as ``nothing``.

SignalProcess, RestoreAffinity, RestoreLimit
    The very process runs: ``put-back``, or ``nothing`` if it is already as it should be.
    Another one fills the slot now: ``taken-over`` by who started that one.
    Nobody fills the slot: ``nothing``. A control group's limit belongs to the slot
    and not to a process, so it is written back whoever fills it.
StartSlot
    Nobody filled the slot: ``put-back``, it was started.
    The first process of the slot, or one that we started, runs: ``nothing``.
    One that somebody else started runs, or somebody stopped the slot on purpose,
    or scaled it away: ``taken-over`` by them.
ClearHold
    The hold was there: ``put-back``. Else as StartSlot.
RemoveToxic, EndHelpers, DeleteFile
    It was there: ``put-back``; else ``nothing``; on a link that somebody scaled away:
    ``taken-over`` by them.
TearDown
    There was something to end or to clear away: ``put-back``; else ``nothing``.
"""

from __future__ import annotations

import signal as signals

from gameday.injectors.errors import SandboxError, SandboxGone
from gameday.injectors.sandbox import process
from gameday.injectors.sandbox.local import orders, teardown
from gameday.injectors.sandbox.local.client import Client
from gameday.injectors.sandbox.restoring import put_back, restore_group, was_there
from gameday.injectors.undo import (
    ClearHold,
    DeleteFile,
    EndHelpers,
    Outcome,
    RemoveToxic,
    RestoreAffinity,
    RestoreLimit,
    SandboxRef,
    SignalProcess,
    StartSlot,
    Step,
    StepResult,
    TearDown,
)

__all__ = ["run_step"]

_GONE = StepResult(Outcome.NOTHING, "the sandbox is gone")


async def run_step(step: Step, ref: SandboxRef, client: Client) -> StepResult:
    """Carry out one undo step.

    Raises:
        SandboxError: if it could not be done.
    """
    try:
        match step:
            case TearDown():
                return await teardown.tear_down(ref)
            case SignalProcess() | RestoreAffinity() | RestoreLimit():
                return await _on_process(step, client)
            case StartSlot(slot):
                return _ensured(await client.ask(orders.Ensure(slot), orders.Ensured))
            case ClearHold(slot, tag):
                return _ensured(await client.ask(orders.Unhold(slot, tag), orders.Ensured))
            case RemoveToxic(link, tag):
                return _removed(await client.ask(orders.ClearToxic(link, tag), orders.Ensured))
            case EndHelpers():
                return await _end_helpers(step, client)
            case DeleteFile(slot, name):
                done = await client.ask(orders.Remove(slot, name), orders.Done)
                return was_there(done.changed, f"{name} was deleted", f"there was no {name}")
            case _:
                raise SandboxError(f"a local sandbox cannot undo {type(step).__name__}")
    except SandboxGone:
        return _GONE


def _ensured(answer: orders.Ensured) -> StepResult:
    if answer.held:
        return StepResult(Outcome.PUT_BACK, "the hold was lifted, and a process runs")
    if answer.started:
        return StepResult(Outcome.PUT_BACK, "a new process was started")
    if answer.gone:
        return StepResult(Outcome.TAKEN_OVER, "the slot was taken out of use", by=answer.by)
    if answer.by in ("", "gameday"):
        return StepResult(Outcome.NOTHING, "its process runs")
    return StepResult(Outcome.TAKEN_OVER, "somebody started a process", by=answer.by)


def _removed(answer: orders.Ensured) -> StepResult:
    if answer.gone:
        outcome = Outcome.TAKEN_OVER if answer.by else Outcome.NOTHING
        return StepResult(outcome, "the link is no more", by=answer.by)
    return was_there(answer.started, "it was taken off the link", "nothing of ours was on it")


async def _end_helpers(step: EndHelpers, client: Client) -> StepResult:
    ended = False
    try:
        ended = (await client.ask(orders.EndHelpersOf(step.tag), orders.Done)).changed
    except SandboxGone:
        pass
    left = process.find_by_environment("GAMEDAY_HELPER", step.tag)
    for helper in left:
        process.signal_process(helper, signals.SIGKILL)
    return was_there(ended or bool(left), "the burners were ended", "no burner ran")


async def _on_process(
    step: SignalProcess | RestoreAffinity | RestoreLimit, client: Client
) -> StepResult:
    if isinstance(step, RestoreLimit) and step.limit != "as":
        return restore_group(step)
    if (done := put_back(step)) is not None:
        return done
    running = await client.ask(orders.WhoStarted(step.slot), orders.Ensured)
    if running.started:
        return StepResult(Outcome.TAKEN_OVER, "another process fills the slot", by=running.by)
    return StepResult(Outcome.NOTHING, "the process is gone")
