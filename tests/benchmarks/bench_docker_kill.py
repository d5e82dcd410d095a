"""Fifty containers killed at once, beside what the engine can do and beside Chaos Toolkit.

    python tests/benchmarks/bench_docker_kill.py [--rounds N] [--containers 50] [--json]

Each way kills the same containers, which are started again before the next. What counts is the time from
the first request that is sent to the engine's last ``die`` event, both on the clock of the wall:

- gameday: ``gameday run`` with ``process.kill``, ``count: 50``; the first request is its first injection,
  after all undo is on disk. What it does before and after is shown beside: plan and arming, from
  when the fault is due; looking, until each container was seen to be dead.
- SDK: ``docker.APIClient.kill`` from a pool of 16 threads.
- xargs: ``xargs -P16 docker kill``, from its start.
- chaos: an experiment with fifty actions of Chaos Toolkit's process provider in the background; from the
  start of its first action, as its journal has it.

With the engine that answers, or one of our own. Prints what falls short and ends with 0 also then.
"""

from __future__ import annotations

import argparse
import contextlib
import http.server
import json
import os
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[2]))
sys.path.insert(0, str(Path(__file__).parent))

import peers
from peers import Promise, Way

from gameday.drills.folder import list_drills
from gameday.drills.journal import read_journal
from gameday.scoring import events
from tests import engine

LABEL = "gameday.bench"
POOL = 16
SCENARIO = """\
apiVersion: gameday/v1
name: fifty
title: All of a service's containers die at once
duration: {duration}s
stabilise: 200ms
sandbox: {{kind: docker, label: {label}}}
slis:
  available: {{address: "127.0.0.1:{port}", every: 500ms, over: 1s, good: "status == 200"}}
steady_state: {{available: ">= 50%"}}
faults:
  - {{at: 200ms, inject: process.kill, target: {{service: victim, count: {count}}}}}
"""


class Quiet(http.server.BaseHTTPRequestHandler):
    """What the drill probes: it is none of the containers, and is always well."""

    def do_GET(self) -> None:
        self.send_response(200)
        self.end_headers()

    def log_message(self, *_: Any) -> None:
        return


class Victims:
    """The containers, and what the engine says of their deaths."""

    def __init__(self, where: dict[str, str], image: str, count: int) -> None:
        from docker import APIClient
        from docker.utils import kwargs_from_env

        self.where = where
        self.count = count
        self.label = f"{LABEL}={os.getpid()}"
        self._make = lambda: APIClient(
            version="auto", max_pool_size=64, **kwargs_from_env(environment=dict(where))
        )
        self.api = self._make()
        self.deaths: list[float] = []
        self.ids: list[str] = []
        labels = {LABEL: str(os.getpid()), "gameday.sandbox": "true", "gameday.service": "victim"}
        with ThreadPoolExecutor(4) as pool:
            made = pool.map(
                lambda number: self.api.create_container(
                    image,
                    ["sleep", "infinity"],
                    labels=labels,
                    name=f"bench-{os.getpid()}-{number}",
                    host_config=self.api.create_host_config(network_mode="none"),
                )["Id"],
                range(count),
            )
            self.ids += made
        threading.Thread(target=self._listen, daemon=True).start()
        self.start()

    def _listen(self) -> None:
        stream = self._make().events(decode=True, filters={"label": self.label, "event": "die"})
        for event in stream:
            self.deaths.append(event["timeNano"] / 1e9)

    def start(self) -> None:
        """Start those that are dead, and forget the deaths."""
        with ThreadPoolExecutor(8) as pool:
            list(pool.map(self.api.start, self.ids))
        self.deaths.clear()

    def last_death(self) -> float:
        """When the last one died, UNIX time; waits until all have."""
        deadline = time.monotonic() + 60
        while len(self.deaths) < self.count:
            if time.monotonic() > deadline:
                raise SystemExit(f"only {len(self.deaths)} of {self.count} containers died")
            time.sleep(0.02)
        return max(self.deaths[: self.count])

    def remove(self) -> None:
        """Remove them all."""
        with ThreadPoolExecutor(8) as pool:
            list(pool.map(lambda one: self.api.remove_container(one, force=True), self.ids))
        self.api.close()

    # The ways: each returns when its first request was sent, UNIX time.

    def by_sdk(self) -> float:
        begun = time.time()
        with ThreadPoolExecutor(POOL) as pool:
            list(pool.map(self.api.kill, self.ids))
        return begun

    def by_xargs(self) -> float:
        begun = time.time()
        subprocess.run(
            ["xargs", f"-P{POOL}", "-n1", "docker", "kill"],
            input="\n".join(self.ids),
            text=True,
            env=os.environ | self.where,
            stdout=subprocess.DEVNULL,
            check=True,
        )
        return begun

    def by_chaos(self, chaos: Path, folder: Path) -> float:
        experiment = {
            "title": "All of a service's containers die at once",
            "description": "Fifty actions in the background.",
            "method": [
                {
                    "type": "action",
                    "name": f"kill {one[:12]}",
                    "background": True,
                    "provider": {
                        "type": "process",
                        "path": "docker",
                        "arguments": f"kill {one}",
                    },
                }
                for one in self.ids
            ],
            "rollbacks": [],
        }
        (folder / "experiment.json").write_text(json.dumps(experiment))
        subprocess.run(
            [
                chaos,
                "--no-version-check",
                "run",
                "--journal-path",
                "journal.json",
                "experiment.json",
            ],
            cwd=folder,
            env=os.environ | self.where | {"HOME": str(folder)},
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            check=True,
        )
        run = json.loads((folder / "journal.json").read_text())["run"]
        first = min(datetime.fromisoformat(each["start"]) for each in run)
        return (first if first.tzinfo else first.replace(tzinfo=UTC)).timestamp()


