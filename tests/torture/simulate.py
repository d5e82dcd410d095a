"""Deterministic simulation: whole drills on virtual time, of which each meets a failure.

    python -m tests.torture.simulate [--drills 20000] [--long 200] [--first SEED] [--jobs 2] [--json]

Each drill has at least 60 events, a fault, a failed operation and an act of a fixer, all
drawn by its seed; of the long ones, each lasts as long as a shipped scenario and samples
as often. Checked of each:

- every injection that was armed is undone, or said to have failed and then put back by
  what `gameday recover` does; the sandbox is as it was before;
- nothing is injected that was not armed, nor after somebody asked to stop;
- verdicts and intervals are true to the constructed truth;
- the journal, read back, scores as the live drill did, and directs as it did.

A seed that fails is printed; ``--first SEED --drills 1`` plays that very drill again.
"""

from __future__ import annotations

import argparse
import errno
import gc
import json
import math
import multiprocessing
import sys
import time
import traceback
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field
from random import Random
from typing import Any

import anyio

from gameday.drills import director
from gameday.drills.conclusion import missed
from gameday.injectors.errors import SandboxError, SandboxGone, StorageError
from gameday.scoring import events
from gameday.scoring.score import Incident, Instant, Score, State, Timing, Verdict
from gameday.scoring.scorer import score
from tests.simulation import LINKS, SERVICES, Action, Failure, Simulation, scenario

SLACK = 1e-6
FEWEST_EVENTS = 60
CALM = 5.2
"""Seconds at the beginning in which nothing fails: by then a drill has its events."""
LONGEST_EVENTS = 2400
"""What a drill at the length of the shipped scenarios has at least."""

FAULTS: tuple[dict[str, Any], ...] = (
    {"inject": "process.kill", "target": {"service": "gateway"}},
    {"inject": "process.kill", "target": {"service": "api", "count": 1}},
    {"inject": "process.kill", "target": {"service": "api"}},
    {"inject": "process.pause", "target": {"service": "gateway"}},
    {"inject": "process.pause", "target": {"service": "api"}},
    {"inject": "process.crashloop", "target": {"service": "gateway"}},
    {"inject": "cpu.burn", "target": {"service": "gateway"}},
    {"inject": "memory.hog", "target": {"service": "gateway"}},
    {"inject": "disk.fill", "target": {"service": "gateway"}},
    {"inject": "net.latency", "target": {"link": "gateway->api"}, "delay": "2s"},
    {"inject": "net.blackhole", "target": {"link": "gateway->api"}},
    {"inject": "net.reset", "target": {"link": "gateway->api"}},
    {"inject": "net.bandwidth", "target": {"link": "gateway->api"}, "rate": "1kbit/s"},
)

HANG = None
_BUG, _FULL = RuntimeError("a bug, drawn by lot"), OSError(errno.ENOSPC, "no space, drawn by lot")
_LOT = SandboxError("drawn by lot")
_BOX = ("list_slots", "inject", "look", "fingerprint", "run_step")
FAILURES: tuple[tuple[str, tuple[Exception | None, ...]], ...] = (
    *((f"box.{op}", (_LOT, SandboxGone("gone, by lot"), _FULL, _BUG, HANG)) for op in _BOX),
    ("box.hands.restart", (_LOT, _BUG)),
    ("journal.append", (_BUG,)),
    ("undo.arm", (StorageError("the disk is full, by lot"), _BUG)),
    ("undo.undone", (StorageError("the disk is full, by lot"), _BUG)),
    ("undo.undo", (_BUG,)),
    ("pages.fire", (_BUG, _FULL, HANG)),
    ("pages.resolve", (_BUG, HANG)),
    ("pages.report", (_BUG, HANG)),
    ("watcher", (_LOT, StorageError("the disk is full, by lot"), _FULL, _BUG)),
    ("actor", (_LOT, _FULL, _BUG)),
    ("listener", (_FULL, _BUG)),
    ("probe", (_FULL, _BUG)),
    ("keep_off", (_BUG,)),
    ("cancel", (HANG,)),
    ("abort", (HANG,)),
)


