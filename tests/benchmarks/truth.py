"""Real drills against the truth: outages that Gameday knows nothing of, at recorded instants.

    python tests/benchmarks/truth.py [--drills 50] [--seed N] [--on local|docker] [--json]

Each drill is a ``gameday run`` of its own on a local sandbox of one gateway
(``outage/``). The gateway's own parent stops and continues it, or kills and replaces
it, once, at a random instant and for a random time, and keeps the instants to itself
until the drill is over. On Docker the gateway is a container, and the outsider pauses and unpauses
it through the engine; the truth is then from before to after each of the two calls. The scenario injects nothing; so Gameday has only its samples.

**What is true, on paper.** Let the gateway be out from *a* to *b*, T be the latency
threshold, d the time that an answer takes when all is well.

- Paused: a request sent at s in [a, b] waits in the backlog and is answered at b + d. It
  is bad if b + d − s > T. So the bad ones are those sent in (a − d, b + d − T): the first
  bad one is sent up to d before a, or up to one interval after it, and the last one about
  T before b. Those sent in the last T before b are slow, but good. Yet until b nobody
  was answered: onset and end, as people mean them, are a and b. And DESIGN §2 states
  them: a lies between the last good sent and the first bad sent + q, since the last good
  one was still answered; b lies between the last bad answer − q and the next good
  answer, since both waited for b.
- Killed: connections are refused from a until the successor listens at b; with threshold
  or without, the bad ones are those sent in (a − d, b). a as above; b lies between the
  last bad one sent and the next good answer.

An outage of T + 2 intervals or longer holds at least two bad samples wherever it falls
on the schedule, and two are enough to leave this scenario's steady state. Those are
scored; of shorter ones it is told whether they were seen. Where the debrief itself says
that too many samples were void (sent too late, by a machine too busy to measure), it
concludes nothing, and nothing is scored; those drills are listed apart. The truth itself is an interval:
before and after the system call (``gateway.py``). A stated interval counts as holding it
if they meet; how wide the true ones are is printed.

Two drills run at a time, each pinned to a CPU of its own where there are two; on Docker
one, since the engine needs the other.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import random
import shutil
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path
from queue import Empty, SimpleQueue
from typing import Any

from gameday.drills.conclusion import read_drill
from gameday.drills.folder import DrillFolder
from gameday.scoring.checks import VOID_LIMIT
from gameday.scoring.events import DrillStarted, Sample
from gameday.scoring.samples import is_void
from gameday.scoring.score import Incident, Instant

EVERY = 0.025
THRESHOLD = 0.080
OVER = 1.0
DURATION = 8.0  # seconds; q is a p99, so it takes some hundred good samples
LONGEST = 1.5
PROMISED_SHARE = 0.98
PROMISED_WIDTH = 1.2  # intervals, plus q
PARTS = Path(__file__).parent / "outage"

_HEAD = """\
apiVersion: gameday/v1
name: truth
title: The gateway goes out, and nobody told Gameday
duration: {duration}s
stabilise: 500ms
"""
SANDBOXES = {
    "local": """\
sandbox:
  file: cluster.yaml
  environment:
    gateway:
      OUTAGE_KIND: {kind}
      OUTAGE_WAIT: "{wait!r}"
      OUTAGE_LENGTH: "{length!r}"
      OUTAGE_RECORD: {record}
""",
    "docker": "sandbox: {{kind: docker, compose: compose.yaml}}\n",
}
_SLI = """\
slis:
  availability:
    path: /
    every: {every}ms
    timeout: 4s
    good: "status < 500 and latency < {threshold}ms"
    over: {over}s
