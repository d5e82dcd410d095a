"""Scoring on hand-written journals: every case of DESIGN §2, and laws over random ones."""

from __future__ import annotations

import time
from random import Random

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gameday.injectors.fault import Injection
from gameday.scenarios.expressions import parse_comparison
from gameday.scoring import events as ev
from gameday.scoring.checks import judge
from gameday.scoring.score import Score, State, Timing, Verdict
from gameday.scoring.scorer import score
from tests.journals import BEGUN, Journal, Outage, probe, scenario

AVAILABLE = {"id": "available", "claim": "It stays up.", "expect": "availability >= 95%"}
PAGED = {"id": "paged", "claim": "On-call is paged.", "expect": "time_to_detect <= 15s"}
MITIGATED = {"id": "mitigated", "claim": "It is mitigated.", "expect": "time_to_mitigate <= 30s"}


def timing(found: Score, name: str, incident: int = 1) -> Timing:
    return found.incidents[incident - 1].timings[f"time_to_{name}"]


def ids(found: Score) -> set[str]:
    return {finding.id for finding in found.findings}


def verdict(found: Score, hypothesis: str) -> Verdict:
    return next(h.verdict for h in found.hypotheses if h.id == hypothesis)


def usual(*hypotheses: dict[str, str], end: float = 40.0) -> Journal:
    """Killed at 20, paged at 23, acknowledged at 26, restarted at 40: the whole course of an incident."""
    return (
        Journal(scenario(hypotheses=list(hypotheses)))
        .frame(60, "resolved")
        .probed(62, Outage(20.05, end))
        .injected(20, end, undone=60, outcome="taken-over", by="fixer")
        .alert(23, delivered=23.2, resolved=end + 2)
        .said(26, "ack")
        .said(27, "declare")
        .said(30, "identify")
        .acted(end - 1)
        .said(end + 3, "mitigate")
        .said(end + 8, "resolve")
    )


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


# Censored.


def no_fixer() -> Journal:
    return (
        Journal(scenario(hypotheses=[MITIGATED]))
        .frame(100)
        .probed(110, Outage(20.05, 100.5))
        .injected(20, 100.5, undone=100)
        .alert(23)
    )


def test_without_a_fixer_what_is_open_is_censored_and_a_bound_below_it_refuted() -> None:
    found = no_fixer().score()
    for name in ("mitigate", "restore", "identify", "acknowledge"):
        assert timing(found, name).state is State.CENSORED
    mitigate = timing(found, "mitigate")
    assert mitigate.low == pytest.approx(77)
    assert mitigate.high is None
    assert verdict(found, "mitigated") is Verdict.REFUTED
    assert found.exit_code == 1
    assert "mitigate" not in found.incidents[0].instants
    assert "the hard stop" in mitigate.note


def test_censored_before_the_bound_is_inconclusive() -> None:
    journal = (
        Journal(scenario(hypotheses=[MITIGATED]))
        .frame(40)
        .probed(50, Outage(20.05, 40.5))
        .injected(20, 40.5, undone=40)
        .alert(23)
    )
    found = journal.score()
    assert verdict(found, "mitigated") is Verdict.INCONCLUSIVE
    assert found.exit_code == 3


def test_a_mitigation_whose_stabilise_runs_into_our_revert_is_censored() -> None:
    early = usual(end=54.0).score()
    late = usual(end=56.0).score()
    assert timing(early, "mitigate").state is State.MEASURED
    assert timing(late, "mitigate").state is State.CENSORED
    assert timing(late, "restore").state is State.CENSORED


def test_an_abort_censors() -> None:
    found = (
        Journal(scenario(hypotheses=[MITIGATED, AVAILABLE]))
        .frame(50, "aborted")
        .probed(55, Outage(20.05, 51))
        .injected(20, 51, undone=50)
        .alert(23)
        .score()
    )
    assert timing(found, "mitigate").low == pytest.approx(27)
    assert found.exit_code == 4
    assert "aborted" in ids(found)


RESTORED = {"id": "restored", "claim": "It is restored.", "expect": "time_to_restore <= 30s"}


def test_our_own_undo_in_mid_drill_censors_mitigation_and_restoration() -> None:
    found = (
        Journal(scenario(hypotheses=[MITIGATED, RESTORED]))
        .frame(60)
        .probed(62, Outage(20.05, 40.2))
        .injected(20, 40.2, undone=40)
        .alert(23)
        .score()
    )
    mitigate = timing(found, "mitigate")
    assert mitigate.state is State.CENSORED
    assert mitigate.low == pytest.approx(17)
    restored = timing(found, "restore")
    assert restored.state is State.CENSORED
    assert restored.low == pytest.approx(17)
    # For the picture it stands all the same, with whose work it was.
    restore = found.incidents[0].instants["restore"]
    assert restore.source == "gameday"
    assert restore.low <= 40.2 <= restore.high
    assert verdict(found, "mitigated") is Verdict.INCONCLUSIVE
    assert verdict(found, "restored") is Verdict.INCONCLUSIVE


