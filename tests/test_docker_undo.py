"""Undo on a real Docker Engine while it, or what it runs, is in the midst of something."""

from __future__ import annotations

import os
import signal
import subprocess
import time
from collections.abc import Callable
from pathlib import Path
from random import Random

import anyio
import pytest

from gameday.injectors.errors import SandboxError
from gameday.injectors.sandbox import process
from gameday.injectors.sandbox.docker.driver import DockerSandbox
from gameday.injectors.undo import (
    Outcome,
    StartSlot,
)
from tests.containers import (
    Containers,
    box,
    containers,
    make,
    run,
)

pytestmark = [pytest.mark.docker, pytest.mark.timeout(180)]

__all__ = ["box", "containers"]


def test_what_is_being_killed_is_started_anew(box: DockerSandbox) -> None:
    """Though the engine may say yet that it runs, and would do nothing."""

    async def killed(delay: float) -> None:
        container = await box.find("back-1")
        assert container is not None
        assert container.process is not None
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(box.signal, container, signal.SIGKILL)
            await anyio.sleep(delay)
            done = await box.run_step(StartSlot("back-1", container.process))
        again = await box.find("back-1")
        assert done.outcome is Outcome.PUT_BACK, (delay, done)
        assert again is not None
        assert again.process not in (None, container.process), (
            delay,
            done,
            again.inspected["State"],
        )

    for delay in (0.0, 0.005, 0.01, 0.015, 0.02, 0.03, 0.05, 0.1):
        run(killed, delay)


def test_what_was_told_to_stop_and_has_not_yet_ends_with_the_undo(
    box: DockerSandbox, containers: Containers
) -> None:
    """Else the engine would end it once its grace is over, when everything has been put back."""
    deaf = ("sh", "-c", "trap '' TERM; while :; do sleep 0.1; done")
    name = containers.start("stubborn", 1, command=deaf)

    async def stopped_in_vain() -> None:
        fault = make("container.stop", target={"slot": "stubborn-1"}, grace="3s")
        (injection,) = await fault.plan(box, Random(1))
        with anyio.move_on_after(0.5):
            await fault.inject(box, injection)
        (step,) = injection.undo
        done = await box.run_step(step)
        assert done.outcome is Outcome.PUT_BACK, done
        after = await box.find("stubborn-1")
        await anyio.sleep(4.0)
        later = await box.find("stubborn-1")
        assert after is not None
        assert later is not None
        assert injection.before != after.process == later.process is not None
        assert (await box.run_step(step)).outcome is Outcome.NOTHING

    try:
        run(stopped_in_vain)
    finally:
        containers.docker("rm", "--force", "--volumes", name)
        containers.names.remove(name)


def test_what_has_ended_is_started_anew_though_the_engine_has_not_heard_of_it(
    box: DockerSandbox, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def ended() -> None:
        container = await box.find("back-1")
        assert container is not None
        assert container.process is not None
        stat = Path(f"/proc/{container.process.pid}/stat").read_text()
        tells = int(stat.rpartition(")")[2].split()[1])  # its parent: it tells the engine
        os.kill(tells, signal.SIGSTOP)
        try:
            os.kill(container.process.pid, signal.SIGKILL)
            with monkeypatch.context() as hasty:
                hasty.setattr(process, "DIES_WITHIN", 0.2)
                with pytest.raises(SandboxError, match="back-1 was killed, and has not ended yet"):
                    await box.run_step(StartSlot("back-1", container.process))
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(_later, 0.5, os.kill, tells, signal.SIGCONT)
                done = await box.run_step(StartSlot("back-1", container.process))
        finally:
            os.kill(tells, signal.SIGCONT)
        again = await box.find("back-1")
        assert done.outcome is Outcome.PUT_BACK, done
        assert again is not None
        assert again.process not in (None, container.process)

    run(ended)


@pytest.mark.parametrize(("lasts", "waits"), [(0.6, True), (30.0, False)])
def test_a_pause_waits_for_a_health_check_to_end_but_not_for_long(
    lasts: float, waits: bool, box: DockerSandbox, containers: Containers
) -> None:
    """An engine that is starting one is not heard before the check's time is over."""
    name = next(name for name in containers.names if name.endswith("back-1"))
    check = subprocess.Popen(
        ["docker", "exec", name, "sh", "-c", f"echo; exec sleep {lasts}"],
        env=os.environ | containers.where,
        stdout=subprocess.PIPE,
    )
    assert check.stdout is not None
    check.stdout.readline()

    async def pause() -> float:
        container = await box.find("back-1")
        assert container is not None
        began = time.monotonic()
        await box.signal(container, signal.SIGSTOP)
        paused = time.monotonic() - began
        await box.signal(container, signal.SIGCONT)
        return paused

    try:
        paused = run(pause)
        assert paused < 3
        assert (check.poll() is not None) is waits
        assert paused > (lasts if waits else 1.0) - 0.2
    finally:
        if not waits:
            containers.docker("exec", name, "pkill", "sleep")
        check.communicate()


async def _later(delay: float, call: Callable[..., object], *args: object) -> None:
    await anyio.sleep(delay)
    call(*args)
