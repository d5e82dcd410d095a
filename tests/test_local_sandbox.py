"""The local sandbox, on real processes: what it holds, what breaks it, and that nothing is left."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import textwrap
import time
import urllib.error
import urllib.request
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import Any

import anyio
import msgspec
import pytest

from gameday.injectors.errors import SandboxError, UsageError
from gameday.injectors.models import Misfits
from gameday.injectors.sandbox import ports, process
from gameday.injectors.sandbox.base import Change, Toxic
from gameday.injectors.sandbox.kinds import connect
from gameday.injectors.sandbox.local import cgroups, launch
from gameday.injectors.sandbox.local.cluster import Cluster, Health, Service
from gameday.injectors.sandbox.local.driver import LocalSandbox
from gameday.injectors.undo import (
    ClearHold,
    DeleteFile,
    EndHelpers,
    Outcome,
    ProcessId,
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

pytestmark = [
    pytest.mark.sandbox,
    pytest.mark.skipif(sys.platform != "linux", reason="the local sandbox needs Linux"),
]

# Quick to start: no imports beyond what it needs.
SERVER = textwrap.dedent(
    """
    import os, signal, socket, sys
    held = []
    def on_reload(*_):
        with open(os.environ["GAMEDAY_DATA"] + "/reloaded", "a") as f: f.write("x")
    signal.signal(signal.SIGHUP, on_reload)
    server = socket.create_server(("127.0.0.1", int(sys.argv[1])), backlog=128)
    print("listening", flush=True)
    while True:
        client, _ = server.accept()
        try:
            path = client.recv(4096).split(b" ")[1].decode()
            status, body = 200, os.environ["GAMEDAY_SLOT"]
            try:
                if path == "/pid": body = str(os.getpid())
                elif path == "/write":
                    with open("blob", "wb") as f: f.write(b"x" * 1_000_000)
                elif path == "/allocate": held.append(bytearray(64 << 20))
                elif path == "/orphan":
                    if os.fork() == 0:
                        os.setsid()
                        if os.fork() == 0:
                            os.execv(sys.executable, [sys.executable, "-S", "-c", "import time; time.sleep(600)"])
                        os._exit(0)
                    os.wait()
                elif path == "/worker":
                    if os.fork() == 0: signal.pause()
                elif path.startswith("/file"): body = open(os.environ["GAMEDAY_ENDPOINTS"]).read()
            except (OSError, MemoryError) as error:
                status, body = 507, repr(error)
            client.sendall(f"HTTP/1.0 {status} X\\r\\nContent-Length: {len(body)}\\r\\n\\r\\n{body}".encode())
        except (OSError, IndexError):
            pass
        client.close()
    """
)


def service(folder: Path, **more: Any) -> Service:
    (folder / "server.py").write_text(SERVER)
    command = ["{{ python }}", "-S", "-E", "{{ folder }}/server.py", "{{ port }}"]
    fields: dict[str, Any] = {
        "command": command,
        "health": Health(http="/", every=0.1),
        "grace": 1.0,
        "reload": "HUP",
    }
    return Service.of(fields | more)


def small(folder: Path, **more: Any) -> Cluster:
    """One front that calls two backs."""
    return Cluster(
        name="small",
        disk=4 << 20,
        services={
            "front": service(folder, links=["back"], owner="web team", tier="1"),
            "back": service(folder, replicas=2, **more),
        },
    )


_numbers = iter(range(1, 1000))


@contextlib.asynccontextmanager
async def sandbox(
    cluster: Cluster, folder: Path, *, isolate: bool = True
) -> AsyncIterator[LocalSandbox]:
    """A sandbox that is torn down, and leaves nothing."""
    ref = LocalSandbox.plan_ref(None, f"gameday-test{os.getpid()}-{next(_numbers)}")
    me = process.process_id(os.getpid())
    assert me is not None
    box = await LocalSandbox.up(
        cluster, ref, log_dir=folder / "logs", owners=[me], folder=folder, isolate=isolate
    )
    try:
        yield box
    finally:
        result = await box.run_step(TearDown(ref.options["tag"]))
        assert result.outcome in (Outcome.PUT_BACK, Outcome.NOTHING)
        assert_nothing_left(ref)


def assert_nothing_left(ref: SandboxRef) -> None:
    tag = ref.options["tag"]
    assert not process.find_by_environment("GAMEDAY_SANDBOX", tag)
    assert not Path(ref.address).exists()
    assert tag not in Path("/proc/self/mountinfo").read_text()
    found = cgroups.Groups.find(tag)
    assert found is None or not found[0].exists()


def run(test: Callable[[], Awaitable[None]]) -> None:
    anyio.run(test)


def get(address: str, path: str = "/", timeout: float = 5.0) -> tuple[int, str]:
    try:
        with urllib.request.urlopen(f"http://{address}{path}", timeout=timeout) as answer:
            return answer.status, answer.read().decode()
    except urllib.error.HTTPError as error:
        with error:
            return error.code, error.read().decode()


async def fetch(address: str, path: str = "/", timeout: float = 5.0) -> tuple[int, str]:
    return await anyio.to_thread.run_sync(get, address, path, timeout)


async def until(check: Callable[[], Awaitable[bool]], within: float = 10.0) -> None:
    with anyio.fail_after(within):
        while not await check():  # noqa: ASYNC110 - there is nothing to wait for but time
            await anyio.sleep(0.01)


async def who(box: LocalSandbox, slot: str) -> ProcessId:
    found = (await box.processes.status(slot)).process
    assert found is not None
    return found


async def do(box: LocalSandbox, step: Step) -> tuple[str, str]:
    result = await box.run_step(step)
    return result.outcome.value, result.by


@contextlib.asynccontextmanager
async def watched(box: LocalSandbox) -> AsyncIterator[list[Change]]:
    seen: list[Change] = []

    async def collect() -> None:
        async for change in box.changes():
            seen.append(change)

    async with anyio.create_task_group() as group:
        group.start_soon(collect)
        await anyio.sleep(0.05)
        yield seen
        await anyio.sleep(0.05)
        group.cancel_scope.cancel()


def test_up_shows_slots_and_links_and_down_leaves_nothing(tmp_path: Path) -> None:
    async def test() -> None:
        async with sandbox(small(tmp_path), tmp_path) as box:
            slots = await box.list_slots()
            assert [slot.name for slot in slots] == ["front-1", "back-1", "back-2"]
            assert {slot.state for slot in slots} == {"running"}
            assert {slot.health for slot in slots} == {"healthy"}
            assert (slots[0].owner, slots[0].tier, slots[0].restarts) == ("web team", "1", 0)
            assert slots[0].since > max(slot.since for slot in slots[1:]), "dependencies first"
            links = {link.name: link for link in await box.list_links()}
            assert set(links) == {"front-1->back-1", "front-1->back-2"}
            assert await fetch(links["front-1->back-2"].address) == (200, "back-2")
            assert await fetch(slots[0].address) == (200, "front-1")
            low = int(Path("/proc/sys/net/ipv4/ip_local_port_range").read_text().split()[0])
            assert all(int(slot.address.split(":")[1]) < low for slot in slots)
            said = [data async for data in box.hands.logs("back-1", lines=20, follow=False)]
            assert b"listening" in b"".join(said)
            folder = Path(box.ref.address)
            assert folder.stat().st_mode & 0o777 == 0o700
            assert (folder / "socket").stat().st_mode & 0o777 == 0o600

    run(test)


def test_two_sandboxes_at_once_do_not_meet(tmp_path: Path) -> None:
    async def test() -> None:
        one = Cluster(name="one", services={"a": service(tmp_path)})
        async with sandbox(one, tmp_path) as first, sandbox(one, tmp_path) as second:
            addresses = {(await box.list_slots())[0].address for box in (first, second)}
            assert len(addresses) == 2

    run(test)


def test_restart_keeps_the_port_and_says_who_did_it(tmp_path: Path) -> None:
    async def test() -> None:
        async with sandbox(small(tmp_path), tmp_path) as box:
            before = (await box.list_slots())[1]
            called = time.monotonic()
            async with watched(box) as seen:
                await box.hands.restart("back-1", by="fixer")
                await until(lambda: is_healthy(box, "back-1"))
            after = (await box.list_slots())[1]
            assert after.address == before.address
            assert after.process != before.process
            assert after.restarts == 1
            assert [(c.action, c.by) for c in seen if c.slot == "back-1"] == [
                ("restart", "fixer"),
                ("exited", ""),
                ("started", "fixer"),
                ("health", ""),
            ]
            times = [change.at for change in seen]
            assert times == sorted(times)
            assert times[0] >= called

    run(test)


async def is_healthy(box: LocalSandbox, slot: str) -> bool:
    return any(s.name == slot and s.health == "healthy" for s in await box.list_slots())


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


async def _true(value: bool) -> bool:
    return value


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
    """A stop that was sent just now does not show yet; the process must go on all the same."""

    async def test() -> None:
        async with sandbox(small(tmp_path), tmp_path) as box:
            victim = await who(box, "back-1")
            resume = SignalProcess("back-1", victim, signal.SIGCONT)
            # It comes last on a busy CPU, and so takes its time to stop.
            await box.cpu.burn("back-1", "gameday-x-7", workers=8)
            os.sched_setscheduler(victim.pid, os.SCHED_IDLE, os.sched_param(0))
            late = 0
            for _ in range(10):
                await box.processes.signal(victim, signal.SIGSTOP)
                late += (await do(box, resume))[0] == "nothing"
                await anyio.sleep(0.3)
                assert await has_state(box, "back-1", "running")
            assert late, "the stop showed at once each time, so nothing was tried"

    run(test)


def test_a_kill_that_is_undone_at_once_leaves_no_empty_slot(tmp_path: Path) -> None:
    """A process that was killed just now passes for running; it must be replaced all the same."""

    async def test() -> None:
        async with sandbox(small(tmp_path), tmp_path) as box:
            await box.cpu.burn("back-1", "gameday-x-7", workers=8)
            slow = 0
            for _ in range(10):
                victim = await who(box, "back-1")
                # It comes last on a busy CPU, and so takes its time to die.
                process.set_affinity(victim, process.affinity(await who(box, "back-1"))[:1])
                os.sched_setscheduler(victim.pid, os.SCHED_IDLE, os.sched_param(0))
                await box.processes.signal(victim, signal.SIGKILL)
                slow += process.is_alive(victim) and process.is_dying(victim)
                outcome, _ = await do(box, StartSlot("back-1", victim))
                assert outcome == "put-back"
                assert await who(box, "back-1") != victim
            assert slow, "it was dead at once each time, so nothing was tried"

    run(test)


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


def test_filling_a_disk(tmp_path: Path) -> None:
    async def test() -> None:
        async with sandbox(small(tmp_path), tmp_path) as box:
            if "disk" in box.lacks():
                pytest.skip(box.lacks()["disk"])
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


def endpoints(box: LocalSandbox, slot: str) -> list[str]:
    content = json.loads((Path(box.ref.address) / "endpoints" / f"{slot}.json").read_text())
    return [one["slot"] for one in content["back"]]


def test_scale_and_drain_reach_the_clients(tmp_path: Path) -> None:
    async def test() -> None:
        async with sandbox(small(tmp_path), tmp_path) as box:
            assert endpoints(box, "front-1") == ["back-1", "back-2"]
            await box.hands.drain("back-1", by="fixer")
            assert endpoints(box, "front-1") == ["back-2"]
            assert (await box.list_slots())[1].drained
            await box.hands.drain("back-1", by="fixer", back=True)
            assert endpoints(box, "front-1") == ["back-1", "back-2"]
            await box.hands.scale("back", 3, by="fixer")
            assert endpoints(box, "front-1") == ["back-1", "back-2", "back-3"]
            link = next(x for x in await box.list_links() if x.target == "back-3")
            assert await fetch(link.address) == (200, "back-3")
            await box.hands.scale("back", 1, by="fixer")
            assert endpoints(box, "front-1") == ["back-1"]
            assert [slot.name for slot in await box.list_slots()] == ["front-1", "back-1"]
            assert await do(box, StartSlot("back-2")) == ("taken-over", "fixer")
            assert await do(box, RemoveToxic("front-1->back-2", "t")) == ("taken-over", "fixer")
            with pytest.raises(UsageError, match="no service"):
                await box.hands.scale("bak", 1, by="fixer")

    run(test)


def test_clients_are_told_to_reload(tmp_path: Path) -> None:
    async def test() -> None:
        async with sandbox(small(tmp_path), tmp_path) as box:
            await box.hands.drain("back-1", by="fixer")

            async def reloaded() -> bool:
                return await execute(box, "front-1", "cat", "reloaded") == (0, "x")

            await until(reloaded)

    run(test)


async def execute(box: LocalSandbox, slot: str, *argv: str) -> tuple[int, str]:
    reader, writer = os.pipe()
    null = os.open(os.devnull, os.O_RDWR)
    try:
        code = await box.hands.execute(slot, argv, by="fixer", stdio=(null, writer, null))
    finally:
        os.close(writer)
        os.close(null)
    with os.fdopen(reader) as output:
        return code, output.read()


def test_exec_runs_as_the_slot_does(tmp_path: Path) -> None:
    async def test() -> None:
        async with sandbox(small(tmp_path), tmp_path) as box:
            async with watched(box) as seen:
                code, output = await execute(
                    box, "back-2", "sh", "-c", "echo $GAMEDAY_SLOT; pwd; exit 3"
                )
            assert (code, output.split("\n")[0]) == (3, "back-2")
            assert output.split("\n")[1].endswith("/data/back-2")
            assert [(c.action, c.by) for c in seen] == [("exec", "fixer")]
            with pytest.raises(UsageError, match="cannot be run"):
                await execute(box, "back-2", "no-such-program-here")
            with anyio.move_on_after(0.2):
                await execute(box, "back-2", "sleep", "77.7")
            await until(lambda: _true(not find_command("77.7")))

    run(test)


def find_command(word: str) -> list[int]:
    found = []
    for pid in process.processes():
        with contextlib.suppress(OSError):
            if word.encode() in Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0"):
                found.append(pid)
    return found


# What does not start


def failing(folder: Path, **fields: Any) -> SandboxError:
    cluster = Cluster(name="bad", services={"good": service(folder), "bad": Service.of(fields)})
    ref = LocalSandbox.plan_ref(None, f"gameday-test{os.getpid()}-{next(_numbers)}")
    me = process.process_id(os.getpid())
    assert me is not None

    async def test() -> SandboxError:
        with pytest.raises(SandboxError) as caught:
            await LocalSandbox.up(cluster, ref, log_dir=folder, owners=[me], folder=folder)
        assert_nothing_left(ref)
        return caught.value

    return anyio.run(test)


def test_a_service_that_does_not_start_says_why_and_leaves_nothing(tmp_path: Path) -> None:
    error = failing(
        tmp_path,
        command=["{{ python }}", "-c", "raise SystemExit('no such table: orders')"],
        health=Health(tcp=True),
    )
    assert "bad-1 did not start: it exited with 1" in error.message
    assert "no such table: orders" in error.hint

    error = failing(tmp_path, command=["no-such-program"])
    assert "no-such-program" in error.message

    error = failing(
        tmp_path,
        command=["sleep", "60"],
        health=Health(tcp=True, start_within=0.2),
    )
    assert "did not become healthy within 0.2 s" in error.message


def test_an_unknown_variable_is_named_before_anything_starts(tmp_path: Path) -> None:
    cluster = Cluster(
        name="bad",
        services={
            "api": Service(
                command=["x", "{{ prot }}"],
                environment={"STORE": "{{ links.store[0].address }}"},
                files={"a.conf": "{% if %}"},
            )
        },
    )
    ref = LocalSandbox.plan_ref(None, f"gameday-test{os.getpid()}-{next(_numbers)}")

    async def test() -> None:
        with pytest.raises(UsageError) as caught:
            await LocalSandbox.up(cluster, ref, log_dir=tmp_path, owners=[], folder=tmp_path)
        message = caught.value.message
        assert "services.api.command[1]: 'prot' is undefined" in message
        assert "services.api.environment.STORE: 'links' has no 'store'" in message
        assert "services.api.files.a.conf: line 1" in message
        assert_nothing_left(ref)

    run(test)


def test_a_port_that_was_taken_meanwhile_is_given_up(tmp_path: Path) -> None:
    """Found by hand: somebody binds the port between our choice and the service's start."""
    from gameday.injectors.sandbox.local.launch import _service
    from gameday.injectors.sandbox.local.replica import Replica

    async def test() -> None:
        spec = _service("a", service(tmp_path))
        with socket.create_server(("127.0.0.1", ports.free_port(()))) as thief:
            port = thief.getsockname()[1]
            replica = Replica(
                spec,
                1,
                tag=f"gameday-test{os.getpid()}-port",
                port=port,
                data=tmp_path,
                endpoints=tmp_path / "endpoints.json",
                folder=str(tmp_path),
                log=tmp_path / "a.log",
                group=None,
                publish=lambda *_, **__: None,
            )
            await replica.start_first({port})
            try:
                assert replica.port != port
                assert replica.slot().health == "healthy"
            finally:
                await replica.stop("")
                replica.kill()

    run(test)


