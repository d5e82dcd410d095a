"""The smallest drill, beside Chaos Toolkit and beside a bare script.

    python tests/benchmarks/bench_smallest.py [--rounds N] [--json]

All three do the same work on a process that runs already and is found by its command
line: check that it answers, kill it with SIGKILL, check again, start it again by a
given command. Then each leaves its report.

- gameday: ``gameday run`` with ``--attach`` and ``--restart``; journal, undo log with
  fsync, watchdog, the steady state after the undo, and the debrief in all its forms.
- chaos: an experiment with an HTTP probe as steady state, ``pkill -9`` as action, and the
  restart as rollback; its journal.
- bare: a script in our environment that imports every module that ``gameday run`` imports,
  does the same with our own client, and writes the same files with the same bytes. It
  keeps no undo log, waits for no disk, has no watchdog and computes no debrief.

Prints what falls short and ends with 0 also then.
"""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parent))

import peers
from peers import Promise, Way

SCENARIO = """\
apiVersion: gameday/v1
name: smallest
title: One process dies
duration: 30ms
stabilise: 10ms
sandbox: {{kind: attached}}
slis:
  available: {{address: "127.0.0.1:{port}", every: 10ms, over: 10ms, good: "status == 200"}}
steady_state: {{available: ">= 99%"}}
hypotheses:
  - {{id: stays-up, claim: It stays up., expect: "available >= 99%"}}
faults:
  - {{at: 0s, inject: process.kill, target: {{service: web}}}}
"""

BARE = """\
import json, sys
given = json.loads(open(sys.argv[1]).read())
for name in given["modules"]:
    try:
        __import__(name)
    except ImportError:
        pass
import os, re, signal, subprocess, time
import anyio
from pathlib import Path
from gameday.drills.http import HttpFailure, request
from gameday.injectors.sandbox import process
from gameday.injectors.sandbox.attached import _search

async def check():
    try:
        return (await request("GET", "127.0.0.1", given["port"], "/", timeout=2)).status == 200
    except HttpFailure:
        return False

async def work():
    assert await check()
    who = _search(given["search"])[0]
    os.kill(who.pid, signal.SIGKILL)
    while process.is_alive(who):
        await anyio.sleep(0.001)
    assert not await check()
    subprocess.Popen(given["restart"], start_new_session=True, stdin=subprocess.DEVNULL,
                     stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    while not await check():
        await anyio.sleep(0.01)

anyio.run(work)
folder = Path(f"bare-{os.getpid()}")
folder.mkdir()
for file in Path(given["like"]).iterdir():
    if file.is_file():
        (folder / file.name).write_bytes(file.read_bytes())
os._exit(0)
"""


def experiment(search: str, restart: list[str], port: int) -> dict[str, Any]:
    """The same for Chaos Toolkit."""
    check = {"type": "http", "url": f"http://127.0.0.1:{port}/", "timeout": 2}
    kill = {"type": "process", "path": "pkill", "arguments": ["-9", "-f", search]}
    start = {"type": "process", "path": restart[0], "arguments": [*restart[1:], "--detach"]}
    return {
        "version": "1.0.0",
        "title": "One process dies",
        "description": "It stays up.",
        "tags": [],
        "steady-state-hypothesis": {
            "title": "It stays up",
            "probes": [{"type": "probe", "name": "available", "tolerance": 200, "provider": check}],
        },
        "method": [{"type": "action", "name": "kill", "provider": kill}],
        "rollbacks": [{"type": "action", "name": "restart", "provider": start}],
    }