def test_drained_by_fixers_and_then_put_back_by_us_is_mitigated_but_not_restored() -> None:
    found = (
        Journal(scenario())
        .frame(60)
        .probed(62, Outage(20.05, 28))
        .injected(20, 40.2, undone=40)
        .alert(23)
        .acted(27.9, "drain")
        .score()
    )
    assert timing(found, "mitigate").state is State.MEASURED
    assert timing(found, "restore").state is State.CENSORED
    assert timing(found, "restore").low == pytest.approx(17)


def test_our_own_undo_is_no_restoration_where_nothing_was_unacceptable() -> None:
    found = (
        Journal(scenario(acceptable={"availability": ">= 50%"}, hypotheses=[RESTORED]))
        .frame(60)
        .probed(62, Outage(20.05, 40.2, "some"))
        .injected(20, 40.2, undone=40)
        .alert(23)
        .score()
    )
    assert timing(found, "mitigate").state is State.NOT_APPLICABLE
    assert timing(found, "restore").state is State.CENSORED
    assert verdict(found, "restored") is Verdict.INCONCLUSIVE


def test_what_somebody_else_undid_is_restored() -> None:
    journal = usual(RESTORED)
    found = journal.score()
    assert timing(found, "restore").state is State.MEASURED
    assert verdict(found, "restored") is Verdict.SUPPORTED


QUICK = {"id": "quick", "claim": "On-call is paged at once.", "expect": "time_to_detect <= 5s"}


def test_after_our_own_undo_nobody_waits_for_an_alert() -> None:
    """Felt for 2 s and taken back by us, long before the hard stop."""
    found = (
        Journal(scenario(hypotheses=[QUICK]))
        .frame(60)
        .probed(62, Outage(20.05, 22.1))
        .injected(20, 22.1, undone=22)
        .score()
    )
    for name in ("detect", "detect_from_impact"):
        assert timing(found, name).state is State.CENSORED
        assert timing(found, name).low == pytest.approx(2, abs=0.1)
        assert "our own undo" in timing(found, name).note
    assert verdict(found, "quick") is Verdict.INCONCLUSIVE


@pytest.mark.parametrize("limit", ["1s", "5s"])
def test_a_fault_that_nobody_felt_and_that_ended_refutes_no_detection(limit: str) -> None:
    found = (
        Journal(scenario(hypotheses=[QUICK | {"expect": f"time_to_detect <= {limit}"}]))
        .frame(60)
        .probed(62)
        .injected(20, 22.1, undone=22)
        .score()
    )
    assert timing(found, "detect").state is State.UNKNOWN
    assert verdict(found, "quick") is Verdict.INCONCLUSIVE


def test_what_comes_after_the_cut_counts_for_nothing() -> None:
    """An alert that fires, and an acknowledgement that arrives, while we put things back."""
    found = no_fixer().alert(100.2, page="p9").said(100.4, "ack").said(100.5, "identify").score()
    assert timing(found, "acknowledge").state is State.CENSORED
    assert timing(found, "identify").state is State.CENSORED
    assert next(a for a in found.alerts if a.page == "p9").incident == 0


def test_a_look_that_came_too_early_does_not_date_the_onset() -> None:
    """Impact was seen before the first look that showed the fault: the call is the lower bound."""
    journal = Journal(scenario()).frame(60).probed(62, Outage(20.05, 40))
    injection = Injection("i1", "memory.hog", "api-1", "tag", ())
    journal.add(ev.InjectionArmed(at=19.9, injection=injection))
    journal.add(ev.InjectCalled(at=20, injection="i1"))
    looked = {"injection": "i1", "took_effect": True, "in_force": True, "seen": ""}
    journal.add(ev.Looked(at=20.6, previous=20.5, **looked))
    onset = journal.score().incidents[0].instants["onset"]
    assert onset.low == 20
    assert 20.05 <= onset.high <= 20.1


def test_a_latent_fault_is_dated_by_the_looks() -> None:
    journal = Journal(scenario()).frame(60).probed(62, Outage(30.05, 40))
    injection = Injection("i1", "memory.hog", "api-1", "tag", ())
    journal.add(ev.InjectionArmed(at=19.9, injection=injection))
    journal.add(ev.InjectCalled(at=20, injection="i1"))
    looked = {"injection": "i1", "took_effect": True, "in_force": True, "seen": ""}
    journal.add(ev.Looked(at=25.6, previous=25.5, **looked))
    incident = journal.score().incidents[0]
    assert (incident.instants["onset"].low, incident.instants["onset"].high) == (25.5, 25.6)
    assert incident.injections == ("i1",)


def test_a_fault_still_in_force_is_not_restored() -> None:
    """Users are well again (traffic was drained), the fault is not gone: mitigated, not restored."""
    found = (
        Journal(scenario())
        .frame(60)
        .probed(62, Outage(20.05, 30))
        .injected(20, 60.2, undone=60)
        .alert(23)
        .acted(29, "drain")
        .score()
    )
    assert timing(found, "mitigate").state is State.MEASURED
    assert timing(found, "restore").state is State.CENSORED