# What ends it


@pytest.mark.parametrize("isolate", [True, False])
def test_nothing_outlives_a_killed_supervisor(tmp_path: Path, isolate: bool) -> None:
    async def test() -> None:
        async with sandbox(small(tmp_path), tmp_path, isolate=isolate) as box:
            if isolate and box.lacks():
                pytest.skip(box.lacks()["disk"])
            address = (await box.list_slots())[1].address
            assert (await fetch(address, "/orphan"))[0] == 200
            victim = await who(box, "back-1")
            await box.cpu.burn("back-1", "gameday-x-7", workers=1)
            tag = box.ref.options["tag"]
            everybody = process.find_by_environment("GAMEDAY_SANDBOX", tag)
            services = 3 + 1 + 1  # and the orphan, and the burner
            assert len(everybody) == services + (2 if isolate else 1)
            supervisor = min(everybody, key=lambda member: (member.started, member.pid))
            await box.processes.signal(victim, signal.SIGSTOP)
            assert process.signal_process(supervisor, signal.SIGKILL)
            if isolate:
                assert not await anyio.to_thread.run_sync(process.wait_gone, everybody, 5.0)

            again = await connect(box.ref)
            steps: list[Step] = [
                SignalProcess("back-1", victim, signal.SIGCONT),
                StartSlot("back-1"),
                ClearHold("back-1", "t"),
                RemoveToxic("front-1->back-1", "t"),
                RestoreAffinity("back-1", victim, (0,)),
                DeleteFile("back-1", "t"),
            ]
            for step in steps:
                assert (await again.run_step(step)).outcome is Outcome.NOTHING
            await again.run_step(EndHelpers("back-1", "gameday-x-7"))
            assert (await again.run_step(TearDown(tag))).outcome is Outcome.PUT_BACK
            assert_nothing_left(box.ref)
            assert (await again.run_step(TearDown(tag))).outcome is Outcome.NOTHING

    run(test)


