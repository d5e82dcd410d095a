"""From a drill's files to its debrief: the same bytes again, wherever the record breaks off."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path

import msgspec
import pytest

from gameday.drills.conclusion import conclude, read_drill
from gameday.drills.folder import DrillFolder
from gameday.injectors.errors import UsageError
from gameday.injectors.undo import Armed, Compared, Outcome, SandboxRef, TearDown, Undone
from gameday.scoring import events
from tests.simulation import LINKS, SERVICES, Action, Simulation, scenario

FILE = """\
apiVersion: gameday/v1
name: simulated
title: Simulated
duration: 20s
stabilise: 1s
sandbox: {kind: local, app: shop}
slis:
  availability: {every: 100ms, timeout: 500ms, good: status < 500, over: 1s}
steady_state: {availability: ">= 99%"}
hypotheses:
  - {id: detected, claim: It is detected., expect: time_to_detect <= 5s}
  - {id: mitigated, claim: It is mitigated., expect: time_to_mitigate <= 20s}
alerts:
  - {name: Down, tier: ticket, when: "availability < 90% for 1s", summary: It is down.}
faults:
  - {at: 1s, inject: process.kill, target: {service: gateway}}
"""


@pytest.fixture(scope="module")
def lines() -> list[bytes]:
    """A whole drill's journal, line by line."""
    kill = {"at": "1s", "inject": "process.kill", "target": {"service": "gateway"}}
    played = scenario(duration="20s", stabilise="1s", faults=[kill])
    actions = [Action(2.0, "ack"), Action(4.0, restart="gateway-1"), Action(5.0, "resolve")]
    drill = Simulation(played, SERVICES, LINKS, actions).run()
    return [events.encode(event) for event in drill.journal.events]


def folder_of(root: Path, lines: list[bytes], torn: bytes = b"") -> DrillFolder:
    folder = DrillFolder.create(root, datetime(2026, 1, 1, tzinfo=UTC))
    folder.scenario.write_text(FILE)
    folder.journal.write_bytes(b"".join(line + b"\n" for line in lines) + torn)
    return folder


def outputs(folder: DrillFolder) -> dict[str, bytes]:
    paths = [*(folder.debrief(kind) for kind in ("md", "html", "json")), folder.junit]
    return {path.name: path.read_bytes() for path in paths}


def test_the_same_bytes_again(lines: list[bytes], tmp_path: Path) -> None:
    folder = folder_of(tmp_path, lines)
    first = conclude(folder)
    before = outputs(folder)
    assert conclude(folder) == first
    assert outputs(folder) == before
    assert first.score.ended == "resolved"
    assert all(before.values())


@pytest.mark.parametrize("equal", [True, False], ids=["as it was", "different"])
def test_what_a_recoverer_compared_is_told(lines: list[bytes], tmp_path: Path, equal: bool) -> None:
    cut = next(i for i, line in enumerate(lines) if b'"InjectCalled"' in line)
    folder = folder_of(tmp_path, lines[: cut + 1])
    armed = next(e for e in events.decode(lines) if isinstance(e, events.InjectionArmed))
    name = armed.injection.id
    undone = Undone(name, Outcome.PUT_BACK, at=9.0, by="watchdog")
    records = [undone, Compared(name, False, "too early", 9.0), Compared(name, equal, "cpus", 9.5)]
    folder.recovery.write_bytes(b"".join(msgspec.json.encode(one) + b"\n" for one in records))
    found = read_drill(folder)
    (injection,) = found.score.injections
    assert injection.how == "put-back"
    assert injection.healthy is equal
    conclude(folder)
    assert ("not as it was" in folder.debrief("md").read_text()) is not equal


@pytest.mark.parametrize("equal", [True, False], ids=["as it was", "different"])
def test_what_a_recoverer_compared_later_counts_more(
    lines: list[bytes], tmp_path: Path, equal: bool
) -> None:
    """The runner could not look: its engine was away."""
    journal = list(events.decode(lines))
    (checked,) = (e for e in journal if isinstance(e, events.TargetChecked))
    early = msgspec.structs.replace(checked, equal=False, detail="the engine does not answer")
    told = [early if each is checked else each for each in journal]
    folder = folder_of(tmp_path, [events.encode(each) for each in told])
    later = Compared(checked.injection, equal, "" if equal else "cpus", 9.5)
    folder.recovery.write_bytes(
        b"".join(
            msgspec.json.encode(one) + b"\n"
            for one in (Undone(checked.injection, Outcome.PUT_BACK, at=9.0, by="watchdog"), later)
        )
    )
    (injection,) = read_drill(folder).score.injections
    assert injection.healthy is equal


