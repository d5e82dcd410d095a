"""What leaves its session and empties its environment ends with the sandbox, too, without namespaces.

Found by a sceptic: a daemon outlived its sandbox, and everything was said to be put back.
"""

from __future__ import annotations

import os
import signal
import sys
from pathlib import Path

import anyio
import pytest

from gameday.injectors.errors import SandboxError
from gameday.injectors.sandbox import process
from gameday.injectors.sandbox.local import cgroups, launch, orders, teardown
from gameday.injectors.sandbox.local.driver import LocalSandbox
from gameday.injectors.undo import Outcome, ProcessId, StepResult, TearDown
from tests import without_namespaces
from tests.needed import need
from tests.small_sandbox import assert_nothing_left, fetch, run, sandbox, slow_to_die, small

pytestmark = [
    pytest.mark.sandbox,
    pytest.mark.skipif(sys.platform != "linux", reason="the local sandbox needs Linux"),
]

SHORT = 0.3


@pytest.fixture
def no_namespaces(monkeypatch: pytest.MonkeyPatch) -> None:
    """Every supervisor finds that the machine permits none."""
    monkeypatch.setattr(launch, "_MODULE", without_namespaces.__name__)
    monkeypatch.chdir(Path(__file__).parent.parent)


async def daemon(box: LocalSandbox) -> ProcessId:
    """One that nothing but its parent, and its control group, tells as the sandbox's."""
    status, pid = await fetch((await box.list_slots())[1].address, "/daemon")
    found = process.process_id(int(pid))
    assert (status, found is not None) == (200, True), pid
    assert found is not None
    assert found not in process.find_by_environment("GAMEDAY_SANDBOX", box.ref.options["tag"])
    return found


def groups(box: LocalSandbox) -> Path:
    """The folder of its control groups."""
    found = cgroups.Groups.find(box.ref.options["tag"])
    folder = found[0] if found is not None else Path()
    need(found is not None and folder.is_dir(), "no control groups of our own can be made here")
    return folder


async def kill_supervisor(box: LocalSandbox) -> None:
    (supervisor,) = process.find_by_environment(orders.SUPERVISES, box.ref.address)
    assert process.signal_process(supervisor, signal.SIGKILL)
    assert not await anyio.to_thread.run_sync(process.wait_gone, (supervisor,), 5.0)


@pytest.mark.usefixtures("no_namespaces")
@pytest.mark.parametrize("isolate", [True, False], ids=["control groups", "none"])
def test_a_daemon_ends_when_the_sandbox_does(tmp_path: Path, isolate: bool) -> None:
    async def test() -> None:
        async with sandbox(small(tmp_path), tmp_path, isolate=isolate) as box:
            left = await daemon(box)
            done = await box.run_step(TearDown(box.ref.options["tag"]))
            assert done == StepResult(Outcome.PUT_BACK, "the sandbox was ended")
            assert not process.is_alive(left)
            assert_nothing_left(box.ref)

    run(test)


@pytest.mark.usefixtures("no_namespaces")
def test_a_supervisor_that_ends_by_itself_leaves_no_daemon(tmp_path: Path) -> None:
    async def test() -> None:
        async with sandbox(small(tmp_path), tmp_path) as box:
            left = await daemon(box)
            (supervisor,) = process.find_by_environment(orders.SUPERVISES, box.ref.address)
            assert process.signal_process(supervisor, signal.SIGTERM)
            assert not await anyio.to_thread.run_sync(process.wait_gone, (supervisor,), 5.0)
            assert not process.is_alive(left)
            assert_nothing_left(box.ref)

    run(test)


@pytest.mark.usefixtures("no_namespaces")
def test_whoever_tears_down_after_a_killed_supervisor_ends_the_daemons(tmp_path: Path) -> None:
    async def test() -> None:
        async with sandbox(small(tmp_path), tmp_path) as box:
            folder = groups(box)
            left = await daemon(box)
            below = folder / "back-1" / "below"  # as a service may make it
            below.mkdir()
            (below / "cgroup.procs").write_text(str(left.pid))
            await kill_supervisor(box)
            assert process.is_alive(left)
            done = await box.run_step(TearDown(box.ref.options["tag"]))
            assert done.outcome is Outcome.PUT_BACK
            assert not process.is_alive(left)
            assert_nothing_left(box.ref)

    run(test)