def random_drill(seed: int, *, long: bool = False) -> Simulation:
    """The drill of that seed."""
    rng = Random(f"{seed}{'L' * long}")
    at = rng.uniform(CALM + 0.4, CALM + 1.5)
    failure = _draw_failure(rng, at + 1.0)
    fault = dict(rng.choice(FAULTS))
    if failure.where == "keep_off":
        fault = next(dict(each) for each in FAULTS if each["inject"] == "cpu.burn")
    fault["at"] = f"{at:.3f}s"
    if rng.random() < 0.2:
        fault["lasts"] = f"{rng.uniform(0.5, 4.0):.3f}s"
    duration = at + rng.uniform(2.0, 7.0)
    if long:
        duration = rng.uniform(120, 180)
    restarted = at + rng.uniform(0.2, duration - at - 0.5)
    actions = [Action(rng.uniform(0.3, CALM - 1.5), rng.choice(("note", "update")))]
    if rng.random() < 0.8:
        actions.append(Action(at + rng.uniform(0.1, 4.0), "ack"))
    restarts = failure.where == "box.hands.restart"
    if rng.random() < 0.7 or restarts:
        actions.append(Action(restarted, restart="gateway-1"))
        if rng.random() < 0.8:
            actions.append(Action(restarted + rng.uniform(0.0, 3.0), "resolve"))
    limits = {"detected": rng.uniform(0.5, 3.0), "mitigated": rng.uniform(0.5, 9.0)}
    played = scenario(
        duration=f"{duration:.2f}s",
        stabilise=f"{rng.uniform(0.5, 2.0):.2f}s",
        faults=[fault],
        hypotheses=[
            {
                "id": name,
                "claim": f"It is {name}.",
                "expect": f"time_to_{name.removesuffix('ed').replace('mitigat', 'mitigate')} "
                f"<= {limit:.3f}s",
            }
            for name, limit in limits.items()
        ],
        alerts=[
            {"name": "Down", "when": "availability < 90% for 1s", "summary": "It is down."},
            {"name": "Drill", "at": f"{CALM + 0.1:.1f}s", "summary": "It is a drill."},
        ],
        reports=[{"at": f"{CALM + 0.2:.1f}s", "text": "Is it down?"}],
        abort_when=["availability < 5% for 4s"] if rng.random() < 0.1 and not restarts else [],
    )
    return Simulation(
        played,
        SERVICES,
        LINKS,
        actions,
        seed,
        heals_after=rng.uniform(0.3, 5.0) if rng.random() < 0.2 else None,
        failure=failure,
        aborts_at=failure.at if failure.where == "abort" else None,
    )


def _draw_failure(rng: Random, fault: float) -> Failure:
    """``fault``: about when the fault is injected, on the drill's axis."""
    where, errors = rng.choice(FAILURES)
    error = rng.choice(errors)
    times = 1
    if where == "box.run_step" and rng.random() < 0.4 and not isinstance(error, SandboxGone):
        times = 1000  # an undo that never works
    after = where in ("box.inject", "box.run_step") and error is not None and rng.random() < 0.4
    by_itself = where in (
        "watcher",
        "actor",
        "cancel",
        "abort",
        "journal.append",
        "listener",
        "probe",
    )
    at = rng.uniform(fault - 0.3, fault + 1.8) if by_itself else 0.0  # else when its turn comes
    return Failure(where, error, at=at, times=times, after=after)


# --- what is checked ------------------------------------------------------------------------


def play_and_check(seed: int, *, long: bool = False) -> Simulation:
    """Play the drill of that seed, and check it.

    Raises:
        AssertionError: if something does not hold.
    """
    drill = random_drill(seed, long=long).run()
    check_size(drill, long=long)
    found = score(drill.scenario, drill.journal.events)
    check_undone(drill)
    check_outcome(drill)
    check_nothing_is_left(drill)
    check_replay(drill, found)
    if drill.failure.where not in ("box.hands.restart", "journal.append"):
        check_instants(drill, found)
        check_verdicts(drill, found)
    return drill


