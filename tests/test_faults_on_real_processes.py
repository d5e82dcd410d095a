"""The ten faults on real processes: the laws again, and what is seen from outside."""

from __future__ import annotations

import os
import shlex
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager, suppress
from functools import partial
from http.client import HTTPConnection, HTTPException, RemoteDisconnected
from pathlib import Path
from random import Random
from typing import Any, TypeVar

import anyio
import pytest

from gameday.injectors import registry
from gameday.injectors.errors import Unsupported
from gameday.injectors.fault import Evidence, Fault, Injection, hits_links
from gameday.injectors.laws import LAWS, Law, Trial
from gameday.injectors.sandbox import process
from gameday.injectors.sandbox.attached import AttachedSandbox
from gameday.injectors.sandbox.kinds import KINDS
from gameday.injectors.sandbox.local.cluster import Cluster
from gameday.injectors.sandbox.local.driver import LocalSandbox
from gameday.injectors.undo import ProcessId, RestoreLimit, TearDown

pytestmark = [pytest.mark.sandbox, pytest.mark.timeout(180)]

T = TypeVar("T")

MIB = 1 << 20
SERVICE = {
    "command": ["{{ python }}", "{{ folder }}/service.py", "{{ port }}", "{{ data }}"],
    "health": {"http": "/health", "every": "100ms", "timeout": "2s", "start_within": "60s"},
}
CLUSTER = {
    "name": "little",
    "entry": "front",
    "disk": "8MiB",
    "services": {
        "front": SERVICE | {"links": ["back"]},
        "back": SERVICE | {"replicas": 2},
    },
}
PARAMETERS: dict[str, dict[str, object]] = {
    "process.crashloop": {"uptime": "300ms"},
    "cpu.burn": {"workers": 3},
    "net.latency": {"delay": "300ms", "jitter": "20ms"},
    "net.bandwidth": {"rate": "64kbit/s"},
    "net.loss": {"share": "10%"},
    "net.corrupt": {"share": "10%"},
    "net.duplicate": {"share": "10%"},
    "cpu.limit": {"cpus": 0.2},
    "memory.limit": {"size": "64MiB"},
    "file.corrupt": {"path": "/etc/hosts"},
    "file.deny": {"path": "/etc/hosts"},
    "clock.skew": {"offset": "1h"},
}


def run(call: Callable[..., Awaitable[T]], *args: Any) -> T:
    return anyio.run(call, *args)


@pytest.fixture(scope="module", params=["isolated", "plain"])
def box(
    tmp_path_factory: pytest.TempPathFactory, request: pytest.FixtureRequest
) -> Iterator[LocalSandbox]:
    """Three processes of a little HTTP service, with links from the front to both at the back.

    Plain: without namespaces and control groups, as where a machine does not give them.
    """
    folder = tmp_path_factory.mktemp("little")
    ref = LocalSandbox.plan_ref(folder, tag := f"gameday-test-{os.getpid()}")
    me = process.process_id(os.getpid())
    assert me is not None
    up = partial(
        LocalSandbox.up,
        Cluster.of(CLUSTER),
        ref,
        log_dir=folder,
        owners=[me],
        folder=Path(__file__).parent / "little",
        isolate=request.param == "isolated",
    )
    made = anyio.run(up)
    try:
        yield made
    finally:
        run(made.run_step, TearDown(tag))
    assert not process.find_by_environment("GAMEDAY_SANDBOX", tag)


def make(kind: str, **parameters: object) -> Fault:
    found = registry.fault_class(kind)
    target = {"link": "front->back-1"} if hits_links(found) else {"slot": "back-1"}
    given = {"target": target} | PARAMETERS.get(kind, {}) | parameters
    return found.of(given)


HERE = [
    kind
    for kind in registry.known_kinds()
    if set(registry.fault_class(kind).needs) <= KINDS["local"].parts
]


@pytest.fixture(params=HERE)
def fault(request: pytest.FixtureRequest, box: LocalSandbox) -> Fault:
    return make(request.param)


def refused(box: LocalSandbox, fault: Fault) -> bool:
    """Where the sandbox lacks what the fault needs, planning it says so; that is all it can do."""
    lacking = [part for part in fault.needs if part in box.lacks()]
    if not lacking:
        return False
    with pytest.raises(Unsupported, match=lacking[0]):
        run(fault.plan, box, Random(1))
    return True


@pytest.mark.parametrize("law", LAWS, ids=lambda law: law.__name__)
def test_real_processes_obey(law: Law, fault: Fault, box: LocalSandbox) -> None:
    if not refused(box, fault):
        run(law, Trial(box, fault, patience=30.0))


