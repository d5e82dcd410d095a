"""The watchdog's work: a runner may die or freeze at any instant, and all is put back."""

from __future__ import annotations

import os
import random
import shutil
import signal
import subprocess
import sys
import textwrap
from pathlib import Path

import anyio
import anyio.to_thread
import pytest

from gameday.drills import state
from gameday.drills.recover import check_recovered, recover
from gameday.drills.undo_log import read_undo_log
from gameday.injectors.errors import UndoFailed
from gameday.injectors.sandbox.fake import FakeSandbox
from gameday.injectors.sandbox.process import is_alive
from gameday.injectors.undo import Outcome
from tests.guarded_drill import LINKS, Scene, anyio_backend, closed, home, identify, scene, until

__all__ = ["anyio_backend", "home", "scene"]

pytestmark = [pytest.mark.anyio, pytest.mark.sandbox]

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


_LIMITED = """
    async def main():
        watchdog = await stand(limit=0.5)
        log = UndoLog(folder.undo)
        await inject(log, await FakeSandbox.connect(box_ref), "t")
        for seconds in {later}:
            watchdog.extend(seconds)
        print("go", flush=True)
        await watchdog.wait_lost()
    anyio.run(main)
"""


async def test_a_drill_that_does_not_end_is_ended(scene: Scene) -> None:
    scene.run(_LIMITED.format(later=()))
    await until(closed)
    assert scene.all_is_put_back()
    assert "longer than it may" in scene.log()


async def test_a_drill_that_goes_on_undoing_has_more_time_and_never_less(scene: Scene) -> None:
    scene.run(_LIMITED.format(later=(60.0, 0.1)))
    await anyio.sleep(1.5)
    assert "longer than it may" not in scene.log()


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
