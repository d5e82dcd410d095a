"""`gameday recover` as people meet it: a folder that is away, a page that nobody takes, a drill given up."""

from __future__ import annotations

import os
import shutil
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import anyio
import msgspec
import pytest

from gameday.drills import state
from gameday.drills.channels import Book, read_book, write_book
from gameday.drills.folder import DrillFolder
from gameday.drills.recover import check_recovered, recover
from gameday.drills.state import OpenDrill
from gameday.drills.undo_log import UndoLog, read_undo_log
from gameday.injectors.errors import SandboxError, UndoFailed
from gameday.injectors.sandbox import kinds
from gameday.injectors.sandbox.process import process_id
from gameday.injectors.undo import (
    Armed,
    Outcome,
    ProcessId,
    RemoveToxic,
    ResolvePage,
    SandboxRef,
    SignalProcess,
    Step,
    StepResult,
)
from gameday.scoring import events
from tests.commands import Terminal, assert_nothing_left, no_traceback
from tests.little_drill import lay_out, scenario

pytestmark = pytest.mark.anyio

GONE = SandboxRef("fake", "shop", "/nowhere")
STRANGE = SandboxRef("strange", "x", "")
TOXIC = RemoveToxic("a->b", "t")
PAUSED = SignalProcess("api-1", ProcessId("another boot", 4711, 1), 18)


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


