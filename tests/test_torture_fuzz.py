"""The fuzzing campaign in short, the campaign itself on trial, and what it has found before."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from pathlib import Path
from random import Random

import msgspec
import pytest

from gameday.drills import state
from gameday.drills.folder import DrillFolder
from gameday.drills.inbox import Entry, Garbled, Heard, tail
from gameday.drills.journal import read_journal
from gameday.drills.undo_log import read_recovery, read_undo_log
from gameday.injectors.errors import UsageError
from gameday.injectors.sandbox.kinds import by_hand
from gameday.injectors.undo import (
    ProcessId,
    RestoreLimit,
    RunCommand,
    SandboxRef,
    SignalProcess,
    StartSlot,
    Step,
)
from gameday.scenarios.load import load_scenario
from tests.torture import fuzz as campaign
from tests.torture import targets
from tests.torture.mutations import corpus, make

pytestmark = pytest.mark.anyio
FUZZ = Path(campaign.__file__)


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


@pytest.mark.slow
@pytest.mark.timeout(240)
def test_the_short_campaign_finds_nothing(tmp_path: Path) -> None:
    report = campaign.fuzz(2000, seed=int.from_bytes(os.urandom(4)), home=tmp_path)
    assert report.inputs >= 2000
    assert {key.split(" ")[0] for key in report.counts} == set(targets.TARGETS)
    assert not report.findings, report.show()
    assert 0 < report.memory <= campaign.MEMORY


def test_an_input_can_be_made_again() -> None:
    for name, target in targets.TARGETS.items():
        first, again = (make(target.form, Random(f"7:{name}")) for _ in range(2))
        assert first == again


def test_the_sound_inputs_are_taken(tmp_path: Path) -> None:
    """Else all would be refused at the door, and what lies behind it never tried."""
    for name in ("load_scenario", "load_text", "load_cluster", "undo", "inbox", "journal", "state"):
        taken = 0
        for data in corpus(targets.TARGETS[name].form):
            try:
                targets.TARGETS[name].run(data)
                taken += 1
            except targets.TARGETS[name].refuses:
                continue
        assert taken, name


# Would it notice?

_BAD = """
import sys, time
sys.path.insert(0, {root!r})
from tests.torture import fuzz, targets
def bad(data):
    {does}
targets.TARGETS = {{"units": targets.Target(bad, (), 1.0, "unit")}}
fuzz.main()
"""


@pytest.mark.slow
@pytest.mark.parametrize(
    ("does", "says"),
    [
        ("[][1]", "IndexError"),
        ("bytes(400 * 2**20)", "MemoryError"),
        ("end = time.process_time() + 1.2\n    while time.process_time() < end: pass", "slow"),
        ("while True: pass", "it hangs"),
        ("import os, signal; os.kill(os.getpid(), signal.SIGSEGV)", "died with -11"),
    ],
)
def test_it_notices(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, does: str, says: str) -> None:
    """Of a target that is bad on purpose; the input is saved and can be run again."""
    bad = tmp_path / "bad.py"
    bad.write_text(_BAD.format(root=str(FUZZ.parents[2]), does=does))
    monkeypatch.setattr(campaign, "__file__", str(bad))
    monkeypatch.setattr(campaign, "_SHARES", {"mutation": 1.0})
    report = campaign.fuzz(1, 1, tmp_path, workers=1, guided=True)
    (found,) = [key for key in report.findings if says in key + report.findings[key]["what"]]
    (saved, *_) = report.findings[found]["files"]
    again = subprocess.run(
        [sys.executable, str(FUZZ), "--replay", saved], capture_output=True, text=True, timeout=60
    )
    assert again.returncode == 0, again.stderr  # the real target takes it
    assert "units (" in again.stdout


# What it has found

_DEEP = b"[" * 100_000
_ARMED = (
    b'{"type":"armed","id":"a","what":"w","sandbox":{"kind":"k","identity":"i","address":"a",'
    b'"options":{"x":'
)


async def test_a_line_that_nests_for_ever_is_a_line_that_cannot_be_read(tmp_path: Path) -> None:
    folder = DrillFolder(tmp_path)
    deep = _ARMED + _DEEP + b"}}}\n"
    folder.undo.write_bytes(deep + b"\n" + deep)
    folder.recovery.write_bytes(deep)
    assert read_recovery(folder.recovery) == ([], [])
    assert "cannot be read" in read_undo_log(folder.undo, folder.recovery).problems[0]
    folder.journal.write_bytes(b'{"type":"Said","text":' + _DEEP + b"}\n{}\n")
    with pytest.raises(UsageError, match="no event of this Gameday"):
        read_journal(folder.journal)
    line = b'{"verb":"note","more":' + _DEEP[:60_000] + b"}\n"
    folder.inbox.write_bytes(line + msgspec.json.encode(Entry(verb="note", text="later")) + b"\n")
    heard = []
    async for each in tail(folder):
        heard.append(each)
        if isinstance(each, Heard):
            break
    assert isinstance(heard[0], Garbled)


def test_an_entry_of_the_state_that_names_another_file_deletes_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("GAMEDAY_STATE", str(tmp_path))
    (tmp_path / "drills").mkdir(mode=0o700)
    victim = tmp_path / "victim.json"
    victim.write_text("{}")
    for index, (name, folder) in enumerate([("../victim", "/x"), ("a\0b", "/x"), ("2", "/x\0y")]):
        drill = state.OpenDrill(id=name, folder=folder, runner=ProcessId("other", 1, 1))
        (tmp_path / "drills" / f"{index}.json").write_bytes(msgspec.json.encode(drill))
    assert not state.outstanding_message()
    assert victim.exists()


_WHO = ProcessId("b", 7, 1)


@pytest.mark.parametrize(
    ("step", "options", "shown"),
    [
        (SignalProcess("a-1", _WHO, 18), {}, "kill -CONT 7"),
        (SignalProcess("a-1", _WHO, -1), {}, "kill --1 7"),
        (SignalProcess("a-1", _WHO, 10**9), {}, "kill -1000000000 7"),
        (RestoreLimit("a-1", _WHO, "as", "-1 -1"), {}, "--as=unlimited:unlimited"),
        (RestoreLimit("a-1", _WHO, "as", "x"), {}, "--as=x:"),
        (RestoreLimit("a-1", _WHO, "as", "$(id) 1"), {}, "'--as=$(id):1'|--as='$(id):1'"),
        (StartSlot("a-1"), {"attached": "{"}, "start a-1 again"),
        (StartSlot("a-1"), {"attached": "[1]"}, "start a-1 again"),
        (StartSlot("a-1"), {"attached": '{"a": {"restart": 5}}'}, "start a-1 again"),
        (StartSlot("a-1"), {"attached": '{"a": {"restart": ["x", "y z"]}}'}, "x 'y z'"),
        (RunCommand("a-1", ()), {}, "(an empty command)"),
    ],
)
def test_a_damaged_undo_step_still_says_what_to_do(
    step: Step, options: dict[str, str], shown: str
) -> None:
    found = by_hand(step, SandboxRef("attached", "a", "", options))
    assert any(one in found for one in shown.split("|"))


def test_brackets_beyond_the_parsers_own_bound_are_refused_in_our_words(tmp_path: Path) -> None:
    path = tmp_path / "a.yaml"
    path.write_text("[" * 5000)
    begun = time.process_time()
    with pytest.raises(UsageError, match="nest deeper than 50 levels"):
        load_scenario(path)
    assert time.process_time() - begun < 1.0