def test_a_frozen_supervisor_is_torn_down(tmp_path: Path) -> None:
    async def test() -> None:
        async with sandbox(small(tmp_path), tmp_path) as box:
            tag = box.ref.options["tag"]
            everybody = process.find_by_environment("GAMEDAY_SANDBOX", tag)
            process.signal_process(min(everybody, key=lambda m: (m.started, m.pid)), signal.SIGSTOP)
            assert (await box.run_step(TearDown(tag))).outcome is Outcome.PUT_BACK
            assert_nothing_left(box.ref)

    run(test)


@pytest.mark.parametrize("after", [0.0, 0.05, 0.1])
def test_a_supervisor_that_is_stopped_while_it_starts_is_woken_to_end(
    tmp_path: Path, after: float
) -> None:
    """The socket is still told as that of whoever began it."""

    async def test() -> None:
        ref = LocalSandbox.plan_ref(None, f"gameday-test{os.getpid()}-{next(_numbers)}")
        me = process.process_id(os.getpid())
        assert me is not None
        pid = await launch.launch(
            small(tmp_path), ref, log_dir=tmp_path, owners=[me], folder=tmp_path, isolate=True
        )
        await anyio.sleep(after)
        os.kill(pid, signal.SIGSTOP)
        box = await LocalSandbox.connect(ref)
        done = await box.run_step(TearDown(ref.options["tag"]))
        assert done == StepResult(Outcome.PUT_BACK, "the sandbox was ended")  # nothing was killed
        assert_nothing_left(ref)
        assert launch.how_it_ended(pid) == "with exit code 0"

    run(test)


