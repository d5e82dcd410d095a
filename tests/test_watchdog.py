"""The watchdog and recovery: a runner may die or freeze at any instant, and all is put back."""

from __future__ import annotations

import os
import random
import shutil
import signal
import subprocess
import sys
import textwrap
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path

import anyio
import anyio.to_thread
import msgspec
import pytest

from gameday.drills import state
from gameday.drills.folder import DrillFolder
from gameday.drills.recover import check_recovered, recover
from gameday.drills.standby import Standby
from gameday.drills.undo_log import UndoLog, read_undo_log
from gameday.drills.undoing import undo_one
from gameday.drills.watchdog import Watchdog
from gameday.injectors.errors import Refused, SandboxError, SandboxGone, UndoFailed
from gameday.injectors.sandbox.base import Sandbox, Toxic
from gameday.injectors.sandbox.fake import FakeSandbox
from gameday.injectors.sandbox.process import is_alive, is_stopped, process_id
from gameday.injectors.undo import (
    Armed,
    Outcome,
    ProcessId,
    RemoveToxic,
    ResolvePage,
    SandboxRef,
    SignalProcess,
    StepResult,
    TearDown,
    Undone,
)

pytestmark = [pytest.mark.anyio, pytest.mark.sandbox]
LINKS = ("gateway-1->api-1", "gateway-1->api-2")


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GAMEDAY_STATE", str(tmp_path / "state"))


def identify(pid: int) -> ProcessId:
    found = process_id(pid)
    assert found is not None
    return found


def spawn(*argv: str, **options: object) -> subprocess.Popen[bytes]:
    return subprocess.Popen(argv, stdout=subprocess.PIPE, **options)  # type: ignore[call-overload,no-any-return]


@dataclass
class Scene:
    """A drill's folder, a fake sandbox in a file, and a real process to be paused."""

    folder: DrillFolder
    box: FakeSandbox
    target: subprocess.Popen[bytes]
    started: list[subprocess.Popen[bytes]] = field(default_factory=list)

    def run(self, body: str, **options: object) -> subprocess.Popen[bytes]:
        """A runner in a process of its own; returns once it has printed a line."""
        argv = [str(self.folder.path), self.box.ref.address, str(self.target.pid)]
        child = spawn(sys.executable, "-c", RUNNER + textwrap.dedent(body), *argv, **options)
        self.started.append(child)
        assert child.stdout is not None
        assert child.stdout.readline() == b"go\n"
        return child

    def log(self) -> str:
        return (self.folder.logs / "watchdog.log").read_text()

    def outstanding(self) -> list[str]:
        read = read_undo_log(self.folder.undo, self.folder.recovery)
        assert read.problems == ()
        return [armed.id for armed in read.outstanding]

    def toxics(self) -> int:
        return sum(len(link.toxics) for link in self.box.state.links.values())

    def all_is_put_back(self) -> bool:
        stopped = is_stopped(identify(self.target.pid))
        return not self.outstanding() and not self.toxics() and not stopped


