"""What breaks the local sandbox, on real processes: each fault is there, and is undone once."""

from __future__ import annotations

import signal
import subprocess
import sys
import textwrap
import time
from collections.abc import Callable
from pathlib import Path

import anyio
import msgspec
import pytest

from gameday.injectors.errors import SandboxError, UsageError
from gameday.injectors.sandbox import process
from gameday.injectors.sandbox.base import Toxic
from gameday.injectors.sandbox.local.driver import LocalSandbox
from gameday.injectors.undo import (
    ClearHold,
    DeleteFile,
    EndHelpers,
    ProcessId,
    RemoveToxic,
    RestoreAffinity,
    RestoreLimit,
    SandboxRef,
    SignalProcess,
    StartSlot,
    Step,
)
from tests.small_sandbox import (
    _true,
    do,
    fetch,
    is_healthy,
    run,
    sandbox,
    slow_to_die,
    small,
    until,
    watched,
    who,
)

pytestmark = [
    pytest.mark.sandbox,
    pytest.mark.skipif(sys.platform != "linux", reason="the local sandbox needs Linux"),
]


def test_an_exit_is_known_at_once_and_is_not_healed(tmp_path: Path) -> None:
    async def test() -> None:
        async with sandbox(small(tmp_path), tmp_path) as box:
            victim = await who(box, "back-1")
            async with watched(box) as seen:
                assert await box.processes.signal(victim, signal.SIGKILL)
                killed = time.monotonic()
                await until(lambda: _true(any(c.action == "exited" for c in seen)))
            assert seen[0].at - killed < 0.5
            assert not await box.processes.signal(victim, signal.SIGKILL)
            await anyio.sleep(0.2)
            assert (await box.list_slots())[1].state == "exited"
            assert (await box.list_slots())[1].health == "unhealthy"

            assert await do(box, StartSlot("back-1")) == ("put-back", "")
            assert await do(box, StartSlot("back-1")) == ("nothing", "")
            await box.hands.restart("back-1", by="shop-oncall")
            assert await do(box, StartSlot("back-1")) == ("taken-over", "shop-oncall")
            await box.hands.stop("back-1", by="shop-oncall")
            assert (await box.list_slots())[1].state == "stopped"
            assert await do(box, StartSlot("back-1")) == ("taken-over", "shop-oncall")
            assert await do(box, StartSlot("back-2")) == ("nothing", "")

    run(test)


def test_a_service_that_restarts_itself_does(tmp_path: Path) -> None:
    async def test() -> None:
        async with sandbox(small(tmp_path, restart="always"), tmp_path) as box:
            victim = await who(box, "back-1")
            await box.processes.signal(victim, signal.SIGKILL)
            await until(lambda: is_healthy_again(box, "back-1", victim))
            assert await do(box, StartSlot("back-1")) == ("taken-over", "sandbox")

    run(test)


async def is_healthy_again(box: LocalSandbox, slot: str, old: ProcessId) -> bool:
    now = next(s for s in await box.list_slots() if s.name == slot)
    return now.process not in (None, old) and now.health == "healthy"


def test_pause_and_continue(tmp_path: Path) -> None:
    async def test() -> None:
        async with sandbox(small(tmp_path), tmp_path) as box:
            before = await box.fingerprint("back-1")
            victim = await who(box, "back-1")
            resume = SignalProcess("back-1", victim, signal.SIGCONT)
            assert await do(box, resume) == ("nothing", "")
            await box.processes.signal(victim, signal.SIGSTOP)
            await until(lambda: has_state(box, "back-1", "paused"))
            assert (await box.list_slots())[1].state == "paused"
            assert await do(box, resume) == ("put-back", "")
            assert await box.fingerprint("back-1") == before

            await box.processes.signal(victim, signal.SIGSTOP)
            began = time.monotonic()
            await box.hands.restart("back-1", by="fixer")
            assert time.monotonic() - began < 0.9, "a paused process is not waited for"
            assert await do(box, resume) == ("taken-over", "fixer")

    run(test)


@pytest.mark.alone
def test_a_pause_that_is_undone_at_once_does_not_last(tmp_path: Path) -> None:
    """A SIGSTOP that was sent just now may not show yet; the undo must end it all the same."""

    async def test() -> None:
        async with sandbox(small(tmp_path), tmp_path) as box:
            victim = await who(box, "back-1")
            resume = SignalProcess("back-1", victim, signal.SIGCONT)
            with slow_to_die(victim) as thaw:
                await box.processes.signal(victim, signal.SIGSTOP)
                assert (await do(box, resume))[0] == "nothing"
                thaw()
                await anyio.sleep(0.3)
                assert await has_state(box, "back-1", "running")

    run(test)