def test_it_ends_when_all_of_its_owners_are_gone(tmp_path: Path) -> None:
    async def test() -> None:
        cluster = Cluster(name="one", services={"a": service(tmp_path)})
        owners = [await anyio.open_process(["sleep", "600"]) for _ in range(2)]
        identities = [process.process_id(owner.pid) for owner in owners]
        assert all(identities)
        ref = LocalSandbox.plan_ref(None, f"gameday-test{os.getpid()}-{next(_numbers)}")
        box = await LocalSandbox.up(
            cluster, ref, log_dir=tmp_path, owners=[i for i in identities if i], folder=tmp_path
        )
        owners[0].kill()
        await owners[0].wait()
        await anyio.sleep(0.2)
        assert len(await box.list_slots()) == 1
        owners[1].kill()
        await owners[1].wait()

        async def gone() -> bool:
            return not Path(ref.address).exists() and not process.find_by_environment(
                "GAMEDAY_SANDBOX", ref.options["tag"]
            )

        await until(gone)
        assert_nothing_left(ref)

    run(test)


def test_where_nothing_was_there_is_nothing_to_tear_down() -> None:
    async def test() -> None:
        ref = LocalSandbox.plan_ref(None, "gameday-test-never")
        box = await connect(ref)
        assert (await box.run_step(TearDown("gameday-test-never"))).outcome is Outcome.NOTHING

    run(test)