class Beside:
    """What our drill does before and after the kills, in seconds."""

    def __init__(self) -> None:
        self.arming: list[float] = []
        self.looking: list[float] = []


def by_gameday(victims: Victims, port: int, beside: Beside) -> tuple[float, float]:
    """A drill; when its first request was sent, and when the last container died."""
    with tempfile.TemporaryDirectory(prefix="gameday-fifty-") as name:
        folder = Path(name)
        text = SCENARIO.format(label=victims.label, port=port, count=victims.count, duration=8)
        (folder / "fifty.yaml").write_text(text)
        environment = os.environ | victims.where | {"GAMEDAY_STATE": str(folder / "state")}
        done = subprocess.run(
            [sys.executable, "-m", "gameday", "run", "fifty.yaml", "--quiet"],
            cwd=folder,
            env=environment,
            capture_output=True,
            text=True,
            check=False,
        )
        if done.returncode:
            raise SystemExit(f"gameday ended with {done.returncode}: {done.stdout}{done.stderr}")
        (drill,) = list_drills(folder)
        found = read_journal(drill.journal).events
    died = sorted(victims.deaths)[victims.count - 1]
    called = [each for each in found if isinstance(each, events.InjectCalled)]
    began = next(e for e in found if isinstance(e, events.PhaseBegan) and e.phase == "running")
    looked = {e.injection: e for e in reversed(found) if isinstance(e, events.Looked)}
    first = min(each.wall for each in called)
    beside.arming.append(first - (began.wall + 0.2))
    beside.looking.append(max(each.wall for each in looked.values()) - died)
    return first, died


def measure(rounds: int, count: int) -> dict[str, Any]:
    """Every way, interleaved."""
    theirs, beside = peers.install(), Beside()
    with contextlib.ExitStack() as ends:
        where = ends.enter_context(engine.engine())
        server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Quiet)
        threading.Thread(target=server.serve_forever, daemon=True).start()
        ends.callback(server.shutdown)
        folder = Path(ends.enter_context(tempfile.TemporaryDirectory(prefix="gameday-bench-")))
        victims = Victims(where, engine.base_image(where), count)
        ends.callback(victims.remove)

        def way(kill: Callable[[], float]) -> Callable[[], float]:
            def run() -> float:
                victims.start()
                begun = kill()
                return victims.last_death() - begun

            return run

        def ours() -> float:
            victims.start()
            first, died = by_gameday(victims, server.server_port, beside)
            return died - first

        gameday = Way("gameday run", ours)
        sdk = Way(f"SDK, pool of {POOL}", way(victims.by_sdk))
        xargs = Way(f"xargs -P{POOL} docker kill", way(victims.by_xargs))
        chaos = Way("chaos run", way(lambda: victims.by_chaos(theirs.chaos, folder)))
        peers.interleave([gameday, sdk, xargs, chaos], rounds)
    promises = [
        Promise("beside the SDK", gameday, sdk, 1.1),
        Promise("beside xargs", gameday, xargs),
        Promise("beside Chaos Toolkit", gameday, chaos, 1.0),
    ]
    found = peers.result(f"{count} containers killed", promises, theirs, rounds)
    return found | {
        "beside": {
            "plan_and_arming_ms": [round(each * 1e3) for each in beside.arming[1:]],
            "looking_ms": [round(each * 1e3) for each in beside.looking[1:]],
        }
    }


def show(found: dict[str, Any]) -> str:
    """For people."""
    return "\n".join([peers.show(found), *_beside(found["beside"])])


def _beside(beside: dict[str, list[int]]) -> Iterator[str]:
    for name, title in (("plan_and_arming_ms", "plan and arming"), ("looking_ms", "looking")):
        values = sorted(beside[name])
        middle = values[len(values) // 2] if values else 0
        yield f"  {title}: {middle} ms ({', '.join(map(str, beside[name]))})"


def main(argv: list[str] | None = None) -> int:
    """Measure and tell."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--json", action="store_true", help="print the figures as JSON")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--containers", type=int, default=50)
    given = parser.parse_args(argv)
    if why := engine.why_not():
        raise SystemExit(f"cannot be measured: {why}")
    found = measure(given.rounds, given.containers)
    print(json.dumps(found, indent=2) if given.json else show(found))
    return 0


if __name__ == "__main__":
    sys.exit(main())
