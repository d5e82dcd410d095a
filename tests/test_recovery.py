"""Recovery: what is still in force is put back, whatever fails, and is told with its outcome."""

from __future__ import annotations

import signal

import anyio
import anyio.to_thread
import msgspec
import pytest

from gameday.drills.recover import check_recovered, recover
from gameday.drills.undo_log import UndoLog, read_undo_log
from gameday.drills.undoing import undo_one
from gameday.injectors.errors import Refused, SandboxError, SandboxGone
from gameday.injectors.sandbox.base import Sandbox, Toxic
from gameday.injectors.sandbox.process import is_stopped
from gameday.injectors.undo import (
    Armed,
    Outcome,
    RemoveToxic,
    ResolvePage,
    SandboxRef,
    SignalProcess,
    StepResult,
    TearDown,
    Undone,
)
from tests.guarded_drill import LINKS, Scene, anyio_backend, home, identify, scene

__all__ = ["anyio_backend", "home", "scene"]

pytestmark = [pytest.mark.anyio, pytest.mark.sandbox]


# Recovery


async def arm(scene: Scene, *names: str) -> UndoLog:
    log = UndoLog(scene.folder.undo)
    for name in names:
        await log.arm(Armed(name, name, scene.box.ref, (RemoveToxic(LINKS[0], name),)))
        await scene.box.links.add(LINKS[0], Toxic("latency", name))
    return log


async def test_nobody_recovers_a_drill_that_runs(scene: Scene) -> None:
    log = await arm(scene, "a")
    with pytest.raises(Refused, match="still runs"):
        await recover(scene.folder, by="recover")
    assert scene.toxics() == 1
    log.close()
    (undone,) = await recover(scene.folder, by="recover")
    assert (undone.outcome, undone.by) == (Outcome.PUT_BACK, "recover")
    assert await recover(scene.folder, by="recover") == []
    check_recovered(scene.folder)


async def test_recovery_dies_at_any_step_and_the_next_goes_on(scene: Scene) -> None:
    (await arm(scene, *"abcde")).close()
    steps = 0

    class Dying(Exception):
        pass

    async def connect(ref: SandboxRef) -> Sandbox:
        nonlocal steps
        steps += 1
        raise SandboxError("not now") if steps < 3 else Dying

    with pytest.raises(Dying):
        await recover(scene.folder, by="recover", connect=connect, pauses=())
    with scene.folder.recovery.open("ab") as file:
        file.write(b'{"type":"undone","id":"a","outc')
    results = await recover(scene.folder, by="recover")
    assert [(each.id, each.outcome) for each in results] == [
        (name, Outcome.PUT_BACK) for name in "edcba"
    ]
    assert scene.all_is_put_back()


async def test_what_fails_is_tried_again_and_stops_nothing(scene: Scene) -> None:
    (await arm(scene, *"abc")).close()
    box = scene.box
    box.fail("run_step", times=1)
    box.fail("run_step", times=1, error=ZeroDivisionError("a bug"))

    async def connect(ref: SandboxRef) -> Sandbox:
        return box

    results = await recover(scene.folder, by="recover", connect=connect, pauses=(0, 0, 0))
    assert {each.outcome for each in results} == {Outcome.PUT_BACK}
    assert scene.toxics() == 0


async def test_a_step_that_hangs_has_a_time_limit_even_where_all_is_cancelled(
    scene: Scene,
) -> None:
    scene.box.slow("run_step", float("inf"))
    armed = Armed("a", "a", scene.box.ref, (RemoveToxic(LINKS[0], "a"),) * 2)
    result = None
    with anyio.CancelScope() as scope:
        scope.cancel()
        result = await undo_one(armed, scene.box, limit=0.1)
    assert result is not None
    assert result.outcome is Outcome.FAILED
    assert "not done within 0.1 s; by hand: gameday sandbox clear" in result.detail