RUNNER = textwrap.dedent("""
    import anyio, os, random, signal, sys, time
    from pathlib import Path
    from gameday.drills import state
    from gameday.drills.folder import DrillFolder
    from gameday.drills.undo_log import UndoLog
    from gameday.drills.watchdog import Watchdog
    from gameday.injectors.sandbox.base import Toxic
    from gameday.injectors.sandbox.kinds import connect
    from gameday.injectors.sandbox.fake import FakeSandbox
    from gameday.injectors.sandbox.process import process_id
    from gameday.injectors.undo import *

    folder, address, target = DrillFolder(Path(sys.argv[1])), sys.argv[2], int(sys.argv[3])
    box_ref = SandboxRef("fake", "shop", address)
    local_ref = SandboxRef("local", "shop", "/nowhere", {"tag": folder.id})
    me = process_id(os.getpid())
    who = process_id(target)

    async def stand(kind="fake", **options):
        watchdog = Watchdog.start(folder, me, kind=kind, **options)
        state.remember(state.OpenDrill(
            id=folder.id, folder=str(folder.path), runner=me, watchdog=watchdog.process))
        await watchdog.ready()
        return watchdog

    async def inject(log, box, name, link="gateway-1->api-1"):
        await log.arm(Armed(name, name, box_ref, (RemoveToxic(link, name),)))
        await box.links.add(link, Toxic("latency", name, {"delay": 1.0}))

    async def pause(log, name):
        step = SignalProcess("s", who, signal.SIGCONT)
        await log.arm(Armed(name, name, local_ref, (step,)))
        os.kill(target, signal.SIGSTOP)
""")
ENDLESS = """
    async def main():
        watchdog = await stand(late={late})
        log = UndoLog(folder.undo)
        box, here = await FakeSandbox.connect(box_ref), await connect(local_ref)
        print("go", flush=True)
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(watchdog.wait_lost)
            number = 0
            while True:
                number += 1
                await inject(log, box, f"t{{number}}", random.choice({links}))
                await pause(log, f"p{{number}}")
                await anyio.sleep(random.random() * 0.01)
                if random.random() < 0.5:
                    for armed in log.outstanding:
                        there = box if armed.sandbox == box_ref else here
                        await log.undone(await log.undo(armed, there))
    anyio.run(main)
"""


@pytest.fixture
def scene(tmp_path: Path) -> Iterator[Scene]:
    folder = DrillFolder.create(tmp_path, datetime.now())
    box = FakeSandbox(
        {"gateway": 1, "api": 2}, ["gateway->api"], name="shop", path=tmp_path / "box.json"
    )
    scene = Scene(folder, box, spawn("sleep", "300"))
    yield scene
    drills = [drill for drill in state.open_drills() if drill.watchdog is not None]
    for child in (scene.target, *scene.started):
        child.kill()
        child.communicate()
    for drill in drills:  # what a failed test left
        if drill.watchdog is not None and is_alive(drill.watchdog):
            os.kill(drill.watchdog.pid, signal.SIGKILL)


async def until(condition: Callable[[], bool], within: float = 20.0) -> float:
    """Wait for it; how long that took."""
    start = time.monotonic()
    with anyio.fail_after(within):
        while not condition():  # noqa: ASYNC110 - it happens in other processes
            await anyio.sleep(0.01)
    return time.monotonic() - start


def closed() -> bool:
    return state.open_drills() == []


# The runner dies


@pytest.mark.parametrize("seed", range(5))
async def test_a_runner_killed_at_any_instant_leaves_nothing(scene: Scene, seed: int) -> None:
    runner = scene.run(ENDLESS.format(late=30, links=LINKS))
    await anyio.sleep(random.Random(seed).random() * 0.4)
    runner.kill()
    runner.wait()
    took = await until(closed)
    assert scene.all_is_put_back(), scene.log()
    assert took < 10


async def test_a_stopped_runner_is_ended_before_anything_is_undone(scene: Scene) -> None:
    # Two things are in force when it stops; woken, it would break more.
    runner = scene.run("""
        async def main():
            watchdog = await stand(late=0.6)
            log = UndoLog(folder.undo)
            box = await FakeSandbox.connect(box_ref)
            await inject(log, box, "t", "gateway-1->api-1")
            await pause(log, "p")
            print("go", flush=True)
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(watchdog.wait_lost)
                await anyio.sleep(1.0)
                await inject(log, box, "late", "gateway-1->api-2")
        anyio.run(main)
    """)
    await anyio.sleep(0.2)
    runner.send_signal(signal.SIGSTOP)
    await until(closed)
    runner.send_signal(signal.SIGCONT)  # a frozen runner that wakes cannot inject again
    assert runner.wait(5) == -signal.SIGKILL
    assert scene.all_is_put_back(), scene.log()
    assert "no sign of life" in scene.log()
    assert scene.log().index("ended process") < scene.log().index("put-back")


async def test_a_runner_whose_loop_hangs_is_ended(scene: Scene) -> None:
    runner = scene.run("""
        async def main():
            watchdog = await stand(late=0.6)
            log = UndoLog(folder.undo)
            await inject(log, await FakeSandbox.connect(box_ref), "t")
            print("go", flush=True)
            time.sleep(60)
        anyio.run(main)
    """)
    await until(closed)
    assert runner.wait(5) == -signal.SIGKILL
    assert scene.all_is_put_back(), scene.log()