def happened(drill: Simulation) -> int:
    """How often the drawn failure struck."""
    failure = drill.failure
    if failure.where == "abort":
        return sum(isinstance(e, events.AbortAsked) for e in drill.journal.events)
    if failure.where.startswith("box."):
        assert drill.box is not None
        return failure.times - drill.box.troubles
    return failure.happened


def check_size(drill: Simulation, *, long: bool) -> None:
    """It has what every drill of the campaign has."""
    journal = drill.journal.events
    assert len(journal) >= FEWEST_EVENTS, len(journal)
    assert len(drill.scenario.faults) == 1
    assert happened(drill) >= 1, f"{drill.failure} did not happen"
    assert drill.acted >= 1
    ended_early = next((e.at for e in journal if getattr(e, "phase", "") == "reverting"), 0.0)
    if long and ended_early >= drill.scenario.duration:
        assert len(journal) >= LONGEST_EVENTS / 2


def check_undone(drill: Simulation) -> None:
    """Every armed injection ended, and nothing was injected once the end had begun."""
    journal = drill.journal.events
    armed = {e.injection.id: e.seq for e in journal if isinstance(e, events.InjectionArmed)}
    called = {e.injection: e.seq for e in journal if isinstance(e, events.InjectCalled)}
    assert set(called) <= set(armed)
    assert set(called) <= drill.undo.ever
    assert all(armed[each] < called[each] for each in called)
    stops = [
        e.seq
        for e in journal
        if isinstance(e, events.AbortAsked) or getattr(e, "phase", "") == "reverting"
    ]
    if stops:
        assert all(seq < min(stops) for seq in called.values())
    ended = [e for e in journal if isinstance(e, events.InjectionUndone)]
    if drill.failure.where != "journal.append":  # it may be this very event that was lost
        assert set(armed) == {e.injection for e in ended}
    last = {e.injection: e.outcome for e in ended}
    if drill.failure.where not in ("undo.undone", "journal.append"):
        pages = {e.page for e in journal if isinstance(e, events.AlertFired)}
        failed = {each for each, outcome in last.items() if outcome == "failed"}
        assert set(drill.undo.armed) - pages <= failed


def check_nothing_is_left(drill: Simulation) -> None:
    """What is left is known, can be recovered, and then everything is as it was before."""

    async def recovered() -> dict[str, dict[str, str]]:
        await drill.recover()
        return await drill.fingerprints()

    after = anyio.run(recovered)
    assert not drill.undo.armed
    assert after == drill.before, {
        name: (drill.before[name], after[name])
        for name in after
        if after[name] != drill.before[name]
    }


def check_replay(drill: Simulation, found: Score) -> None:
    """What is read back from the disk scores the same, and directs the same."""
    lines = [events.encode(event) for event in drill.journal.events]
    again = list(events.decode(lines))
    assert again == drill.journal.events
    assert score(drill.scenario, again) == found
    assert drill.runner is not None
    live, told = drill.runner.direction, director.Direction(drill.scenario)
    for event in again:
        told = director.observe(told, event)
    for field_ in ("steady", "open_pages", "in_force", "abort", "loaded"):
        assert getattr(told, field_) == getattr(live, field_), field_


def check_outcome(drill: Simulation) -> None:
    """The exit code says what happened, and the most dangerous wins."""
    undone = [e for e in drill.journal.events if isinstance(e, events.InjectionUndone)]
    last = {e.injection: e.outcome for e in undone}
    if drill.failure.where == "journal.append" and drill.undo.armed:
        return  # its undo never reached the undo log: the watchdog does it again, and then tells
    # As the debrief reads it: what the undo log alone knows counts, too.
    journal = drill.journal.events
    found = score(drill.scenario, [*journal, *missed(journal, drill.undo.ended)])
    if "failed" in last.values():
        assert found.exit_code == 5
    elif drill.runner is not None and drill.runner.failed:
        assert found.exit_code == 70
    elif drill.failure.where == "abort":
        assert found.exit_code == 4, found.exit_code


