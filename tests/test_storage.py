"""A disk that takes nothing more, at any instant: nothing stays broken, and one message says so.

On real small disks, in mount namespaces of their own (`tests.small_disk`).
"""

from __future__ import annotations

import json
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from gameday.drills.folder import DrillFolder, list_drills
from gameday.drills.journal import read_journal
from gameday.drills.undo_log import read_undo_log
from gameday.scoring import events
from tests.commands import PATIENCE, leftovers, no_traceback, wait_until
from tests.small_disk import SmallDisk, small_disk

pytestmark = pytest.mark.sandbox


@pytest.fixture
def disk(tmp_path: Path, request: pytest.FixtureRequest) -> Iterator[SmallDisk]:
    with small_disk(tmp_path, getattr(request, "param", "size=24m")) as found:
        found.lay_out()
        yield found


def drill_of(disk: SmallDisk) -> DrillFolder:
    (folder,) = list_drills(disk.root)
    return folder


def run_until(disk: SmallDisk, mark: bytes, *args: str) -> subprocess.Popen[str]:
    """A drill whose journal has come to ``mark``."""
    process = disk.start("run", "s.yaml", "--seed", "1", *args)

    def there() -> bool:
        assert process.poll() is None, process.communicate()
        folders = list_drills(disk.root)
        try:
            return bool(folders) and mark in folders[0].journal.read_bytes()
        except OSError:
            return False

    wait_until(there, repr(mark))
    return process


def ended(process: subprocess.Popen[str]) -> tuple[int, str, str]:
    out, err = process.communicate(timeout=2 * PATIENCE)
    no_traceback(out, err)
    assert "fault of Gameday's own" not in err
    return process.returncode, out, err


def nothing_is_left(disk: SmallDisk) -> None:
    """No process, mount or folder of the drill, nothing outstanding, nothing open."""
    for folder in list_drills(disk.root):
        assert not read_undo_log(folder.undo, folder.recovery).outstanding
        deadline = time.monotonic() + 10
        while found := leftovers(folder.id):
            assert time.monotonic() < deadline, found
            time.sleep(0.1)
    assert not list((disk.state / "drills").glob("[!.]*.json"))
    recovered = disk.gameday("recover")
    assert (recovered.returncode, recovered.stdout) == (0, "Nothing is outstanding.\n")


def injected(folder: DrillFolder) -> bool:
    return any(
        isinstance(e, events.InjectCalled)
        for e in read_journal(folder.journal, damaged=True).events
    )


@pytest.mark.parametrize("how", ["full", "read-only"])
@pytest.mark.parametrize("which", ["root", "state"])
def test_where_nothing_can_be_kept_no_drill_begins(disk: SmallDisk, which: str, how: str) -> None:
    if how == "full":
        disk.fill(which)
    else:
        disk.freeze(which)
    done = disk.gameday("run", "s.yaml")
    no_traceback(done.stdout, done.stderr)
    assert done.returncode == 4, done.stderr
    message, hint = done.stderr.splitlines()
    assert message.startswith("gameday: ")
    assert ("No space left" if how == "full" else "Read-only file system") in message
    assert hint.strip()
    assert not list(list_drills(disk.root))  # nothing was begun that it would be the record of
    nothing_is_left(disk)


@pytest.mark.parametrize("disk", ["size=24m,nr_inodes=12"], indirect=True)
def test_without_inodes_no_drill_begins(disk: SmallDisk) -> None:
    done = disk.gameday("run", "s.yaml")
    no_traceback(done.stdout, done.stderr)
    assert done.returncode == 4, done.stderr
    assert "scenario.yaml cannot be written: No space left" in done.stderr
    again = disk.gameday("debrief")
    no_traceback(again.stdout, again.stderr)
    assert (again.returncode, "no drill" in again.stderr) == (2, True), again.stderr
    nothing_is_left(disk)


@pytest.mark.parametrize(
    ("instant", "breaks"),
    [
        (b'"phase":"starting"', False),
        (b'"phase":"steadying"', False),
        (b'"InjectionArmed"', True),
        (b'"Looked"', True),
    ],
)
def test_a_disk_that_fills_up_ends_the_drill(disk: SmallDisk, instant: bytes, breaks: bool) -> None:
    disk.lay_out(at="500ms" if breaks else "3s")
    process = run_until(disk, instant)
    disk.fill("root")
    filled = time.monotonic()
    code, out, err = ended(process)
    assert code == 4, (out, err)
    assert time.monotonic() - filled < 20
    assert "No space left on device" in out + err
    folder = drill_of(disk)
    assert injected(folder) is breaks
    last = read_journal(folder.journal).events[-1]
    assert isinstance(last, events.DrillEnded)
    assert last.why == "aborted"
    if breaks:
        (undone,) = [
            event
            for event in read_journal(folder.journal).events
            if isinstance(event, events.InjectionUndone)
        ]
        assert undone.outcome == "put-back"
    nothing_is_left(disk)


