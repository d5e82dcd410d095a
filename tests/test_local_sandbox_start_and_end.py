"""How the local sandbox starts and ends, on real processes: it says why it cannot, and leaves nothing."""

from __future__ import annotations

import os
import signal
import socket
import sys
from pathlib import Path
from typing import Any

import anyio
import pytest

from gameday.injectors.errors import SandboxError, UsageError
from gameday.injectors.sandbox import ports, process
from gameday.injectors.sandbox.kinds import connect
from gameday.injectors.sandbox.local import launch
from gameday.injectors.sandbox.local.cluster import Cluster, Health, Service
from gameday.injectors.sandbox.local.driver import LocalSandbox
from gameday.injectors.undo import (
    ClearHold,
    DeleteFile,
    EndHelpers,
    Outcome,
    RemoveToxic,
    RestoreAffinity,
    SignalProcess,
    StartSlot,
    Step,
    StepResult,
    TearDown,
)
from tests.small_sandbox import (
    _numbers,
    assert_nothing_left,
    fetch,
    run,
    sandbox,
    service,
    small,
    until,
    who,
)

pytestmark = [
    pytest.mark.sandbox,
    pytest.mark.skipif(sys.platform != "linux", reason="the local sandbox needs Linux"),
]


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
            ending = everybody if isolate else (supervisor, victim)
            assert not await anyio.to_thread.run_sync(process.wait_gone, ending, 5.0)

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
