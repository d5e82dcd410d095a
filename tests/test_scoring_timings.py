"""Instants and timings on hand-written journals: each censored, unknown and not-applicable case of DESIGN §2."""

from __future__ import annotations

import pytest

from gameday.injectors.fault import Injection
from gameday.scoring import events as ev
from gameday.scoring.score import State, Verdict
from tests.journals import Journal, Outage, scenario
from tests.scored import AVAILABLE, MITIGATED, PAGED, ids, no_fixer, timing, usual, verdict

# Censored.


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
