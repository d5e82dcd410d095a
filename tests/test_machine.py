"""What `gameday doctor` finds: by trying, with a consequence wherever something is missing."""

from __future__ import annotations

from pathlib import Path

import pytest

from gameday.drills import machine
from gameday.injectors.registry import BUILT_IN, fault_class
from gameday.injectors.sandbox.kinds import KINDS


def test_every_fact_says_what_was_found_and_what_follows(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("GAMEDAY_STATE", str(tmp_path / "deep" / "state"))
    found = list(machine.facts())
    assert len({fact.name for fact in found}) == len(found)
    for fact in found:
        assert fact.name
        assert fact.found
        assert fact.fine or fact.means
    assert list(tmp_path.iterdir()) == []  # looking leaves nothing behind


def test_every_fault_is_either_possible_or_refused_with_its_reason() -> None:
    lacking = machine.local_lacks()
    found = {fact.name: fact for fact in machine.faults()}
    able = KINDS["local"].parts
    assert list(found) == [kind for kind in BUILT_IN if set(fault_class(kind).needs) <= able]
    for fact in found.values():
        assert fact.found
        assert fact.fine is not bool(fact.means)
    assert found["disk.fill"].fine is ("disk" not in lacking)


def test_without_docker_each_of_its_faults_is_refused_with_the_reason(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("DOCKER_HOST", "unix:///nowhere/docker.sock")
    found = list(machine.docker_faults())
    able = KINDS["docker"].parts
    assert [fact.name for fact in found] == [
        kind for kind in BUILT_IN if set(fault_class(kind).needs) <= able
    ]
    assert not any(fact.fine or fact.needed for fact in found)
    (why,) = {fact.means for fact in found}
    assert why.endswith("/nowhere/docker.sock does not answer: there is no socket")


def test_elsewhere_it_says_why_not(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.platform", "darwin")
    assert set(machine.local_lacks().values()) == {"it needs Linux"}
    system = next(fact for fact in machine.facts() if fact.name == "system")
    assert not system.fine
    assert "Linux" in system.means


def test_a_folder_that_cannot_be_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir("/proc")
    monkeypatch.setenv("GAMEDAY_STATE", str(tmp_path))
    fact = next(fact for fact in machine.facts() if fact.name == "this folder")
    assert not fact.fine
    assert "another folder" in fact.means
