"""Scoring a hand-written journal as a whole: the usual course of an incident."""

from __future__ import annotations

import time

import pytest

from gameday.scoring import events as ev
from gameday.scoring.score import State, Verdict
from gameday.scoring.scorer import score
from tests.journals import BEGUN, Journal, Outage, scenario
from tests.scored import AVAILABLE, MITIGATED, PAGED, ids, no_fixer, timing, usual, verdict


def test_the_usual_course() -> None:
    found = usual(AVAILABLE, PAGED, MITIGATED).score()
    (incident,) = found.incidents
    assert incident.kind == "impact"
    assert incident.injections == ("i1",)
    assert incident.relapses == 0
    onset, impact = incident.instants["onset"], incident.instants["impact"]
    assert onset.low == 20
    assert onset.high <= 20.1
    assert impact.low <= 20.05 <= impact.high
    for name, truth in (
        ("detect", 23 - 20.05),
        ("acknowledge", 3),
        ("identify", 30 - 23),
        ("mitigate", 40 - 23),
        ("restore", 40 - 23),
    ):
        measured = timing(found, name)
        assert measured.state is State.MEASURED, name
        assert measured.low is not None
        assert measured.high is not None
        assert measured.low - 1e-6 <= truth <= measured.high + 1e-6, name
        assert measured.high - measured.low < 0.25
    assert incident.instants["detect"].source == "monitoring"
    assert incident.instants["mitigate"].source == "fixers"
    assert incident.instants["restore"].source == "fixers"
    (alert,) = found.alerts
    assert alert.incident == 1
    assert alert.to_acknowledge.value == pytest.approx(3.0, abs=0.01)
    assert alert.to_acknowledge_delivered.value == pytest.approx(2.8)
    assert verdict(found, "available") is Verdict.REFUTED
    assert verdict(found, "paged") is Verdict.SUPPORTED
    assert verdict(found, "mitigated") is Verdict.SUPPORTED
    assert found.exit_code == 1
    assert [claim.held for claim in found.claims] == [True, True]
    assert {"quick-ack", "mitigation-held", "supported"} <= ids(found)
    # Nothing answered any more: there was no other replica to be lucky with.
    assert "one-target" not in ids(found)
    assert found.counted is not None
    assert found.counted[0] == 20
    assert 40 <= found.counted[1] <= 40.1


def test_windows_and_stabilise_are_in_no_figure() -> None:
    """The window is 2 s, stabilise 5 s; the mitigation is dated to the sample."""
    found = usual().score()
    when = found.incidents[0].instants["mitigate"]
    assert when.low <= 40 <= when.high
    assert when.high - when.low <= 0.06


def test_scoring_is_a_pure_function() -> None:
    events = usual(AVAILABLE).ordered()
    chosen = usual(AVAILABLE).scenario
    again = [*ev.decode(ev.encode(event) for event in events)]
    assert score(chosen, events) == score(chosen, again)


def test_scoring_is_quick() -> None:
    """Loose bounds: the machine is shared. Unloaded it is ten times as quick."""
    journal = no_fixer().ordered()
    chosen = scenario(hypotheses=[MITIGATED, AVAILABLE])
    short = [e for e in journal if not isinstance(e, ev.Sample)]
    started = time.process_time()
    for _ in range(50):
        score(chosen, short)
    assert (time.process_time() - started) / 50 < 0.01
    long = Journal(chosen).frame(190).probed(200, Outage(20.05, 100)).injected(20, 100, undone=190)
    started = time.process_time()
    score(chosen, long.ordered())
    assert time.process_time() - started < 1.0


def test_the_clock_of_the_scenario_is_told() -> None:
    found = usual().score()
    assert found.begun == BEGUN
    assert found.end == 62
