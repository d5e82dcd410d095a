"""Processes attached by name: found without doubt, broken by signals, put back by a command."""

from __future__ import annotations

import contextlib
import os
import shlex
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import anyio
import pytest

from gameday.drills.standby import Standby
from gameday.injectors.errors import SandboxError, Unsupported, UsageError
from gameday.injectors.sandbox import process
from gameday.injectors.sandbox.attached import AttachedSandbox
from gameday.injectors.sandbox.base import Change
from gameday.injectors.sandbox.connect import connect
from gameday.injectors.undo import (
    Outcome,
    ProcessId,
    RemoveToxic,
    RunCommand,
    SignalProcess,
    StartSlot,
    TearDown,
)

pytestmark = [
    pytest.mark.sandbox,
    pytest.mark.skipif(sys.platform != "linux", reason="attaching needs Linux"),
]


def argv(word: str) -> list[str]:
    """A process that can be told from every other one by a word."""
    return [sys.executable, "-S", "-E", "-c", "import time; time.sleep(600)", word]


@contextlib.contextmanager
def sleeping(*words: str) -> Iterator[list[subprocess.Popen[bytes]]]:
    """One process for each word; whoever carries one of the words is killed in the end."""
    started = [subprocess.Popen(argv(word)) for word in words]
    for child in started:
        while not process.has_environment(child.pid):
            pass  # in the midst of its exec nobody can tell what it is
    try:
        yield started
    finally:
        for pid in process.processes():
            with contextlib.suppress(OSError):
                command = Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0")
                if any(word.encode() in command for word in words):
                    os.kill(pid, signal.SIGKILL)
        for child in started:
            child.wait()
        with contextlib.suppress(ChildProcessError):
            while os.waitpid(-1, os.WNOHANG)[0]:
                pass


@pytest.fixture
def word(request: pytest.FixtureRequest) -> str:
    return f"gdword-{os.getpid()}-{abs(hash(request.node.name))}"


def attach(tmp_path: Path, web: str, restart: str = "") -> AttachedSandbox:
    restarts = {"web": restart} if restart else {}
    return AttachedSandbox.attach({"web": web}, restarts, log_dir=tmp_path)


def kill(child: subprocess.Popen[bytes]) -> None:
    child.kill()
    child.wait()


async def who(box: AttachedSandbox) -> ProcessId:
    found = (await box.processes.status("web-1")).process
    assert found is not None
    return found


def test_by_pid_killed_and_put_back_also_by_another_process(tmp_path: Path, word: str) -> None:
    async def test() -> None:
        with sleeping(word) as (child,):
            box = attach(tmp_path, str(child.pid), shlex.join(argv(word)))
            before = await box.fingerprint("web-1")
            (slot,) = await box.list_slots()
            assert (slot.name, slot.service, slot.state) == ("web-1", "web", "running")
            assert (await who(box)).pid == child.pid
            first = await who(box)
            assert (await box.run_step(StartSlot("web-1"))).outcome is Outcome.NOTHING
            assert await box.processes.signal(first, signal.SIGKILL)
            child.wait()
            assert not await box.processes.signal(first, signal.SIGKILL)
            assert (await box.list_slots())[0].state == "exited"

            watchdog = await connect(box.ref)
            result = await watchdog.run_step(StartSlot("web-1"))
            assert result.outcome is Outcome.PUT_BACK
            assert (await watchdog.run_step(StartSlot("web-1"))).outcome is Outcome.NOTHING
            assert (await box.run_step(StartSlot("web-1"))).outcome is Outcome.NOTHING
            status = await box.processes.status("web-1")
            assert status.process not in (None, first)
            assert status.restarts == 1
            assert await box.fingerprint("web-1") == before
            now = await who(box)
            assert os.getsid(now.pid) == now.pid

    anyio.run(test)


def test_somebody_elses_restart_is_theirs(tmp_path: Path, word: str) -> None:
    async def test() -> None:
        with sleeping(word) as (child,):
            box = attach(tmp_path, str(child.pid), "false")
            paused = SignalProcess("web-1", await who(box), signal.SIGCONT)
            kill(child)
            assert (await box.run_step(paused)).outcome is Outcome.NOTHING
            with sleeping(word):
                assert (await box.run_step(StartSlot("web-1"))).outcome is Outcome.TAKEN_OVER
                assert (await box.run_step(paused)).outcome is Outcome.TAKEN_OVER

    anyio.run(test)


def test_pause_and_continue(tmp_path: Path, word: str) -> None:
    async def test() -> None:
        with sleeping(word) as (child,):
            box = attach(tmp_path, word)
            first = await who(box)
            assert first.pid == child.pid
            step = SignalProcess("web-1", first, signal.SIGCONT)
            assert (await box.run_step(step)).outcome is Outcome.NOTHING
            await box.processes.signal(first, signal.SIGSTOP)
            with anyio.fail_after(5):
                while (await box.processes.status("web-1")).state != "paused":  # noqa: ASYNC110
                    await anyio.sleep(0.01)
            assert (await box.run_step(step)).outcome is Outcome.PUT_BACK
            assert (await box.fingerprint("web-1"))["process"] == "running"

    anyio.run(test)