class Service:
    """The process that is killed; between two runs it is made sure that it runs."""

    def __init__(self, folder: Path, python: Path) -> None:
        with socket.create_server(("127.0.0.1", 0)) as free:
            self.port: int = free.getsockname()[1]
        self.script = folder / f"web-{self.port}.py"
        shutil.copy(Path(__file__).with_name("web.py"), self.script)
        self.restart = [str(python), "-I", "-S", str(self.script), str(self.port)]

    @property
    def search(self) -> str:
        """What finds it among all processes, and nothing else."""
        return f"{self.script.name} {self.port}"

    def ensure(self) -> None:
        """Return once it answers, a moment after that; start it if it does not run."""
        for attempt in range(200):
            if self._answers():
                time.sleep(0.05)
                return
            if attempt % 100 == 50:
                subprocess.run([*self.restart, "--detach"], check=False, capture_output=True)
            time.sleep(0.01)
        raise SystemExit("the service of this benchmark does not start")

    def _answers(self) -> bool:
        try:
            with socket.create_connection(("127.0.0.1", self.port), timeout=1) as end:
                end.sendall(b"GET / HTTP/1.1\r\n\r\n")
                return bool(end.recv(100))
        except OSError:
            return False

    @contextlib.contextmanager
    def running(self) -> Iterator[None]:
        """It runs inside the block, and not after it."""
        try:
            subprocess.run([*self.restart, "--detach"], check=True, capture_output=True)
            self.ensure()
            yield
        finally:
            subprocess.run(["pkill", "-9", "-f", self.search], check=False)


def modules(argv: list[str], python: Path, folder: Path) -> list[str]:
    """What the command imports, in its order."""
    found = subprocess.run(
        [python, "-X", "importtime", *argv], cwd=folder, capture_output=True, text=True
    )
    lines = [line for line in found.stderr.splitlines() if line.startswith("import time:")]
    names = [line.rpartition("|")[2].strip() for line in lines]
    return [name for name in names if not name.startswith(("_", "encodings", "site"))][1:]


def measure(both: peers.Peers, folder: Path, rounds: int) -> list[Promise]:
    """The three ways, interleaved."""
    service = Service(folder, both.python)
    attach = ["--attach", f"web={service.search}"]
    attach += ["--restart", f"web={' '.join(service.restart)}"]
    ours: list[str] = [str(both.gameday), "run", "smallest.yaml", "--quiet", *attach]
    theirs: list[str] = [str(both.chaos), "--no-version-check", "run", "smallest.json"]
    theirs += ["--rollback-strategy", "always"]
    (folder / "smallest.yaml").write_text(SCENARIO.format(port=service.port))
    described = experiment(service.search, service.restart, service.port)
    (folder / "smallest.json").write_text(json.dumps(described, indent=2))
    (folder / "bare.py").write_text(BARE)

    def run(argv: list[str], codes: tuple[int, ...]) -> float:
        service.ensure()
        return peers.timed(argv, folder, codes=codes)

    with service.running():
        # Its hypothesis is refuted; on a machine too busy to measure, inconclusive.
        gameday = Way("gameday", lambda: run(ours, (1, 3)))
        chaos = Way("chaos", lambda: run(theirs, (1,)))
        imported = modules(ours, both.python, folder)
        like = max((folder / ".gameday" / "drills").iterdir(), key=os.path.getmtime)
        given = {
            "modules": imported,
            "port": service.port,
            "search": service.search,
            "restart": service.restart,
            "like": str(like),
        }
        (folder / "bare.json").write_text(json.dumps(given))
        bare = Way("bare", lambda: run([str(both.python), "bare.py", "bare.json"], (0,)))
        peers.interleave([gameday, chaos, bare], rounds)
    return [
        Promise("beside chaos run", gameday, chaos, 1.5),
        Promise("beside a bare script", gameday, bare, 1.3),
    ]


def main(argv: list[str] | None = None) -> int:
    """Measure and tell; 0 whatever came out."""
    given = peers.arguments(__doc__, argv)
    both = peers.install()
    with tempfile.TemporaryDirectory(prefix="gameday-bench-") as folder:
        promises = measure(both, Path(folder), given.rounds)
    found = peers.result("The smallest drill", promises, both, given.rounds)
    print(json.dumps(found, indent=2) if given.json else peers.show(found))
    return 0


if __name__ == "__main__":
    sys.exit(main())