def test_a_journal_cut_anywhere_is_still_scored(lines: list[bytes], tmp_path: Path) -> None:
    folder = folder_of(tmp_path, [])
    for end in range(len(lines) + 1):
        if end % 7 and end < len(lines) - 12 and b'"Sample"' in lines[max(end - 1, 0)]:
            continue  # one sample more or less: every seventh will do
        torn = lines[end][: len(lines[end]) // 2] if end < len(lines) else b""
        folder.journal.write_bytes(b"".join(line + b"\n" for line in lines[:end]) + torn)
        found = read_drill(folder)
        assert len(found.events) == end
        assert bool(found.notes) is bool(torn)
        assert found.score.ended == ("resolved" if end == len(lines) else "died")


@pytest.mark.parametrize("share", [0.0, 0.02, 0.3, 0.6, 0.95])
def test_a_debrief_of_what_is_left(lines: list[bytes], share: float, tmp_path: Path) -> None:
    folder = folder_of(tmp_path, lines[: int(len(lines) * share)], b'{"event":"Samp')
    assert "dropped" in conclude(folder).notes[0]
    assert all(outputs(folder).values())


def test_what_the_watchdog_put_back_counts(lines: list[bytes], tmp_path: Path) -> None:
    armed = next(n for n, line in enumerate(lines) if b'"InjectCalled"' in line)
    folder = folder_of(tmp_path, lines[: armed + 4])
    assert read_drill(folder).score.injections[0].how != "put-back"
    (made,) = [
        event.injection
        for event in events.decode(lines[: armed + 4])
        if isinstance(event, events.InjectionArmed)
    ]
    records = [
        Undone("somebody-else", Outcome.PUT_BACK, at=99.0, wall=5.0),
        Undone(made.id, Outcome.FAILED, "it hangs", at=3.0, wall=6.0),
        Undone(made.id, Outcome.PUT_BACK, by="watchdog", at=4.0, wall=7.0),
    ]
    folder.recovery.write_bytes(b"".join(msgspec.json.encode(r) + b"\n" for r in records) + b'{"t')
    found = read_drill(folder)
    (injection,) = found.score.injections
    assert injection.how == "put-back"
    undone = [event for event in found.events if isinstance(event, events.InjectionUndone)]
    assert [event.outcome for event in undone] == ["failed", "put-back"]
    assert [event.seq for event in found.events] == list(range(1, len(found.events) + 1))
    assert [event.at for event in found.events[-2:]] == sorted(e.at for e in found.events[-2:])


@pytest.mark.parametrize("lost", [True, False])
def test_what_only_the_undo_log_knows_counts_once(
    lines: list[bytes], lost: bool, tmp_path: Path
) -> None:
    """The runner undid it, and its journal took the line of it, or no more."""
    made = next(e.injection for e in events.decode(lines) if isinstance(e, events.InjectionArmed))
    armed = next(n for n, line in enumerate(lines) if b'"InjectCalled"' in line)
    folder = folder_of(tmp_path, lines[: armed + 4] if lost else lines)
    record = Undone(made.id, Outcome.PUT_BACK, "started again", at=4.0, wall=7.0)
    folder.undo.write_bytes(msgspec.json.encode(record) + b"\n")
    found = read_drill(folder)
    (end,) = [event for event in found.events if isinstance(event, events.InjectionUndone)]
    assert found.score.injections[0].how == end.outcome
    assert end.outcome == ("put-back" if lost else "taken-over")


def test_what_is_left_of_the_sandbox_is_said(lines: list[bytes], tmp_path: Path) -> None:
    folder = folder_of(tmp_path, lines)
    left = Armed("sandbox", "the sandbox", SandboxRef("fake", "x", "memory:x"), (TearDown("t"),))
    folder.undo.write_bytes(msgspec.json.encode(left) + b"\n")
    found = read_drill(folder)
    assert found.score.exit_code == 5
    assert "by hand" in found.outstanding[0]


def test_a_damaged_journal_is_read_up_to_there(lines: list[bytes], tmp_path: Path) -> None:
    folder = folder_of(tmp_path, [*lines[:5], *lines[6:]])
    found = read_drill(folder)
    assert len(found.events) == 5
    (note,) = found.notes
    assert "journal.jsonl:6: expected event 6, found event 7" in note
    assert f"{len(lines) - 6} lines" in note
    assert found.score.ended == "died"


def test_a_journal_damaged_at_its_beginning_is_refused(lines: list[bytes], tmp_path: Path) -> None:
    folder = folder_of(tmp_path, [b"garbage", *lines[1:]])
    with pytest.raises(UsageError, match=r"journal\.jsonl:1: this line is no event"):
        read_drill(folder)


def test_a_failed_undo_is_not_made_good_by_the_end_of_its_sandbox(
    lines: list[bytes], tmp_path: Path
) -> None:
    ends = [n for n, line in enumerate(lines) if b'"InjectionUndone"' in line]
    (old,) = events.decode([lines[ends[0]]])
    assert isinstance(old, events.InjectionUndone)
    failed = msgspec.structs.replace(old, outcome="failed", detail="it hangs", by="")
    lines = [*lines[: ends[0]], events.encode(failed), *lines[ends[0] + 1 :]]
    folder = folder_of(tmp_path, lines)
    records = [
        Undone(
            old.injection, Outcome.NOTHING, "the sandbox is gone", by="watchdog", at=99.0, wall=7.0
        ),
        Undone("sandbox", Outcome.PUT_BACK, "it was taken down", at=98.0, wall=6.0),
    ]
    folder.recovery.write_bytes(b"".join(msgspec.json.encode(each) + b"\n" for each in records))
    found = read_drill(folder)
    assert found.score.injections[0].how == "failed"
    assert found.score.exit_code == 5