@pytest.mark.usefixtures("no_namespaces")
def test_groups_are_found_from_another_group(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As by `gameday recover` in another terminal, where systemd gives each a group."""

    async def test() -> None:
        async with sandbox(small(tmp_path), tmp_path) as box:
            folder = groups(box)
            left = await daemon(box)
            await kill_supervisor(box)
            with monkeypatch.context() as elsewhere:
                elsewhere.setattr(cgroups.Groups, "find", lambda tag: None)
                await box.run_step(TearDown(box.ref.options["tag"]))
            assert not process.is_alive(left)
            assert not folder.exists()

    run(test)


@pytest.mark.usefixtures("no_namespaces")
def test_a_command_is_in_a_group_too(tmp_path: Path) -> None:
    """One that a fixer runs in a slot, and what it leaves behind."""
    until_it_has_left = "until grep -q sleep /proc/$!/comm; do sleep 0.01; done"
    argv = ("sh", "-c", f"setsid env -i sleep 600 & {until_it_has_left}")

    async def test() -> None:
        async with sandbox(small(tmp_path), tmp_path) as box:
            folder = groups(box)
            null = os.open(os.devnull, os.O_RDWR)
            try:
                assert await box.hands.execute("back-1", argv, by="", stdio=(null,) * 3) == 0
            finally:
                os.close(null)
            (left,) = [who for who in cgroups.members(folder) if _name(who) == "sleep"]
            await kill_supervisor(box)
            await box.run_step(TearDown(box.ref.options["tag"]))
            assert not process.is_alive(left)

    run(test)


def _name(who: ProcessId) -> str:
    return process.read_proc(f"/proc/{who.pid}/comm").decode().strip()


@pytest.mark.usefixtures("no_namespaces")
@pytest.mark.parametrize("isolate", [True, False], ids=["control groups", "none"])
def test_a_daemon_that_does_not_end_is_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, isolate: bool
) -> None:
    async def test() -> None:
        async with sandbox(small(tmp_path), tmp_path, isolate=isolate) as box:
            left = await daemon(box)
            tear_down = TearDown(box.ref.options["tag"])
            with slow_to_die(left), monkeypatch.context() as short:
                short.setattr(teardown, "_BY_FORCE", SHORT)
                if isolate:  # else the supervisor has the time to write down who is left
                    short.setattr(teardown, "_POLITELY", SHORT)
                for _ in range(2):  # with the supervisor, and without
                    with pytest.raises(SandboxError) as told:
                        await box.run_step(tear_down)
                    said, _, pids = told.value.message.partition(": ")
                    assert said == "processes of the sandbox are left"
                    assert str(left.pid) in pids.split()  # others may only take long to die
            assert not process.is_alive(left)
            assert (await box.run_step(tear_down)).outcome is Outcome.PUT_BACK
            assert_nothing_left(box.ref)

    run(test)


@pytest.mark.usefixtures("no_namespaces")
def test_a_group_that_stays_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async def test() -> None:
        async with sandbox(small(tmp_path), tmp_path) as box:
            folder = groups(box)
            await kill_supervisor(box)
            tear_down = TearDown(box.ref.options["tag"])
            with monkeypatch.context() as short:
                short.setattr(teardown, "_BY_FORCE", SHORT)
                try:
                    # We would not end ourselves.
                    (folder / "back-1" / "cgroup.procs").write_text(str(os.getpid()))
                    with pytest.raises(SandboxError, match=f"cannot be removed: {folder}\n"):
                        await box.run_step(tear_down)
                finally:
                    (folder.parent / "cgroup.procs").write_text(str(os.getpid()))
            assert (await box.run_step(tear_down)).outcome is Outcome.PUT_BACK
            assert_nothing_left(box.ref)

    run(test)
