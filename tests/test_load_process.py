"""The load's process: a real Locust against a small server that counts for itself."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from random import Random

import anyio
import msgspec
import pytest

from gameday.drills.load import run_load
from gameday.drills.load_messages import Bucket, Order
from gameday.drills.pages import DrillPages
from gameday.drills.runner import Runner, Stage
from gameday.injectors.errors import SandboxError
from gameday.injectors.sandbox.fake import FakeSandbox
from gameday.scoring import events
from tests.simulation import MemoryJournal, MemoryUndo, _Prober, scenario

pytestmark = [pytest.mark.sandbox]

BOUNDS = (1, 2, 5, 10, 20, 50, 100, 200, 500, 1000, 2000, 5000)  # importing the worker patches
LOCUSTFILE = """
from locust import HttpUser, constant, task
print("locustfiles may print")
class Visitor(HttpUser):
    wait_time = constant(0.02)
    @task(3)
    def good(self):
        self.client.get("/good")
    @task
    def bad(self):
        self.client.get("/bad?n=1", name="/bad")
"""


class Server(ThreadingHTTPServer):
    daemon_threads = True

    def __init__(self) -> None:
        self.seen: Counter[str] = Counter()
        super().__init__(("127.0.0.1", 0), _Handler)

    @property
    def host(self) -> str:
        return f"http://127.0.0.1:{self.server_port}"


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: Server

    def do_GET(self) -> None:
        path = self.path.partition("?")[0]
        self.server.seen[path] += 1
        self.send_response(500 if path == "/bad" else 200)
        self.send_header("Content-Length", "2")
        self.end_headers()
        self.wfile.write(b"ok")

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - the base's name
        return


@pytest.fixture
def server() -> Iterator[Server]:
    server = Server()
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    yield server
    server.shutdown()
    thread.join()
    server.server_close()


def write(folder: Path, text: str = LOCUSTFILE) -> str:
    path = folder / "locustfile.py"
    path.write_text(text)
    return str(path)


def order(path: str, host: str, user: str = "") -> Order:
    return Order("browse", path, user, host, 3, 100.0)


def start(path: str, host: str) -> subprocess.Popen[bytes]:
    process = subprocess.Popen(
        [sys.executable, "-m", "gameday.drills.load_worker"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
    )
    assert process.stdin is not None
    process.stdin.write(msgspec.json.encode(order(path, host)) + b"\n")
    process.stdin.flush()
    return process


def wait_until(condition: object, within: float = 30.0) -> None:
    assert callable(condition)
    deadline = time.monotonic() + within
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.02)


def test_it_counts_exactly_and_ends_when_its_stdin_closes(server: Server, tmp_path: Path) -> None:
    process = start(write(tmp_path), server.host)
    wait_until(lambda: sum(server.seen.values()) > 60)
    out, _ = process.communicate(timeout=30)  # closes stdin, which is the order to end
    assert process.returncode == 0
    buckets = [msgspec.json.decode(line, type=Bucket) for line in out.splitlines()]
    counted: Counter[str] = Counter()
    for bucket in buckets:
        counted[bucket.endpoint.removeprefix("GET ")] += bucket.ok + bucket.failed
        assert sum(bucket.latency.values()) == bucket.ok + bucket.failed
        assert set(bucket.latency) <= {*map(str, BOUNDS), "inf"}
        assert bucket.start / 0.1 == pytest.approx(round(bucket.start / 0.1), abs=1e-3)
        assert (bucket.failed == 0) is (bucket.endpoint == "GET /good")
    # What was under way when it ended was seen by the server alone: at most one for each user.
    for path, seen in server.seen.items():
        assert 0 <= seen - counted[path] <= 3
    assert len({(bucket.start, bucket.endpoint) for bucket in buckets}) == len(buckets)
    errors = [error for bucket in buckets for error in bucket.errors.items()]
    assert len(errors) == 1
    assert "500" in errors[0][1]


def test_it_does_not_outlive_a_runner_that_is_killed(server: Server, tmp_path: Path) -> None:
    """Killed, a runner closes nothing by itself: the kernel does, and that is enough."""
    runner = subprocess.Popen(
        [
            sys.executable,
            "-c",
            "import subprocess, sys, time\n"
            "p = subprocess.Popen([sys.executable, '-m', 'gameday.drills.load_worker'],\n"
            "    stdin=subprocess.PIPE, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)\n"
            "p.stdin.write(sys.argv[1].encode() + b'\\n'); p.stdin.flush()\n"
            "print(p.pid, flush=True); time.sleep(60)\n",
            msgspec.json.encode(order(write(tmp_path), server.host)).decode(),
        ],
        stdout=subprocess.PIPE,
    )
    assert runner.stdout is not None
    worker = int(runner.stdout.readline())
    try:
        wait_until(lambda: server.seen)
        os.kill(runner.pid, signal.SIGKILL)
        wait_until(lambda: not Path(f"/proc/{worker}/cmdline").exists() or _is_zombie(worker))
    finally:
        runner.kill()
        runner.wait()
        runner.stdout.close()
        if Path(f"/proc/{worker}").exists() and not _is_zombie(worker):
            os.kill(worker, signal.SIGKILL)


def _is_zombie(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "Z"
    except OSError:
        return True


def test_the_runner_s_end_of_it(server: Server, tmp_path: Path) -> None:
    heard: list[events.LoadStarted | events.LoadBucket] = []
    pids: list[int] = []

    async def run() -> None:
        zero = time.monotonic()
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(
                run_load,
                order(write(tmp_path), server.host, "VISITOR"),
                tmp_path / "load.log",
                heard.append,
                lambda: time.monotonic() - zero,
                zero,
                pids.append,
            )
            with anyio.fail_after(30):
                while len(heard) < 5:  # noqa: ASYNC110 - a process tells, not a task
                    await anyio.sleep(0.02)
            tasks.cancel_scope.cancel()

    anyio.run(run)
    first, *rest = heard
    assert isinstance(first, events.LoadStarted)
    assert (first.journey, first.users) == ("browse", 3)
    assert all(isinstance(event, events.LoadBucket) and event.start <= event.at for event in rest)
    assert _is_zombie(pids[0]) or not Path(f"/proc/{pids[0]}").exists()
    assert "locustfiles may print" in (tmp_path / "load.log").read_text()


@pytest.mark.parametrize(
    ("text", "user", "said"),
    [
        ("def broken(:\n", "", "SyntaxError"),
        ("import nothing_of_that_name\n", "", "nothing_of_that_name"),
        ("x = 1\n", "", "no user class"),
        (LOCUSTFILE, "Nobody", "it has: Visitor"),
        ("import os, time\nos._exit(3)\n", "", "left no message"),
    ],
)
def test_a_broken_locustfile_aborts_the_drill_with_one_clear_message(
    text: str, user: str, said: str, tmp_path: Path
) -> None:
    wanted = order(write(tmp_path, text), "http://127.0.0.1:1", user)
    journal, log = MemoryJournal(), tmp_path / "load.log"

    async def run() -> str:
        zero = anyio.current_time()

        async def load(runner: Runner) -> None:
            await run_load(wanted, log, runner.emit, runner.now, zero, lambda pid: None)

        box = FakeSandbox({"gateway": 1}, drill="load")
        stage = Stage(
            box=box,
            journal=journal,
            undo=MemoryUndo(),
            pages=DrillPages("load", "SEV-3", [], lambda: 0.0),
            watchers={"load": load, "probe": _Prober("availability", box, Random(1)).run},
        )
        played = scenario(load={"journey": "browse", "users": 3}, hypotheses=[])
        return await Runner(played, stage, seed=1, zero=zero).run()

    assert anyio.run(run) == "aborted"
    (problem,) = [event for event in journal.events if isinstance(event, events.Problem)]
    assert "the load ended by itself" in problem.what
    assert said in problem.what
    assert "Traceback" not in problem.what
    assert str(log) in problem.what


def test_what_is_no_bucket_is_named(tmp_path: Path) -> None:
    """A locustfile that writes past its own output."""
    text = (
        "import os, stat\n"
        "for fd in range(3, 64):\n"
        "    try:\n"
        "        if stat.S_ISFIFO(os.fstat(fd).st_mode) or stat.S_ISSOCK(os.fstat(fd).st_mode):\n"
        "            os.write(fd, b'nonsense\\n')\n"
        "    except OSError:\n"
        "        pass\n"
        "from locust import HttpUser\n"
        "class Visitor(HttpUser):\n"
        "    tasks = []\n"
    )
    wanted = order(write(tmp_path, text), "http://127.0.0.1:1")

    async def run() -> None:
        with anyio.fail_after(60):
            await run_load(
                wanted, tmp_path / "l", lambda event: None, time.monotonic, 0.0, lambda pid: None
            )

    with pytest.raises(SandboxError, match="cannot be understood"):
        anyio.run(run)