def test_a_kill_that_is_undone_at_once_leaves_no_empty_slot(tmp_path: Path) -> None:
    """Who was killed just now passes for running, for seconds on a busy CPU, and is replaced all the same."""

    async def test() -> None:
        async with sandbox(small(tmp_path), tmp_path) as box:
            victim = await who(box, "back-1")
            with slow_to_die(victim) as thaw:
                await box.processes.signal(victim, signal.SIGKILL)
                async with anyio.create_task_group() as group:
                    group.start_soon(_after, 2.0, thaw)
                    assert (await do(box, StartSlot("back-1", victim)))[0] == "put-back"
            assert await who(box, "back-1") != victim
            victim = await who(box, "back-1")
            with slow_to_die(victim):
                await box.processes.signal(victim, signal.SIGKILL)
                with pytest.raises(SandboxError, match="back-1 was killed, and has not ended yet"):
                    await box.run_step(StartSlot("back-1", victim))
            assert (await do(box, StartSlot("back-1", victim)))[0] == "put-back"
            assert await who(box, "back-1") != victim

    run(test)


async def _after(seconds: float, call: Callable[[], None]) -> None:
    await anyio.sleep(seconds)
    call()


async def has_state(box: LocalSandbox, slot: str, state: str) -> bool:
    return (await box.processes.status(slot)).state == state


def test_a_hold_crashes_each_process_until_it_is_cleared(tmp_path: Path) -> None:
    async def test() -> None:
        async with sandbox(small(tmp_path), tmp_path) as box:
            before = await box.fingerprint("back-1")
            first = await who(box, "back-1")
            await box.holds.hold("back-1", "gameday-x-1", uptime=0.05)
            await until(lambda: restarted(box, "back-1", 2))
            status = await box.processes.status("back-1")
            assert status.holds == ("gameday-x-1",)
            assert status.process != first
            assert await do(box, ClearHold("back-1", "gameday-x-1")) == ("put-back", "")
            await until(lambda: is_healthy(box, "back-1"))
            survivor = await who(box, "back-1")
            await anyio.sleep(0.2)
            assert await who(box, "back-1") == survivor
            assert await do(box, ClearHold("back-1", "gameday-x-1")) == ("nothing", "")
            assert await box.fingerprint("back-1") == before

    run(test)


async def restarted(box: LocalSandbox, slot: str, times: int) -> bool:
    return (await box.processes.status(slot)).restarts >= times


def test_toxics_and_their_removal_from_another_process(tmp_path: Path) -> None:
    async def test() -> None:
        async with sandbox(small(tmp_path), tmp_path) as box:
            name = "front-1->back-1"
            before = await box.fingerprint(name)
            link = (await box.list_links())[0]
            await box.links.add(
                name, Toxic("latency", "gameday-x-2", {"delay": 0.3, "jitter": 0.0})
            )
            began = time.monotonic()
            await fetch(link.address)
            assert time.monotonic() - began >= 0.3
            assert [toxic.tag for toxic in await box.links.toxics(name)] == ["gameday-x-2"]
            step = RemoveToxic(name, "gameday-x-2")
            assert undo_elsewhere(box.ref, step) == "put-back"
            assert undo_elsewhere(box.ref, step) == "nothing"
            assert await box.fingerprint(name) == before
            with pytest.raises(UsageError, match="no link"):
                await box.links.add("front-1->nobody-1", Toxic("reset", "t"))

    run(test)


def undo_elsewhere(ref: SandboxRef, step: Step) -> str:
    """What another process that has only the reference and the step makes of it."""
    program = textwrap.dedent(
        """
        import sys, anyio, msgspec
        from gameday.injectors.sandbox.kinds import connect
        from gameday.injectors.undo import SandboxRef, Step
        async def main():
            ref, step = msgspec.json.decode(sys.stdin.buffer.read(), type=tuple[SandboxRef, Step])
            print((await (await connect(ref)).run_step(step)).outcome.value)
        anyio.run(main)
        """
    )
    done = subprocess.run(
        [sys.executable, "-c", program],
        input=msgspec.json.encode((ref, step)),
        stdout=subprocess.PIPE,
        timeout=20,
        check=True,
    )
    return done.stdout.decode().strip()


