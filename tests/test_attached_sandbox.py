"""Processes attached by name: found without doubt, broken by signals, put back by a command."""

from __future__ import annotations

import contextlib
import itertools
import os
import shlex
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import anyio
import pytest

from gameday.drills.folder import DrillFolder, list_drills
from gameday.drills.journal import read_journal
from gameday.drills.standby import Standby
from gameday.drills.undo_log import read_undo_log
from gameday.injectors.errors import Refused, SandboxError, Unsupported, UsageError
from gameday.injectors.sandbox import process
from gameday.injectors.sandbox.attached import AttachedSandbox
from gameday.injectors.sandbox.base import Change
from gameday.injectors.sandbox.kinds import connect
from gameday.injectors.sandbox.listeners import listening_ports
from gameday.injectors.undo import (
    Outcome,
    ProcessId,
    RemoveToxic,
    RunCommand,
    SignalProcess,
    StartSlot,
    TearDown,
)
from gameday.scoring.narration import Narrator
from tests.commands import Terminal, wait_until
from tests.small_sandbox import slow_to_die

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


def test_who_was_killed_and_has_not_ended_is_not_told_to_run(
    tmp_path: Path, word: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(process, "DIES_WITHIN", 0.3)

    async def test() -> None:
        with sleeping(word) as (child,):
            box = attach(tmp_path, str(child.pid), shlex.join(argv(word)))
            first = await who(box)
            with slow_to_die(first):
                assert await box.processes.signal(first, signal.SIGKILL)
                with pytest.raises(SandboxError, match="web was killed, and has not ended yet"):
                    await box.run_step(StartSlot("web-1"))
            child.wait()
            assert (await box.run_step(StartSlot("web-1"))).outcome is Outcome.PUT_BACK

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
            wait_until(lambda: process.has_environment(master.pid), "its exec is over")
            box = attach(tmp_path, word)
            assert anyio.run(who, box).pid == master.pid
        finally:
            os.killpg(master.pid, signal.SIGKILL)


def test_a_program_is_found_by_its_name(tmp_path: Path, word: str) -> None:
    program = tmp_path / f"gd{os.getpid()}"
    program.symlink_to("/bin/sleep")
    with subprocess.Popen([program, "600"]) as child:
        try:
            wait_until(lambda: process.has_environment(child.pid), "its exec is over")
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


@pytest.mark.parametrize("restart", ["/nonexistent", "no-such-program-here", "/etc/passwd", " "])
def test_a_restart_command_that_cannot_run_is_refused(
    tmp_path: Path, word: str, restart: str
) -> None:
    with sleeping(word) as (child,), pytest.raises(UsageError, match="restart command"):
        AttachedSandbox.attach({"web": str(child.pid)}, {"web": restart}, log_dir=tmp_path)


@pytest.mark.parametrize("elsewhere", [False, True], ids=["here", "elsewhere"])
@pytest.mark.parametrize(
    ("restart", "why"),
    [
        ("/bin/false", "ended with code 1"),
        ("/bin/true", "ended with code 0"),
        ("sh -c 'sleep 0.1; exit 3'", "ended with code 3"),
        ("sh -c 'kill -KILL $$'", "ended with code -9"),
    ],
)
def test_a_restart_that_fills_no_slot_has_failed(
    tmp_path: Path,
    word: str,
    restart: str,
    why: str,
    elsewhere: bool,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    async def test() -> None:
        with sleeping(word) as (child,):
            box = attach(tmp_path, str(child.pid), restart)
            if elsewhere:
                monkeypatch.chdir(tmp_path)
            kill(child)
            with pytest.raises(SandboxError, match=why) as caught:
                await box.run_step(StartSlot("web-1"))
            assert restart in caught.value.hint
            assert (await box.processes.status("web-1")).process is None

    anyio.run(test)


LISTENER = """\
import socket, sys, time
delay, port, end, *_ = sys.argv[1:]
time.sleep(float(delay))
if end == "listen":
    listener = socket.create_server(("127.0.0.1", int(port)))
elif end == "die":
    sys.exit(7)
time.sleep(600)
"""


@pytest.mark.parametrize(
    ("delay", "end", "waited", "says"),
    [
        ("0", "listen", 0.0, ""),
        ("0.4", "listen", 0.4, ""),
        ("0", "idle", 1.0, "does not listen on port"),
        ("0.3", "die", 0.3, "ended with code 7"),
    ],
)
def test_a_server_is_back_once_it_listens_where_the_first_one_did(
    tmp_path: Path, word: str, delay: str, end: str, waited: float, says: str
) -> None:
    """Also in a process that the server forked: the first one's listener is its child's."""

    async def test() -> None:
        with socket.create_server(("127.0.0.1", 0)) as free:
            port = str(free.getsockname()[1])

        def server(*how: str) -> list[str]:
            return [sys.executable, "-S", "-E", "-c", LISTENER, *how, word]

        shell = ["sh", "-c", '"$@"; :', "sh", *server("0", port, "listen")]
        with sleeping(word):
            first = subprocess.Popen(shell)  # noqa: ASYNC220 - it returns at once
            main = process.process_id(first.pid)
            assert main is not None
            wait_until(lambda: listening_ports(main) == {int(port)}, "it listens")
            box = attach(tmp_path, str(first.pid), shlex.join(server(delay, port, end)))
            for member in reversed(process.tree(main)):
                process.signal_process(member, signal.SIGKILL)
            first.wait()
            began = anyio.current_time()
            if end == "die":
                with pytest.raises(SandboxError, match=says):
                    await box.run_step(StartSlot("web-1"))
            else:
                result = await box.run_step(StartSlot("web-1"))
                assert result.outcome is Outcome.PUT_BACK
                assert ("does not listen on port" in result.detail) is (end == "idle")
                assert f"{says} {port}" in result.detail or not says
                found = listening_ports(await who(box))
                assert found == ({int(port)} if end == "listen" else set())
            assert anyio.current_time() - began >= waited

    anyio.run(test)


def test_a_program_that_vanished_meanwhile_is_told_also_elsewhere(
    tmp_path: Path, word: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def test() -> None:
        with sleeping(word) as (child,):
            program = tmp_path / "start"
            program.symlink_to("/bin/sleep")
            box = attach(tmp_path, str(child.pid), f"{program} 600")
            program.unlink()
            monkeypatch.chdir(tmp_path)
            kill(child)
            with pytest.raises(SandboxError, match="is not there, or not a program") as caught:
                await box.run_step(StartSlot("web-1"))
            assert f"{program} 600" in caught.value.hint

    anyio.run(test)


def test_a_restart_command_may_daemonise(tmp_path: Path, word: str) -> None:
    """Its child fills the slot, and the command itself ends well."""

    async def test() -> None:
        with sleeping(word) as (child,):
            program = f"import os, time; os.fork() and os._exit(0); time.sleep(600) # {word}"
            restart = shlex.join([sys.executable, "-S", "-c", program, word])
            box = attach(tmp_path, str(child.pid), restart)
            kill(child)
            assert (await box.run_step(StartSlot("web-1"))).outcome is Outcome.PUT_BACK
            assert (await box.processes.status("web-1")).state == "running"

    anyio.run(test)


def test_a_service_manager_may_start_it_later(tmp_path: Path, word: str) -> None:
    """Its process carries no mark of ours, and comes after the command has ended."""

    async def test() -> None:
        with sleeping(word) as (child,):
            start = shlex.join(argv(word))
            script = f"(sleep 0.3; exec env -u GAMEDAY_ATTACHED {start}) >/dev/null 2>&1 &"
            manager = shlex.join(["env", "-u", "GAMEDAY_ATTACHED", "sh", "-c", script])
            box = attach(tmp_path, str(child.pid), manager)
            kill(child)
            assert (await box.run_step(StartSlot("web-1"))).outcome is Outcome.PUT_BACK
            assert (await who(box)).pid != child.pid

    anyio.run(test)


def test_what_must_not_be_broken_is_refused(tmp_path: Path) -> None:
    for pid, why in (
        (1, "init"),
        (os.getpid(), "Gameday itself"),
        (os.getppid(), "runs Gameday" if os.getppid() != 1 else "init"),
    ):
        with pytest.raises(Refused, match=why) as caught:
            attach(tmp_path, str(pid))
        assert caught.value.exit_code == 6
    kernel = [pid for pid in process.processes() if process.is_kernel_thread(pid)]
    assert os.getpid() not in kernel
    for pid in kernel[:1]:
        with pytest.raises(Refused, match="kernel"):
            attach(tmp_path, str(pid))
    with Standby.start() as standby, pytest.raises(Refused, match="watchdog"):
        attach(tmp_path, str(standby.pid))


@pytest.mark.skipif(os.geteuid() != 0, reason="another user's process takes root to make")
def test_who_may_not_signal_it_is_refused(tmp_path: Path, word: str) -> None:
    """As somebody else, in a process of its own."""
    program = f"""
import os, sys
from pathlib import Path
from gameday.injectors.errors import Refused
from gameday.injectors.sandbox.attached import AttachedSandbox
os.setresuid(65534, 65534, 65534)
try:
    AttachedSandbox.attach({{"web": sys.argv[1]}}, {{}}, log_dir=Path({str(tmp_path)!r}))
except Refused as error:
    print(error.message)
"""
    with sleeping(word) as (child,):
        told = subprocess.run(
            [sys.executable, "-c", program, str(child.pid)],
            capture_output=True,
            text=True,
            check=True,
        )
        assert "another user's" in told.stdout


WEB = """\
apiVersion: gameday/v1
name: web-dies
title: The web process dies
sandbox: {kind: attached}
duration: 2s
stabilise: 500ms
slis:
  availability: {address: "127.0.0.1:PORT", path: /, every: 100ms}
steady_state: {availability: ">= 50%"}
faults:
  - {at: 500ms, inject: process.kill, target: {service: web}}
"""


@contextlib.contextmanager
def serving(terminal: Terminal) -> Iterator[tuple[subprocess.Popen[bytes], str]]:
    """A web server, and the command that starts it again; the scenario in which it dies."""
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    (terminal.cwd / "web.yaml").write_text(WEB.replace("PORT", str(port)))
    command = [sys.executable, "-m", "http.server", "-b", "127.0.0.1", str(port)]
    child = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        wait_until(lambda: not_refused(port), "the server answers")
        yield child, shlex.join(command)
    finally:
        for who in process.processes():
            with contextlib.suppress(OSError):
                words = Path(f"/proc/{who}/cmdline").read_bytes().split(b"\0")
                if words[1:-1] == [word.encode() for word in command[1:]]:
                    os.kill(who, signal.SIGKILL)
        child.wait()


def not_refused(port: int) -> bool:
    with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), 1):
        return True
    return False


def play(terminal: Terminal, pid: int, restart: str) -> subprocess.CompletedProcess[str]:
    options = ("--attach", f"web={pid}", "--restart", f"web={restart}")
    return terminal.gameday("run", "web.yaml", *options)


@pytest.mark.acceptance
@pytest.mark.slow
def test_a_drill_that_cannot_bring_it_back_says_so(terminal: Terminal) -> None:
    with serving(terminal) as (child, _):
        refused = play(terminal, child.pid, "/nonexistent")
        assert refused.returncode == 2, refused.stderr
        assert "/nonexistent" in refused.stderr
        assert child.poll() is None
        done = play(terminal, child.pid, "/bin/false")
    said = " ".join((done.stdout + done.stderr).split())
    assert done.returncode == 5, said
    assert "put back by us" not in said
    assert "by hand: /bin/false" in said.partition("Something could not be put back.")[2]
    assert "Everything is put back" not in said
    [folder] = list_drills(terminal.cwd)
    assert "Not everything could be put back; the drill ends." in narrated(folder)
    undone = read_undo_log(folder.undo, folder.recovery).undone
    assert {each.outcome for each in undone} == {Outcome.FAILED}
    assert all(each.wall for each in undone)
    assert folder.path.stat().st_mode & 0o777 == 0o700
    modes = {path.name: path.stat().st_mode & 0o777 for path in folder.path.iterdir()}
    assert {name for name, mode in modes.items() if mode & 0o077 and name != "logs"} == set()


@pytest.mark.slow
def test_a_drill_that_brings_it_back_says_so(terminal: Terminal) -> None:
    with serving(terminal) as (child, command):
        done = play(terminal, child.pid, command)
        said = done.stdout + done.stderr
        assert done.returncode == 0, said
    [folder] = list_drills(terminal.cwd)
    assert "Everything is put back; the drill ends." in narrated(folder)


def narrated(folder: DrillFolder) -> list[str]:
    narrator = Narrator()
    return [told.text for e in read_journal(folder.journal).events for told in narrator.tell(e)]


@pytest.mark.slow
@pytest.mark.short_form("5-")
@pytest.mark.parametrize(("works", "by"), [(5, ""), (8, "watchdog")])
def test_a_restart_that_fails_at_first_is_tried_again_with_pauses(
    terminal: Terminal, works: int, by: str
) -> None:
    """The runner has three rounds, the watchdog goes on; what it achieves is what the drill came to."""
    with serving(terminal) as (child, command):
        script = terminal.cwd / "start"
        script.write_text(
            f"#!/bin/sh\necho >> {terminal.cwd}/tries\n"
            f"[ $(wc -l < {terminal.cwd}/tries) -lt {works} ] && exit 1\nexec {command}\n"
        )
        script.chmod(0o755)
        done = play(terminal, child.pid, str(script))
        said = " ".join((done.stdout + done.stderr).split())
        # Put back by the watchdog it is after the drill: no steady state was seen again.
        assert done.returncode == (3 if by else 0), said
        assert "Something could not be put back" not in said
        assert (terminal.cwd / "tries").read_text().count("\n") == works
    [folder] = list_drills(terminal.cwd)
    read = read_undo_log(folder.undo, folder.recovery)
    assert not read.outstanding
    [*failed, last] = read.undone
    assert {each.outcome for each in failed} == {Outcome.FAILED}
    assert (last.outcome, last.by) == (Outcome.PUT_BACK, by)
    pauses = [after.wall - before.wall for before, after in itertools.pairwise(read.undone)]
    assert all(pause > 0.25 for pause in pauses)
    assert max(pauses) > 0.9
