"""Service level indicators from samples: the one place where they are computed.

The monitor uses it sample by sample while a drill runs; scoring uses the same
code afterwards, so that what fires live and what the debrief says rest on the
same figures.

**Window.** A sample counts from when its answer, error or deadline came
(``done``) for ``over`` seconds. By ``sent`` a sample that runs into a deadline
as long as the window would have left the window before anybody knew of it, and
a black hole would never be seen. The window only decides *whether* bounds are
kept; *when* they were left is taken from the samples (below), so its length is
in no figure. A sample sent more than half an interval late is void and counts
for nothing, but what it saw it saw: it may stand beside the samples by which
instants are dated.

**Against.** A sample is *against* a bound when it pushes the SLI out of it: for
a share that must be high, a bad sample; for one that must be low, a good one;
for a quantile of latency, a sample that failed or whose own latency breaks the
bound. (With ``==`` and ``!=`` every sample is.)

**Excursion.** The window is judged at each arrival, once it is settled (filled
for the first time). A *run* is an unbroken series of arrivals at which the
window's value breaks the bound. To a run belong all samples against the bound
that are in the window at its first arrival, and all that arrive until the first
arrival at which the value is back inside. Two runs are one excursion if less
than ``over`` lies between the last such sample of one and the first of the
next. So bad samples that never push the window out of its bound are no impact,
and where good and bad interleave, gaps of good shorter than the window belong
to the excursion.

**Back-dating.** With *first* and *last* the earliest and latest sent of these
samples, and q the p99 duration of good samples:

- onset is in (sent of the last good before *first*, sent of *first* + q], and
  not after *first* was answered;
- the end is in (done of *last* − q, done of the next good], if the good sample
  next to *last* was held back too: it took longer than q, and was not answered
  before. Otherwise *last* was refused, slow or lost by itself, and shows only
  that the service was bad when it was sent: that instant is the lower bound.
- Held back, they pile up, and their answers come together when the service is
  back; *done of last* is then the first of these answers, and if all of the bad
  ones were sent before it, the service was back by then. But n requests that are
  worked off one after the other, by each program on their way, can make the first
  answer n − 1 ordinary durations (the median of the good ones) later than one alone
  would come: by so much is the lower bound earlier, though by one interval at most.
"""

from __future__ import annotations

import math
from bisect import bisect_left, bisect_right, insort
from collections import deque
from collections.abc import Callable, Iterable, Sequence
from itertools import pairwise
from operator import attrgetter

import msgspec

from gameday.scenarios.expressions import Comparison
from gameday.scenarios.model import Sli
from gameday.scoring.events import Sample
from gameday.scoring.score import Instant

__all__ = [
    "Excursion",
    "Point",
    "Track",
    "Window",
    "breaks",
    "excursions",
    "is_void",
    "quantile",
]

SETTLED = 0.95
"""Share of ``over`` that samples must span before a window is judged."""

_SLACK = 1e-9


def is_void(sample: Sample, sli: Sli) -> bool:
    """Was the sample sent more than half an interval late?"""
    return sample.sent - sample.due > sli.every / 2 + _SLACK


def quantile(ordered: Sequence[float], share: float) -> float:
    """The smallest value that at least ``share`` of the (ascending, not empty) values do not exceed."""
    rank = math.ceil(share * len(ordered) - _SLACK)
    return ordered[min(max(rank, 1), len(ordered)) - 1]


class Window:
    """One SLI over its window, sample by sample.

    Adding and reading take constant time, amortised, for a share; for a quantile
    the logarithm of the window's samples (and a move of memory).

    Args:
        sli: What is measured.
    """

    __slots__ = ("_first", "_good", "_held", "_last", "_latencies", "_now", "sli")

    def __init__(self, sli: Sli) -> None:
        self.sli = sli
        self._held: deque[tuple[float, bool, float]] = deque()
        self._good = 0
        self._latencies: list[float] | None = [] if sli.quantile is not None else None
        self._first = math.inf
        self._last = -math.inf
        self._now = -math.inf

    def add(self, sample: Sample) -> None:
        """Take in a sample, in the order of arrival; void ones are ignored."""
        if is_void(sample, self.sli):
            return
        self._now = max(self._now, sample.done)
        self._first = min(self._first, sample.sent)
        self._last = max(self._last, sample.sent)
        latency = sample.done - sample.sent
        self._held.append((self._now, sample.good, latency))
        self._good += sample.good
        if self._latencies is not None and sample.good:
            insort(self._latencies, latency)

    @property
    def settled(self) -> bool:
        """Have samples spanned the window once?"""
        return self._last - self._first >= self.sli.over * SETTLED

    def value(self, now: float) -> float | None:
        """The SLI over the ``over`` seconds up to ``now``; None without samples.

        A share is in [0, 1], a quantile in seconds. A quantile of a window in
        which no sample is good is the probe's timeout: the longest that is waited.
        Samples that have left the window are forgotten: ``now`` must not go back.
        """
        self._forget(now - self.sli.over, now)
        if not self._held:
            return None
        if self._latencies is None or self.sli.quantile is None:
            return self._good / len(self._held)
        if not self._latencies:
            return self.sli.timeout
        return quantile(self._latencies, self.sli.quantile)

    def _forget(self, until: float, now: float) -> None:
        held = self._held
        while held and held[0][0] <= until and held[0][0] < now:  # a window of 0 s: what came now
            _, good, latency = held.popleft()
            if good:
                self._good -= 1
                if self._latencies is not None:
                    del self._latencies[bisect_left(self._latencies, latency)]