async def test_a_drill_that_does_not_end_is_ended(scene: Scene) -> None:
    scene.run("""
        async def main():
            watchdog = await stand(limit=0.5)
            log = UndoLog(folder.undo)
            await inject(log, await FakeSandbox.connect(box_ref), "t")
            print("go", flush=True)
            await watchdog.wait_lost()
        anyio.run(main)
    """)
    await until(closed)
    assert scene.all_is_put_back()
    assert "longer than it may" in scene.log()


async def test_a_runner_that_fails_with_nothing_at_stake_may_say_why(scene: Scene) -> None:
    runner = scene.run("""
        async def main():
            watchdog = await stand()
            print("go", flush=True)
        anyio.run(main)
        time.sleep(1.0)
        sys.exit(7)
    """)
    with anyio.fail_after(10):
        assert await anyio.to_thread.run_sync(runner.wait) == 7
    await until(closed)


async def test_a_frozen_runner_without_a_watchdog_is_recovered_by_hand(scene: Scene) -> None:
    runner = scene.run("""
        async def main():
            watchdog = await stand()
            log = UndoLog(folder.undo)
            await inject(log, await FakeSandbox.connect(box_ref), "t")
            print("go", flush=True)
            await anyio.sleep(60)
        anyio.run(main)
    """)
    (drill,) = state.open_drills()
    runner.send_signal(signal.SIGSTOP)
    assert drill.watchdog is not None
    os.kill(drill.watchdog.pid, signal.SIGKILL)
    await until(lambda: drill.frozen)
    assert "is frozen" in state.outstanding_message()
    (undone,) = await recover(scene.folder, by="recover", wait=5)
    assert undone.outcome is Outcome.PUT_BACK
    assert runner.wait(5) == -signal.SIGKILL
    await until(lambda: state.outstanding_message() == "")


async def test_a_stopped_watchdog_is_no_excuse(scene: Scene) -> None:
    runner = scene.run("""
        async def main():
            watchdog = await stand()
            log = UndoLog(folder.undo)
            await inject(log, await FakeSandbox.connect(box_ref), "t")
            print("go", flush=True)
            await anyio.sleep(60)
        anyio.run(main)
    """)
    (drill,) = state.open_drills()
    assert drill.watchdog is not None
    os.kill(drill.watchdog.pid, signal.SIGSTOP)
    runner.kill()
    runner.wait()
    await until(lambda: "gameday recover" in state.outstanding_message())
    for words in (("--help",), ("--version",), (), ("list",), ("catalog",)):  # whatever is asked
        said = await anyio.run_process(
            [sys.executable, "-m", "gameday", *words], cwd="/", check=False
        )
        assert b"gameday recover" in said.stderr, words
    (undone,) = await recover(scene.folder, by="recover")
    assert undone.outcome is Outcome.PUT_BACK
    # It is ended: stopped as it is, it would hold the sandbox's lock for ever.
    await until(lambda: drill.watchdog is not None and not is_alive(drill.watchdog))
    assert scene.all_is_put_back()


async def test_helpers_end_with_the_runner_and_nobody_else_does(scene: Scene) -> None:
    runner = scene.run("""
        import subprocess
        def helper(**options):
            return subprocess.Popen(["sleep", "300"], stdout=subprocess.DEVNULL, **options).pid
        async def main():
            watchdog = await stand()
            tagged = dict(os.environ, GAMEDAY_DRILL=folder.id)
            registered = helper(start_new_session=True)
            watchdog.register(process_id(registered))
            pids = [helper(env=tagged), registered, helper(start_new_session=True, env=tagged)]
            (folder.path / "pids").write_text(" ".join(map(str, pids)))
            print("go", flush=True)
            await watchdog.wait_lost()
        anyio.run(main)
    """)
    tagged, registered, apart = (
        identify(int(pid)) for pid in (scene.folder.path / "pids").read_text().split()
    )
    await anyio.sleep(0.5)
    runner.kill()
    await until(closed)
    try:
        assert not is_alive(tagged)
        assert not is_alive(registered)
        assert is_alive(apart)  # a sandbox of its own session is not the runner's
    finally:
        os.kill(apart.pid, signal.SIGKILL)


