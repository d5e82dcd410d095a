"""Verdicts on hand-written journals, and what makes them inconclusive; claims beside measurements."""

from __future__ import annotations

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gameday.scenarios.expressions import parse_comparison
from gameday.scoring import events as ev
from gameday.scoring.checks import judge
from gameday.scoring.score import Score, State, Timing, Verdict
from tests.journals import Journal, Outage, probe, scenario
from tests.scored import AVAILABLE, MITIGATED, PAGED, ids, timing, usual, verdict

# What makes verdicts inconclusive.


def test_an_unhealthy_start() -> None:
    found = (
        Journal(scenario(hypotheses=[AVAILABLE, PAGED]))
        .frame(60, "unhealthy-start", begun=None)
        .probed(62, Outage(0, 60))
        .score()
    )
    assert {h.verdict for h in found.hypotheses} == {Verdict.INCONCLUSIVE}
    assert found.incidents == ()
    assert found.exit_code == 3
    assert ids(found) == {"unhealthy-start"}


def test_a_fault_never_seen_to_take_effect() -> None:
    found = (
        Journal(scenario(hypotheses=[AVAILABLE]))
        .frame(60)
        .probed(62)
        .injected(20, effect=False, undone=60, outcome="nothing")
        .score()
    )
    assert verdict(found, "available") is Verdict.INCONCLUSIVE
    assert found.incidents == ()
    assert "no-effect" in ids(found)
    assert found.exit_code == 3


def test_one_of_two_faults_without_effect_supports_nothing_but_a_breach_still_refutes() -> None:
    journal = (
        Journal(scenario(faults=2, hypotheses=[AVAILABLE]))
        .frame(60)
        .injected(20, 40, undone=60)
        .injected(21, id="i2", entry=1, effect=False, undone=60, outcome="nothing")
    )
    calm, broken = Journal(journal.scenario), Journal(journal.scenario)
    calm.add(*journal.events).probed(62)
    broken.add(*journal.events).probed(62, Outage(20.05, 40))
    assert verdict(calm.score(), "available") is Verdict.INCONCLUSIVE
    assert verdict(broken.score(), "available") is Verdict.REFUTED


def test_no_samples() -> None:
    found = Journal(scenario(hypotheses=[AVAILABLE])).frame(60).injected(20, 40, undone=60).score()
    assert verdict(found, "available") is Verdict.INCONCLUSIVE


def test_too_many_void_samples() -> None:
    journal = Journal(scenario(hypotheses=[AVAILABLE])).frame(60).injected(20, 40, undone=60)
    for number, sample in enumerate(probe(0, 62)):
        late = 0.04 if number % 5 == 0 else 0.0
        journal.add(
            msgspec.structs.replace(sample, sent=sample.sent + late, done=sample.done + late)
        )
    found = journal.score()
    assert verdict(found, "available") is Verdict.INCONCLUSIVE
    assert "void-samples" in ids(found)


def test_a_suspend_voids_the_durations_across_it_only() -> None:
    found = usual(PAGED).slept(28).score()
    assert timing(found, "detect").state is State.MEASURED
    assert timing(found, "acknowledge").state is State.MEASURED
    assert timing(found, "identify").state is State.UNKNOWN
    assert timing(found, "mitigate").state is State.UNKNOWN
    assert "void" in timing(found, "mitigate").note
    assert "suspended" in ids(found)


def test_a_runner_that_stood_still_is_told_as_that_and_not_as_a_machine_that_slept() -> None:
    found = usual(PAGED).slept(28, 3.0, "runner").slept(29, 60.0).score()
    held = "the runner stood still for 3.0 s (stopped, or the machine too busy)"
    assert timing(found, "mitigate").note == (
        f"void: the machine slept for 60.0 s and {held} meanwhile"
    )
    (paged,) = found.hypotheses
    assert paged.verdict is Verdict.INCONCLUSIVE
    assert held in paged.evidence
    told = [each.text for each in found.findings if each.id == "suspended"]
    assert told == [
        f"T{held[1:]}; durations across it are void.",
        "The machine slept for 60.0 s; durations across it are void.",
    ]


def test_a_drill_that_was_refused_did_not_die() -> None:
    found = Journal(scenario(hypotheses=[PAGED])).frame(1, "refused", begun=None).score()
    assert found.exit_code == 6
    assert ids(found) == {"refused"}
    assert [each.evidence for each in found.hypotheses] == [
        "The drill was refused before anything was started."
    ]


