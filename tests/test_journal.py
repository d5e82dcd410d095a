"""The journal: what is written is read; a death at any byte is survived; a full disk is told."""

from __future__ import annotations

import json
import shutil
import signal
import subprocess
import sys
import textwrap
import time
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gameday.drills.journal import Journal, read_journal
from gameday.injectors.errors import StorageError, UsageError
from gameday.scoring.events import DrillStarted, Event, Noted, PhaseBegan, Said, Sample

instants = st.floats(0, 1e6, allow_nan=False)
some_events = st.one_of(
    st.builds(PhaseBegan, at=instants, phase=st.sampled_from(["starting", "running"])),
    st.builds(Said, at=instants, verb=st.just("note"), role=st.just("fixer"), text=st.text()),
    st.builds(Sample, sli=st.text(), at=instants, due=instants, sent=instants, done=instants, good=st.booleans()),
    st.builds(Noted, at=instants, kind=st.text(), data=st.dictionaries(st.text(), st.integers(0, 9))),
)  # fmt: skip


def started(at: float = 0.0) -> DrillStarted:
    return DrillStarted(at=at, id="x", scenario="s", gameday="0", seed=1)


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


@settings(max_examples=40, deadline=None)
@given(st.lists(some_events, max_size=20))
def test_what_is_appended_is_read(
    tmp_path_factory: pytest.TempPathFactory, given_events: list[Event]
) -> None:
    path = tmp_path_factory.mktemp("journal") / "journal.jsonl"
    with Journal(path) as journal:
        written = tuple(journal.append(event) for event in given_events)
    read = read_journal(path)
    assert read.events == written
    assert [event.seq for event in written] == list(range(1, len(written) + 1))
    assert not read.torn


def test_a_death_at_any_byte_loses_only_the_torn_line(tmp_path: Path) -> None:
    path = tmp_path / "journal.jsonl"
    with Journal(path) as journal:
        journal.append(started())
        for number in range(5):
            journal.append(Noted(at=number, kind="n", text="Grüße €" * number))
    whole = path.read_bytes()
    full = read_journal(path).events
    for length in range(len(whole) + 1):
        path.write_bytes(whole[:length])
        read = read_journal(path)
        lines = whole[:length].count(b"\n")
        assert read.events == full[:lines]
        assert read.torn == (not whole[:length].endswith(b"\n") and length > 0)
        assert bool(read.note) == read.torn


def test_a_last_line_of_zeros_is_torn(tmp_path: Path) -> None:
    path = tmp_path / "journal.jsonl"
    with Journal(path) as journal:
        journal.append(started())
    path.write_bytes(path.read_bytes() + b"\0" * 100 + b"\n")
    assert read_journal(path).torn


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (lambda lines: [lines[0], b"{garbage", lines[2]], ":2: this line is no event"),
        (lambda lines: [lines[0], b"\xff\xfe", lines[2]], ":2: this line is no event"),
        (lambda lines: [lines[0], lines[2]], ":2: expected event 2, found event 3"),
        (lambda lines: [lines[0], lines[1], b'{"event":"Unheard","at":1}'], ":3: this line"),
        (
            lambda lines: [lines[0].replace(b'"id"', b'"version":99,"id"'), *lines[1:]],
            "newer Gameday",
        ),
    ],
)
def test_damage_is_refused_with_its_line(tmp_path: Path, change: object, says: str) -> None:
    path = tmp_path / "journal.jsonl"
    with Journal(path) as journal:
        journal.append(started())
        journal.append(Noted(at=1, kind="a"))
        journal.append(Noted(at=2, kind="b"))
    assert callable(change)
    path.write_bytes(b"\n".join([*change(path.read_bytes().splitlines()), b""]))
    with pytest.raises(UsageError, match=says):
        read_journal(path)


def test_no_journal_is_a_clear_error(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="cannot be read"):
        read_journal(tmp_path / "journal.jsonl")


@pytest.mark.anyio
async def test_sync_returns_when_it_is_there(tmp_path: Path) -> None:
    path = tmp_path / "journal.jsonl"
    with Journal(path, zero=time.monotonic() - 5) as journal:
        assert 5 <= journal.now() < 60
        for number in range(200):
            journal.append(Noted(at=number, kind="n"))
            if number % 50 == 0:
                await journal.sync()
                assert len(read_journal(path).events) == number + 1
        assert journal.failure is None


def test_a_folder_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(StorageError, match="cannot be written"):
        Journal(tmp_path / "gone" / "journal.jsonl")


def run_script(script: str, *argv: str, prefix: tuple[str, ...] = ()) -> list[object]:
    done = subprocess.run(
        [*prefix, sys.executable, "-c", textwrap.dedent(script), *argv],
        stdout=subprocess.PIPE,
        check=True,
        timeout=60,
    )
    result: list[object] = json.loads(done.stdout)
    return result


def test_a_killed_writer_leaves_what_it_appended(tmp_path: Path) -> None:
    script = """
        import sys, pathlib, time
        from gameday.drills.journal import Journal
        from gameday.scoring.events import Noted
        journal = Journal(pathlib.Path(sys.argv[1]))
        number = 0
        while True:
            journal.append(Noted(at=number, kind="n"))
            number += 1
            if number == 100:
                print("go", flush=True)
            time.sleep(0.0005)
    """
    path = tmp_path / "journal.jsonl"
    with subprocess.Popen(
        [sys.executable, "-c", textwrap.dedent(script), str(path)], stdout=subprocess.PIPE
    ) as child:
        assert child.stdout is not None
        child.stdout.readline()
        child.send_signal(signal.SIGKILL)
    assert len(read_journal(path).events) >= 95  # not even a sync's worth is lost