steady_state: {{availability: ">= 95.5%"}}
"""


@dataclass(frozen=True)
class Outage:
    """What the outsider will do: ``wait`` seconds after the first request, for ``length``."""

    number: int
    kind: str
    wait: float
    length: float


@dataclass(frozen=True)
class Stated:
    """One end of an outage: what is true, and what Gameday stated."""

    true: Instant
    stated: Instant | None

    @property
    def distance(self) -> float:
        """0 if inside, else seconds by which the stated interval lies too late (or < 0: too early)."""
        if self.stated is None:
            return math.inf
        late, early = self.stated.low - self.true.high, self.true.low - self.stated.high
        return late if late > 0 else -early if early > 0 else 0.0

    @property
    def width(self) -> float:
        """Of the stated interval."""
        return self.stated.high - self.stated.low if self.stated else math.inf


@dataclass(frozen=True)
class Result:
    """One drill."""

    outage: Outage
    onset: Stated
    end: Stated
    q: float
    samples: int
    void: int
    hiccups: int

    @property
    def length(self) -> float:
        """How long it truly was out, at least."""
        return self.end.true.low - self.onset.true.high

    @property
    def long(self) -> bool:
        """Is it long enough to be promised?"""
        return self.length > THRESHOLD + 2 * EVERY

    @property
    def disowned(self) -> bool:
        """Does the debrief itself say that too many samples were void to conclude anything?"""
        return self.void > VOID_LIMIT * self.samples

    @property
    def scored(self) -> bool:
        """Does Gameday promise its instants?"""
        return self.long and not self.disowned

    @property
    def seen(self) -> bool:
        """Did Gameday see an outage there?"""
        return self.onset.stated is not None

    @property
    def bound(self) -> float:
        """The width that is promised."""
        return PROMISED_WIDTH * EVERY + self.q


@dataclass
class Results:
    """All drills, and those that could not be played."""

    results: list[Result] = field(default_factory=list)
    failed: list[str] = field(default_factory=list)


def outages(count: int, seed: int, kinds: Sequence[str] = ("pause", "restart")) -> list[Outage]:
    """Random ones: of every kind, most of them long enough to be scored."""
    rng = random.Random(seed)
    return [
        Outage(
            number,
            rng.choice(kinds),
            OVER + rng.uniform(0.5, 1.5),
            rng.uniform(0.02, LONGEST),
        )
        for number in range(count)
    ]


def play(
    outage: Outage, folder: Path, duration: float = DURATION, where: Mapping[str, str] | None = None
) -> Result:
    """Run the drill and compare.

    Args:
        where: What finds a Docker Engine and the gateway's image; without it, on the local sandbox.

    Raises:
        RuntimeError: if it could not be played; carries what it said.
    """
    for part in PARTS.iterdir():
        if part.is_file():
            shutil.copy(part, folder)
    record = folder / "truth.json"
    text = (_HEAD + SANDBOXES["local" if where is None else "docker"] + _SLI).format(
        duration=duration,
        kind=outage.kind,
        wait=outage.wait,
        length=outage.length,
        record=record,
        every=round(EVERY * 1000),
        threshold=round(THRESHOLD * 1000),
        over=OVER,
    )
    (folder / "truth.yaml").write_text(text)
    environment = os.environ | {"XDG_STATE_HOME": str(folder / "state"), "CI": "true"}
    environment |= where or {}
    command = [sys.executable, "-m", "gameday", "run", "truth.yaml", "--quiet"]
    outsider = threading.Thread(target=_pause, args=(outage, folder, where), daemon=True)
    if where is not None:
        outsider.start()
    done = subprocess.run(
        command, cwd=folder, env=environment, capture_output=True, text=True, timeout=120
    )
    drills = sorted((folder / ".gameday" / "drills").glob("*"))
    if done.returncode != 0 or not drills or not record.exists():
        raise RuntimeError(f"exit {done.returncode}: {done.stdout}{done.stderr}".strip())
    return compare(outage, json.loads(record.read_text()), drills[-1])


def _pause(outage: Outage, folder: Path, where: Mapping[str, str]) -> None:
    """The outsider on Docker: pause and unpause the gateway's container, and note when."""
    from docker import APIClient
    from docker.utils import kwargs_from_env

    engine = APIClient(version="auto", **kwargs_from_env(environment=dict(where)))
    with closing(engine):
        deadline = time.monotonic() + 60.0
        gateway = ""
        while time.monotonic() < deadline:
            time.sleep(0.02)
            for drill in (folder / ".gameday" / "drills").glob("*"):
                project = f"com.docker.compose.project=gameday-{drill.name}"
                found = engine.containers(filters={"label": project})
                gateway = found[0]["Id"] if found else ""
            if gateway and b"asked" in engine.logs(gateway):
                break
        time.sleep(outage.wait)
        instants = []
        for call, pause in ((engine.pause, outage.length), (engine.unpause, 0.0)):
            before = time.monotonic()
            call(gateway)
            instants.append((before, time.monotonic()))
            time.sleep(pause)
    truth = {"kind": outage.kind, "from": instants[0], "until": instants[1]}
    (folder / "truth.json").write_text(json.dumps(truth))


def compare(outage: Outage, truth: dict[str, Any], path: Path) -> Result:
    """What the drill's record says, beside the truth."""
    found = read_drill(DrillFolder(path))
    started = next(event for event in found.events if isinstance(event, DrillStarted))
    begun, ended = (
        Instant(low - started.clock, high - started.clock)
        for low, high in (truth["from"], truth["until"])
    )
    sli = found.scenario.slis["availability"]
    samples = [event for event in found.events if isinstance(event, Sample)]
    incident = _meant(found.score.incidents, begun, ended)
    instants = incident.instants if incident else {}
    return Result(
        outage,
        Stated(begun, instants.get("impact")),
        Stated(ended, instants.get("restore")),
        q=found.score.slis[0].q,
        samples=len(samples),
        void=sum(is_void(sample, sli) for sample in samples),
        hiccups=sum(
            not s.good and (s.done < begun.low or s.sent > ended.high + THRESHOLD) for s in samples
        ),
    )


