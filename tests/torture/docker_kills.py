"""Kills on Docker: drills on containers that run, of which something dies at a random instant.

    python -m tests.torture.docker_kills [--drills 60] [--first SEED] [--json]

Each drill breaks a front and two backs, attached by a label, with one of the faults that Docker can
do, while its runner, its watchdog, its helpers, or several of them are killed. Checked of each:

- what the engine says of every container and network, and every rule and queueing discipline in
  the containers' own networks, is what it was before, identity apart;
- no process of the drill is left, and nothing is outstanding: undone by the runner, by the watchdog
  within 2 s, or, where both were killed, by `gameday recover`;
- `gameday debrief` works on what there is.

A drill that is wrong is printed with the command that plays it again. Needs root, and an engine
on this machine; starts one of its own where none answers.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from gameday.drills.folder import DrillFolder, list_drills
from gameday.drills.undo_log import read_undo_log
from gameday.injectors.sandbox import process
from gameday.injectors.sandbox.netns.namespace import Namespace
from tests.containers import Containers
from tests.engine import CLOCK, base_image, engine
from tests.torture.machine import command

PROMISED = 2.0
PATIENCE = 40.0
FAULTS = {
    "process.kill": "target: {slot: back-1}",
    "process.pause": "target: {slot: back-1}",
    "process.crashloop": "target: {slot: back-1}, uptime: 200ms",
    "cpu.burn": "target: {slot: back-1}, workers: 2",
    "memory.hog": "target: {slot: back-1}",
    "disk.fill": "target: {slot: back-1}",
    "net.latency": "target: {link: front->back}, delay: 50ms",
    "net.blackhole": "target: {link: front->back}",
    "net.reset": "target: {link: front->back}",
    "net.bandwidth": "target: {link: front->back}, rate: 64kbit/s",
    "net.loss": "target: {link: front->back}, share: 50%",
    "net.corrupt": "target: {link: front->back}, share: 50%",
    "net.duplicate": "target: {link: front->back}, share: 50%",
    "net.partition": "target: {link: front->back}, direction: back",
    "net.disconnect": "target: {slot: back-1}",
    "dns.fail": "target: {slot: front-1}",
    "cpu.limit": "target: {slot: back-1}, cpus: 0.2",
    "memory.limit": "target: {slot: back-1}, size: 64MiB",
    "container.stop": "target: {slot: back-1}, grace: 1s",
    "container.remove": "target: {slot: lone-1}",
    "file.corrupt": "target: {slot: back-1}, path: /etc/debian_version",
    "file.deny": "target: {slot: back-1}, path: /etc/debian_version",
    "clock.skew": "target: {slot: clock-1}, offset: 1h",
}
ENDINGS = (
    "runner SIGKILL",
    "runner SIGTERM",
    "runner SIGINT",
    "watchdog SIGKILL",
    "helpers SIGKILL",
    "runner and helpers SIGKILL",
    "runner and watchdog SIGKILL",
)
INSTANTS = ("while starting", "armed", "injected", "undoing")
SCENARIO = """\
apiVersion: gameday/v1
name: dies
title: Something breaks, and something dies
duration: {duration}
stabilise: 500ms
sandbox: {{kind: docker, label: "{label}"}}
slis:
  availability: {{probe: tcp, address: "{address}", every: 100ms, over: 500ms, good: "latency < 1s"}}
steady_state: {{availability: ">= 1%"}}
faults:
  - {{at: 300ms, inject: {fault}, {target}}}