def contains(instant: Instant, truth: float) -> bool:
    return instant.low - SLACK <= truth <= instant.high + SLACK


def check_instants(drill: Simulation, found: Score) -> None:
    """The truth lies inside the stated intervals, wherever they are stated."""
    for incident in found.incidents:
        impact = incident.instants.get("impact")
        if impact is None:
            continue
        down, up = min(drill.outages, key=lambda outage: abs(outage[0] - impact.high))
        assert contains(impact, down)
        restore = incident.instants.get("restore")
        if restore is not None and not incident.relapses:
            # Restored when the users are served again, and no fault is in force.
            assert restore.high + SLACK >= up
            if "mitigate" in incident.instants:  # not where it healed before anybody acted
                assert contains(incident.instants["mitigate"], up)


def check_timing(timing: Timing, truth: float) -> None:
    if timing.state is State.MEASURED:
        assert timing.low is not None
        assert timing.high is not None
        assert timing.low - SLACK <= truth <= timing.high + SLACK
    elif timing.state is State.CENSORED:
        assert timing.low is not None
        assert truth >= timing.low - SLACK


def check_verdicts(drill: Simulation, found: Score) -> None:
    """No verdict contradicts the truth; only what the bounds cannot tell is inconclusive."""
    felt = [incident for incident in found.incidents if "impact" in incident.instants]
    if len(felt) != 1 or len(found.incidents) != 1:
        return
    incident = felt[0]
    down, up = drill.outages[0]
    detect = incident.instants.get("detect")
    truths = {
        "detected": detect.high - down if detect else math.inf,
        "mitigated": up - detect.high if detect and _by_others(drill, up) else math.inf,
    }
    check_timing(incident.timings["time_to_detect"], truths["detected"])
    for verdict in found.hypotheses:
        limit = next(h for h in drill.scenario.hypotheses if h.id == verdict.id).comparison.value
        truth = truths[verdict.id]
        if verdict.verdict is Verdict.SUPPORTED and not _nothing_to_do(incident, verdict.id):
            assert truth <= limit + 0.25
        elif verdict.verdict is Verdict.REFUTED:
            assert truth > limit - 0.25


def _nothing_to_do(incident: Incident, hypothesis: str) -> bool:
    name = {"detected": "time_to_detect", "mitigated": "time_to_mitigate"}[hypothesis]
    return incident.timings[name].state is State.NOT_APPLICABLE


def _by_others(drill: Simulation, up: float) -> bool:
    """Did service come back by anything but our own undo?"""
    undone = [
        e
        for e in drill.journal.events
        if isinstance(e, events.InjectionUndone) and e.outcome == "put-back"
    ]
    return all(up < e.called for e in undone)


# --- the campaign ---------------------------------------------------------------------------


@dataclass
class Tally:
    """What was played, and what did not hold."""

    drills: int = 0
    events: list[int] = field(default_factory=list)
    failures: Counter[str] = field(default_factory=Counter)
    faults: Counter[str] = field(default_factory=Counter)
    ended: Counter[str] = field(default_factory=Counter)
    wrong: list[tuple[int, bool, str]] = field(default_factory=list)

    def note(self, drill: Simulation) -> None:
        failure = drill.failure
        how = "hangs" if failure.error is None else type(failure.error).__name__
        last = drill.journal.events[-1]
        self.drills += 1
        self.events.append(len(drill.journal.events))
        self.failures[f"{failure.where}: {how}" if failure.error else failure.where] += 1
        self.faults[drill.scenario.faults[0].breaks.kind] += 1
        self.ended[getattr(last, "why", "?")] += 1

    def add(self, other: Tally) -> None:
        self.drills += other.drills
        self.events += other.events
        self.failures += other.failures
        self.faults += other.faults
        self.ended += other.ended
        self.wrong += other.wrong