async def test_without_its_sandbox_a_process_is_let_go_all_the_same(scene: Scene) -> None:
    scene.target.send_signal(signal.SIGSTOP)
    process = identify(scene.target.pid)
    gone = SandboxGone("gone")
    armed = Armed(
        "a",
        "a",
        SandboxRef("fake", "x", "/nowhere"),
        (SignalProcess("s", process, signal.SIGCONT), RemoveToxic("l", "t"), TearDown("t")),
    )
    assert (await undo_one(armed, gone)).outcome is Outcome.PUT_BACK
    assert not is_stopped(process)
    scene.target.kill()
    scene.target.wait()
    assert (await undo_one(armed, gone)).outcome is Outcome.NOTHING


@pytest.mark.parametrize(
    ("outcomes", "sum_of_it"),
    [
        ([Outcome.NOTHING, Outcome.PUT_BACK], Outcome.PUT_BACK),
        ([Outcome.PUT_BACK, Outcome.TAKEN_OVER, Outcome.NOTHING], Outcome.TAKEN_OVER),
        ([Outcome.TAKEN_OVER, Outcome.FAILED], Outcome.FAILED),
        ([], Outcome.NOTHING),
    ],
)
async def test_one_outcome_for_all_steps(
    scene: Scene, outcomes: list[Outcome], sum_of_it: Outcome
) -> None:
    left = list(outcomes)

    async def resolve(step: ResolvePage) -> StepResult:
        return StepResult(left.pop(0), "seen", "kim")

    steps = (ResolvePage("p", "a", ()),) * len(outcomes)
    armed = Armed("a", "a", scene.box.ref, steps)
    result = await undo_one(armed, scene.box, resolve_page=resolve)
    assert result.outcome is sum_of_it
    assert result == Undone(
        "a", sum_of_it, "seen" if outcomes else "", "kim" if outcomes else ""
    )  # fmt: skip
    assert msgspec.json.decode(msgspec.json.encode(result), type=Undone) == result


async def test_what_it_put_back_is_compared_with_before(scene: Scene) -> None:
    """Not only undone: whether the target is as it was is in the record, before its sandbox ends."""
    image = dict(await scene.box.fingerprint(LINKS[0]))
    log = UndoLog(scene.folder.undo)
    box = scene.box.ref
    await log.arm(Armed("sandbox", "the sandbox", box, (TearDown("t"),)))
    for name, link, before in (
        ("fine", LINKS[0], image),
        ("odd", LINKS[1], image | {"toxics": "something else"}),
        ("unknown", LINKS[1], {}),
    ):
        step = RemoveToxic(link, name)
        await log.arm(Armed(name, name, box, (step,), target=link, before=before))
        await scene.box.links.add(link, Toxic("latency", name, {"delay": 1.0}))
    log.close()
    await recover(scene.folder, by="recover", pauses=())
    read = read_undo_log(scene.folder.undo, scene.folder.recovery)
    assert not read.outstanding
    found = {each.id: each for each in read.compared}
    assert found.keys() == {"fine", "odd"}
    assert found["fine"].equal
    assert not found["odd"].equal
    assert "toxics was something else" in found["odd"].detail


async def test_a_failure_is_told_and_recorded_once_until_it_is_another(scene: Scene) -> None:
    (await arm(scene, "a", "b")).close()
    asked = 0
    told: list[str] = []

    async def connect(ref: SandboxRef) -> Sandbox:
        nonlocal asked
        asked += 1
        raise SandboxError("no socket" if asked <= 3 else "refused", hint="Is it running?")

    await recover(scene.folder, by="recover", connect=connect, pauses=(0, 0), log=told.append)
    assert asked == 6  # every round asks anew
    reasons = [line.partition("reached: ")[2].partition(";")[0] for line in told]
    assert reasons == ["no socket", "no socket", "refused", "refused"]
    assert len(scene.folder.recovery.read_bytes().splitlines()) == 4
    assert scene.outstanding() == ["b", "a"]