def test_a_drill_that_died_is_scored_up_to_where_it_stops() -> None:
    journal = usual(AVAILABLE, PAGED)
    journal.events = [e for e in journal.events if e.at < 35]
    found = journal.score()
    assert found.ended == "died"
    assert found.exit_code == 70
    assert timing(found, "mitigate").state is State.CENSORED
    assert verdict(found, "available") is Verdict.REFUTED
    assert verdict(found, "paged") is Verdict.INCONCLUSIVE


# Detection.


def test_a_customer_can_be_the_first_to_tell() -> None:
    found = usual().reported(21).score()
    assert found.incidents[0].instants["detect"].source == "customer"
    assert "customer-first" in ids(found)


def test_a_stakeholders_question_detects_nothing() -> None:
    found = usual().reported(21, "stakeholder").score()
    assert found.incidents[0].instants["detect"].source == "monitoring"


def test_an_alert_before_the_first_report_is_said() -> None:
    assert "alert-before-report" in ids(usual().reported(35).score())


def test_a_declaration_detects() -> None:
    found = usual().said(22, "declare").score()
    assert found.incidents[0].instants["detect"].low == 22
    assert found.incidents[0].instants["detect"].source == "fixers"


def test_what_was_said_before_the_fault_detects_nothing() -> None:
    found = usual().said(15, "declare").reported(16).score()
    assert found.incidents[0].instants["detect"].source == "monitoring"


def test_an_alert_before_the_fault_is_pre_existing() -> None:
    found = usual().alert(15, page="p0", name="Other", resolved=18).score()
    early = next(a for a in found.alerts if a.page == "p0")
    assert early.pre_existing
    assert early.incident == 0
    assert len(found.incidents) == 1
    assert found.incidents[0].instants["detect"].low == pytest.approx(22.99)
    assert "pre-existing-alert" in ids(found)


def test_a_pre_existing_alert_that_still_fires_hides_detection() -> None:
    found = (
        Journal(scenario())
        .frame(60)
        .probed(62, Outage(20.05, 61))
        .injected(20, 61, undone=60)
        .alert(15)
        .score()
    )
    assert timing(found, "detect").state is State.UNKNOWN
    assert timing(found, "mitigate").state is State.UNKNOWN


def test_a_synthetic_alert_is_no_detection_but_its_acknowledgement_is() -> None:
    journal = (
        Journal(scenario())
        .frame(60)
        .probed(62, Outage(20.05, 61))
        .injected(20, 61, undone=60)
        .alert(23, source="synthetic")
    )
    assert timing(journal.score(), "detect").state is State.CENSORED
    journal.said(29, "ack")
    found = journal.score()
    assert found.incidents[0].instants["detect"].low == 29
    assert timing(found, "acknowledge").value == pytest.approx(6)


def test_never_detected() -> None:
    found = (
        Journal(scenario(hypotheses=[PAGED]))
        .frame(60)
        .probed(62, Outage(20.05, 61))
        .injected(20, 61, undone=60)
        .score()
    )
    assert timing(found, "detect").state is State.CENSORED
    assert timing(found, "mitigate").state is State.UNKNOWN
    assert verdict(found, "paged") is Verdict.REFUTED
    assert "not-detected" in ids(found)


# Acknowledgement.


def test_an_acknowledgement_before_any_alert_is_noticed_first() -> None:
    journal = usual()
    journal.events = [e for e in journal.events if not (isinstance(e, ev.Said) and e.verb == "ack")]
    found = journal.said(21, "ack").score()
    assert timing(found, "acknowledge").state is State.UNKNOWN
    assert timing(found, "acknowledge").note == "noticed first"
    assert found.alerts[0].to_acknowledge.state is State.UNKNOWN


def test_each_page_has_its_own_acknowledgement() -> None:
    found = (
        usual()
        .alert(24, page="p2", name="Errors", delivered=24.5)
        .said(33, "ack", page="p2")
        .score()
    )
    first, second = found.alerts
    assert first.acknowledged == 26
    # The acknowledgement at 26 named no page: it was for every page then open.
    assert second.acknowledged == 26
    assert second.to_acknowledge_delivered.value == pytest.approx(1.5)


def test_an_acknowledgement_of_one_page_is_not_one_of_another() -> None:
    journal = usual()
    journal.events = [e for e in journal.events if not (isinstance(e, ev.Said) and e.verb == "ack")]
    found = journal.alert(24, page="p2", name="Errors").said(33, "ack", page="p2").score()
    first, second = found.alerts
    assert first.acknowledged is None
    assert first.to_acknowledge.state is State.CENSORED
    assert second.acknowledged == 33
    assert second.to_acknowledge_delivered.state is State.UNKNOWN


def test_observers_acknowledge_nothing() -> None:
    journal = usual()
    journal.events = [e for e in journal.events if not (isinstance(e, ev.Said) and e.verb == "ack")]
    found = journal.said(26, "ack", role="observer").score()
    assert found.alerts[0].acknowledged is None
    assert "unacknowledged" in ids(found)