def test_a_machine_without_namespaces_lacks_only_sized_disks(tmp_path: Path) -> None:
    async def test() -> None:
        async with sandbox(small(tmp_path), tmp_path, isolate=False) as box:
            assert set(box.parts) == {"processes", "holds", "links", "cpu", "memory", "hands"}
            assert "namespaces" in box.lacks()["disk"]

    run(test)


def test_a_long_tag_still_fits_into_a_socket_path(tmp_path: Path) -> None:
    deep = tmp_path / ("x" * 120)
    one, two = (LocalSandbox.plan_ref(deep, "gameday-" + "y" * 200 + end) for end in "ab")
    assert len(one.address + "/socket") <= 107
    assert one.address != two.address
    assert LocalSandbox.plan_ref(deep, "gameday-" + "y" * 200 + "a") == one


# Declarations

WRONG: list[tuple[dict[str, Any], str]] = [
    ({}, "at least one entry"),
    ({"Api": {"command": ["x"]}}, "cannot name a service"),
    ({"api-2": {"command": ["x"]}}, "not ending in a number"),
    ({"api": {"command": []}}, "at least one entry"),
    ({"api": {"command": ["x"], "links": ["store"]}}, "which is no service; there are: api"),
    ({"api": {"command": ["x"], "links": ["api"]}}, "circle: api -> api"),
    ({"api": {"command": ["x"], "stop": "SIGFOO"}}, "is not a signal"),
    ({"api": {"command": ["x"], "files": {"../x": ""}}}, "not a file inside"),
    ({"api": {"command": ["x"], "environment": {"GAMEDAY_SLOT": "x"}}}, "choose another"),
    ({"api": {"command": ["x"], "health": {}}}, "exactly one of http, tcp and command"),
    ({"api": {"command": ["x"], "health": {"http": "health"}}}, "text that matches"),
    ({"api": {"command": ["x"], "grace": 3}}, "no unit"),
    ({"api": {"command": ["x"], "replicas": 0}}, "at least 1"),
    ({"api": {"command": ["x"], "comand": 1}}, "`comand` is no key of services.api"),
]