class Point(msgspec.Struct, frozen=True):
    """A sample that counts, and the window's value at its arrival; ``clock`` never goes back."""

    sample: Sample
    clock: float
    value: float
    settled: bool


class Track(msgspec.Struct):
    """All samples of one SLI, in the order of arrival, with the window's value at each.

    Attributes:
        points: The samples that count.
        late: Those that do not count, being void: they date what the others show, no more.
        q, typical: The p99 and the median duration of the good ones, seconds; 0 without any.
    """

    name: str
    sli: Sli
    points: list[Point] = msgspec.field(default_factory=list)
    late: list[Sample] = msgspec.field(default_factory=list)
    q: float = 0.0
    typical: float = 0.0

    @classmethod
    def of(cls, name: str, sli: Sli, samples: Iterable[Sample]) -> Track:
        """Follow the samples once."""
        track, window, now = cls(name, sli), Window(sli), -math.inf
        for sample in samples:
            if is_void(sample, sli):
                track.late.append(sample)
                continue
            now = max(now, sample.done)
            window.add(sample)
            value = window.value(now)
            if value is not None:
                track.points.append(Point(sample, now, value, window.settled))
        durations = sorted(p.sample.done - p.sample.sent for p in track.points if p.sample.good)
        if durations:
            track.q, track.typical = (max(quantile(durations, at), 0.0) for at in (0.99, 0.5))
        return track

    @property
    def void(self) -> int:
        """How many samples do not count."""
        return len(self.late)

    def until(self, end: float) -> list[Point]:
        """The points whose samples had arrived by ``end``."""
        return self.points[: bisect_right(self.points, end, key=attrgetter("clock"))]


class Excursion(msgspec.Struct, frozen=True):
    """An SLI was outside a bound.

    Attributes:
        onset, end: When, back-dated; ``end`` is None if it never came back.
        first, last: The samples that these were dated by.
        worst: The window's worst value meanwhile.
        bad: How many samples were against the bound.
    """

    sli: str
    bound: Comparison
    onset: Instant
    end: Instant | None
    first: Sample
    last: Sample
    worst: float
    bad: int


def breaks(sli: Sli, bound: Comparison) -> Callable[[Sample], bool]:
    """The test of whether a sample is against the bound."""
    if sli.quantile is not None:
        return lambda sample: not (sample.good and bound.holds(sample.done - sample.sent))
    if bound.op in (">=", ">"):
        return lambda sample: not sample.good
    if bound.op in ("<=", "<"):
        return lambda sample: sample.good
    return lambda sample: True


class _Run(msgspec.Struct):
    first: Point
    last: Point
    worst: float
    latest: float
    taken: int = -1
    bad: int = 0
    back: Point | None = None

    def take(self, index: int, point: Point) -> None:
        if index <= self.taken:
            return
        self.taken = index
        self.bad += 1
        self.latest = max(self.latest, point.clock)
        if point.sample.sent < self.first.sample.sent:
            self.first = point
        if point.sample.sent >= self.last.sample.sent:
            self.last = point