# Mitigation.


def test_healed_before_anyone_acted_is_nothing_to_mitigate() -> None:
    found = (
        Journal(scenario(hypotheses=[MITIGATED]))
        .frame(60)
        .probed(62, Outage(20.05, 28))
        .injected(20, 28, undone=60, outcome="nothing")
        .alert(23)
        .said(26, "ack")
        .score()
    )
    mitigate = timing(found, "mitigate")
    assert mitigate.state is State.NOT_APPLICABLE
    assert "nothing to mitigate" in mitigate.note
    assert mitigate.source == "self-healed"
    assert verdict(found, "mitigated") is Verdict.INCONCLUSIVE
    restore = timing(found, "restore")
    assert restore.note == "from impact"
    assert restore.low is not None
    assert restore.high is not None
    assert restore.low <= 28 - 20.05 <= restore.high
    assert "self-healed" in ids(found)


def test_an_injection_taken_over_by_a_fixer_is_no_self_healing() -> None:
    journal = usual()
    journal.events = [e for e in journal.events if not isinstance(e, ev.SandboxChanged)]
    assert journal.score().incidents[0].instants["mitigate"].source == "fixers"


def test_a_fault_without_impact_is_nothing_to_mitigate() -> None:
    found = (
        Journal(scenario(hypotheses=[AVAILABLE, MITIGATED]))
        .frame(60)
        .probed(62)
        .injected(20, 60.2, undone=60)
        .score()
    )
    (incident,) = found.incidents
    assert incident.kind == "no-impact"
    assert timing(found, "mitigate").state is State.NOT_APPLICABLE
    assert timing(found, "restore").state is State.NOT_APPLICABLE
    assert timing(found, "detect").state is State.CENSORED
    assert verdict(found, "available") is Verdict.SUPPORTED
    assert verdict(found, "mitigated") is Verdict.INCONCLUSIVE
    assert {"no-impact", "one-target"} <= ids(found)


def test_outside_steady_but_never_unacceptable_is_nothing_to_mitigate() -> None:
    found = (
        Journal(scenario(acceptable={"availability": ">= 50%"}))
        .frame(60)
        .probed(62, Outage(20.05, 40, "some"))
        .injected(20, 40, undone=60, outcome="taken-over", by="fixer")
        .alert(23)
        .acted(39)
        .score()
    )
    assert found.incidents[0].kind == "impact"
    assert timing(found, "mitigate").state is State.NOT_APPLICABLE
    assert timing(found, "restore").state is State.MEASURED


def test_acceptable_comes_before_restored() -> None:
    found = (
        Journal(scenario(acceptable={"availability": ">= 60%"}))
        .frame(60)
        .probed(62, Outage(20.05, 30), Outage(30, 45, "some"))
        .injected(20, 45, undone=60, outcome="taken-over", by="fixer")
        .alert(23)
        .acted(29, "drain")
        .acted(44)
        .score()
    )
    mitigate = found.incidents[0].instants["mitigate"]
    restore = found.incidents[0].instants["restore"]
    # Every third request still fails after 30, so the last bad sample of that window is later.
    assert 29.9 <= mitigate.low <= mitigate.high <= 32
    assert restore.low <= 45 <= restore.high + 0.15


def test_an_act_that_is_told_just_after_its_effect_is_what_mitigated() -> None:
    """A paused service answers all at once; then the engine says who let it go on."""
    found = (
        Journal(scenario())
        .frame(60, "resolved")
        .probed(62, Outage(20.05, 21.5, "hung"))
        .injected(20, 21.5, undone=60, outcome="taken-over", by="fixer")
        .acted(21.53, "unpause")
        .score()
    )
    mitigate = found.incidents[0].instants["mitigate"]
    assert mitigate.source == "fixers"
    assert 21.4 < mitigate.low <= 21.5 <= mitigate.high < 21.51


def test_a_relapse_counts_the_last_mitigation_that_held() -> None:
    found = (
        Journal(scenario())
        .frame(90, "resolved")
        .probed(92, Outage(20.05, 30), Outage(40, 50))
        .injected(20, 50, undone=90, outcome="taken-over", by="fixer")
        .alert(23)
        .acted(29, "drain")
        .said(33, "mitigate")
        .acted(49)
        .score()
    )
    (incident,) = found.incidents
    assert incident.relapses == 1
    assert incident.instants["mitigate"].low <= 50 <= incident.instants["mitigate"].high
    assert "relapse" in ids(found)
    assert "mitigation-held" not in ids(found)


def test_a_relapse_that_lasts_is_censored_whatever_held_before() -> None:
    found = (
        Journal(scenario())
        .frame(90)
        .probed(92, Outage(20.05, 30), Outage(40, 91))
        .injected(20, 91, undone=90)
        .alert(23)
        .acted(29, "drain")
        .score()
    )
    assert found.incidents[0].relapses == 1
    assert timing(found, "mitigate").state is State.CENSORED


