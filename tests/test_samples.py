"""Windows and excursions: the incremental computation against a slow one, and against constructed truth."""

from __future__ import annotations

from random import Random

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gameday.scenarios.expressions import Comparison, parse_bound
from gameday.scenarios.model import Sli
from gameday.scoring.events import Sample
from gameday.scoring.samples import Excursion, Track, Window, breaks, excursions, is_void, quantile
from tests.journals import Outage, probe

SHARE = Sli(path="/", every=0.1, over=1.0)
LATENCY = Sli(path="/", every=0.1, over=1.0, quantile=0.9)


@st.composite
def streams(draw: st.DrawFn) -> list[Sample]:
    """Samples on a schedule, some late, slow, failed or lost, in the order of arrival."""
    samples = []
    for number, code in enumerate(draw(st.lists(st.integers(0, 99), max_size=60))):
        late = (0.0, 0.0, 0.01, 0.04, 0.06)[code % 5]
        took = (0.001, 0.01, 0.05, 0.2, 1.5)[code // 5 % 5]
        sent = number * 0.1 + late
        samples.append(
            Sample(
                at=0,
                sli="s",
                due=number * 0.1,
                sent=sent,
                done=sent + took,
                good=code // 25 > 0,
                status=200,
            )
        )
    return sorted(samples, key=lambda s: s.done)


def slow_value(sli: Sli, arrived: list[Sample], now: float) -> float | None:
    """The window by its definition: everything that arrived in (now - over, now]."""
    inside = [s for s in arrived if not is_void(s, sli) and now - sli.over < s.done <= now]
    if not inside:
        return None
    if sli.quantile is None:
        return sum(s.good for s in inside) / len(inside)
    latencies = sorted(s.done - s.sent for s in inside if s.good)
    if not latencies:
        return sli.timeout
    # The smallest value that a share of at least `quantile` do not exceed.
    return next(
        v
        for v in latencies
        if sum(w <= v for w in latencies) >= sli.quantile * len(latencies) - 1e-9
    )


@given(streams(), st.sampled_from([SHARE, LATENCY]))
def test_window_agrees_with_its_definition(samples: list[Sample], sli: Sli) -> None:
    window = Window(sli)
    for count, sample in enumerate(samples, start=1):
        window.add(sample)
        expected = slow_value(sli, samples[:count], sample.done)
        assert window.value(sample.done) == pytest.approx(expected)


def slow_excursions(
    sli: Sli, bound: Comparison, samples: list[Sample]
) -> list[tuple[float, float, bool]]:
    """(sent of the first, sent of the last, came back) of each excursion, from the definition alone."""
    against = breaks(sli, bound)
    counted = [s for s in samples if not is_void(s, sli)]
    runs: list[tuple[set[int], bool]] = []
    outside = False
    for i, sample in enumerate(counted):
        arrived = counted[: i + 1]
        value = slow_value(sli, arrived, sample.done)
        sents = [s.sent for s in arrived]
        settled = max(sents) - min(sents) >= 0.95 * sli.over
        out = settled and value is not None and not bound.holds(value)
        window = {
            j for j, s in enumerate(arrived) if s.done > sample.done - sli.over and against(s)
        }
        if out and not outside:
            runs.append((window or {i}, False))
        elif outside and against(sample):
            runs[-1] = (runs[-1][0] | {i}, False)
        if outside and not out:
            runs[-1] = (runs[-1][0], True)
        outside = out
    merged: list[tuple[set[int], bool]] = []
    for members, back in runs:
        gap = (
            counted[min(members)].done - max(counted[j].done for j in merged[-1][0])
            if merged
            else sli.over
        )
        if gap < sli.over:
            merged[-1] = (merged[-1][0] | members, back)
        else:
            merged.append((members, back))
    return [
        (min(counted[j].sent for j in m), max(counted[j].sent for j in m), back)
        for m, back in merged
    ]


@settings(max_examples=200)
@given(
    streams(),
    st.sampled_from(
        [
            (SHARE, ">= 99%"),
            (SHARE, ">= 80%"),
            (SHARE, "<= 60%"),
            (SHARE, "> 50%"),
            (LATENCY, "<= 100ms"),
            (LATENCY, "< 40ms"),
        ]
    ),
)
def test_excursions_agree_with_their_definition(
    samples: list[Sample], case: tuple[Sli, str]
) -> None:
    sli, text = case
    bound = parse_bound(text, "s")
    found = excursions(Track.of("s", sli, samples), bound)
    assert [(e.first.sent, e.last.sent, e.end is not None) for e in found] == slow_excursions(
        sli, bound, samples
    )
    for e in found:
        assert e.onset.low <= e.onset.high
        assert e.end is None or e.end.low <= e.end.high
        assert e.bad >= 1 or bound.op in ("==", "!=")


def only(samples: list[Sample], text: str = ">= 99%", **sli: float | str) -> list[Excursion]:
    measured = msgspec.structs.replace(Sli(path="/", every=0.05, over=2.0), **sli)
    return excursions(
        Track.of("availability", measured, samples), parse_bound(text, "availability")
    )


def test_bad_samples_that_never_push_the_window_out_are_no_impact() -> None:
    blip = probe(0, 20, [Outage(10.0, 10.06)])
    assert 1 <= sum(not s.good for s in blip) <= 2
    assert only(blip, ">= 90%") == []
    assert len(only(blip, ">= 99%")) == 1


def test_interleaved_failures_are_one_excursion() -> None:
    (found,) = only(probe(0, 40, [Outage(10.0, 20.0, "some")]))
    assert found.onset.low < 10.16
    assert found.end is not None
    assert 19.8 < found.end.high <= 20.1


def test_a_gap_shorter_than_the_window_belongs_to_the_excursion() -> None:
    (found,) = only(probe(0, 40, [Outage(10, 11), Outage(12.5, 13.5)]))
    assert found.end is not None
    assert found.end.low <= 13.5 <= found.end.high
    assert len(only(probe(0, 40, [Outage(10, 11), Outage(13.5, 14.5)]))) == 2


def test_a_black_hole_is_seen_though_the_deadline_is_as_long_as_the_window() -> None:
    (found,) = only(probe(0, 40, [Outage(10.0, 20.0, "lost")], timeout=2.0))
    assert found.onset.low <= 10.0 <= found.onset.high
    assert found.end is not None
    assert found.end.low <= 20.0 <= found.end.high


def test_a_third_of_requests_lost_is_seen_though_the_deadline_is_as_long_as_the_window() -> None:
    healthy = [s for i, s in enumerate(probe(0, 40)) if i % 3]
    lost = probe(0, 40, [Outage(10, 20, "lost")], every=0.15)
    (found,) = only(sorted([*healthy, *lost], key=lambda s: s.done))
    assert found.onset.low <= 10.15
    assert found.end is not None
    assert found.end.high <= 20.2


def test_a_window_still_outside_at_the_end_has_no_end() -> None:
    (found,) = only(probe(0, 21, [Outage(10.0, 20.0)]))
    assert found.end is None


def test_void_samples_do_not_count() -> None:
    late = Sample(at=0, sli="s", due=1.0, sent=1.06, done=1.07, good=False)
    assert is_void(late, SHARE)
    window = Window(SHARE)
    window.add(late)
    assert window.value(1.07) is None
    assert Track.of("s", SHARE, [late]).void == 1


def test_a_latency_sli_without_any_answer_is_at_the_deadline() -> None:
    window = Window(LATENCY)
    window.add(Sample(at=0, sli="s", due=1, sent=1, done=3, good=False, error="timeout"))
    assert window.value(3) == LATENCY.timeout


@given(st.lists(st.floats(0, 10), min_size=1), st.floats(0.01, 1))
def test_quantile_is_the_smallest_that_enough_do_not_exceed(
    values: list[float], share: float
) -> None:
    ordered = sorted(values)
    found = quantile(ordered, share)
    assert sum(v <= found for v in ordered) >= share * len(ordered) - 1e-6
    assert sum(v < found for v in ordered) < share * len(ordered) + 1e-6


@settings(max_examples=300)
@given(
    begin=st.floats(10, 20),
    length=st.floats(0.65, 15),
    how=st.sampled_from(["down", "hung", "lost", "slow"]),
    every=st.sampled_from([0.02, 0.05, 0.1]),
    seed=st.integers(0, 10_000),
)
def test_the_truth_lies_in_the_stated_intervals(
    begin: float, length: float, how: str, every: float, seed: int
) -> None:
    end = begin + length
    # Longer than the threshold plus two intervals: shorter ones may be missed.
    patience = 0.4
    samples = probe(
        0, end + 10, [Outage(begin, end, how)], every=every, patience=patience, rng=Random(seed)
    )
    sli = Sli(path="/", every=every, over=2.0)
    track = Track.of("availability", sli, samples)
    (found,) = excursions(track, parse_bound(">= 99%", "availability"))
    assert found.end is not None
    slack = 1e-6
    assert found.onset.low - slack <= begin <= found.onset.high + slack
    assert found.end.low - slack <= end <= found.end.high + slack
    widest = 1.2 * every + track.q + slack
    assert found.onset.high - found.onset.low <= widest
    assert found.end.high - found.end.low <= widest


@given(
    begin=st.floats(2, 3),
    length=st.floats(0.2, 2.0),
    share=st.floats(0.0, 1.0),
    stall=st.floats(0.0, 0.049),
    stalled_after=st.floats(0.0, 1.0),
)
def test_what_piled_up_is_answered_late_and_in_clumps(
    begin: float, length: float, share: float, stall: float, stalled_after: float
) -> None:
    """Requests that waited for a paused service take turns, and who reads the answers may be held up."""
    every, took, patience, end = 0.025, 0.001, 0.08, begin + length
    samples = []
    for number in range(round((end + 2) / every)):
        sent = number * every
        done = end + took if begin - took < sent < end else sent + took
        samples.append(Sample(at=0, sli="s", due=sent, sent=sent, done=done, good=True, status=200))
    waited = [s for s in samples if s.done == end + took]
    late = min(share * (len(waited) - 1) * took, every)  # before the first of them is answered
    for index, sample in enumerate(waited):
        held_up = stall if index >= max(1, stalled_after * len(waited)) else 0.0
        done = sample.done + late + index * 1e-5 + held_up
        samples[samples.index(sample)] = msgspec.structs.replace(
            sample, done=done, good=done - sample.sent <= patience
        )
    samples.sort(key=lambda s: s.done)
    track = Track.of("availability", Sli(path="/", every=every, over=1.0), samples)
    (found,) = excursions(track, parse_bound(">= 99%", "availability"))
    assert found.end is not None
    assert found.end.low - 1e-6 <= end <= found.end.high + 1e-6
    assert found.end.high - found.end.low <= 1.2 * every + track.q + 1e-6


def test_an_answer_before_a_second_hang_does_not_end_the_outage() -> None:
    every, sent, samples = 0.05, 0.0, []
    while sent < 20:
        waits_for = 12.0 if 10.0 <= sent <= 11.7 else 13.5 if 11.7 < sent <= 13.5 else sent
        done = waits_for + 0.001
        samples.append(
            Sample(at=0, sli="s", due=sent, sent=sent, done=done, good=done - sent < 0.2)
        )
        sent += every
    samples.sort(key=lambda s: s.done)
    (found,) = only(samples, every=every)
    assert found.end is not None
    assert found.end.low <= 13.5 <= found.end.high


def test_a_window_keeps_no_more_than_it_needs() -> None:
    sli = Sli(path="/", every=0.05, over=2.0, quantile=0.99)
    samples = probe(0, 5000, [Outage(1000, 1100)], rng=Random(1))
    window = Window(sli)
    for sample in samples:
        window.add(sample)
        window.value(sample.done)
    assert len(window._held) <= 41 + 40
