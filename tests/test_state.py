"""The machine's own state: who runs, who holds a sandbox, what is outstanding, and the stop file."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from datetime import datetime
from pathlib import Path

import anyio
import msgspec
import pytest

from gameday.drills import state
from gameday.drills.channels import Book, read_book, write_book
from gameday.drills.folder import DrillFolder, find_root, list_drills
from gameday.drills.state import OpenDrill
from gameday.drills.undo_log import UndoLog
from gameday.injectors.errors import Refused, StorageError, UsageError
from gameday.injectors.sandbox.process import is_stopped, process_id
from gameday.injectors.undo import Armed, Outcome, ProcessId, RemoveToxic, SandboxRef, Undone
from tests.commands import wait_until

BOX = SandboxRef("fake", "shop", "/nowhere")


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("GAMEDAY_STATE", str(tmp_path / "state"))
    return tmp_path / "state"


@pytest.fixture
def sleeper() -> Iterator[subprocess.Popen[bytes]]:
    child = subprocess.Popen(["sleep", "60"])
    yield child
    child.kill()
    child.wait()


def me() -> ProcessId:
    found = process_id(os.getpid())
    assert found is not None
    return found


def dead() -> ProcessId:
    return msgspec.structs.replace(me(), started=1)


def make(tmp_path: Path, *, runner: ProcessId, faults: int = 0, undone: int = 0) -> OpenDrill:
    folder = DrillFolder.create(tmp_path, datetime.now())

    async def arm() -> None:
        log = UndoLog(folder.undo)
        for number in range(faults):
            await log.arm(Armed(str(number), "a fault", BOX, (RemoveToxic("a->b", "t"),)))
        for number in range(undone):
            await log.undone(Undone(str(number), Outcome.PUT_BACK))
        log.close()

    anyio.run(arm)
    drill = OpenDrill(id=folder.id, folder=str(folder.path), runner=runner, sandbox=BOX)
    state.remember(drill)
    return drill


def test_a_drill_is_found_while_its_runner_lives(tmp_path: Path) -> None:
    drill = make(tmp_path, runner=me(), faults=1)
    assert state.running_drills() == [drill]
    assert state.outstanding_drills() == []
    assert state.outstanding_message() == ""
    state.forget(drill.id)
    state.forget(drill.id)
    assert state.open_drills() == []


def test_what_a_dead_runner_left_is_said(tmp_path: Path) -> None:
    drill = make(tmp_path, runner=dead(), faults=2, undone=1)
    assert state.running_drills() == []
    assert state.outstanding_drills() == [drill]
    message = state.outstanding_message()
    assert f"`gameday recover {drill.id}`" in message
    assert "1 thing is" in message
    assert "fault" not in message


def test_while_the_watchdog_is_at_it_nobody_is_sent_to_recover(
    tmp_path: Path, sleeper: subprocess.Popen[bytes]
) -> None:
    drill = make(tmp_path, runner=dead(), faults=1)
    drill = msgspec.structs.replace(drill, watchdog=process_id(sleeper.pid))
    state.remember(drill)
    assert state.outstanding_drills() == [drill]
    assert state.outstanding_message() == ""
    sleeper.kill()
    sleeper.wait()
    assert drill.id in state.outstanding_message()


def test_a_drill_that_left_nothing_is_forgotten(tmp_path: Path) -> None:
    make(tmp_path, runner=dead(), faults=1, undone=1)
    assert state.outstanding_drills() == []
    assert state.open_drills() == []


def test_an_undo_log_that_cannot_be_read_is_outstanding(tmp_path: Path) -> None:
    drill = make(tmp_path, runner=dead(), faults=1, undone=1)
    lines = drill.where.undo.read_bytes().splitlines()
    drill.where.undo.write_bytes(b"\n".join([lines[0], b"garbage", lines[1], b""]))
    assert state.outstanding_drills() == [drill]


def test_the_newest_comes_first_and_garbage_is_passed_over(tmp_path: Path, home: Path) -> None:
    old = make(tmp_path, runner=me())
    new = make(tmp_path, runner=me())
    state.remember(msgspec.structs.replace(old, started=time.time() - 100))
    for name, content in {
        "a.json": b"",
        "b.json": b"\xff\xfe",
        "c.json": b"{}",
        "d.json": b"[1]",
        ".new.json.1": b"{",
    }.items():
        (home / "drills" / name).write_bytes(content)
    (home / "drills" / "folder.json").mkdir()
    (home / "drills" / "loop.json").symlink_to("loop.json")
    assert [drill.id for drill in state.running_drills()] == [new.id, old.id]


def test_it_is_private_and_needs_nothing_to_be_asked(tmp_path: Path, home: Path) -> None:
    assert state.open_drills() == []
    assert state.outstanding_message() == ""
    assert state.blocked() is None
    assert not home.exists()
    drill = make(tmp_path, runner=me())
    assert home.stat().st_mode & 0o777 == 0o700
    assert drill.where.path.stat().st_mode & 0o777 == 0o700
    assert (home / "drills" / f"{drill.id}.json").stat().st_mode & 0o777 == 0o600


def test_where_it_is(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("GAMEDAY_STATE")
    monkeypatch.delenv("XDG_STATE_HOME", raising=False)
    monkeypatch.setattr(os, "getuid", lambda: 0)
    assert state.state_folder() == Path("/var/lib/gameday")
    monkeypatch.setattr(os, "getuid", lambda: 1000)
    monkeypatch.setenv("HOME", "/home/kim")
    assert state.state_folder() == Path("/home/kim/.local/state/gameday")
    monkeypatch.setenv("XDG_STATE_HOME", "/state")
    assert state.state_folder() == Path("/state/gameday")


def test_a_state_that_cannot_be_kept_is_a_clear_error(tmp_path: Path, home: Path) -> None:
    home.write_text("a file")
    with pytest.raises(StorageError, match="GAMEDAY_STATE"):
        make(tmp_path, runner=me())
    assert state.open_drills() == []


# Locks


def test_the_second_drill_is_refused_and_told_of_the_first() -> None:
    lock = state.lock_sandbox("shop", "first")
    with pytest.raises(Refused, match="the drill first has this sandbox"):
        state.lock_sandbox("shop", "second")
    state.lock_sandbox("another", "second").release()
    lock.release()
    lock.release()
    state.lock_sandbox("shop", "second").release()


def test_a_lock_is_held_by_whoever_inherits_it() -> None:
    lock = state.lock_sandbox("shop", "first")
    with subprocess.Popen(["sleep", "60"], pass_fds=[lock.fileno()]) as heir:
        lock.release()
        with pytest.raises(Refused, match="first"):
            state.lock_sandbox("shop", "second")
        heir.kill()
    state.lock_sandbox("shop", "second").release()


def test_a_dead_process_holds_no_lock() -> None:
    script = "from gameday.drills import state; state.lock_sandbox('shop', 'first'); import os; os._exit(1)"
    assert subprocess.run([sys.executable, "-c", script]).returncode == 1
    state.lock_sandbox("shop", "second").release()


def test_a_sandbox_with_something_outstanding_is_refused(tmp_path: Path) -> None:
    drill = make(tmp_path, runner=dead(), faults=1)
    with pytest.raises(Refused, match=f"gameday recover {drill.id}"):
        state.lock_sandbox("shop", "second")
    state.lock_sandbox("another", "second").release()


# The stop file


def test_stop_and_allow(home: Path) -> None:
    state.stop("the fire brigade is here", "kim")
    found = state.blocked()
    assert found is not None
    assert (found.why, found.by) == ("the fire brigade is here", "kim")
    assert state.allow()
    assert not state.allow()
    assert state.blocked() is None


def test_a_stop_file_that_cannot_be_read_stops_all_the_same(home: Path) -> None:
    home.mkdir()
    (home / "stop").write_bytes(b"garbage")
    assert state.blocked() is not None


# Folders of drills


def test_a_drill_is_found_by_id_by_part_and_by_path(tmp_path: Path) -> None:
    now = datetime(2026, 11, 22, 17, 8, 12)
    one = DrillFolder.create(tmp_path, now)
    two = DrillFolder.create(tmp_path, now.replace(second=13))
    assert one.id.startswith("20261122-170812-")
    assert two.id.startswith("20261122-170813-")
    assert list_drills(tmp_path) == [two, one]
    below = tmp_path / "a" / "b"
    below.mkdir(parents=True)
    assert find_root(below) == tmp_path
    one.journal.touch()
    for name in (one.id, "170812", one.id[-4:], f".gameday/drills/{one.id}", str(one.path)):
        assert DrillFolder.open(name, tmp_path) == one
    assert DrillFolder.open("latest", below) == two
    with pytest.raises(UsageError, match="fits 2 drills"):
        DrillFolder.open("20261122", tmp_path)
    with pytest.raises(UsageError, match="Did you mean"):
        DrillFolder.open(one.id[:-1] + "x", tmp_path)
    with pytest.raises(UsageError, match="no drill has run"):
        DrillFolder.open("x", Path("/"))


def test_space_is_set_aside_once(tmp_path: Path) -> None:
    drill = DrillFolder.create(tmp_path, datetime.now())
    assert drill.reserve.stat().st_blocks * 512 >= 4 << 20
    assert drill.release_reserve()
    assert not drill.release_reserve()


def test_a_folder_that_cannot_be_made(tmp_path: Path) -> None:
    (tmp_path / ".gameday").write_text("a file")
    with pytest.raises(StorageError, match="cannot be made"):
        DrillFolder.create(tmp_path, datetime.now())


def test_a_stopped_watchdog_holds_no_lock_for_ever(
    tmp_path: Path, sleeper: subprocess.Popen[bytes]
) -> None:
    """Its drill is over and put back, but it cannot end, stopped as it is."""
    drill = make(tmp_path, runner=dead())
    watchdog = process_id(sleeper.pid)
    state.remember(msgspec.structs.replace(drill, watchdog=watchdog))
    sleeper.send_signal(signal.SIGSTOP)
    wait_until(lambda: watchdog is not None and is_stopped(watchdog), "it is stopped")
    state.lock_sandbox(BOX.identity, "second").release()
    assert sleeper.wait(10) == -signal.SIGKILL
    assert state.open_drills() == []


def test_a_drill_whose_folder_is_away_is_never_forgotten_by_itself(tmp_path: Path) -> None:
    drill = make(tmp_path, runner=dead(), faults=1)
    (tmp_path / ".gameday").rename(tmp_path / "elsewhere")
    for _ in range(2):
        assert f"{drill.id} has died" in state.outstanding_message()
        assert state.outstanding_drills() == []
        assert state.away_drills() == [drill]
        with pytest.raises(Refused, match="is away"):
            state.lock_sandbox(BOX.identity, "second")
    (tmp_path / "elsewhere").rename(tmp_path / ".gameday")
    assert state.away_drills() == []
    assert state.outstanding_drills() == [drill]


def test_an_entry_that_is_removed_or_changed_is_noticed_and_noted_anew(
    tmp_path: Path, home: Path
) -> None:
    drill = make(tmp_path, runner=me(), faults=1)
    entry = home / "drills" / f"{drill.id}.json"
    state.check_noted(drill)
    for harm in (entry.unlink, lambda: entry.write_bytes(b""), lambda: shutil.rmtree(home)):
        harm()
        assert state.running_drills() == []
        with pytest.raises(StorageError, match="was removed or changed"):
            state.check_noted(drill)
        assert state.running_drills() == [drill]
        state.check_noted(drill)


def test_the_secret_of_a_webhook_does_not_outlive_what_it_is_for(tmp_path: Path) -> None:
    """Runner and watchdog were killed once all was put back, and nobody could close the drill."""
    drill = make(tmp_path, runner=dead(), faults=1, undone=1)
    write_book(drill.where.path, Book(drill.id, webhook="http://x/secret"))
    assert state.outstanding_message() == ""
    assert read_book(drill.where.path) is None


def test_a_stopped_watchdog_that_alone_knows_is_woken(tmp_path: Path) -> None:
    """Its drill's folder is gone, and with it all that others could put back by."""
    script = "import os; os.read(0, 1)"
    with subprocess.Popen([sys.executable, "-c", script], stdin=subprocess.PIPE) as watchdog:
        drill = make(tmp_path, runner=dead(), faults=1)
        state.remember(msgspec.structs.replace(drill, watchdog=process_id(watchdog.pid)))
        shutil.rmtree(drill.folder)
        watchdog.send_signal(signal.SIGSTOP)
        wait_until(lambda: is_stopped(process_id(watchdog.pid) or dead()), "it is stopped")
        assert "gameday recover" in state.outstanding_message()
        assert watchdog.stdin is not None
        watchdog.stdin.close()  # it is done as soon as it is awake
        state.end_stopped_watchdogs()
        assert watchdog.wait(10) == 0