def test_a_claim_of_mitigation_that_does_not_hold_is_a_relapse_too() -> None:
    found = (
        Journal(scenario())
        .frame(90)
        .probed(92, Outage(20.05, 30), Outage(34, 50))
        .injected(20, 50, undone=90, outcome="taken-over", by="fixer")
        .acted(29)
        .said(31, "mitigate")
        .score()
    )
    assert found.incidents[0].relapses == 1


# Several incidents.


def test_impact_after_a_restoration_is_a_new_incident() -> None:
    found = (
        Journal(scenario(faults=0))
        .frame(90)
        .probed(92, Outage(20, 25), Outage(40, 45))
        .alert(23, resolved=27)
        .alert(43, page="p2", resolved=47)
        .said(24, "ack")
        .said(44, "ack")
        .acted(24.5)
        .acted(44.5)
        .score()
    )
    assert [i.number for i in found.incidents] == [1, 2]
    assert [a.incident for a in found.alerts] == [1, 2]
    assert all(timing(found, "mitigate", n).state is State.MEASURED for n in (1, 2))
    # The cause is not ours: onset is impact.
    for incident in found.incidents:
        assert incident.instants["onset"] == incident.instants["impact"]
        assert incident.injections == ()
    assert "cause-not-ours" in ids(found)


def test_what_was_over_before_anything_told_of_it_was_not_waited_for() -> None:
    """A blip of another cause: not detected while it lasted, and no reason to doubt the rest."""
    found = (
        Journal(scenario(hypotheses=[PAGED, AVAILABLE]))
        .frame(60)
        .probed(62, Outage(12, 12.3), Outage(20.05, 40))
        .injected(20, 40, undone=60, outcome="taken-over", by="fixer")
        .alert(23)
        .acted(39)
        .score()
    )
    blip, main = found.incidents
    assert blip.injections == ()
    assert timing(found, "detect").state is State.CENSORED
    assert timing(found, "detect").low == pytest.approx(0.3, abs=0.06)
    assert main.injections == ("i1",)
    assert "not-detected" not in ids(found)
    assert verdict(found, "paged") is Verdict.SUPPORTED
    assert verdict(found, "available") is Verdict.REFUTED


def test_a_request_in_flight_when_the_fault_strikes_is_part_of_its_impact() -> None:
    """It was sent before the inject and refused after it."""
    found = (
        Journal(scenario(hypotheses=[AVAILABLE]))
        .frame(60)
        .probed(62, Outage(20.003, 40), latency=0.03)
        .injected(20.002, 40, undone=60, outcome="taken-over", by="fixer")
        .score()
    )
    (incident,) = found.incidents
    assert incident.injections == ("i1",)
    assert incident.instants["impact"].low >= 20.002
    assert incident.instants["impact"].high >= 20.003
    assert verdict(found, "available") is Verdict.REFUTED


def test_resolved_by_a_workaround_is_no_mistake() -> None:
    found = (
        Journal(scenario())
        .frame(60, "resolved")
        .probed(62, Outage(20.05, 30))
        .injected(20, 60.2, undone=60)
        .alert(23, resolved=32)
        .acted(29, "drain")
        .said(40, "resolve")
        .score()
    )
    (claim,) = found.claims
    assert claim.held is False
    assert "resolved-with-fault-in-force" in ids(found)
    assert "resolved-while-outside" not in ids(found)


def test_impact_within_stabilise_is_the_same_incident() -> None:
    found = Journal(scenario(faults=0)).frame(90).probed(92, Outage(20, 25), Outage(29, 33)).score()
    assert len(found.incidents) == 1


def test_a_new_fault_begins_a_new_incident_and_what_is_said_is_ambiguous() -> None:
    """The first fault is still in force (drained, not mended) when the second strikes."""
    found = (
        Journal(scenario(faults=2))
        .frame(90)
        .probed(92, Outage(20.05, 30), Outage(50.05, 70))
        .injected(20, 90.5, undone=90)
        .injected(50, 70, id="i2", entry=1, undone=90, outcome="taken-over", by="fixer")
        .alert(23, resolved=33)
        .alert(53, page="p2", resolved=73)
        .acted(29, "drain")
        .acted(69)
        .said(55, "ack", page="p2")
        .said(60, "identify")
        .score()
    )
    assert [i.injections for i in found.incidents] == [("i1",), ("i2",)]
    assert found.incidents[1].instants["onset"].low == 50
    assert "identify" not in found.incidents[1].instants
    assert "ambiguous-action" in ids(found)
    assert found.incidents[1].instants["ack"].low == 55


def test_two_faults_at_once_are_one_incident() -> None:
    found = (
        Journal(scenario(faults=2))
        .frame(60)
        .probed(62, Outage(20.05, 40))
        .injected(20, 40, undone=60, outcome="taken-over", by="fixer")
        .injected(20.3, 40, id="i2", entry=1, undone=60, outcome="taken-over", by="fixer")
        .score()
    )
    (incident,) = found.incidents
    assert set(incident.injections) == {"i1", "i2"}
    assert incident.instants["onset"].low == 20


