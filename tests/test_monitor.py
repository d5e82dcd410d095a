"""The monitor against a slow definition of it, and against the figures of scoring."""

from __future__ import annotations

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gameday.drills.monitor import Cleared, Crossed, Fired, GuardBroken, Monitor, Signal
from gameday.scenarios.model import Scenario
from gameday.scoring.events import Sample
from gameday.scoring.samples import Track, is_void
from tests.simulation import scenario

EVERY = 0.1


def sample(number: int, good: bool = True, *, took: float = 0.02, late: float = 0.0) -> Sample:
    due = number * EVERY
    sent = due + late
    done = sent + took
    return Sample(at=done, sli="availability", due=due, sent=sent, done=done, good=good)


def played(**changes: object) -> Scenario:
    return scenario(**changes)


def feed(monitor: Monitor, samples: list[Sample]) -> list[tuple[Sample, Signal]]:
    return [(each, signal) for each in samples for signal in monitor.observe(each)]


streams = st.lists(
    st.tuples(
        st.booleans(),
        st.floats(0.001, 0.6),
        st.sampled_from([0.0, 0.0, 0.0, 0.01, 0.2]),
    ),
    min_size=1,
    max_size=80,
).map(
    lambda drawn: sorted(
        (sample(n, good, took=took, late=late) for n, (good, took, late) in enumerate(drawn)),
        key=lambda each: each.done,
    )
)


@given(streams, st.sampled_from(["0s", "50ms", "1s", "3s"]), st.sampled_from([None, "90%"]))
@settings(max_examples=80, deadline=None)
def test_its_values_are_those_of_scoring(
    samples: list[Sample], over: str, quantile: str | None
) -> None:
    sli = {"every": "100ms", "timeout": "500ms", "over": over}
    bound = "<= 100ms" if quantile else ">= 90%"
    rule = "availability > 1s" if quantile else "availability < 10%"
    setting = played(
        slis={"availability": sli | ({"quantile": quantile} if quantile else {})},
        steady_state={"availability": bound},
        alerts=[{"name": "A", "when": rule, "summary": "A."}],
        hypotheses=[],
    )
    monitor = Monitor(setting)
    track = Track.of("availability", setting.slis["availability"], samples)
    judged = {id(point.sample): point for point in track.points if point.settled}
    inside: bool | None = None
    for each in samples:
        crossed = [
            s for s in monitor.observe(each) if isinstance(s, Crossed) and s.bounds == "steady"
        ]
        point = judged.get(id(each))
        if point is None:
            assert not crossed
            continue
        assert monitor.values["availability"] == point.value
        now = setting.steady_bounds[0].holds(point.value)
        assert bool(crossed) is (now is not inside)
        assert all(signal.inside is now for signal in crossed)
        inside = now


@given(streams, st.sampled_from([0.0, 0.3, 1.0]))
@settings(max_examples=80, deadline=None)
def test_a_rule_fires_once_it_has_held_without_a_break(samples: list[Sample], hold: float) -> None:
    setting = played(
        alerts=[{"name": "A", "when": f"availability < 60% for {hold}s", "summary": "A."}],
        abort_when=[f"availability < 60% for {hold}s"],
    )
    monitor, sli = Monitor(setting), setting.slis["availability"]
    track = Track.of("availability", sli, samples)
    judged = {id(point.sample): point for point in track.points if point.settled}
    since, firing = None, False
    for each in samples:
        signals = monitor.observe(each)
        point = judged.get(id(each))
        if point is None:
            assert not signals
            continue
        since = (point.clock if since is None else since) if point.value < 0.6 else None
        held = since is not None and point.clock - since >= hold - 1e-9
        assert [s for s in signals if isinstance(s, Fired)] == [
            Fired(0, each.done, s.value) for s in signals if isinstance(s, Fired)
        ]
        assert any(isinstance(s, Fired) for s in signals) is (held and not firing)
        assert any(isinstance(s, Cleared) for s in signals) is (firing and not held)
        assert any(isinstance(s, GuardBroken) for s in signals) is held
        firing = held


def test_it_fires_clears_and_fires_again() -> None:
    goods = [True] * 20 + [False] * 20 + [True] * 30 + [False] * 20
    found = feed(Monitor(played()), [sample(n, good) for n, good in enumerate(goods)])
    kinds = [type(signal).__name__ for _, signal in found if not isinstance(signal, Crossed)]
    assert kinds == ["Fired", "Cleared", "Fired"]
    (fired, _) = next(each for each in found if isinstance(each[1], Fired))
    assert fired.sent == pytest.approx(3.1, abs=0.11)  # two bad of ten break 90 %, then 1 s


def test_a_void_sample_changes_nothing() -> None:
    setting = played()
    with_void, without = Monitor(setting), Monitor(setting)
    for number in range(60):
        each = sample(number, good=number < 30)
        late = replace_late(each)
        assert is_void(late, setting.slis["availability"])
        assert with_void.observe(late) == []
        assert with_void.observe(each) == without.observe(each)


def replace_late(each: Sample) -> Sample:
    return Sample(
        at=each.at, sli=each.sli, due=each.due - EVERY, sent=each.sent, done=each.done, good=False
    )


def test_a_condition_on_two_slis_waits_for_both() -> None:
    sli = {"every": "100ms", "good": "status < 500", "over": "1s"}
    setting = played(
        slis={"availability": sli, "other": sli | {"over": "3s"}},
        alerts=[
            {"name": "A", "when": "availability < 50% and other < 50%", "summary": "Both."},
            {"name": "B", "when": "availability < 50% or other < 50%", "summary": "One."},
        ],
    )
    monitor, fired = Monitor(setting), {}
    for number in range(60):
        for name in ("availability", "other"):
            each = sample(number, good=False)
            each = Sample(
                at=each.at, sli=name, due=each.due, sent=each.sent, done=each.done, good=False
            )
            for signal in monitor.observe(each):
                if isinstance(signal, Fired):
                    fired[signal.entry] = each.sent
    assert fired[1] == pytest.approx(1.0, abs=0.11)
    assert fired[0] == pytest.approx(2.9, abs=0.11)


def test_what_it_says_to_people() -> None:
    setting = played(abort_when=["availability < 50%"])
    found = feed(Monitor(setting), [sample(n, good=n < 15) for n in range(40)])
    fired = next(signal for _, signal in found if isinstance(signal, Fired))
    broken = next(signal for _, signal in found if isinstance(signal, GuardBroken))
    assert fired.value.startswith("availability ")
    assert "%" in fired.value
    assert "availability < 50 %" in broken.why
    assert msgspec.structs.replace(fired, entry=1) != fired