def test_a_disk_that_fills_up_while_it_is_put_back(disk: SmallDisk) -> None:
    process = run_until(disk, b'"phase":"reverting"')
    disk.fill("root")
    code, out, err = ended(process)
    assert code in (0, 4), (out, err)
    nothing_is_left(disk)


def test_a_full_state_in_mid_drill_harms_nothing(disk: SmallDisk) -> None:
    process = run_until(disk, b'"Looked"')
    disk.fill("state")
    code, out, err = ended(process)
    assert code == 0, (out, err)
    nothing_is_left(disk)


@pytest.mark.acceptance
def test_a_folder_that_becomes_read_only_is_told_and_recovered(disk: SmallDisk) -> None:
    """The page's end cannot be kept in the drill's file: that is what `recover` does later."""
    process = run_until(disk, b'"Looked"')
    disk.freeze("root")
    code, out, err = ended(process)
    assert code == 5, (out, err)
    assert "It stays up." in out
    assert (
        "Not put back: the alert Drill; by hand: resolve the page Drill-1 where it was sent" in out
    )
    assert "debrief.md cannot be written: Read-only file system" in err
    folder = drill_of(disk)
    (left,) = read_undo_log(folder.undo, folder.recovery).outstanding
    assert left.what == "the alert Drill"
    disk.thaw("root")
    recovered = disk.gameday("recover")
    assert recovered.returncode == 0, recovered.stderr
    nothing_is_left(disk)
    again = disk.gameday("debrief")
    assert again.returncode == 0, again.stderr
    assert folder.debrief("json").is_file()


@pytest.mark.alone  # beside others the machine may be too busy to prove anything
@pytest.mark.short_form("json-size=24m,nr_inodes=20")
@pytest.mark.parametrize("disk", ["size=24m,nr_inodes=20"], indirect=True)
@pytest.mark.parametrize("form", ["text", "json"])
def test_a_debrief_that_cannot_be_written_is_no_verdict_lost(disk: SmallDisk, form: str) -> None:
    done = disk.gameday("run", "s.yaml", *(["--json"] if form == "json" else []))
    no_traceback(done.stdout, done.stderr)
    assert done.returncode == 0, done.stderr
    assert "debrief.json cannot be written: No space left on device" in done.stderr
    assert "`gameday debrief " in done.stderr
    if form == "json":
        assert json.loads(done.stdout)["drill"]["exit_code"] == 0
    else:
        assert "supported: available" in done.stdout
        assert "debrief.html" not in done.stdout
    again = disk.gameday("debrief", "--format", "json")
    assert again.returncode == 4
    assert json.loads(again.stdout)["drill"]["exit_code"] == 0
    nothing_is_left(disk)


@pytest.mark.parametrize("damage", ["torn", "nul", "garbage", "lost line"])
def test_a_damaged_record_is_said_and_gone_on_with(disk: SmallDisk, damage: str) -> None:
    process = run_until(disk, b'"Looked"')
    process.send_signal(2)
    assert ended(process)[0] == 4
    folder = drill_of(disk)
    for path in (folder.journal, folder.undo):
        lines = path.read_bytes().splitlines(keepends=True)
        middle = len(lines) // 2
        match damage:
            case "torn":
                lines[-1] = lines[-1][:20]
            case "nul":
                lines[-1] = bytes(len(lines[-1]))
            case "garbage":
                lines[middle] = b"\xff\x00{garbage\n"
            case "lost line":
                del lines[middle]
        path.write_bytes(b"".join(lines))
    told = disk.gameday("debrief")
    no_traceback(told.stdout, told.stderr)
    assert told.returncode == 0, told.stderr
    if damage in ("torn", "nul"):
        assert "The journal ends in the middle of a line" in told.stdout
        assert "The undo log ends in the middle of a line" in told.stdout
    else:
        assert "was left out with all that follows" in " ".join(told.stdout.split())
    for name in ("list", "status", "recover"):
        done = disk.gameday(name, *([folder.id] if name == "recover" else []))
        no_traceback(done.stdout, done.stderr)
        assert done.returncode in ((0, 5) if name == "recover" else (0, 2)), done.stderr