def test_the_worst_incident_decides_a_hypothesis_on_a_timing() -> None:
    found = (
        Journal(scenario(faults=0, hypotheses=[PAGED]))
        .frame(120)
        .probed(122, Outage(20, 25), Outage(60, 90))
        .alert(23)
        .alert(80, page="p2")
        .score()
    )
    assert verdict(found, "paged") is Verdict.REFUTED
    assert "incident 2" in found.hypotheses[0].evidence


# False alarms and controls.


def test_a_false_alarm() -> None:
    found = (
        Journal(scenario(faults=0))
        .frame(60, "all-clear")
        .probed(62)
        .alert(20, source="synthetic")
        .said(24, "ack")
        .said(25, "declare")
        .said(40, "all-clear")
        .score()
    )
    (incident,) = found.incidents
    assert incident.kind == "false-alarm"
    assert incident.instants["onset"].low == 20
    assert timing(found, "detect").value == pytest.approx(4)
    assert timing(found, "all_clear").value == pytest.approx(20)
    assert timing(found, "mitigate").state is State.NOT_APPLICABLE
    assert timing(found, "restore").state is State.NOT_APPLICABLE
    assert found.claims[0].held is True
    # Declaring on suspicion is never held against anyone.
    assert not [f for f in found.findings if f.kind == "poorly"]
    assert found.exit_code == 0


def test_a_false_alarm_that_nobody_clears_is_censored() -> None:
    found = Journal(scenario(faults=0)).frame(60).probed(62).alert(20, source="synthetic").score()
    assert timing(found, "all_clear").state is State.CENSORED
    assert timing(found, "acknowledge").state is State.CENSORED


def false_alarm() -> Journal:
    return Journal(scenario(faults=0)).frame(60, "resolved").alert(20, source="synthetic")


def test_a_false_alarm_closed_with_nothing_changed_is_over() -> None:
    found = false_alarm().probed(62).said(24, "ack").said(40, "resolve").score()
    assert timing(found, "all_clear").value == pytest.approx(20)
    told = next(f.text for f in found.findings if f.id == "false-alarm-cleared")
    assert "recognised" not in told
    assert "nothing changed" in told


@pytest.mark.parametrize("how", ["acted", "mitigate"])
def test_a_false_alarm_handled_as_a_real_incident_was_not_cleared(how: str) -> None:
    journal = false_alarm().probed(62).said(24, "ack").said(25, "declare").said(40, "resolve")
    found = (journal.acted(30) if how == "acted" else journal.said(30, "mitigate")).score()
    assert found.incidents[0].kind == "false-alarm"
    assert timing(found, "all_clear").state is State.UNKNOWN
    assert timing(found, "all_clear").note == "it was handled as a real incident"
    assert "false-alarm-cleared" not in ids(found)


def test_a_false_alarm_recognised_after_something_was_changed_is_cleared() -> None:
    found = false_alarm().probed(62).acted(30).said(40, "all-clear").score()
    assert timing(found, "all_clear").value == pytest.approx(20)


def test_a_real_impact_has_no_all_clear() -> None:
    assert timing(no_fixer().score(), "all_clear").state is State.NOT_APPLICABLE
    assert timing(usual().said(50, "all-clear").score(), "all_clear").state is State.NOT_APPLICABLE


def restarted_on_a_false_alarm() -> Journal:
    """The fixers restart what was well, and the restart is felt."""
    return (
        false_alarm()
        .probed(62, Outage(30.2, 35))
        .said(24, "ack")
        .said(25, "declare")
        .acted(30, slot="store-1")
        .said(33, "note")
        .said(45, "resolve")
    )


def test_a_declaration_counts_for_what_follows_while_it_stands() -> None:
    found = restarted_on_a_false_alarm().score()
    assert [i.kind for i in found.incidents] == ["false-alarm", "impact"]
    assert "not-declared" not in ids(found)
    undeclared = restarted_on_a_false_alarm()
    undeclared.events = [e for e in undeclared.events if getattr(e, "verb", "") != "declare"]
    assert "not-declared" in ids(undeclared.score())


def test_what_a_fixer_changed_just_before_an_impact_is_named() -> None:
    found = restarted_on_a_false_alarm().score()
    told = next(f.text for f in found.findings if f.id == "cause-not-ours")
    assert "; fixer restarted store-1 " in told
    assert told.endswith(" before.")
    just_then = restarted_on_a_false_alarm()
    just_then.events = [e for e in just_then.events if not isinstance(e, ev.SandboxChanged)]
    found = just_then.acted(30.2, slot="store-1").score()
    told = next(f.text for f in found.findings if f.id == "cause-not-ours")
    assert told.endswith("; fixer restarted store-1 just then.")


