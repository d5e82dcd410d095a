"""The undo log: what it says is outstanding is what was armed and not undone, whatever dies."""

from __future__ import annotations

import subprocess
import sys
import textwrap
import time
from pathlib import Path

import anyio
import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gameday.drills.undo_log import UndoLog, outstanding, read_undo_log
from gameday.injectors.errors import Refused, UndoFailed
from gameday.injectors.undo import (
    Armed,
    ClearHold,
    DeleteFile,
    EndHelpers,
    Outcome,
    ProcessId,
    RemoveToxic,
    ResolvePage,
    RestoreAffinity,
    RestoreLimit,
    RunCommand,
    SandboxRef,
    SignalProcess,
    StartSlot,
    Step,
    TearDown,
    Undone,
)

BOX = SandboxRef("fake", "fake-1", "/nowhere", {"key": "value"})
WHO = ProcessId("boot", 12, 345)
EVERY_STEP: tuple[Step, ...] = (
    SignalProcess("api-1", WHO, 18),
    StartSlot("api-1"),
    ClearHold("api-1", "t"),
    RemoveToxic("a->b", "t"),
    EndHelpers("api-1", "t"),
    RestoreAffinity("api-1", WHO, (0, 1)),
    RestoreLimit("api-1", WHO, "as", "-1 -1"),
    DeleteFile("api-1", "t.fill"),
    ResolvePage("p-1", "Alert", ("file",)),
    TearDown("t"),
    RunCommand("api-1", ("true", "ü")),
)


def armed(name: str) -> Armed:
    return Armed(name, f"a fault {name}", BOX, EVERY_STEP)


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


@settings(max_examples=50, deadline=None)
@given(
    st.lists(
        st.one_of(
            st.sampled_from("abcdef").map(armed),
            st.builds(Undone, st.sampled_from("abcdef"), st.sampled_from(Outcome)),
        ),
        max_size=12,
    ),
    st.lists(st.builds(Undone, st.sampled_from("abcdef"), st.sampled_from(Outcome)), max_size=3),
)
def test_outstanding_is_what_was_armed_and_not_undone(
    tmp_path_factory: pytest.TempPathFactory, records: list[Armed | Undone], later: list[Undone]
) -> None:
    path = tmp_path_factory.mktemp("undo") / "undo.jsonl"
    recovery = path.with_name("recovery.jsonl")
    first: dict[str, Armed] = {}
    for record in records:
        if isinstance(record, Armed):
            first.setdefault(record.id, record)
    # An id is armed once.
    records = [r for r in records if isinstance(r, Undone) or (r.id in first and first.pop(r.id))]

    async def write() -> list[Armed]:
        log = UndoLog(path, allow_exec=True)
        for record in records:
            await (log.arm(record) if isinstance(record, Armed) else log.undone(record))
        log.close()
        return log.outstanding

    anyio.run(write)
    recovery.write_bytes(b"".join(msgspec.json.encode(record) + b"\n" for record in later))
    cleared = {
        record.id
        for record in [*records, *later]
        if isinstance(record, Undone) and record.outcome is not Outcome.FAILED
    }
    expected = [r for r in reversed(records) if isinstance(r, Armed) and r.id not in cleared]
    assert outstanding(path, recovery) == expected


@pytest.mark.anyio
async def test_it_is_on_disk_when_arm_returns_and_newest_comes_first(tmp_path: Path) -> None:
    path, recovery = tmp_path / "undo.jsonl", tmp_path / "recovery.jsonl"
    log = UndoLog(path, allow_exec=True)
    for name in "abc":
        await log.arm(armed(name))
        assert outstanding(path, recovery)[0] == armed(name)
    assert log.outstanding == outstanding(path, recovery) == [armed(name) for name in "cba"]
    await log.undone(Undone("b", Outcome.TAKEN_OVER, by="fixer"))
    await log.undone(Undone("c", Outcome.FAILED))
    assert log.outstanding == outstanding(path, recovery) == [armed("c"), armed("a")]
    log.close()


def whole_log(path: Path) -> bytes:
    async def write() -> None:
        log = UndoLog(path, allow_exec=True)
        await log.arm(armed("a"))
        await log.arm(armed("b"))
        await log.undone(Undone("b", Outcome.PUT_BACK))
        log.close()

    anyio.run(write)
    return path.read_bytes()


def test_a_death_at_any_byte_never_hides_what_was_armed(tmp_path: Path) -> None:
    path, recovery = tmp_path / "undo.jsonl", tmp_path / "recovery.jsonl"
    whole = whole_log(path)
    expected = [[], ["a"], ["b", "a"], ["a"]]
    for length in range(len(whole) + 1):
        path.write_bytes(whole[:length])
        read = read_undo_log(path, recovery)
        assert [each.id for each in read.outstanding] == expected[whole[:length].count(b"\n")]
        assert read.problems == ()
        assert read.torn == (length > 0 and not whole[:length].endswith(b"\n"))