@pytest.fixture(autouse=True)
def home(terminal: Terminal, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GAMEDAY_STATE", str(terminal.state))


def me() -> ProcessId:
    found = process_id(os.getpid())
    assert found is not None
    return found


DEAD = msgspec.structs.replace(me(), started=1)


async def left(
    terminal: Terminal, *steps: Step, webhook: str = "", runner: ProcessId = DEAD
) -> DrillFolder:
    """A drill that armed one change for each step, and died."""
    folder = DrillFolder.create(terminal.cwd, datetime.now(UTC))
    folder.journal.touch()
    log = UndoLog(folder.undo)
    for number, step in enumerate(steps):
        await log.arm(Armed(str(number), f"change {number}", GONE, (step,)))
    log.close()
    write_book(folder.path, Book(folder.id, webhook=webhook))
    state.remember(OpenDrill(id=folder.id, folder=str(folder.path), runner=runner, sandbox=GONE))
    return folder


def page(number: int = 1) -> ResolvePage:
    return ResolvePage(f"Bell-{number}", "Bell", ("terminal", "webhook"))


async def test_what_fails_is_told_once_with_a_plain_reason(terminal: Terminal) -> None:
    folder = await left(terminal)
    where = {"DOCKER_HOST": f"unix://{terminal.cwd}/none.sock", "tag": "x", "project": "shop"}
    log = UndoLog(folder.undo)
    await log.arm(Armed("f-1", "a fault", SandboxRef("docker", "x", "shop", where), (TOXIC,)))
    log.close()
    done = terminal.gameday("recover", timeout=60)
    no_traceback(done.stdout, done.stderr)
    assert done.returncode == 5
    said = done.stdout + done.stderr
    assert said.count("none.sock does not answer: there is no socket") == 1
    (step,) = read_undo_log(folder.undo, folder.recovery).outstanding[0].steps
    assert said.count(kinds.by_hand(step, SandboxRef("docker", "x", "shop", where))) == 1


# A folder that is away


async def test_what_is_away_is_told_again_and_again_and_recovered_once_it_is_back(
    terminal: Terminal,
) -> None:
    folder = await left(terminal, TOXIC)
    away = terminal.cwd / "away"
    (terminal.cwd / ".gameday").rename(away)
    for command in (["catalog"], ["list"], ["--version"], ["catalog"]):
        told = terminal.gameday(*command)
        assert told.returncode == 0
        (line,) = told.stderr.splitlines()
        assert f"{folder.path} is away" in line
    for command in (["recover"], ["recover", folder.id], ["recover", folder.id[-4:]]):
        done = terminal.gameday(*command)
        assert done.returncode == 5, done
        assert "Mount it or move it back" in done.stderr
        assert f"gameday recover --forget {folder.id}" in done.stderr
        assert "Nothing is outstanding" not in done.stdout
    assert terminal.open_drills() == [folder.id]
    away.rename(terminal.cwd / ".gameday")
    assert "nothing is outstanding" in terminal.say("recover")
    assert not read_undo_log(folder.undo, folder.recovery).outstanding
    assert terminal.say("recover") == "Nothing is outstanding.\n"
    assert terminal.open_drills() == []


async def test_what_was_moved_for_good_is_recovered_where_it_is(terminal: Terminal) -> None:
    folder = await left(terminal, TOXIC)
    there = folder.path.rename(terminal.cwd / folder.id)
    assert "nothing is outstanding" in terminal.say("recover", there)
    assert terminal.open_drills() == []


async def test_one_that_is_away_does_not_keep_another_from_being_recovered(
    terminal: Terminal,
) -> None:
    gone, here = await left(terminal, TOXIC), await left(terminal, TOXIC)
    shutil.rmtree(gone.path)
    done = terminal.gameday("recover")
    assert done.returncode == 5
    assert f"{here.id}: nothing is outstanding." in done.stdout
    assert terminal.open_drills() == [gone.id]


# Given up


async def test_a_drill_is_given_up_with_the_commands_to_do_it_by_hand(terminal: Terminal) -> None:
    folder = await left(terminal, PAUSED, page(), webhook="http://127.0.0.1:1/s3cret")
    before = {path: path.read_bytes() for path in folder.path.iterdir() if path.is_file()}
    told = terminal.say("recover", "--forget", folder.id[-4:])
    assert "Not put back: change 0. By hand:\n  kill -CONT 4711\n" in told
    assert "resolve the page Bell-1 where it was sent (terminal, webhook)" in told
    assert f"gameday recover {folder.path}" in told
    assert "s3cret" not in told
    assert before == {path: path.read_bytes() for path in folder.path.iterdir() if path.is_file()}
    assert terminal.open_drills() == []
    assert terminal.gameday("catalog").stderr == ""
    assert terminal.gameday("recover", "--forget", folder.id).returncode == 2


async def test_one_that_is_away_is_given_up_too(terminal: Terminal) -> None:
    folder = await left(terminal, TOXIC)
    shutil.rmtree(terminal.cwd / ".gameday")
    told = terminal.say("recover", "--forget", folder.id)
    assert "is away" in told
    assert "shop" in told
    assert terminal.gameday("catalog").stderr == ""


async def test_what_is_not_over_is_not_given_up(terminal: Terminal) -> None:
    running = await left(terminal, TOXIC, runner=me())
    watched = await left(terminal, TOXIC)
    opened = next(each for each in state.open_drills() if each.id == watched.id)
    state.remember(msgspec.structs.replace(opened, watchdog=me()))
    for folder, why in ((running, "still runs"), (watched, "still at it")):
        done = terminal.gameday("recover", "--forget", folder.id)
        assert done.returncode == 6, done
        assert why in done.stderr
    assert terminal.open_drills() == sorted([running.id, watched.id])
    for words in ([], ["2"], ["nonsense"], [""]):
        done = terminal.gameday("recover", "--forget", *words)
        assert done.returncode == 2, done
        assert running.id in done.stderr
    assert terminal.open_drills() == sorted([running.id, watched.id])


# Pages


async def test_a_page_that_cannot_be_resolved_says_what_to_do(terminal: Terminal) -> None:
    folder = await left(terminal, page())
    with pytest.raises(UndoFailed) as failed:
        check_recovered(folder)
    hint = failed.value.hint
    assert "resolve the page Bell-1 where it was sent (terminal, webhook)" in hint
    assert f"`gameday recover --forget {folder.id}`" in hint


async def test_pages_of_a_drill_are_resolved_side_by_side_and_hold_up_nothing(
    terminal: Terminal,
) -> None:
    folder = await left(terminal, page(1), TOXIC, page(2), page(3))
    asked = 0
    together = anyio.Event()

    async def resolve(step: ResolvePage) -> StepResult:
        nonlocal asked
        asked += 1
        if asked == 3:
            together.set()
        await together.wait()
        return StepResult(Outcome.PUT_BACK)

    done = await recover(folder, by="recover", resolve_page=resolve, pauses=())
    assert [each.id for each in done] == ["3", "2", "1", "0"]
    assert Outcome.FAILED not in {each.outcome for each in done}


@contextmanager
def reluctant(parties: int) -> Iterator[str]:
    """A webhook that answers nobody until so many ask at once."""
    barrier = threading.Barrier(parties)

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            self.rfile.read(int(self.headers["Content-Length"]))
            try:
                barrier.wait(3.0)
                self.send_response(200)
            except threading.BrokenBarrierError:
                self.send_response(400)
            self.send_header("Content-Length", "0")
            self.end_headers()

        def log_message(self, *args: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}/hook"
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


async def test_drills_are_recovered_side_by_side(terminal: Terminal) -> None:
    """A channel that does not answer costs its time once, not once for each drill."""
    with reluctant(3) as url:
        folders = [await left(terminal, page(), webhook=url) for _ in range(3)]
        done = await anyio.to_thread.run_sync(terminal.gameday, "recover")
    assert done.returncode == 0, done
    for folder in folders:
        assert f"{folder.id}: nothing is outstanding." in done.stdout


@pytest.mark.parametrize("resolved", [True, False])
async def test_a_webhook_is_forgotten_once_its_pages_are_resolved(
    terminal: Terminal, resolved: bool
) -> None:
    """Whatever else is outstanding."""
    folder = await left(terminal, page(), webhook="http://127.0.0.1:1/s3cret")
    log = UndoLog(folder.undo)
    await log.arm(Armed("lost", "a fault", STRANGE, (TOXIC,)))
    log.close()

    async def resolve(step: ResolvePage) -> StepResult:
        if not resolved:
            raise SandboxError("nobody took it")
        return StepResult(Outcome.PUT_BACK)

    await recover(folder, by="recover", resolve_page=resolve, pauses=())
    assert read_undo_log(folder.undo, folder.recovery).outstanding
    assert (read_book(folder.path) is None) == resolved


# The entry by which a running drill is found


@pytest.mark.sandbox
def test_an_entry_that_is_removed_ends_the_drill(terminal: Terminal) -> None:
    path = lay_out(terminal.cwd, scenario("process.pause", duration="60s", stabilise="30s"))
    run = terminal.start(path)
    run.until(lambda: run.of(events.Looked), "it is broken")
    for entry in (terminal.state / "drills").glob("*.json"):
        entry.unlink()
    begun = time.monotonic()
    assert run.wait() == 4, run.said()
    assert time.monotonic() - begun < 25.0
    no_traceback(run.said())
    assert "was removed or changed" in " ".join(run.said().split())
    assert_nothing_left(terminal, run.id)
    assert Path(terminal.state / "drills").is_dir()