def test_a_synthetic_alert_that_fires_is_not_denied() -> None:
    found = false_alarm().probed(62).said(40, "all-clear").score()
    assert found.claims[0].held is True
    assert "no alert fired" not in found.claims[0].seen
    assert "no monitoring alert" in found.claims[0].seen


def test_a_control_has_no_finding() -> None:
    found = (
        Journal(scenario(faults=0, hypotheses=[AVAILABLE]))
        .frame(60, "control-over", steady_after=None)
        .probed(62)
        .load(10, 60)
        .score()
    )
    assert found.incidents == ()
    assert found.findings == ()
    assert found.counted is None
    assert verdict(found, "available") is Verdict.SUPPORTED
    assert found.exit_code == 0
    assert found.impact.requests == 5000


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


# Laws.


@settings(max_examples=100, deadline=None)
@given(st.integers(0, 2**32), st.data())
def test_the_truth_of_random_drills(seed: int, data: st.DataObject) -> None:
    """Random course, known truth: every stated interval holds it, every duration that must be open is."""
    rng = Random(seed)
    called = rng.uniform(12, 25)
    begin = called + rng.uniform(0.01, 0.08)
    end = begin + rng.uniform(3, 40)
    fired = begin + rng.uniform(0.5, 5)
    acked = fired + rng.uniform(0.5, 10)
    reverting = rng.uniform(called + 10, end + 15)
    how = data.draw(st.sampled_from(["down", "hung", "lost"]))
    journal = (
        Journal(scenario())
        .frame(reverting)
        .probed(reverting + 5, Outage(begin, end, how), rng=rng)
        .injected(called, min(end, reverting + 0.1), undone=reverting, by="fixer")
        .alert(fired)
        .said(acked, "ack")
        .acted(end - 0.1)
    )
    found = journal.score()
    (incident,) = found.incidents
    truth = {"detect": (fired - begin, True)}
    truth["acknowledge"] = (acked - fired, acked <= reverting)
    stable = end + 5 + 0.2 < reverting
    open_ = end + 5 > reverting
    for name, (value, happened) in truth.items():
        measured = incident.timings[f"time_to_{name}"]
        if happened and fired < reverting:
            assert measured.low is not None
            assert measured.high is not None
            assert measured.low - 1e-5 <= value <= measured.high + 1e-5
    mitigate = incident.timings["time_to_mitigate"]
    if open_:
        assert mitigate.state in (State.CENSORED, State.UNKNOWN)
    elif stable and mitigate.state is State.MEASURED:
        assert mitigate.low is not None
        assert mitigate.high is not None
        slack = found.slis[0].q + 0.01
        assert mitigate.low - slack <= max(0.0, end - fired) <= mitigate.high + slack


TIMES = st.floats(-5, 80, allow_nan=False)
NAMES = st.sampled_from(["a", "b"])


def any_event() -> st.SearchStrategy[ev.Event]:
    injection = Injection("a", "process.kill", "api-1", "tag", ())
    other = Injection("b", "net.latency", "api->store", "tag-b", ())
    flag = st.booleans()
    return st.one_of(
        st.builds(
            ev.PhaseBegan,
            at=TIMES,
            phase=st.sampled_from(["steadying", "running", "reverting", "verifying", "ended"]),
        ),
        st.builds(
            ev.Sample, at=TIMES, sli=st.sampled_from(["availability", "x"]), due=TIMES, sent=TIMES,
            done=TIMES, good=flag,
        ),
        st.builds(ev.LoadBucket, at=TIMES, start=TIMES, endpoint=NAMES, ok=st.integers(-1, 9), failed=st.integers(-1, 9)),
        st.builds(ev.InjectionArmed, at=TIMES, injection=st.sampled_from([injection, other]), entry=st.integers(-1, 3)),
        st.builds(ev.InjectCalled, at=TIMES, injection=NAMES),
        st.builds(ev.InjectFailed, at=TIMES, injection=NAMES, error=NAMES),
        st.builds(ev.Looked, at=TIMES, injection=NAMES, took_effect=flag, in_force=flag, seen=NAMES, previous=TIMES),
        st.builds(
            ev.InjectionUndone, at=TIMES, injection=NAMES, called=TIMES,
            outcome=st.sampled_from(["put-back", "taken-over", "nothing", "failed", "?"]), by=NAMES,
        ),
        st.builds(ev.TargetChecked, at=TIMES, injection=NAMES, equal=flag),
        st.builds(
            ev.AlertFired, at=TIMES, page=NAMES, alert=NAMES, tier=st.sampled_from(["page", "fyi"]),
            source=st.sampled_from(["monitoring", "synthetic"]), since=TIMES,
        ),
        st.builds(ev.AlertDelivered, at=TIMES, page=NAMES, channel=NAMES),
        st.builds(ev.AlertFailed, at=TIMES, page=NAMES, channel=NAMES, error=NAMES),
        st.builds(ev.AlertResolved, at=TIMES, page=NAMES, by=NAMES),
        st.builds(
            ev.Said, at=TIMES, role=st.sampled_from(["fixer", "observer"]), page=st.sampled_from(["", "a", "z"]),
            verb=st.sampled_from(["ack", "declare", "identify", "mitigate", "resolve", "all-clear", "hint", "note"]),
        ),
        st.builds(ev.Reported, at=TIMES, sender=st.sampled_from(["customer", "stakeholder"]), text=NAMES),
        st.builds(ev.SandboxChanged, at=TIMES, action=NAMES, by=st.sampled_from(["", "fixer", "gameday"])),
        st.builds(ev.SliBroke, at=TIMES, sli=NAMES, bounds=NAMES, inside=flag, value=TIMES),
        st.builds(ev.Suspended, at=TIMES, seconds=TIMES),
        st.builds(ev.AbortAsked, at=TIMES, by=NAMES, why=NAMES),
        st.builds(ev.Problem, at=TIMES, where=NAMES, what=NAMES),
        st.builds(
            ev.DrillEnded, at=TIMES, own_cpu=TIMES, host_cpu=TIMES,
            why=st.sampled_from(["resolved", "hard-stop", "aborted", "unhealthy-start", "failed", "?"]),
        ),
    )  # fmt: skip


