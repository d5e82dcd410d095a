"""Which incidents a hand-written journal holds, and what belongs to which: relapses, false alarms, controls."""

from __future__ import annotations

import pytest

from gameday.scoring import events as ev
from gameday.scoring.score import State, Verdict
from tests.journals import Journal, Outage, scenario
from tests.scored import AVAILABLE, PAGED, ids, no_fixer, timing, usual, verdict

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
