"""How the fake sandbox carries out undo steps."""

from __future__ import annotations

import msgspec

from gameday.injectors.sandbox.fake_state import NO_LIMIT, FakeSlot, FakeState
from gameday.injectors.undo import (
    AllowFile,
    ClearHold,
    ConnectNetwork,
    CreateContainer,
    DeleteFile,
    EndHelpers,
    Outcome,
    RemoveToxic,
    ResolvePage,
    RestoreAffinity,
    RestoreClock,
    RestoreFile,
    RestoreLimit,
    RunCommand,
    SignalProcess,
    StartSlot,
    Step,
    StepResult,
    TearDown,
)

__all__ = ["run"]

_PUT_BACK = StepResult(Outcome.PUT_BACK)
_NOTHING = StepResult(Outcome.NOTHING)


def run(state: FakeState, step: Step, now: float) -> StepResult:
    """Carry out one step; twice is harmless, and so is a step whose injection never happened."""
    match step:
        case RestoreLimit(limit="cpu" | "memory"):
            return _restore_limit(state, step)
        case ConnectNetwork(slot, network, settings):
            return _connect(state.slots.get(slot), network, settings)
        case RestoreFile(slot, _, _, tag):
            taken = state.slots.get(slot)
            return _done(taken is not None and taken.corrupted.pop(tag, None) is not None)
        case AllowFile(slot, _, _, tag):
            taken = state.slots.get(slot)
            return _done(taken is not None and taken.denied.pop(tag, None) is not None)
        case RestoreClock(slot, _, _, tag):
            taken = state.slots.get(slot)
            return _done(taken is not None and taken.skewed.pop(tag, None) is not None)
        case CreateContainer():
            return _create(state, step, now)
        case SignalProcess() | RestoreAffinity() | RestoreLimit():
            return _on_process(state, step, now)
        case StartSlot(slot):
            return _start(state, slot, now)
        case ClearHold(slot, tag):
            return _clear_hold(state, slot, tag, now)
        case RemoveToxic(link, tag):
            held = state.find_place(link)
            return _done(held is not None and held.toxics.pop(tag, None) is not None)
        case EndHelpers(_, tag):
            return _done(state.helpers.pop(tag, None) is not None)
        case DeleteFile(slot, name):
            filled = state.slots.get(slot)
            return _done(filled is not None and filled.files.pop(name, None) is not None)
        case ResolvePage(page, alert, _):
            state.note(now, "resolved", "", "gameday", f"{alert} (page {page})")
            return _PUT_BACK
        case TearDown():
            return _tear_down(state, now)
        case RunCommand(_, argv):
            state.commands.append(argv)
            return _PUT_BACK


def _done(changed: bool) -> StepResult:
    return _PUT_BACK if changed else _NOTHING


def _taken_over(slot: FakeSlot | None) -> StepResult:
    if slot is None or slot.process is None:
        return StepResult(Outcome.NOTHING, "the process is gone")
    return StepResult(Outcome.TAKEN_OVER, "another process fills the slot", slot.started_by)


def _on_process(
    state: FakeState, step: SignalProcess | RestoreAffinity | RestoreLimit, now: float
) -> StepResult:
    slot = state.slots.get(step.slot)
    if slot is None or slot.process is None or slot.process.id != step.process:
        return _taken_over(slot)
    before = msgspec.structs.replace(slot.process)
    match step:
        case SignalProcess():
            state.signal(slot, step.signal, now)
        case RestoreAffinity():
            slot.process.cpus = step.cpus
        case RestoreLimit():
            slot.process.limit = int(step.value.split()[0])
    return _done(slot.process != before)


def _start(state: FakeState, name: str, now: float) -> StepResult:
    slot = state.slots.get(name)
    if slot is None:
        return _NOTHING
    if slot.process is not None:
        somebody = slot.started_by not in ("", "gameday")
        return _taken_over(slot) if somebody else _NOTHING
    if not slot.wanted:
        return StepResult(Outcome.TAKEN_OVER, "stopped on purpose", slot.stopped_by)
    state.start(slot, now, "gameday")
    return _PUT_BACK


def _restore_limit(state: FakeState, step: RestoreLimit) -> StepResult:
    """A limit that stays with its slot, whoever fills it."""
    slot = state.slots.get(step.slot)
    if slot is None or slot.limits.get(step.limit, NO_LIMIT) == step.value:
        return _NOTHING
    if step.value == NO_LIMIT:
        del slot.limits[step.limit]
    else:
        slot.limits[step.limit] = step.value
    return _PUT_BACK


def _connect(slot: FakeSlot | None, network: str, settings: str) -> StepResult:
    if slot is None or network in slot.networks:
        return _NOTHING
    slot.networks[network] = settings
    return _PUT_BACK


def _create(state: FakeState, step: CreateContainer, now: float) -> StepResult:
    slot = state.slots.get(step.slot)
    if slot is None or slot.removed != step.tag:
        gone = slot is None or slot.process is None or slot.process.id == step.process
        return _NOTHING if gone else _taken_over(slot)
    slot.removed = ""
    state.start(slot, now, "gameday")
    return _PUT_BACK


def _clear_hold(state: FakeState, name: str, tag: str, now: float) -> StepResult:
    slot = state.slots.get(name)
    if slot is None or slot.holds.pop(tag, None) is None:
        return _start(state, name, now)
    if slot.process is None and slot.wanted and not slot.holds:
        state.start(slot, now, "gameday")
    return _PUT_BACK


def _tear_down(state: FakeState, now: float) -> StepResult:
    running = [slot for slot in state.slots.values() if slot.process is not None]
    state.helpers.clear()
    for slot in state.slots.values():
        slot.holds.clear()
        state.stop(slot, now, "gameday")
    for link in state.links.values():
        link.toxics.clear()
    return _done(bool(running))