def test_a_blip_before_the_fault_is_not_held_against_the_hypothesis() -> None:
    strict = {"id": "strict", "claim": "Nothing fails.", "expect": "availability >= 99.9%"}
    loose = {"availability": ">= 90%"}

    def after(*outages: Outage) -> Score:
        journal = Journal(scenario(hypotheses=[strict], steady_state=loose)).frame(60)
        return journal.probed(62, *outages).injected(20, 40, undone=60).score()

    before = after(Outage(19, 19.06))
    assert verdict(before, "strict") is Verdict.SUPPORTED
    assert "at worst 100 %" in before.hypotheses[0].evidence
    assert verdict(after(Outage(19.9, 20.3)), "strict") is Verdict.INCONCLUSIVE
    assert verdict(after(Outage(19, 19.06), Outage(30, 31)), "strict") is Verdict.REFUTED


# Claims beside measurements.


def test_resolved_while_outside_is_a_finding_about_the_moment() -> None:
    found = usual().said(35, "mitigate").said(36, "resolve").score()
    early = [claim for claim in found.claims if claim.at < 40]
    assert [claim.held for claim in early] == [False, False]
    assert {"mitigated-while-outside", "resolved-while-outside"} <= ids(found)
    assert "Burn was firing" in early[1].seen
    assert "in force: process.kill on api-1" in early[1].seen


def test_findings_name_no_person() -> None:
    found = usual(AVAILABLE, PAGED, MITIGATED).said(36, "resolve").said(37, "hint").score()
    for finding in found.findings:
        assert "Ada" not in finding.text
        assert finding.text[0].isupper() or finding.text.startswith(("availability", "process."))
        assert finding.text.endswith(".")
        assert finding.kind in ("well", "poorly", "lucky", "surprise", "validity")


# The end.


def test_what_could_not_be_put_back_wins() -> None:
    journal = (
        Journal(scenario())
        .frame(60, "aborted")
        .probed(62)
        .injected(20, undone=60, outcome="failed")
    )
    found = journal.score()
    assert found.exit_code == 5
    assert "not-put-back" in ids(found)


def test_put_back_but_unhealthy_is_no_success() -> None:
    journal = (
        Journal(scenario()).frame(60, steady_after=False).probed(62).injected(20, 60.2, undone=60)
    )
    journal.add(ev.TargetChecked(at=61, injection="i1", equal=False, detail="restarts differ"))
    found = journal.score()
    assert {"put-back-unhealthy", "unsteady-after"} <= ids(found)
    assert found.injections[0].healthy is False
    assert found.exit_code == 3


def test_our_own_share_of_the_cpu_is_reported() -> None:
    found = Journal(scenario(faults=0)).frame(60, own_cpu=3, host_cpu=10).probed(62).score()
    assert found.own_cpu_share == pytest.approx(0.3)
    assert "own-cpu" in ids(found)


# The three-valued rule.


@given(st.floats(0, 100), st.floats(0, 100), st.sampled_from(["<=", "<", ">=", ">", "==", "!="]))
def test_the_three_valued_rule(low: float, width: float, op: str) -> None:
    bound = parse_comparison(f"time_to_detect {op} 50s")
    timing = Timing(State.MEASURED, low + width / 2, low, low + width)
    points = [low + width * i / 50 for i in range(51)]
    points += [50.0] if low <= 50 <= low + width else []
    holds = {bound.holds(point) for point in points}
    found = judge(timing, bound)
    if holds == {True}:
        assert found is Verdict.SUPPORTED
    elif holds == {False}:
        assert found is Verdict.REFUTED
    else:
        assert found is Verdict.INCONCLUSIVE


def test_censored_is_open_to_the_right() -> None:
    censored = Timing(State.CENSORED, 40.0, 40.0, None)
    assert judge(censored, parse_comparison("time_to_detect <= 30s")) is Verdict.REFUTED
    assert judge(censored, parse_comparison("time_to_detect <= 50s")) is Verdict.INCONCLUSIVE
    assert judge(censored, parse_comparison("time_to_detect >= 30s")) is Verdict.SUPPORTED
    assert judge(Timing(State.UNKNOWN), parse_comparison("time_to_detect <= 30s")) is (
        Verdict.INCONCLUSIVE
    )