def test_a_disk_that_refuses_for_good_is_told_and_never_raises_at_append(tmp_path: Path) -> None:
    script = """
        import anyio, json, pathlib, resource, sys
        from gameday.drills.journal import Journal
        from gameday.injectors.errors import StorageError
        from gameday.scoring.events import Noted
        async def main():
            resource.setrlimit(resource.RLIMIT_FSIZE, (2000, resource.RLIM_INFINITY))
            journal = Journal(pathlib.Path(sys.argv[1]))
            for number in range(100):
                journal.append(Noted(at=number, kind="n"))
            try:
                await journal.sync()
                synced = True
            except StorageError as error:
                synced = error.message
            with anyio.fail_after(10):
                told = await journal.wait_failed()
            resource.setrlimit(resource.RLIMIT_FSIZE, (-1, -1))  # space again: nothing is lost
            with anyio.fail_after(10):
                while True:
                    try:
                        await journal.sync()
                        break
                    except StorageError:
                        await anyio.sleep(0.05)
            journal.close()
            print(json.dumps([synced, told.message, told.hint]))
        anyio.run(main)
    """
    path = tmp_path / "journal.jsonl"
    synced, told, hint = run_script(script, str(path))
    assert "File too large" in str(synced)
    assert told == synced
    assert "space" in str(hint)
    assert len(read_journal(path).events) == 100


def small_disk() -> tuple[str, ...]:
    """A shell around a command that has a tmpfs of 8 MiB at /mnt, in namespaces of its own."""
    shell = 'mount -t tmpfs -o size=8m none /mnt && exec "$@"'
    prefix = ("unshare", "-Urm", "sh", "-c", shell, "sh")
    if shutil.which("unshare") is None:
        pytest.skip("there is no unshare here")
    if subprocess.run([*prefix, "true"], stderr=subprocess.DEVNULL).returncode:
        pytest.skip("user namespaces are not allowed here")
    return prefix


def test_on_a_full_disk_abort_and_revert_are_recorded_all_the_same() -> None:
    script = """
        import anyio, errno, json, os, pathlib
        from datetime import datetime
        from gameday.drills.folder import DrillFolder
        from gameday.drills.inbox import Entry, say
        from gameday.drills.journal import Journal, read_journal
        from gameday.drills.undo_log import UndoLog, read_undo_log
        from gameday.injectors.undo import *
        from gameday.scoring.events import AbortAsked, Noted
        async def main():
            folder = DrillFolder.create(pathlib.Path("/mnt"), datetime.now())
            log = UndoLog(folder.undo)
            box = SandboxRef("fake", "f", "nowhere")
            await log.arm(Armed("a", "a fault", box, (RemoveToxic("x->y", "t"),)))
            with Journal(folder.journal, release=folder.release_reserve) as journal:
                journal.append(Noted(at=0, kind="before"))
                await journal.sync()
                with open("/mnt/filler", "wb", buffering=0) as filler:
                    try:
                        while True:
                            filler.write(b"x" * 4096)
                    except OSError as error:
                        assert error.errno == errno.ENOSPC
                for number in range(200):
                    journal.append(Noted(at=number, kind="n", text="x" * 500))
                with anyio.fail_after(10):
                    failure = await journal.wait_failed()
                await journal.sync()
                journal.append(AbortAsked(at=1, by="gameday", why=failure.message))
                await journal.sync()
                await log.arm(Armed("b", "b", box, (RemoveToxic("x->y", "t"),)))
                await log.undone(Undone("b", Outcome.PUT_BACK))
                say(folder, Entry(verb="abort", text="now"))
            read = read_undo_log(folder.undo, folder.recovery)
            left = [armed.id for armed in read.outstanding]
            print(json.dumps([len(read_journal(folder.journal).events), left, failure.hint]))
        anyio.run(main)
    """
    count, left, hint = run_script(script, prefix=small_disk())
    assert count == 202
    assert left == ["a"]
    assert "Free some space" in str(hint)


def test_close_writes_what_is_left(tmp_path: Path) -> None:
    path = tmp_path / "journal.jsonl"
    journal = Journal(path)
    for number in range(1000):
        journal.append(Noted(at=number, kind="n"))
    journal.close()
    journal.close()
    assert [event.at for event in read_journal(path).events] == list(range(1000))


def test_text_that_no_encoding_takes_loses_nothing(tmp_path: Path) -> None:
    """A path or an error may hold bytes that are no UTF-8: as lone surrogates."""
    path = tmp_path / "journal.jsonl"
    with Journal(path) as journal:
        journal.append(started())
        odd = journal.append(
            Noted(at=1.0, kind="n", text="stop\udcff", data={"\udc80": ["\udc81"]})
        )
        journal.append(Noted(at=2.0, kind="n", text="after"))
    assert (odd.text, odd.data) == ("stop?", {"?": ["?"]})
    read = read_journal(path)
    assert [event.seq for event in read.events] == [1, 2, 3]
    assert read.events[1] == odd