# What is seen from outside, by eyes that are not ours: /proc, sockets, and the service itself.


@contextmanager
def in_force(box: LocalSandbox, fault: Fault) -> Iterator[Injection]:
    """The fault is in force inside; put back after."""
    at_rest(box)
    trial = Trial(box, fault, patience=30.0)
    image = run(trial.image)
    ((injection, _),) = run(trial.inject)
    try:
        yield injection
    finally:
        run(trial.undo, [injection])
    run(trial.expect, image)
    at_rest(box)


def at_rest(box: LocalSandbox) -> None:
    """A process that was just started has to listen first."""
    until(lambda: get(box, "back-1", "/health") == (200, b"well"))


def until(true: Callable[[], bool], within: float = 30.0) -> None:
    """Wait until it is true."""
    deadline = time.monotonic() + within
    while not true():
        assert time.monotonic() < deadline, "it never came true"
        time.sleep(0.05)


def address(box: LocalSandbox, name: str) -> tuple[str, int]:
    """Where a slot listens, or the proxy of a link."""
    found = run(box.list_links) if "->" in name else run(box.list_slots)
    host, _, port = next(one.address for one in found if one.name == name).rpartition(":")
    return host, int(port)


def get(box: LocalSandbox, name: str, path: str, timeout: float = 10.0) -> tuple[int, bytes]:
    """Ask a slot, or through a link; (0, the error's name) if there is no answer."""
    connection = HTTPConnection(*address(box, name), timeout=timeout)
    try:
        connection.request("GET", path)
        answer = connection.getresponse()
        return answer.status, answer.read()
    except (OSError, HTTPException) as error:
        return 0, type(error).__name__.encode()
    finally:
        connection.close()


def took(box: LocalSandbox, name: str, path: str) -> float:
    begun = time.monotonic()
    status, _ = get(box, name, path)
    assert status == 200
    return time.monotonic() - begun


def filler(box: LocalSandbox, slot: str = "back-1") -> ProcessId | None:
    return run(box.processes.status, slot).process


def look(box: LocalSandbox, fault: Fault, injection: Injection) -> Evidence:
    return run(fault.look, box, injection)


def test_a_killed_process_is_gone(box: LocalSandbox) -> None:
    before = filler(box)
    assert before is not None
    with in_force(box, make("process.kill")):
        assert not Path(f"/proc/{before.pid}/stat").exists()
        assert get(box, "back-1", "/pid") == (0, b"ConnectionRefusedError")
        assert get(box, "back-2", "/health")[0] == 200
    assert filler(box) != before


def test_a_killed_process_that_was_replaced_meanwhile_is_not_our_doing(box: LocalSandbox) -> None:
    fault = make("process.kill")
    (injection,) = run(fault.plan, box, Random(1))
    anyio.run(partial(box.hands.restart, "back-1", by="fixer"))
    after = filler(box)
    with pytest.raises(Exception, match="no longer there"):
        run(fault.inject, box, injection)
    assert filler(box) == after


def test_a_paused_process_is_stopped_and_still_listens(box: LocalSandbox) -> None:
    at_rest(box)
    before, calls_itself = filler(box), get(box, "back-1", "/pid")
    assert before is not None
    with in_force(box, make("process.pause")):
        states = {
            Path(f"{task}/stat").read_text().rpartition(")")[2].split()[0]
            for task in Path(f"/proc/{before.pid}/task").iterdir()
        }
        assert states == {"T"}
        socket.create_connection(address(box, "back-1"), timeout=5).close()
        assert get(box, "back-1", "/pid", timeout=0.5) == (0, b"TimeoutError")
    assert filler(box) == before, "it is the same process that goes on"
    assert get(box, "back-1", "/pid") == calls_itself


def test_a_crash_loop_replaces_process_after_process(box: LocalSandbox) -> None:
    seen: set[ProcessId | None] = set()

    def three() -> bool:
        seen.add(filler(box))
        return len(seen - {None}) >= 3

    with in_force(box, make("process.crashloop", uptime="300ms")):
        until(three)
    last = filler(box)
    time.sleep(1.0)
    assert filler(box) == last, "the loop has ended"


@pytest.mark.alone
def test_a_burnt_process_shares_one_cpu(box: LocalSandbox) -> None:
    who = filler(box)
    assert who is not None
    free = os.sched_getaffinity(who.pid)
    with in_force(box, make("cpu.burn", workers=6)) as injection:
        (cpu,) = os.sched_getaffinity(who.pid)
        burners = run(box.cpu.helpers, injection.tag)
        assert len(burners) == 6
        assert all(os.sched_getaffinity(burner.pid) == {cpu} for burner in burners)
        assert share_of_a_cpu(box) < 0.5, "fair would be a seventh"
    assert os.sched_getaffinity(who.pid) == free
    assert not any(process.is_alive(burner) for burner in burners)