async def test_the_order_is_newest_first_and_recorded(scene: Scene) -> None:
    runner = scene.run("""
        async def main():
            watchdog = await stand()
            log = UndoLog(folder.undo)
            box = await FakeSandbox.connect(box_ref)
            for name in "abc":
                await inject(log, box, name)
            await log.arm(Armed("d", "never done", box_ref, (RemoveToxic("gateway-1->api-1", "d"),)))
            print("go", flush=True)
            await anyio.sleep(60)
        anyio.run(main)
    """)
    runner.kill()
    await until(closed)
    done = read_undo_log(scene.folder.undo, scene.folder.recovery).undone
    assert [(each.id, each.outcome) for each in done] == [
        ("d", Outcome.NOTHING),
        ("c", Outcome.PUT_BACK),
        ("b", Outcome.PUT_BACK),
        ("a", Outcome.PUT_BACK),
    ]
    assert {each.by for each in done} == {"watchdog"}
    assert all(each.wall > 0 for each in done)


async def test_what_cannot_be_put_back_stays_on_record(scene: Scene) -> None:
    runner = scene.run("""
        async def main():
            watchdog = await stand(pauses=(0.1, 0.1))
            log = UndoLog(folder.undo)
            strange = SandboxRef("strange", "x", "")
            await log.arm(Armed("a", "a fault", strange, (RemoveToxic("gateway-1->api-1", "a"),)))
            await inject(log, await FakeSandbox.connect(box_ref), "b")
            print("go", flush=True)
            await anyio.sleep(60)
        anyio.run(main)
    """)
    runner.kill()
    await until(lambda: "not put back: a" in scene.log())
    assert scene.outstanding() == ["a"]
    assert scene.toxics() == 0
    await until(lambda: "gameday recover" in state.outstanding_message())
    with pytest.raises(UndoFailed, match="a fault could not be put back") as failed:
        check_recovered(scene.folder)
    assert "gameday sandbox clear" in failed.value.hint


async def test_pages_are_resolved_through_the_folder_alone(scene: Scene, tmp_path: Path) -> None:
    from gameday.drills.channels import Book, write_book

    pages = tmp_path / "pages.jsonl"
    write_book(scene.folder.path, Book(scene.folder.id, file=str(pages)))
    runner = scene.run("""
        async def main():
            watchdog = await stand()
            log = UndoLog(folder.undo)
            step = ResolvePage("ShopDown-1", "ShopDown", ("file", "terminal"))
            await log.arm(Armed("ShopDown-1", "the alert", box_ref, (step,)))
            print("go", flush=True)
            await anyio.sleep(60)
        anyio.run(main)
    """)
    runner.kill()
    await until(closed)
    assert scene.outstanding() == []
    assert "ShopDown" in pages.read_text()


# The watchdog itself


async def start(scene: Scene, **options: object) -> Watchdog:
    watchdog = Watchdog.start(scene.folder, identify(os.getpid()), kind="fake", **options)  # type: ignore[arg-type]
    await watchdog.ready()
    return watchdog


async def test_it_ends_with_the_drill(scene: Scene) -> None:
    watchdog = await start(scene)
    process = watchdog.process
    assert process is not None
    assert is_alive(process)
    assert (await watchdog.done()).left == ()
    assert not is_alive(process)


async def test_what_the_runner_could_not_put_back_is_tried_once_more(scene: Scene) -> None:
    watchdog = await start(scene)
    log = UndoLog(scene.folder.undo)
    step = RemoveToxic(LINKS[0], "t")
    await log.arm(Armed("t", "t", scene.box.ref, (step,)))
    await scene.box.links.add(LINKS[0], Toxic("latency", "t"))
    log.close()
    ended = await watchdog.done()
    assert (ended.left, ended.problems) == ((), ())
    assert scene.toxics() == 0