def campaign(seeds: Iterable[int], *, long: bool = False, most_wrong: int = 5) -> Tally:
    """Play the drills of those seeds; goes on after one that is wrong, up to some."""
    tally = Tally()
    gc.disable()  # each drill is freed by hand, and nothing else is garbage
    for number, seed in enumerate(seeds):
        try:
            tally.note(play_and_check(seed, long=long))
        except Exception as error:
            place = traceback.extract_tb(error.__traceback__)[-1]
            what = f"{type(error).__name__}: {error} ({place.name}, line {place.lineno})"
            tally.wrong.append((seed, long, what))
            if len(tally.wrong) >= most_wrong:
                break
        if number % 200 == 199:
            gc.collect()
    gc.enable()
    return tally


def _batch(job: tuple[range, bool]) -> Tally:
    return campaign(job[0], long=job[1])


def run_all(drills: int, long: int, *, first: int = 0, jobs: int = 2) -> Tally:
    """The campaign over several processes."""
    tasks = [
        (range(first + part, first + count, chunks), is_long)
        for count, is_long in ((drills, False), (long, True))
        for chunks in [max(1, min(count // 20, 8 * jobs))]
        for part in range(chunks)
        if count
    ]
    total = Tally()
    if jobs == 1 or len(tasks) == 1:
        for task in tasks:
            total.add(_batch(task))
        return total
    with multiprocessing.get_context("spawn").Pool(jobs) as pool:
        for tally in pool.imap_unordered(_batch, tasks):
            total.add(tally)
    return total


def result(tally: Tally, *, long: int, seconds: float) -> dict[str, Any]:
    """The campaign's figures as plain data."""
    sizes = sorted(tally.events) or [0]
    return {
        "drills": tally.drills,
        "long": long,
        "seconds": round(seconds, 1),
        "events": {
            "fewest": sizes[0],
            "median": sizes[len(sizes) // 2],
            "most": sizes[-1],
            "all": sum(sizes),
        },
        "faults": dict(sorted(tally.faults.items())),
        "failures": dict(sorted(tally.failures.items())),
        "ended": dict(sorted(tally.ended.items())),
        "wrong": [
            {"what": what, "again": _again(seed, is_long)} for seed, is_long, what in tally.wrong
        ],
    }


def _again(seed: int, long: bool) -> str:
    sizes = "--drills 0 --long 1" if long else "--drills 1 --long 0"
    return f"python -m tests.torture.simulate --first {seed} {sizes}"


def show(found: dict[str, Any]) -> str:
    """The same for people."""
    sizes = found["events"]
    lines = [
        f"Simulation: {found['drills']} drills in {found['seconds'] / 60:.1f} min, "
        f"{found['long']} of them at the length of the shipped scenarios",
        f"  {sizes['all']} events; a drill has {sizes['fewest']} to {sizes['most']}, "
        f"{sizes['median']} in the median",
    ]
    for title in ("faults", "failures", "ended"):
        lines += ["", f"  {title}"]
        lines += [f"    {count:>6}  {name}" for name, count in found[title].items()]
    lines += ["", f"  wrong: {len(found['wrong'])}"]
    for each in found["wrong"]:
        lines += [f"    {each['what']}", f"      again: {each['again']}"]
    return "\n".join(lines)


def main(argv: list[str] | None = None) -> int:
    """Play and tell; 1 if something did not hold."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--drills", type=int, default=20_000)
    parser.add_argument("--long", type=int, default=200)
    parser.add_argument("--first", type=int, default=0, help="the first seed")
    parser.add_argument("--jobs", type=int, default=2)
    parser.add_argument("--json", action="store_true")
    given = parser.parse_args(argv)
    begun = time.monotonic()
    tally = run_all(given.drills, given.long, first=given.first, jobs=given.jobs)
    found = result(tally, long=given.long, seconds=time.monotonic() - begun)
    print(json.dumps(found, indent=2) if given.json else show(found))
    return 1 if tally.wrong else 0


if __name__ == "__main__":
    sys.exit(main())
