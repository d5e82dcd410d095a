"""The watchdog itself: it stands before anything begins, ends with the drill, and is missed."""

from __future__ import annotations

import os
import shutil
import signal
import sys
import textwrap

import anyio
import anyio.to_thread
import pytest

from gameday.drills import state
from gameday.drills.folder import DrillFolder
from gameday.drills.standby import Standby
from gameday.drills.undo_log import UndoLog, read_undo_log
from gameday.drills.watchdog import Watchdog
from gameday.injectors.errors import Refused
from gameday.injectors.sandbox.base import Toxic
from gameday.injectors.sandbox.process import is_alive
from gameday.injectors.undo import Armed, RemoveToxic
from tests.guarded_drill import (
    LINKS,
    Scene,
    anyio_backend,
    closed,
    home,
    identify,
    scene,
    spawn,
    until,
)

__all__ = ["anyio_backend", "home", "scene"]

pytestmark = [pytest.mark.anyio, pytest.mark.sandbox]


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