def share_of_a_cpu(box: LocalSandbox) -> float:
    """What the service gets while it computes; free of how busy the rest of the machine is."""
    had, took = get(box, "back-1", "/spin?times=2000000", timeout=60)[1].split()
    return float(had) / float(took)


def test_a_squeezed_process_gets_no_more_memory(box: LocalSandbox) -> None:
    assert get(box, "back-1", f"/allocate?bytes={128 * MIB}")[0] == 200
    with in_force(box, make("memory.hog", headroom="4MiB")) as injection:
        step = injection.undo[0]
        assert isinstance(step, RestoreLimit)
        status, body = get(box, "back-1", f"/allocate?bytes={128 * MIB}")
        if step.limit == "as":
            assert (status, body) == (507, b"MemoryError")
        else:
            assert status == 0, "the kernel ends it"
            evidence = look(box, make("memory.hog"), injection)
            assert evidence.in_force, "the limit waits for whoever comes next"
        assert get(box, "back-2", f"/allocate?bytes={128 * MIB}")[0] == 200, "nobody else is hit"
    until(lambda: get(box, "back-1", f"/allocate?bytes={128 * MIB}")[0] == 200)


def test_a_full_disk_takes_no_more(box: LocalSandbox) -> None:
    if refused(box, make("disk.fill")):
        return
    at_rest(box)
    assert get(box, "back-1", f"/write?bytes={MIB}") == (200, b"written")
    with in_force(box, make("disk.fill")):
        assert get(box, "back-1", f"/write?bytes={MIB}") == (507, b"ENOSPC")
        assert get(box, "back-2", f"/write?bytes={MIB}") == (200, b"written")
    assert get(box, "back-1", f"/write?bytes={MIB}") == (200, b"written")


def test_a_nearly_full_disk_takes_what_was_left(box: LocalSandbox) -> None:
    if refused(box, make("disk.fill")):
        return
    with in_force(box, make("disk.fill", leave="1MiB")):
        assert get(box, "back-1", f"/write?bytes={MIB // 2}") == (200, b"written")
        assert get(box, "back-1", f"/write?bytes={2 * MIB}") == (507, b"ENOSPC")


LINK = "front-1->back-1"


@pytest.mark.alone
@pytest.mark.short_form("plain")
def test_a_slow_link_is_slower_by_the_delay(box: LocalSandbox) -> None:
    before = min(took(box, LINK, "/health") for _ in range(5))
    with in_force(box, make("net.latency", delay="300ms", jitter="0s")):
        # Once on the way there, once on the way back, or both: see the proxy.
        assert min(took(box, LINK, "/health") for _ in range(5)) >= before + 0.25
        assert min(took(box, "front-1->back-2", "/health") for _ in range(5)) < 0.25
    assert min(took(box, LINK, "/health") for _ in range(5)) < 0.25


def test_an_open_connection_is_slowed_too(box: LocalSandbox) -> None:
    connection = HTTPConnection(*address(box, LINK), timeout=10)
    connection.request("GET", "/health")
    connection.getresponse().read()
    with in_force(box, make("net.latency", delay="300ms", jitter="0s")):
        begun = time.monotonic()
        connection.request("GET", "/health")
        connection.getresponse().read()
        assert time.monotonic() - begun >= 0.29
    connection.close()


def test_a_black_hole_answers_nothing_and_stays_open(box: LocalSandbox) -> None:
    with in_force(box, make("net.blackhole")):
        with socket.create_connection(address(box, LINK), timeout=1.0) as peer:
            peer.sendall(b"GET /health HTTP/1.1\r\nHost: x\r\n\r\n")
            with pytest.raises(TimeoutError):
                peer.recv(1)
        assert get(box, "front-1->back-2", "/health")[0] == 200
    assert get(box, LINK, "/health") == (200, b"well")


def drain(peer: socket.socket) -> None:
    while peer.recv(100):
        pass


def test_a_reset_link_resets(box: LocalSandbox) -> None:
    held = socket.create_connection(address(box, LINK), timeout=10.0)
    held.sendall(b"GET /health HTTP/1.1\r\nHost: x\r\n\r\n")
    assert held.recv(100).startswith(b"HTTP/1.1 200")
    with in_force(box, make("net.reset")):
        with pytest.raises(ConnectionResetError):
            drain(held)
        broken = {b"ConnectionResetError", RemoteDisconnected.__name__.encode()}
        assert get(box, LINK, "/health")[1] in broken
        assert get(box, "front-1->back-2", "/health")[0] == 200
    held.close()
    assert get(box, LINK, "/health") == (200, b"well")