@pytest.mark.parametrize(("services", "message"), WRONG)
def test_wrong_declarations_are_refused(services: dict[str, Any], message: str) -> None:
    with pytest.raises(Misfits, match=message):
        Cluster.of({"name": "x", "services": services})


def test_a_circle_of_links_is_shown() -> None:
    services = {name: {"command": ["x"], "links": [to]} for name, to in ("ab", "bc", "ca")}
    with pytest.raises(Misfits, match="circle: a -> b -> c -> a"):
        Cluster.of({"name": "x", "services": services})


def test_an_unknown_entry_is_refused() -> None:
    with pytest.raises(Misfits, match="entry names 'web'"):
        Cluster.of({"name": "x", "entry": "web", "services": {"a": {"command": ["x"]}}})


# Other people's programs

NGINX = """
daemon off; pid {{ data }}/nginx.pid; error_log stderr; worker_processes 2;
{% if root %}{% endif %}
events {}
http {
  access_log off;
  client_body_temp_path {{ data }}/b; proxy_temp_path {{ data }}/p; fastcgi_temp_path {{ data }}/f;
  uwsgi_temp_path {{ data }}/u; scgi_temp_path {{ data }}/s;
  server { listen {{ host }}:{{ port }}; location / { return 200 "{{ slot }}"; } }
}
""".replace("{% if root %}{% endif %}", "user root;" if os.geteuid() == 0 else "")
HAPROXY = """
defaults
  mode http
  timeout connect 1s
  timeout client 5s
  timeout server 5s
frontend web
  bind {{ host }}:{{ port }}
  default_backend web
backend web
{%- for end in links.web %}
  server {{ end.slot }} {{ end.address }}
{%- endfor %}

"""


