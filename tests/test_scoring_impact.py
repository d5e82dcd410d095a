"""Impact and findings on hand-written journals."""

from __future__ import annotations

import pytest

from gameday.scoring import events as ev
from gameday.scoring.score import State, Verdict
from tests.journals import Journal, Outage, scenario
from tests.scored import AVAILABLE, PAGED, RULE, ids, timing, usual, verdict

# Impact.


def test_impact_counts_what_lies_between_inject_and_restored() -> None:
    found = (
        usual()
        .load(0, 20)
        .load(20, 40, ok=8, failed=2, endpoint="POST /orders")
        .load(40, 62)
        .score()
    )
    assert found.impact.requests == 2000
    assert found.impact.failed == 400
    assert found.impact.errors == {"POST /orders: refused": 400}
    low, high = found.impact.outside
    assert not found.impact.open
    assert low <= 40 - 20.05 <= high
    assert high - low < 0.2
    # Bad for 20 of the drill's 50 seconds, one sample in a hundred may be.
    assert found.impact.error_budget["availability"] == pytest.approx(40, rel=0.02)
    assert "unwatched-endpoint" in ids(found)


def test_who_mitigates_sooner_burns_less_of_the_budget() -> None:
    burnt = [usual(end=end).score().impact.error_budget["availability"] for end in (30.0, 40.0)]
    assert burnt == pytest.approx([20, 40], rel=0.02)


def test_the_bucket_in_which_the_fault_struck_counts_and_names_its_error() -> None:
    """Called at 20, in the second half of a bucket."""
    journal = usual().load(10, 19.94)
    errors = {"refused": "connection refused"}
    journal.add(
        ev.LoadBucket(at=20.04, start=19.94, endpoint="GET /", ok=1, failed=1, errors=errors),
        ev.LoadBucket(at=20.14, start=20.04, endpoint="GET /", ok=0, failed=2),
    )
    found = journal.score()
    assert found.impact.failed == 3
    assert found.impact.requests == 4
    assert found.impact.errors == {"GET /: refused": 3}


def test_an_error_first_met_before_the_fault_keeps_its_name() -> None:
    journal = usual().load(15, 15.1, failed=1)
    journal.add(ev.LoadBucket(at=21.1, start=21, endpoint="GET /", ok=0, failed=2))
    assert journal.score().impact.errors == {"GET /: refused": 2}


def test_what_only_our_revert_ended_was_outside_up_to_the_hard_stop() -> None:
    """Each third request fails until we put things back: the samples after it date no end."""
    half = {"id": "half", "claim": "Half of it works.", "expect": "availability >= 90%"}
    found = (
        Journal(scenario(hypotheses=[half]))
        .frame(60)
        .probed(66, Outage(20.05, 60.01, "some"))
        .injected(20, 60.2, undone=60)
        .alert(23)
        .score()
    )
    [(_, end)] = found.slis[0].outside
    assert end is None
    low, high = found.impact.outside
    assert low <= 60 - 20.05 <= high
    assert low >= 60 - 0.2 - 20.3
    assert found.impact.open
    assert "still outside at the hard stop" in found.hypotheses[0].evidence
    assert timing(found, "mitigate").state is State.CENSORED


def test_failures_too_few_to_be_dated_after_the_cut_leave_the_end_open() -> None:
    """The last failure comes 1.5 s before the hard stop; the window is back inside after it."""
    found = (
        Journal(scenario())
        .frame(60)
        .probed(66, Outage(20.05, 58.5))
        .injected(20, 60.2, undone=60)
        .score()
    )
    [(_, end)] = found.slis[0].outside
    assert end is None
    low, high = found.impact.outside
    # It may have been outside up to the hard stop, and was up to the last failure.
    assert low == pytest.approx(58.5 - 20.05, abs=0.15)
    assert high == pytest.approx(60 - 20.05, abs=0.1)


def test_a_rule_that_should_have_fired_and_one_that_could_not() -> None:
    rules = [
        RULE,
        {"name": "Slow", "when": "availability < 98% for 90s", "summary": "It is slow."},
    ]
    found = (
        Journal(scenario(alerts=rules))
        .frame(60)
        .probed(62, Outage(20.05, 40))
        .injected(20, 40, undone=60)
        .score()
    )
    missed = next(f for f in found.findings if f.id == "alert-missed")
    silent = next(f for f in found.findings if f.id == "alert-silent")
    assert missed.text.startswith("Burn did not fire")
    assert silent.text.startswith("Slow did not fire")


def test_a_channel_that_failed_and_a_page_that_came_late() -> None:
    journal = usual()
    journal.add(ev.AlertFailed(at=24, page="p1", channel="webhook", error="refused"))
    journal.alert(25, page="p2", name="Errors", delivered=37)
    found = journal.score()
    assert {"channel-failed", "late-delivery"} <= ids(found)
    assert found.alerts[0].failed_channels == ("webhook",)


def test_a_margin_under_a_tenth_is_luck() -> None:
    narrow = {"id": "narrow", "claim": "Told in time.", "expect": "time_to_detect <= 3.1s"}
    assert "narrow-margin" in ids(usual(narrow).score())
    assert "narrow-margin" not in ids(usual(PAGED).score())


def test_an_sli_of_which_no_hypothesis_spoke() -> None:
    slis = {
        "availability": {"path": "/", "every": "50ms"},
        "orders": {"path": "/orders", "every": "50ms", "quantile": "0.9"},
    }
    steady = {"availability": ">= 99%", "orders": "<= 100ms"}
    found = (
        Journal(scenario(slis=slis, steady_state=steady, hypotheses=[AVAILABLE]))
        .frame(60)
        .probed(62)
        .probed(62, Outage(20.05, 40, "slow"), sli="orders", patience=0.3)
        .injected(20, 40, undone=60)
        .score()
    )
    assert "unexpected-sli" in ids(found)
    assert verdict(found, "available") is Verdict.SUPPORTED
    impact = found.incidents[0].instants["impact"]
    assert impact.low <= 20.05 <= impact.high
