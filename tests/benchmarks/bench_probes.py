"""Probing at 10 Hz for 30 s: how many samples, and how far each is from its schedule.

    python tests/benchmarks/bench_probes.py [--seconds N] [--json]

The service answers at once, but for one request in ten, which it answers after 350 ms.
Ours is the probe of a drill, in our environment; beside it Chaos Toolkit checks its
steady state continuously at a frequency of 0.1 s while an action takes 30 s. The service
notes when each request was accepted: so both are timed by the same clock, from outside.
Both run at the same time, each on a service of its own.

Drift: how late the n-th request was, beyond n intervals after the first.
"""

from __future__ import annotations

import argparse
import json
import os
import socket
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parent))

import itertools

import peers

EVERY = 0.1
SLOW = 0.35

OURS = """\
import sys, time
import anyio
from gameday.drills.probes import Addresses, Probe
from gameday.injectors.sandbox.fake import FakeSandbox
from gameday.scenarios.model import Sli

async def main():
    sli = Sli.of({"address": f"127.0.0.1:{sys.argv[1]}", "every": "100ms"})
    zero = time.monotonic()
    probe = Probe("up", sli, Addresses(FakeSandbox({"a": 1}), "a"), lambda: time.monotonic() - zero)
    found = []
    await probe.run(found.append, samples=int(sys.argv[2]))
    late = sum(sample.sent - sample.due > sli.every / 2 for sample in found)
    print(len(found), late)

anyio.run(main)
"""


class Service:
    """Notes when each request was accepted; keeps every tenth waiting."""

    def __init__(self) -> None:
        self.at: list[float] = []
        self.listener = socket.create_server(("127.0.0.1", 0), backlog=128)
        self.port: int = self.listener.getsockname()[1]
        threading.Thread(target=self._serve, daemon=True).start()

    def _serve(self) -> None:
        while True:
            client, _ = self.listener.accept()
            self.at.append(time.monotonic())
            slow = len(self.at) % 10 == 5
            threading.Thread(target=self._answer, args=(client, slow), daemon=True).start()

    def _answer(self, client: socket.socket, slow: bool) -> None:
        with client:
            if client.recv(65536):
                time.sleep(SLOW if slow else 0.0)
                client.sendall(
                    b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nConnection: close\r\n\r\nok"
                )

    def figures(self, seconds: float) -> dict[str, Any]:
        """Of the requests of the first ``seconds``."""
        first = self.at[0] if self.at else 0.0
        within = [at - first for at in self.at if at - first < seconds - EVERY / 2]
        drift = [at - number * EVERY for number, at in enumerate(within)]
        gaps = [later - at for at, later in itertools.pairwise(within)]
        return {
            "samples": len(within),
            "drift_last_ms": round(drift[-1] * 1e3, 1) if drift else None,
            "drift_p99_ms": round(_p99([abs(each) for each in drift]) * 1e3, 1),
            "gap_median_ms": round(statistics.median(gaps) * 1e3, 1) if gaps else None,
            "gap_max_ms": round(max(gaps) * 1e3, 1) if gaps else None,
        }


def _p99(values: list[float]) -> float:
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, int(0.99 * len(ordered)))] if ordered else 0.0


def experiment(port: int, seconds: float) -> dict[str, Any]:
    """Chaos Toolkit's: its action does nothing but take its time."""
    check = {"type": "http", "url": f"http://127.0.0.1:{port}/", "timeout": 2}
    sleep = {
        "type": "process",
        "path": "sleep",
        "arguments": f"{seconds:g}",
        "timeout": seconds + 9,
    }
    return {
        "version": "1.0.0",
        "title": "Polling",
        "description": "Polling",
        "tags": [],
        "steady-state-hypothesis": {
            "title": "It answers",
            "probes": [{"type": "probe", "name": "up", "tolerance": 200, "provider": check}],
        },
        "method": [{"type": "action", "name": "sleep", "provider": sleep}],
        "rollbacks": [],
    }


def measure(both: peers.Peers, folder: Path, seconds: float) -> dict[str, Any]:
    """Both at once."""
    mine, theirs = Service(), Service()
    samples = round(seconds / EVERY)
    (folder / "probe.py").write_text(OURS)
    (folder / "polling.json").write_text(json.dumps(experiment(theirs.port, seconds + 2)))
    chaos = [str(both.chaos), "--no-version-check", "run", "polling.json"]
    chaos += ["--hypothesis-strategy", "during-method-only", "--hypothesis-frequency", str(EVERY)]
    environment = os.environ | {"HOME": str(folder)}
    with (folder / "chaos.log").open("wb") as log:
        running = subprocess.Popen(chaos, cwd=folder, env=environment, stdout=log, stderr=log)
        command = [both.python, "probe.py", str(mine.port), str(samples)]
        said = subprocess.run(command, cwd=folder, check=True, capture_output=True, text=True)
        running.wait(seconds + 60)
    taken, late = map(int, said.stdout.split())
    ours = mine.figures(seconds + 1) | {"late": late}
    met = taken == samples == len(mine.at) and abs(ours["drift_last_ms"]) < EVERY * 1e3 / 2
    return {
        "benchmark": "Probes",
        "seconds_probed": seconds,
        "due": samples,
        "ways": {"gameday": ours, "chaos": theirs.figures(seconds)},
        "checks": [
            {
                "what": "samples",
                "measured": str(len(mine.at)),
                "bound": f"= {samples}",
                "verdict": "pass" if taken == samples == len(mine.at) else "short",
            },
            {
                "what": "drift at the end",
                "measured": f"{ours['drift_last_ms']:+.1f} ms",
                "bound": "none",
                "verdict": "pass" if met else "short",
            },
        ],
        "load_average": round(os.getloadavg()[0], 1),
    }


def show(found: dict[str, Any]) -> str:
    """The figures for people."""
    lines = [
        f"Probes: 10 Hz for {found['seconds_probed']:g} s, {found['due']} due; "
        "one answer in ten takes 350 ms",
        "",
        f"  {'':<10}{'samples':>9}{'drift at end':>15}{'p99':>11}{'gap: median':>14}{'max':>11}",
    ]
    for name, way in found["ways"].items():
        lines.append(
            f"  {name:<10}{way['samples']:>9}{way['drift_last_ms']:>+12.1f} ms"
            f"{way['drift_p99_ms']:>8.1f} ms{way['gap_median_ms']:>11.1f} ms{way['gap_max_ms']:>8.1f} ms"
        )
    late = found["ways"]["gameday"]["late"]
    lines.append(f"  ours that were more than half an interval late, and so void: {late}")
    lines.append(f"  Load average of this machine, ourselves included: {found['load_average']}")
    return "\n".join(lines)


def main(argv: list[str] | None = None) -> int:
    """Measure and tell; 0 whatever came out."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--json", action="store_true", help="print the figures as JSON")
    parser.add_argument("--seconds", type=float, default=30.0)
    given = parser.parse_args(argv)
    both = peers.install()
    with tempfile.TemporaryDirectory(prefix="gameday-bench-") as folder:
        found = measure(both, Path(folder), given.seconds)
    print(json.dumps(found, indent=2) if given.json else show(found))
    return 0


if __name__ == "__main__":
    sys.exit(main())