def installed(program: str) -> str:
    found = shutil.which(program, path=f"{os.environ.get('PATH', '')}:/usr/sbin:/sbin")
    if found is None and os.environ.get("CI") == "true":
        pytest.fail(f"{program} has to be installed where CI=true")
    if found is None:
        pytest.skip(f"{program} is not installed")
    return found


def test_nginx_and_haproxy(tmp_path: Path) -> None:
    nginx, haproxy = installed("nginx"), installed("haproxy")
    cluster = Cluster(
        name="debian",
        services={
            "balancer": Service(
                command=[haproxy, "-W", "-db", "-f", "{{ data }}/haproxy.cfg"],
                files={"haproxy.cfg": HAPROXY},
                links=["web"],
                health=Health(http="/"),
                reload="SIGUSR2",
                grace=0.5,
            ),
            "web": Service(
                command=[nginx, "-p", "{{ data }}", "-c", "{{ data }}/nginx.conf"],
                files={"nginx.conf": NGINX},
                replicas=2,
                health=Health(http="/"),
                stop="SIGQUIT",
                grace=0.5,
            ),
        },
    )

    async def test() -> None:
        async with sandbox(cluster, tmp_path) as box:
            front = (await box.list_slots())[0].address
            assert {(await fetch(front))[1] for _ in range(6)} == {"web-1", "web-2"}
            await box.hands.drain("web-1", by="fixer")

            async def drained() -> bool:
                return {(await fetch(front))[1] for _ in range(4)} == {"web-2"}

            await until(drained)

            victim = await who(box, "web-2")
            address = (await box.list_slots())[2].address
            await box.processes.signal(victim, signal.SIGSTOP)
            with pytest.raises(OSError, match="timed out"):
                await fetch(address, timeout=0.3)  # its workers are stopped too
            assert await do(box, SignalProcess("web-2", victim, signal.SIGCONT)) == ("put-back", "")
            assert await fetch(address) == (200, "web-2")
            await box.processes.signal(victim, signal.SIGKILL)
            await until(lambda: refuses(address))  # its workers end with it
            assert await do(box, StartSlot("web-2")) == ("put-back", "")
            await until(lambda: is_healthy(box, "web-2"))

    run(test)


async def refuses(address: str) -> bool:
    try:
        await fetch(address)
    except OSError as error:
        return "refused" in str(error)
    return False


@pytest.mark.parametrize("isolate", [True, False])
def test_redis(tmp_path: Path, isolate: bool) -> None:
    redis = installed("redis-server")
    command = [redis, "--port", "{{ port }}", "--bind", "{{ host }}", "--dir", "{{ data }}"]
    cluster = Cluster(
        name="redis", services={"redis": Service(command=command, health=Health(tcp=True))}
    )

    async def test() -> None:
        async with sandbox(cluster, tmp_path, isolate=isolate) as box:
            host, port = (await box.list_slots())[0].address.split(":")
            async with await anyio.connect_tcp(host, int(port)) as stream:
                await stream.send(b"SET a 1\r\nGET a\r\n")
                assert b"+OK" in await stream.receive()

    run(test)