EVERY_TIMING = [
    {"id": f"h{n}", "claim": "So.", "expect": f"{name} <= 5s"}
    for n, name in enumerate(
        ("time_to_detect", "time_to_acknowledge", "time_to_mitigate", "time_to_restore")
    )
]
RULE = {"name": "Burn", "when": "availability < 98% for 2s", "summary": "It burns."}
TOTAL = scenario(faults=2, hypotheses=[AVAILABLE, *EVERY_TIMING], alerts=[RULE])


def sane(found: Score) -> None:
    """What holds of every score."""
    msgspec.json.encode(found)
    assert found.exit_code in (0, 1, 3, 4, 5, 70)
    assert [i.number for i in found.incidents] == list(range(1, len(found.incidents) + 1))
    timings = [t for i in found.incidents for t in i.timings.values()]
    timings += [t for a in found.alerts for t in (a.to_acknowledge, a.to_acknowledge_delivered)]
    for timing in timings:
        if timing.state is State.MEASURED:
            assert timing.low is not None
            assert timing.value is not None
            assert timing.high is not None
            assert 0 <= timing.low <= timing.value <= timing.high
        elif timing.state is State.CENSORED:
            assert timing.low is not None
            assert timing.low >= 0
            assert timing.high is None
        else:
            assert timing.value is timing.low is timing.high is None
    for incident in found.incidents:
        assert all(when.low <= when.high for when in incident.instants.values())


@settings(max_examples=300, deadline=None)
@given(st.lists(any_event(), max_size=40))
def test_any_events_give_a_score(events: list[ev.Event]) -> None:
    sane(score(TOTAL, events))


@settings(max_examples=100, deadline=None)
@given(st.lists(any_event(), max_size=12), st.floats(0, 65))
def test_a_drill_with_anything_thrown_in_and_cut_off_anywhere_gives_a_score(
    events: list[ev.Event], cut: float
) -> None:
    journal = Journal(TOTAL).frame(60).probed(62, Outage(20.05, 40)).injected(20, 40, undone=60)
    journal.alert(23).said(26, "ack").add(*events)
    sane(score(TOTAL, [e for e in journal.ordered() if e.at < cut]))


@pytest.mark.parametrize("cut", range(0, 64, 3))
def test_a_journal_cut_off_anywhere_gives_a_score(cut: int) -> None:
    journal = usual(AVAILABLE, PAGED, MITIGATED).ordered()
    found = score(usual(AVAILABLE, PAGED, MITIGATED).scenario, [e for e in journal if e.at < cut])
    sane(found)
    assert found.ended == ("died" if cut <= 62 else "resolved")


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


@pytest.mark.parametrize("phase", range(6))
def test_an_act_just_after_the_last_failure_seen_may_have_ended_it(phase: int) -> None:
    """One request in three fails until somebody drains; the last that was seen came before."""
    act = 30.0 + phase * 0.025
    journal = Journal(scenario(hypotheses=[MITIGATED])).frame(60, "resolved")
    journal.probed(62, Outage(20.0, act, "some")).injected(20.0, 45.0, undone=60)
    journal.alert(23).said(26, "ack").acted(act, "drain")
    [incident] = journal.score().incidents
    timing = incident.timings["time_to_mitigate"]
    assert (timing.state, timing.source) == (State.MEASURED, "fixers")
    mitigate = incident.instants["mitigate"]
    assert mitigate.low <= act <= mitigate.high + 0.05


def test_an_act_long_after_the_last_failure_ended_nothing() -> None:
    journal = Journal(scenario(hypotheses=[MITIGATED])).frame(60, "resolved")
    journal.probed(62, Outage(20.0, 30.0, "some")).injected(20.0, 29.0, undone=60)
    journal.alert(23).said(26, "ack").acted(31.0, "drain")
    [incident] = journal.score().incidents
    assert incident.timings["time_to_mitigate"].source == "self-healed"