@pytest.mark.alone
def test_burning_a_cpu(tmp_path: Path) -> None:
    async def test() -> None:
        async with sandbox(small(tmp_path), tmp_path) as box:
            before = await box.fingerprint("back-1")
            victim = await who(box, "back-1")
            cpus = await box.cpu.affinity("back-1")
            await box.cpu.burn("back-1", "gameday-x-3", workers=3)
            pinned = await box.cpu.affinity("back-1")
            assert len(pinned) == 1
            assert await box.parts["cpu"].burning() == pinned
            burners = await box.cpu.helpers("gameday-x-3")
            assert len(burners) == 3
            assert {process.affinity(burner) for burner in burners} == {pinned}
            assert (await box.cpu.affinity("back-2")) == cpus, "only the target is starved"
            await box.hands.restart("back-2", by="fixer")
            assert (await box.cpu.affinity("back-2")) == cpus, "nor are new processes"
            assert await do(box, EndHelpers("back-1", "gameday-x-3")) == ("put-back", "")
            assert await do(box, EndHelpers("back-1", "gameday-x-3")) == ("nothing", "")
            restore = RestoreAffinity("back-1", victim, cpus)
            expected = "put-back" if len(cpus) > 1 else "nothing"
            assert await do(box, restore) == (expected, "")
            assert await do(box, restore) == ("nothing", "")
            assert not await box.cpu.helpers("gameday-x-3")
            assert await box.parts["cpu"].burning() == ()
            assert await box.fingerprint("back-1") == before
            await box.hands.restart("back-1", by="fixer")
            assert await do(box, restore) == ("taken-over", "fixer")

    run(test)


@pytest.mark.parametrize("isolate", [True, False])
def test_squeezing_memory(tmp_path: Path, isolate: bool) -> None:
    async def test() -> None:
        async with sandbox(small(tmp_path), tmp_path, isolate=isolate) as box:
            slot = (await box.list_slots())[1]
            before = await box.fingerprint("back-1")
            victim = await who(box, "back-1")
            limit, value = await box.memory.limit("back-1")
            await box.memory.squeeze("back-1", "gameday-x-4", headroom=4 << 20)
            assert await box.memory.limit("back-1") != (limit, value)
            if limit == "as":
                status, body = await fetch(slot.address, "/allocate")
                assert (status, body) == (507, "MemoryError()")
            restore = RestoreLimit("back-1", victim, limit, value)
            assert await do(box, restore) == ("put-back", "")
            assert await do(box, restore) == ("nothing", "")
            assert await box.fingerprint("back-1") == before
            assert (await fetch(slot.address, "/allocate"))[0] == 200
            assert limit == "as" or isolate

    run(test)


def test_what_a_squeezed_process_starts_gets_its_memory_back_too(tmp_path: Path) -> None:
    """A worker inherits our limit, and would keep it for good."""

    async def test() -> None:
        async with sandbox(small(tmp_path), tmp_path, isolate=False) as box:
            slot = (await box.list_slots())[1]
            before = await box.fingerprint("back-1")
            victim = await who(box, "back-1")
            limit, value = await box.memory.limit("back-1")
            await box.memory.squeeze("back-1", "gameday-x-4", headroom=4 << 20)
            await fetch(slot.address, "/worker")
            assert len(process.tree(victim)) == 2
            restore = RestoreLimit("back-1", victim, limit, value)
            assert await do(box, restore) == ("put-back", "")
            assert await box.fingerprint("back-1") == before

    run(test)


def test_filling_a_disk(tmp_path: Path, needs: Callable[[bool, str], None]) -> None:
    async def test() -> None:
        async with sandbox(small(tmp_path), tmp_path) as box:
            needs("disk" not in box.lacks(), box.lacks().get("disk", ""))
            address = (await box.list_slots())[1].address
            before = await box.fingerprint("back-1")
            assert 0 < await box.disk.free("back-1") <= 4 << 20
            await box.disk.fill("back-1", "gameday-x-5", leave=0)
            assert await box.disk.free("back-1") == 0
            assert (await box.disk.filled("back-1", "gameday-x-5") or 0) > 3 << 20
            status, body = await fetch(address, "/write")
            assert status == 507
            assert "No space left" in body
            assert await box.disk.free("back-2") > 0
            assert await do(box, DeleteFile("back-1", "gameday-x-5")) == ("put-back", "")
            assert await do(box, DeleteFile("back-1", "gameday-x-5")) == ("nothing", "")
            assert await box.disk.filled("back-1", "gameday-x-5") is None
            assert (await fetch(address, "/write"))[0] == 200
            assert await box.fingerprint("back-1") == before
            await box.disk.fill("back-1", "gameday-x-6", leave=1 << 20)
            assert abs(await box.disk.free("back-1") - (1 << 20)) <= 4096
            with pytest.raises(UsageError, match="does not name a file"):
                await box.disk.fill("back-1", "../../escape", leave=0)

    run(test)