"""


class Drill:
    """One drill: what breaks, what dies, and when, by its seed."""

    def __init__(self, seed: int, containers: Containers, folder: Path) -> None:
        rng = random.Random(seed)
        self.seed = seed
        self.fault = list(FAULTS)[(seed + seed // len(ENDINGS)) % len(FAULTS)]
        self.ending = ENDINGS[seed % len(ENDINGS)]
        self.instant = rng.choice(INSTANTS)
        self.delay = rng.choice((0.0, rng.uniform(0.0, 0.02), rng.uniform(0.0, 0.3)))
        self.containers = containers
        self.folder = folder / f"drill-{seed}"
        self.wrong: list[str] = []
        self.undone_after: float | None = None
        self.killed = 0.0
        self.environment = (
            os.environ
            | containers.where
            | {"GAMEDAY_STATE": str(folder / "state"), "COLUMNS": "120"}
        )

    def play(self) -> dict[str, Any]:
        """Play it, and judge."""
        self.folder.mkdir(parents=True)
        before = self._world()
        address = self._address()
        text = SCENARIO.format(
            duration="1500ms" if self.instant == "undoing" else "20s",
            label=self.containers.mark,
            address=address,
            fault=self.fault,
            target=FAULTS[self.fault],
        )
        (self.folder / "dies.yaml").write_text(text)
        runner = self._start("run", "dies.yaml")
        try:
            self._kill(runner)
            self._settle(runner)
        finally:
            if runner.poll() is None:
                runner.kill()
            runner.wait()
        deadline = time.monotonic() + 5.0
        while (after := self._world()) != before and time.monotonic() < deadline:
            time.sleep(0.1)
        if after != before:
            different = [key for key in before if before[key] != after[key]]
            self.wrong.append(f"different afterwards: {', '.join(different)}")
        return {
            "seed": self.seed,
            "fault": self.fault,
            "ending": self.ending,
            "instant": self.instant,
            "undone_after": self.undone_after,
            "wrong": self.wrong,
        }

    def _start(self, *words: str) -> subprocess.Popen[bytes]:
        with (self.folder / "said.txt").open("ab") as said:
            return subprocess.Popen(
                [sys.executable, "-m", "gameday", *words],
                cwd=self.folder,
                env=self.environment,
                stdin=subprocess.DEVNULL,
                stdout=said,
                stderr=said,
                start_new_session=True,
            )

    def _address(self) -> str:
        front = self.containers.names[0]
        shape = "{{range .NetworkSettings.Networks}}{{.IPAddress}}{{end}}"
        return f"{self.containers.docker('inspect', '-f', shape, front)}:8000"

    def _world(self) -> dict[str, Any]:
        try:
            return self._seen()
        except AssertionError as error:  # one of them is not there
            return {"containers": str(error), "rules": ""}

    def _seen(self) -> dict[str, Any]:
        pids = self.containers.docker(
            "inspect", "-f", "{{.State.Pid}}", *self.containers.names
        ).split()
        clock = next(name for name in self.containers.names if "-clock-" in name)
        look = f"ls -A {Path(CLOCK).parent}; stat -c '%a %u:%g %Y' {CLOCK}; cat {CLOCK}"
        return {
            "containers": self.containers.inspected(),
            "clock": self.containers.docker("exec", clock, "sh", "-c", look),
            "rules": [
                # An interface that is connected again has another number.
                {
                    name.rstrip("0123456789"): rules
                    for name, rules in Namespace(int(pid)).fingerprint_now().items()
                }
                if int(pid)
                else "down"
                for pid in pids
            ],
        }

    def _drill(self) -> DrillFolder | None:
        found = list_drills(self.folder)
        return found[0] if found else None

    def _kill(self, runner: subprocess.Popen[bytes]) -> None:
        mark = {
            "while starting": b"DrillStarted",
            "armed": b'"InjectionArmed"',
            "injected": b'"took_effect":true',
            "undoing": b'"phase":"reverting"',
        }[self.instant]

        def there() -> bool:
            drill = self._drill()
            try:
                return drill is not None and mark in drill.journal.read_bytes().replace(b": ", b":")
            except OSError:
                return False

        if not until(lambda: there() or runner.poll() is not None, PATIENCE):
            self.wrong.append(f"never {self.instant}")
        time.sleep(self.delay)
        helpers = self._helpers()
        watchdog = self._watchdog(runner.pid)
        self.killed = time.time()
        who, _, number = self.ending.rpartition(" ")
        victims = {"runner": [runner.pid], "watchdog": watchdog, "helpers": helpers}
        for name in ("watchdog", "helpers", "runner"):
            for pid in victims[name] if name in who else ():
                try:
                    os.kill(pid, signal.Signals[number])
                except ProcessLookupError:
                    continue

    def _helpers(self) -> list[int]:
        drill = self._drill()
        found = process.find_by_environment("GAMEDAY_SANDBOX", drill.id) if drill else ()
        return [who.pid for who in found]

    def _watchdog(self, runner: int) -> list[int]:
        stats = (process.read_stat(pid) for pid in process.processes())
        ours = [stat.pid for stat in stats if stat is not None and stat.parent == runner]
        return [pid for pid in ours if b"gameday.drills.watchdog" in command(pid)]

    def _settle(self, runner: subprocess.Popen[bytes]) -> None:
        if not until(lambda: runner.poll() is not None, PATIENCE):
            self.wrong.append("the runner goes on")
        drill = self._drill()
        if drill is None:
            return
        if "runner and watchdog" in self.ending:
            recovered = self._start("recover")
            if recovered.wait(PATIENCE):
                self.wrong.append(f"recover ended with {recovered.returncode}")
        elif not until(lambda: not self._outstanding(drill), PATIENCE):
            self.wrong.append(f"outstanding: {self._outstanding(drill)}")
        until(lambda: not self._helpers() and not self._owned(drill), 10.0)
        if left := [*self._helpers(), *self._owned(drill)]:
            self.wrong.append(f"processes are left: {left}")
        read = read_undo_log(drill.undo, drill.recovery)
        by_watchdog = [each.wall for each in read.undone if each.by == "watchdog"]
        if self.ending.startswith("runner") and by_watchdog and "and watchdog" not in self.ending:
            self.undone_after = max(by_watchdog) - self.killed
            if self.undone_after > PROMISED:
                self.wrong.append(f"undone {self.undone_after:.2f} s after the kill")
        debrief = self._start("debrief", drill.id)
        if debrief.wait(PATIENCE):
            self.wrong.append(f"debrief ended with {debrief.returncode}")
        if b"Traceback" in (self.folder / "said.txt").read_bytes():
            self.wrong.append("a traceback was shown")

    @staticmethod
    def _outstanding(drill: DrillFolder) -> list[str]:
        return [each.id for each in read_undo_log(drill.undo, drill.recovery).outstanding]

    @staticmethod
    def _owned(drill: DrillFolder) -> list[int]:
        return [who.pid for who in process.find_by_environment("GAMEDAY_DRILL", drill.id)]


def until(condition: Callable[[], bool], within: float) -> bool:
    """Whether it came true in time."""
    deadline = time.monotonic() + within
    while not condition():
        if time.monotonic() > deadline:
            return False
        time.sleep(0.005)
    return True


def play_all(seeds: range) -> dict[str, Any]:
    """All of them, one after the other, and what came of it."""
    begun = time.monotonic()
    found = []
    with (
        engine() as where,
        tempfile.TemporaryDirectory(prefix="gameday-torture-") as folder,
        Containers(where, base_image(where), Path(folder)) as containers,
    ):
        containers.start_clock()
        containers.start("lone", 1)  # the only one of its service, so that it can be removed
        time.sleep(0.5)
        for seed in seeds:
            one = Drill(seed, containers, Path(folder)).play()
            found.append(one)
            if one["wrong"]:
                print(json.dumps(one), file=sys.stderr, flush=True)
    after = sorted(one["undone_after"] for one in found if one["undone_after"] is not None)
    return {
        "drills": len(found),
        "seconds": round(time.monotonic() - begun, 1),
        "faults": Counter(one["fault"] for one in found),
        "endings": Counter(one["ending"] for one in found),
        "instants": Counter(one["instant"] for one in found),
        "undone_by_watchdog": {
            "drills": len(after),
            "median": round(after[len(after) // 2], 2) if after else None,
            "most": round(after[-1], 2) if after else None,
        },
        "wrong": [one for one in found if one["wrong"]],
    }


def show(found: Mapping[str, Any]) -> str:
    """What came of it, for people."""
    watched = found["undone_by_watchdog"]
    lines = [
        f"{found['drills']} drills on Docker in {found['seconds'] / 60:.1f} min: {len(found['wrong'])} wrong",
        f"  undone by the watchdog {watched['drills']} times: {watched['median']} s in the median, "
        f"{watched['most']} s at most",
    ]
    lines += [f"  {json.dumps(one)}" for one in found["wrong"]]
    return "\n".join(lines)


def main(argv: list[str] | None = None) -> int:
    """0 if nothing was left of any of them."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--drills", type=int, default=60)
    parser.add_argument("--first", type=int, default=0)
    parser.add_argument("--json", action="store_true")
    given = parser.parse_args(argv)
    found = play_all(range(given.first, given.first + given.drills))
    print(json.dumps(found) if given.json else show(found))
    return int(bool(found["wrong"]))


if __name__ == "__main__":
    sys.exit(main())