async def test_a_stopped_one_is_not_waited_for(scene: Scene) -> None:
    watchdog = await start(scene)
    assert watchdog.process is not None
    os.kill(watchdog.process.pid, signal.SIGSTOP)
    with anyio.fail_after(20):
        await watchdog.done()
    assert not is_alive(watchdog.process)


@pytest.mark.parametrize("gone", ["undo log", "folder", "a file in its place", "its content"])
async def test_a_record_that_somebody_removes_is_put_back_all_the_same(
    scene: Scene, gone: str
) -> None:
    runner = scene.run("""
        async def main():
            watchdog = await stand()
            log = UndoLog(folder.undo)
            await inject(log, await FakeSandbox.connect(box_ref), "t")
            print("go", flush=True)
            await anyio.sleep(60)
        anyio.run(main)
    """)
    await anyio.sleep(0.5)  # in which the watchdog has opened it; in a drill it is there before
    if gone == "folder":
        shutil.rmtree(scene.folder.path)
    elif gone == "a file in its place":
        shutil.rmtree(scene.folder.path)
        scene.folder.path.touch()
    elif gone == "its content":
        os.truncate(scene.folder.undo, 0)
    else:
        scene.folder.undo.unlink()
    runner.kill()
    runner.wait()
    await until(lambda: scene.toxics() == 0)
    await until(closed)
    if gone != "a file in its place":
        assert read_undo_log(scene.folder.undo, scene.folder.recovery).undone


@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGSTOP])
async def test_its_loss_is_noticed(scene: Scene, how: signal.Signals) -> None:
    watchdog = await start(scene)
    assert watchdog.process is not None
    os.kill(watchdog.process.pid, how)
    with anyio.fail_after(20):
        why = await watchdog.wait_lost()
    assert ("died" in why) == (how is signal.SIGKILL)
    os.kill(watchdog.process.pid, signal.SIGKILL)
    assert (await watchdog.done()).left == ()


async def test_signals_that_can_be_ignored_are(scene: Scene) -> None:
    watchdog = await start(scene)
    assert watchdog.process is not None
    for name in ("SIGHUP", "SIGINT", "SIGTERM", "SIGQUIT", "SIGTSTP", "SIGUSR1", "SIGPIPE"):
        os.kill(watchdog.process.pid, getattr(signal, name))
    with anyio.move_on_after(0.7) as scope:
        await watchdog.wait_lost()
    assert scope.cancelled_caught
    assert os.getsid(watchdog.process.pid) == watchdog.process.pid
    await watchdog.done()
    assert (scene.folder.logs / "watchdog.log").exists()


async def test_it_forgives_a_pause_of_its_own(scene: Scene) -> None:
    watchdog = await start(scene, late=1.0)
    assert watchdog.process is not None
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(watchdog.wait_lost)
        os.kill(watchdog.process.pid, signal.SIGSTOP)
        await anyio.sleep(1.6)
        os.kill(watchdog.process.pid, signal.SIGCONT)
        await anyio.sleep(0.5)
        tasks.cancel_scope.cancel()
    assert is_alive(watchdog.process)
    assert (await watchdog.done()).left == ()


async def test_without_it_nothing_begins(scene: Scene) -> None:
    watchdog = Watchdog.start(scene.folder, identify(os.getpid()), also=("no_such_module",))
    with pytest.raises(Refused, match="does not stand: ModuleNotFoundError"):
        await watchdog.ready()
    await watchdog.done()
    with pytest.raises(Refused, match="cannot be started"):
        Watchdog.start(DrillFolder(scene.folder.path / "gone"), identify(os.getpid()))


async def test_it_is_light(scene: Scene) -> None:
    script = """
        import importlib, sys
        from gameday.drills import guard
        from gameday.injectors.sandbox import kinds
        for module in (*guard._PRELOADED, *(kinds.KINDS[kind].module for kind in kinds.KINDS)):
            importlib.import_module(module)
        heavy = {"rich", "jinja2", "locust", "gevent", "aiohttp", "yaml", "click"}
        sys.exit(len(heavy & set(sys.modules)))
    """
    done = await anyio.run_process([sys.executable, "-c", textwrap.dedent(script)], check=False)
    assert done.returncode == 0