@pytest.mark.anyio
async def test_a_torn_line_does_not_harm_the_next(tmp_path: Path) -> None:
    path, recovery = tmp_path / "undo.jsonl", tmp_path / "recovery.jsonl"
    path.write_bytes(b'{"type":"armed","id":"x","wh')
    log = UndoLog(path, allow_exec=True)
    await log.arm(armed("a"))
    log.close()
    read = read_undo_log(path, recovery)
    assert [each.id for each in read.outstanding] == ["a"]
    assert len(read.problems) == 1


def test_damage_is_reported_and_the_rest_is_still_read(tmp_path: Path) -> None:
    path, recovery = tmp_path / "undo.jsonl", tmp_path / "recovery.jsonl"
    lines = whole_log(path).splitlines()
    newer = msgspec.json.encode(msgspec.structs.replace(armed("z"), version=99))
    unknown = b'{"type":"armed","id":"y","what":"","sandbox":{"kind":"k","identity":"i","address":""},"steps":[{"step":"Unheard"}]}'
    for bad in (b"garbage", b"\xff", newer, unknown):
        path.write_bytes(b"\n".join([lines[0], bad, lines[1], b""]))
        read = read_undo_log(path, recovery)
        assert [each.id for each in read.outstanding] == ["b", "a"]
        assert len(read.problems) == 1
        assert "undo.jsonl:2" in read.problems[0]
        with pytest.raises(UndoFailed, match=r"undo\.jsonl:2"):
            outstanding(path, recovery)
    path.write_bytes(b"\n".join([lines[0], unknown, b""]))  # whole, but not understood: not torn
    assert read_undo_log(path, recovery).problems


def test_garbage_in_the_recovery_log_hides_nothing(tmp_path: Path) -> None:
    path, recovery = tmp_path / "undo.jsonl", tmp_path / "recovery.jsonl"
    whole_log(path)
    done = msgspec.json.encode(Undone("a", Outcome.PUT_BACK))
    for content, left in ((done[:-4], 1), (b"\xff\n" + done + b"\n", 0), (done[:-4] + b"\n", 1)):
        recovery.write_bytes(content)
        assert len(outstanding(path, recovery)) == left


def test_what_cannot_be_read_is_reported_never_ignored(tmp_path: Path) -> None:
    path = tmp_path / "undo.jsonl"
    path.mkdir()
    with pytest.raises(UndoFailed, match="cannot be read"):
        outstanding(path, tmp_path / "recovery.jsonl")
    assert outstanding(tmp_path / "none.jsonl", tmp_path / "none.jsonl") == []


def test_there_is_one_writer(tmp_path: Path) -> None:
    log = UndoLog(tmp_path / "undo.jsonl", allow_exec=True)
    with pytest.raises(Refused, match="another process"):
        UndoLog(tmp_path / "undo.jsonl", allow_exec=True)
    log.close()
    UndoLog(tmp_path / "undo.jsonl", allow_exec=True).close()


def test_no_record_no_injection_and_no_disk_stops_an_undo(tmp_path: Path) -> None:
    script = """
        import anyio, os, pathlib, resource, sys
        from gameday.drills.undo_log import UndoLog
        from gameday.injectors.errors import StorageError
        from gameday.injectors.undo import *
        async def main():
            log = UndoLog(pathlib.Path(sys.argv[1]))
            box = SandboxRef("fake", "f", "")
            await log.arm(Armed("a", "a", box, (StartSlot("s"),)))
            size = os.stat(sys.argv[1]).st_size
            resource.setrlimit(resource.RLIMIT_FSIZE, (size + 10, -1))
            try:
                await log.arm(Armed("b", "b", box, (StartSlot("s"),)))
            except StorageError as error:
                assert "nothing is broken" in error.message, error
            else:
                sys.exit(3)
            assert os.stat(sys.argv[1]).st_size == size
            assert [each.id for each in log.outstanding] == ["b", "a"]
            await log.undone(Undone("a", Outcome.PUT_BACK))
            assert len(log.unrecorded) == 1
            assert [each.id for each in log.outstanding] == ["b"]
        anyio.run(main)
    """
    path = tmp_path / "undo.jsonl"
    argv = [sys.executable, "-c", textwrap.dedent(script), str(path)]
    assert subprocess.run(argv, timeout=30).returncode == 0
    assert [each.id for each in outstanding(path, tmp_path / "r")] == ["a"]


def test_it_is_private(tmp_path: Path) -> None:
    UndoLog(tmp_path / "undo.jsonl", allow_exec=True).close()
    assert (tmp_path / "undo.jsonl").stat().st_mode & 0o777 == 0o600


@pytest.mark.anyio
async def test_every_undone_record_has_its_instant(tmp_path: Path) -> None:
    path = tmp_path / "undo.jsonl"
    log = UndoLog(path, zero=time.monotonic() - 5, allow_exec=True)
    for name in "ab":
        await log.arm(armed(name))
    await log.undone(Undone("a", Outcome.NOTHING, "never sent"))
    await log.undone(Undone("b", Outcome.PUT_BACK, at=3.0, wall=4.0))
    log.close()
    bare, stamped = read_undo_log(path, tmp_path / "recovery.jsonl").undone
    assert bare.at >= 5
    assert abs(bare.wall - time.time()) < 60
    assert (stamped.at, stamped.wall) == (3.0, 4.0)