def test_exits_and_starts_are_seen(tmp_path: Path, word: str) -> None:
    async def test() -> None:
        with sleeping(word) as (child,):
            box = attach(tmp_path, str(child.pid), shlex.join(argv(word)))
            seen: list[Change] = []

            async def collect() -> None:
                async with contextlib.aclosing(box.changes()) as changes:  # type: ignore[type-var]
                    async for change in changes:
                        seen.append(change)

            with anyio.fail_after(10):
                async with anyio.create_task_group() as group:
                    group.start_soon(collect)
                    await anyio.sleep(0.05)
                    kill(child)
                    while not seen:  # noqa: ASYNC110
                        await anyio.sleep(0.01)
                    await box.run_step(StartSlot("web-1"))
                    while len(seen) < 2:  # noqa: ASYNC110
                        await anyio.sleep(0.01)
                    group.cancel_scope.cancel()
            assert [(c.action, c.slot) for c in seen] == [("exited", "web-1"), ("started", "web-1")]

    anyio.run(test)


def test_exactly_one_process_has_to_match(tmp_path: Path, word: str) -> None:
    with pytest.raises(UsageError, match="no process of yours matches"):
        attach(tmp_path, word)
    with pytest.raises(UsageError, match="is not a pattern"):
        attach(tmp_path, "(")
    with pytest.raises(UsageError, match="no process has the pid"):
        attach(tmp_path, "4194305")
    with sleeping(word, word) as children:
        with pytest.raises(UsageError, match="2 processes match") as caught:
            attach(tmp_path, word)
        assert all(str(child.pid) in caught.value.message for child in children)


def test_a_master_and_its_workers_are_one(tmp_path: Path, word: str) -> None:
    program = f"import os, time; os.fork(); time.sleep(600) # {word}"
    with subprocess.Popen([sys.executable, "-S", "-c", program], start_new_session=True) as master:
        try:
            box = attach(tmp_path, word)
            assert anyio.run(who, box).pid == master.pid
        finally:
            os.killpg(master.pid, signal.SIGKILL)


def test_a_program_is_found_by_its_name(tmp_path: Path, word: str) -> None:
    program = tmp_path / f"gd{os.getpid()}"
    program.symlink_to("/bin/sleep")
    with subprocess.Popen([program, "600"]) as child:
        try:
            assert anyio.run(who, attach(tmp_path, program.name)).pid == child.pid
        finally:
            child.kill()


def test_a_watchdog_is_never_meant(tmp_path: Path, word: str) -> None:
    with Standby.start(), pytest.raises(UsageError, match="no process of yours matches"):
        attach(tmp_path, "-m gameday.drills.watchdog")


def test_what_the_command_line_gets_wrong(tmp_path: Path, word: str) -> None:
    with sleeping(word):
        with pytest.raises(UsageError, match="cannot be read"):
            attach(tmp_path, word, "'unclosed")
        with pytest.raises(UsageError, match="cannot name a process"):
            AttachedSandbox.attach({"Web!": word}, {}, log_dir=tmp_path)
        with pytest.raises(UsageError, match="names db, which is not attached"):
            AttachedSandbox.attach({"web": word}, {"db": "true"}, log_dir=tmp_path)


def test_what_it_cannot_do(tmp_path: Path, word: str) -> None:
    async def test() -> None:
        with sleeping(word) as (child,):
            box = attach(tmp_path, word)
            for part in ("holds", "links", "cpu", "memory", "disk", "hands"):
                with pytest.raises(Unsupported, match=part):
                    box.part(part)
            with pytest.raises(UsageError, match="no slot"):
                await box.processes.status("db-1")
            with pytest.raises(SandboxError, match="RemoveToxic"):
                await box.run_step(RemoveToxic("a->b", "tag"))
            assert (await box.run_step(TearDown("tag"))).outcome is Outcome.NOTHING
            kill(child)
            with pytest.raises(SandboxError, match="no command is known") as caught:
                await box.run_step(StartSlot("web-1"))
            assert word in caught.value.hint
            with pytest.raises(SandboxError, match="cannot be started again"):
                await box.run_step(RunCommand("web-1", ("no-such-program-here",)))

    anyio.run(test)


def test_the_restart_command_runs_where_it_was_given(
    tmp_path: Path, word: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def test() -> None:
        with sleeping(word) as (child,):
            here = tmp_path / "here"
            here.mkdir()
            monkeypatch.chdir(here)
            program = f"import os, time; print(os.getcwd(), flush=True); time.sleep(600) # {word}"
            restart = shlex.join([sys.executable, "-S", "-c", program, word])
            box = attach(tmp_path, str(child.pid), restart)
            monkeypatch.chdir(tmp_path)
            kill(child)
            assert (await box.run_step(StartSlot("web-1"))).outcome is Outcome.PUT_BACK
            with anyio.fail_after(5):
                while not (tmp_path / "web-1.log").read_text().endswith("\n"):  # noqa: ASYNC110
                    await anyio.sleep(0.01)
            assert (tmp_path / "web-1.log").read_text().strip() == str(here)

    anyio.run(test)