async def test_it_holds_the_sandbox_while_it_puts_back(scene: Scene) -> None:
    lock = state.lock_sandbox("shop", scene.folder.id)
    watchdog = await start(scene, inherit=[lock])
    lock.release()
    with pytest.raises(Refused):
        state.lock_sandbox("shop", "another")
    await watchdog.done()
    state.lock_sandbox("shop", "another").release()


# Standing by


async def test_a_standby_is_taken_by_one_drill(scene: Scene) -> None:
    with Standby.start() as standby:
        watchdog = await start(scene, standby=standby)
    assert watchdog.process is not None
    assert is_alive(watchdog.process)
    assert (await watchdog.done()).left == ()
    assert "guarding" in scene.log()


async def test_a_standby_that_is_not_needed_is_dismissed(scene: Scene) -> None:
    with Standby.start() as standby:
        process = identify(standby.pid)
    assert not is_alive(process)


async def test_a_standby_leaves_if_its_runner_dies(scene: Scene) -> None:
    script = """
        import time
        from gameday.drills.standby import Standby
        standby = Standby.start()
        print(standby.pid, flush=True)
        time.sleep(60)
    """
    runner = spawn(sys.executable, "-c", textwrap.dedent(script))
    assert runner.stdout is not None
    guard = identify(int(runner.stdout.readline()))
    runner.kill()
    runner.communicate()
    await until(lambda: not is_alive(guard))


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


# A full disk


def test_a_full_disk_keeps_nothing_from_being_put_back(tmp_path: Path) -> None:
    shell = 'mount -t tmpfs -o size=8m none /mnt && exec "$@"'
    prefix = ("unshare", "-Urm", "sh", "-c", shell, "sh")
    if shutil.which("unshare") is None or subprocess.run([*prefix, "true"]).returncode:
        pytest.skip("user namespaces are not allowed here")
    box = FakeSandbox(
        {"gateway": 1, "api": 2}, ["gateway->api"], name="shop", path=tmp_path / "box.json"
    )
    script = """
        import anyio, os, subprocess, sys
        from datetime import datetime
        from pathlib import Path
        from gameday.drills import state
        from gameday.drills.folder import DrillFolder
        from gameday.drills.undo_log import UndoLog, read_undo_log
        from gameday.drills.watchdog import Watchdog
        from gameday.injectors.sandbox.base import Toxic
        from gameday.injectors.sandbox.fake import FakeSandbox
        from gameday.injectors.sandbox.process import process_id
        from gameday.injectors.undo import *
        os.environ["GAMEDAY_STATE"] = "/mnt/state"
        async def main():
            runner = subprocess.Popen(["sleep", "300"])
            folder = DrillFolder.create(Path("/mnt"), datetime.now())
            watchdog = Watchdog.start(folder, process_id(runner.pid), kind="fake")
            await watchdog.ready()
            state.remember(state.OpenDrill(
                id=folder.id, folder=str(folder.path), runner=process_id(runner.pid)))
            box = await FakeSandbox.connect(SandboxRef("fake", "shop", sys.argv[1]))
            log = UndoLog(folder.undo)
            step = RemoveToxic("gateway-1->api-1", "t")
            await log.arm(Armed("t", "t", box.ref, (step,)))
            await box.links.add("gateway-1->api-1", Toxic("latency", "t"))
            log.close()
            try:
                with open("/mnt/filler", "wb", buffering=0) as filler:
                    while True:
                        filler.write(b"x" * 4096)
            except OSError:
                pass
            watchdog._wire.close()
            watchdog._process.wait(30)
            assert runner.wait(1) == -9
            assert read_undo_log(folder.undo, folder.recovery).outstanding == ()
            assert state.open_drills() == []
        anyio.run(main)
    """
    argv = [*prefix, sys.executable, "-c", textwrap.dedent(script), box.ref.address]
    assert subprocess.run(argv, timeout=60).returncode == 0
    assert sum(len(link.toxics) for link in box.state.links.values()) == 0


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