@pytest.mark.alone
@pytest.mark.short_form("plain")
def test_a_narrow_link_lets_so_much_through(box: LocalSandbox) -> None:
    size = 16_000
    assert took(box, LINK, f"/payload?bytes={size}") < 0.9
    with in_force(box, make("net.bandwidth", rate="64kbit/s")):
        took_now = took(box, LINK, f"/payload?bytes={size}")
        assert took_now >= 0.6 * size * 8 / 64_000, "a burst may pass first, no more"
    assert took(box, LINK, f"/payload?bytes={size}") < 0.9


@pytest.mark.parametrize("kind", ["disk.fill", "net.latency", "cpu.burn"])
def test_an_injection_that_is_interrupted_is_undone_all_the_same(
    kind: str, box: LocalSandbox
) -> None:
    """Cut off at any moment of the injecting call, the undo leaves nothing behind."""
    fault = make(kind)
    if refused(box, fault):
        return
    trial = Trial(box, fault, patience=30.0)
    image = run(trial.image)

    async def cut_off(after: float) -> None:
        (injection,) = await trial.plan()
        with anyio.move_on_after(after):
            await fault.inject(box, injection)
        await trial.undo([injection])
        evidence = await trial.look_until(injection, lambda seen: not seen.in_force)
        assert not evidence.in_force, evidence.seen

    for after in (0.0, 0.001, 0.003, 0.01):
        run(cut_off, after)
        run(trial.expect, image)


def test_several_faults_at_once_come_off_in_any_order(box: LocalSandbox) -> None:
    kinds = ["cpu.burn", "memory.hog", "disk.fill", "net.latency", "net.bandwidth", "net.reset"]
    faults = [make(k) for k in kinds if not set(registry.fault_class(k).needs) & set(box.lacks())]
    trials = [Trial(box, fault, seed, patience=30.0) for seed, fault in enumerate(faults)]
    image = run(trials[0].image)
    for seed in range(3):
        done = [(trial, [i for i, _ in run(trial.inject)]) for trial in trials]
        Random(seed).shuffle(done)
        for trial, injections in done:
            run(trial.undo, injections)
        run(trials[0].expect, image)


def test_looking_from_many_sides_at_once_is_safe(box: LocalSandbox) -> None:
    """The runner, a console and a fixer's terminal look at the same moment."""
    fault = make("net.latency")
    problems: list[BaseException] = []

    def look_often() -> None:
        try:
            for _ in range(20):
                look(box, fault, injection)
        except BaseException as error:
            problems.append(error)

    with in_force(box, fault) as injection:
        threads = [threading.Thread(target=look_often) for _ in range(5)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert not problems


# Processes that are not ours, attached by name.


@pytest.fixture
def attached(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[AttachedSandbox]:
    """One little service that somebody else started, with the command that starts it again."""
    monkeypatch.setenv("LITTLE_SERVICE", mark := f"{os.getpid()}-{tmp_path.name}")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = str(free.getsockname()[1])
    script = Path(__file__).parent / "little" / "service.py"
    command = [sys.executable, str(script), port, str(tmp_path)]
    with (tmp_path / "log").open("wb") as log, subprocess.Popen(command, stdout=log, stderr=log):
        first = next(iter(process.find_by_environment("LITTLE_SERVICE", mark)))
        yield AttachedSandbox.attach(
            {"little": str(first.pid)}, {"little": shlex.join(command)}, log_dir=tmp_path
        )
        for who in process.find_by_environment("LITTLE_SERVICE", mark):
            process.signal_process(who, signal.SIGKILL)
            with suppress(ChildProcessError):
                os.waitpid(who.pid, 0)


@pytest.mark.parametrize("law", LAWS, ids=lambda law: law.__name__)
@pytest.mark.parametrize("kind", ["process.kill", "process.pause"])
def test_attached_processes_obey(kind: str, law: Law, attached: AttachedSandbox) -> None:
    fault = registry.fault_class(kind).of({"target": {"service": "little"}})
    run(law, Trial(attached, fault, patience=30.0))


@pytest.mark.parametrize(
    "kind", sorted({*registry.known_kinds()} - {"process.kill", "process.pause"})
)
def test_what_an_attached_process_cannot_have_is_refused(
    kind: str, attached: AttachedSandbox
) -> None:
    fault = make(kind)
    with pytest.raises(Unsupported, match="attached"):
        run(fault.plan, attached, Random(1))