def _meant(incidents: Sequence[Incident], begun: Instant, ended: Instant) -> Incident | None:
    """The incident that overlaps the outage."""
    for incident in incidents:
        impact, restore = incident.instants.get("impact"), incident.instants.get("restore")
        early = impact is not None and impact.low < ended.high + THRESHOLD
        if early and (restore is None or restore.high > begun.low):
            return incident
    return None


def play_all(
    planned: Sequence[Outage],
    *,
    at_once: int = 2,
    keep: Path | None = None,
    where: Mapping[str, str] | None = None,
) -> Results:
    """Play them, ``at_once`` side by side, each on its own CPU where there are enough.

    ``where`` is as in `play`.
    """
    found, waiting = Results(), SimpleQueue[Outage]()
    for outage in planned:
        waiting.put(outage)
    cpus = sorted(os.sched_getaffinity(0))

    def work(number: int) -> None:
        if len(cpus) >= at_once:
            os.sched_setaffinity(0, {cpus[number]})  # of this thread, and what it starts
        while True:
            try:
                outage = waiting.get_nowait()
            except Empty:
                return
            folder = Path(tempfile.mkdtemp(prefix="gameday-truth-", dir=keep))
            try:
                found.results.append(play(outage, folder, where=where))
                progress(found.results[-1])
            except (RuntimeError, subprocess.TimeoutExpired) as error:
                found.failed.append(f"drill {outage.number}: {error}")
            finally:
                if keep is None:
                    shutil.rmtree(folder, ignore_errors=True)

    threads = [threading.Thread(target=work, args=(number,)) for number in range(at_once)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    found.results.sort(key=lambda result: result.outage.number)
    return found


def progress(result: Result) -> None:
    """A line for each drill, for those who watch."""
    if sys.stderr.isatty() or os.environ.get("TRUTH_VERBOSE"):
        print(describe(result), file=sys.stderr, flush=True)


def describe(result: Result) -> str:
    """One drill in a line."""
    onset, end = result.onset, result.end
    return (
        f"{result.outage.number:>3} {result.outage.kind:<8}{result.length * 1e3:>7.0f} ms  "
        f"onset {_off(onset)}  end {_off(end)}  bound {result.bound * 1e3:.0f}  "
        f"q {result.q * 1e3:.1f} ms  {result.samples} samples, {result.void} void, "
        f"{result.hiccups} bad by themselves"
    )


def _off(end: Stated) -> str:
    if end.stated is None:
        return "not stated"
    off = "inside" if end.distance == 0 else f"{end.distance * 1e3:+.1f} ms off"
    return f"{off} (width {end.width * 1e3:.0f})"


# --- telling --------------------------------------------------------------------------------


def _spread(values: Sequence[float]) -> dict[str, float]:
    known = sorted(value for value in values if value < math.inf)
    if not known:
        return {}
    return {
        "median_ms": round(statistics.median(known) * 1e3, 1),
        "p90_ms": round(known[math.ceil(0.9 * len(known)) - 1] * 1e3, 1),
        "max_ms": round(known[-1] * 1e3, 1),
    }


def report(found: Results) -> dict[str, Any]:
    """The figures as plain data."""
    scored = [result for result in found.results if result.scored]
    short = [result for result in found.results if not result.long]
    disowned = [result for result in found.results if result.disowned]
    ends = {
        "onset": [(result, result.onset) for result in scored],
        "end": [(result, result.end) for result in scored],
    }
    figures = {
        name: {
            "inside": sum(end.distance == 0 for _, end in pairs),
            "share": sum(end.distance == 0 for _, end in pairs) / len(pairs),
            "width": _spread([end.width for _, end in pairs]),
            "of_bound": round(max(end.width / result.bound for result, end in pairs), 2),
            "too_wide": sum(end.width > result.bound for result, end in pairs),
        }
        for name, pairs in ends.items()
        if pairs
    }
    met = bool(figures) and all(
        each["share"] >= PROMISED_SHARE and not each["too_wide"] for each in figures.values()
    )
    return {
        "benchmark": "truth",
        "drills": len(found.results),
        "failed": found.failed,
        "kinds": dict(Counter(result.outage.kind for result in found.results)),
        "every_ms": EVERY * 1e3,
        "threshold_ms": THRESHOLD * 1e3,
        "promised_share": PROMISED_SHARE,
        "scored": len(scored),
        "ends": figures,
        "q": _spread([result.q for result in found.results]),
        "bound": _spread([result.bound for result in scored]),
        "true_width": _spread(
            [e.true.high - e.true.low for r in found.results for e in (r.onset, r.end)]
        ),
        "disowned": [describe(result) for result in disowned],
        "shorter": {"seen": sum(r.seen for r in short), "missed": sum(not r.seen for r in short)},
        "samples": sum(result.samples for result in found.results),
        "void": sum(result.void for result in found.results),
        "bad_by_themselves": sum(result.hiccups for result in found.results),
        "off": [
            describe(r)
            for r in scored
            if r.onset.distance or r.end.distance or max(r.onset.width, r.end.width) > r.bound
        ],
        "load_average": round(os.getloadavg()[0], 1),
        "verdict": "pass" if met else "short",
    }


def show(result: dict[str, Any]) -> str:
    """The same for people."""
    kinds = ", ".join(f"{count} {kind}" for kind, count in sorted(result["kinds"].items()))
    lines = [
        f"Truth: {result['drills']} real drills ({kinds}), a sample every {result['every_ms']:.0f} ms, "
        f"threshold {result['threshold_ms']:.0f} ms",
        "",
        f"  {result['scored']} outages longer than the threshold and two intervals:",
        f"  {'':<8}{'inside':>10}{'share':>9}{'width: median':>16}{'p90':>9}{'max':>9}{'of bound':>11}",
    ]
    for name, end in result["ends"].items():
        width = end["width"]
        lines.append(
            f"  {name:<8}{end['inside']:>10}{end['share']:>9.1%}{width['median_ms']:>13.1f} ms"
            f"{width['p90_ms']:>6.1f} ms{width['max_ms']:>6.1f} ms{end['of_bound']:>10.2f}×"
        )
    q, bound, true = result["q"], result["bound"], result["true_width"]
    lines += [
        f"  bound on the width: median {bound.get('median_ms')} ms (1.2 intervals + q; "
        f"q: median {q.get('median_ms')} ms, max {q.get('max_ms')} ms)",
        f"  the truth is known to within {true.get('median_ms')} ms (max {true.get('max_ms')} ms)",
        f"  shorter outages: {result['shorter']['seen']} seen, {result['shorter']['missed']} missed",
        f"  {result['samples']} samples, {result['void']} void (sent too late), "
        f"{result['bad_by_themselves']} bad apart from the outages",
    ]
    lines += [f"  too busy to measure, as its debrief says: {line}" for line in result["disowned"]]
    lines += [f"  off: {line}" for line in result["off"]]
    lines += [f"  not played: {line}" for line in result["failed"]]
    lines += [
        f"  Promised: at least {PROMISED_SHARE:.0%} inside, none wider than its bound: {result['verdict']}",
        f"  Load average of this machine, ourselves included: {result['load_average']}",
    ]
    return "\n".join(lines)


def _on_docker(planned: Sequence[Outage], at_once: int, keep: Path | None) -> Results:
    """With the engine that answers, or one of our own."""
    sys.path.insert(0, str(Path(__file__).parents[2]))
    from tests import engine

    with engine.engine() as where:
        image = engine.base_image(where)
        os.environ["PATH"] = engine.compose()
        return play_all(planned, at_once=at_once, keep=keep, where=where | {"OUTAGE_IMAGE": image})


def main(argv: list[str] | None = None) -> int:
    """Play and tell; 0 whatever came out, 1 if drills could not be played."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--json", action="store_true", help="print the figures as JSON")
    parser.add_argument("--drills", type=int, default=50)
    parser.add_argument("--seed", type=int, default=4711, help="chooses the outages")
    parser.add_argument("--on", choices=SANDBOXES, default="local", help="which sandbox")
    parser.add_argument("--at-once", type=int, help="default: 2, on Docker 1")
    parser.add_argument("--keep", type=Path, help="keep the drills' folders in this one")
    given = parser.parse_args(argv)
    if given.keep:
        given.keep.mkdir(parents=True, exist_ok=True)
    keep = given.keep and given.keep.absolute()
    if given.on == "docker":
        found = _on_docker(outages(given.drills, given.seed, ("pause",)), given.at_once or 1, keep)
    else:
        found = play_all(outages(given.drills, given.seed), at_once=given.at_once or 2, keep=keep)
    result = report(found)
    print(json.dumps(result, indent=2) if given.json else show(result))
    return 1 if found.failed else 0


if __name__ == "__main__":
    sys.exit(main())
