"""Laws of scoring, over random and over damaged journals."""

from __future__ import annotations

from random import Random

import msgspec
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from gameday.injectors.fault import Injection
from gameday.scoring import events as ev
from gameday.scoring.score import Score, State
from gameday.scoring.scorer import score
from tests.journals import Journal, Outage, scenario
from tests.scored import AVAILABLE, MITIGATED, PAGED, RULE, usual


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
@example(
    [ev.Sample(at=0, sli="availability", due=2, sent=2, done=0, good=False)], 1.0
)  # of the future
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