def excursions(
    track: Track,
    bound: Comparison,
    points: Sequence[Point] | None = None,
    *,
    cut: float = math.inf,
) -> list[Excursion]:
    """The excursions of an SLI out of a bound, in order; see the module for what they are.

    Args:
        points: The part of the track to judge (`Track.until`); default: all of it.
        cut: When we put things back. What was sent since then shows what our revert did:
            an excursion that was not back inside by then has no end.
    """
    judged = track.points if points is None else points
    judged = [p for p in judged if p.sample.sent < cut]
    against = breaks(track.sli, bound)
    runs = _runs(judged, bound, against, track.sli.over)
    if not runs:
        return []
    late = (s for s in track.late if s.sent < cut and s.done <= judged[-1].clock)
    ordered = sorted([*(p.sample for p in judged), *late], key=lambda s: (s.sent, s.done))
    good = [sample for sample in ordered if not against(sample)]
    bad = [sample for sample in ordered if against(sample)]
    sent = [sample.sent for sample in good]
    return [
        Excursion(
            sli=track.name,
            bound=bound,
            onset=_onset(run, good, bad, sent, track),
            end=_end(run, run.back, good, bad, sent, track)
            if run.back and run.back.clock <= cut
            else None,
            first=run.first.sample,
            last=run.last.sample,
            worst=run.worst,
            bad=run.bad,
        )
        for run in runs
    ]


def _runs(
    points: Sequence[Point], bound: Comparison, against: Callable[[Sample], bool], over: float
) -> list[_Run]:
    worse = min if bound.op in (">=", ">") else max
    runs: list[_Run] = []
    recent: deque[tuple[int, Point]] = deque()
    open_run: _Run | None = None
    for index, point in enumerate(points):
        is_against = against(point.sample)
        if is_against:
            recent.append((index, point))
        while recent and recent[0][1].clock <= point.clock - over:
            recent.popleft()
        if point.settled and not bound.holds(point.value):
            if open_run is None:
                open_run = _open(runs, list(recent) or [(index, point)], point.value, over)
            elif is_against:
                open_run.take(index, point)
            open_run.worst = worse(open_run.worst, point.value)
        elif open_run is not None:
            if is_against:
                open_run.take(index, point)
            open_run.back, open_run = point, None
    return runs


def _open(
    runs: list[_Run], members: Sequence[tuple[int, Point]], value: float, over: float
) -> _Run:
    first = members[0][1]
    if runs and first.clock - runs[-1].latest < over:
        run = runs[-1]
        run.back = None
    else:
        run = _Run(first, first, value, first.clock)
        runs.append(run)
    for index, point in members:
        run.take(index, point)
    return run


def _onset(
    run: _Run, good: Sequence[Sample], bad: Sequence[Sample], sent: Sequence[float], track: Track
) -> Instant:
    first = run.first.sample
    index = bisect_left(sent, first.sent) - 1
    low = good[index].sent if index >= 0 else first.sent - track.sli.every
    after = bisect_right(bad, low, key=attrgetter("sent"))
    first = bad[after] if after < len(bad) else first
    high = min(first.sent + track.q, max(first.done, first.sent))
    return Instant(low, max(low, high), track.name)


def _end(
    run: _Run,
    back: Point,
    good: Sequence[Sample],
    bad: Sequence[Sample],
    sent: Sequence[float],
    track: Track,
) -> Instant:
    last, q = run.last.sample, track.q
    index = bisect_right(sent, last.sent)
    if index == len(good):
        return Instant(min(last.sent, back.clock), back.clock, back.sample.sli)
    following, high = good[index], good[index].done
    while index < len(good) and good[index].sent < high:
        high = min(high, good[index].done)
        index += 1
    if following.done - following.sent <= q or following.done < last.done - q:
        return Instant(min(last.sent, high), high, last.sli)
    answered = _piled_up(bad, last, following, track.sli.every)
    first = min(answered, default=last.done)
    waited = len(answered) + bisect_left(sent, first) - bisect_right(sent, last.sent)
    behind = min((waited - 1) * track.typical, track.sli.every) if answered else 0.0
    if answered and first > last.sent:
        high = min(high, first)
    return Instant(min(max(last.sent, first - q - behind), high), high, last.sli)


def _piled_up(bad: Sequence[Sample], last: Sample, following: Sample, every: float) -> list[float]:
    """When those were answered that had piled up until the service came back, *last* with them.

    They got the answer that the good one after them got, and got it together: each at
    most half as far from that of *last* as they were sent, and none with a gap of two
    intervals before the next: a newer one, sent meanwhile, would have shown that the
    service was still out. (A shorter one may be our own: who reads them was held up.)
    """

    def together(sample: Sample) -> bool:
        alike = not sample.error and sample.status == following.status
        return alike and abs(last.done - sample.done) <= (last.sent - sample.sent) / 2

    upto = bad[: bisect_right(bad, last.sent, key=attrgetter("sent"))]
    answers = sorted((s.done for s in upto if together(s)), reverse=True)
    for index, (later, earlier) in enumerate(pairwise(answers), 1):
        if later - earlier >= 2 * every:
            return answers[:index]
    return answers
