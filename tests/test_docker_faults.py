"""The faults on a real Docker Engine: the laws again, and what is seen from outside."""

from __future__ import annotations

import base64
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path
from random import Random
from typing import Any, TypeVar

import anyio
import pytest

from gameday.drills.fingerprint import difference
from gameday.injectors import registry
from gameday.injectors.errors import SandboxError, UsageError
from gameday.injectors.fault import Fault, hits_links
from gameday.injectors.laws import LAWS, Law, Trial
from gameday.injectors.sandbox import process
from gameday.injectors.sandbox.docker import limits
from gameday.injectors.sandbox.docker.compose import Compose
from gameday.injectors.sandbox.docker.driver import DockerSandbox
from gameday.injectors.sandbox.kinds import KINDS, by_hand
from gameday.injectors.undo import (
    AllowFile,
    CreateContainer,
    Outcome,
    ProcessId,
    RestoreClock,
    RestoreFile,
    StartSlot,
)
from tests.engine import CLOCK, CLOCK_SET, compose
from tests.namespaces import no_packet_queue

pytestmark = [pytest.mark.docker, pytest.mark.timeout(180)]

T = TypeVar("T")

LABEL = "gameday.test"
FILE = "/etc/debian_version"
PARAMETERS: dict[str, dict[str, object]] = {
    "process.crashloop": {"uptime": "300ms"},
    "cpu.burn": {"workers": 3},
    "disk.fill": {"leave": "64KiB"},
    "net.latency": {"delay": "50ms"},
    "net.bandwidth": {"rate": "1Mbit/s"},
    "net.loss": {"share": "10%"},
    "net.corrupt": {"share": "10%"},
    "net.duplicate": {"share": "10%"},
    "cpu.limit": {"cpus": 0.2},
    "memory.limit": {"size": "64MiB"},
    "container.stop": {"grace": "2s"},
    "file.corrupt": {"path": FILE},
    "file.deny": {"path": FILE},
    "clock.skew": {"offset": "1h"},
}
ONLY_OURS = CreateContainer | RestoreFile | AllowFile | RestoreClock
KINDS_HERE = [
    kind
    for kind in registry.known_kinds()
    if set(registry.fault_class(kind).needs) <= KINDS["docker"].parts
]
OF_EACH_MAKE = {
    *("process.kill", "cpu.burn", "net.latency", "container.remove", "file.corrupt"),
    "clock.skew",
}
"""Faults that are put back each in another way; `make acceptance` plays the others."""
EVERY_KIND = [
    pytest.param(kind, marks=() if kind in OF_EACH_MAKE else pytest.mark.acceptance)
    for kind in KINDS_HERE
]


CLOCK_PROGRAM = """
import asyncio, select, threading, time

async def never():
    try:
        await asyncio.wait_for(asyncio.Event().wait(), 0.05)
    except asyncio.TimeoutError:
        pass

waits = (
    lambda: time.sleep(0.05),
    lambda: select.select([], [], [], 0.05),
    lambda: threading.Event().wait(0.05),
    lambda: asyncio.run(never()),
)
while True:
    for number, wait in enumerate(waits):
        begun = time.monotonic()
        wait()
        ended = time.monotonic()
        print(time.time(), ended, number, ended - begun, flush=True)
"""
"""Tells the time, and how long it waited for a twentieth of a second, each time in another way."""


def run(call: Callable[..., Awaitable[T]], *args: Any) -> T:
    return anyio.run(call, *args)


def flat(found: Any, path: str = "") -> Iterator[tuple[str, Any]]:
    """Each value by its path, so that a difference can be read."""
    if isinstance(found, dict | list) and found:
        for key, value in found.items() if isinstance(found, dict) else enumerate(found):
            yield from flat(value, f"{path}/{key}")
    else:
        yield path, found


class Containers:
    """A front and two backs, as somebody starts them who has no Compose."""

    def __init__(self, where: dict[str, str], image: str, folder: Path) -> None:
        self.where = where
        self.mark = f"{LABEL}={os.getpid()}"
        self.network = f"gameday-test-{os.getpid()}"
        self.image = image
        self.folder = folder
        self.names: list[str] = []
        source = Path(__file__).parent / "little"
        self.command: tuple[str, ...] = ("python3", "/little/service.py", "8000", "/data")
        self.options: tuple[str, ...] = ("--init", "--volume", f"{source}:/little:ro")

    def docker(self, *words: str) -> str:
        done = subprocess.run(
            ["docker", *words],
            env=os.environ | self.where,
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 0, (words, done.stderr)
        return done.stdout.strip()

    def start(
        self,
        service: str,
        number: int,
        *words: str,
        opted_in: bool = True,
        command: tuple[str, ...] = (),
        network: str = "",
    ) -> str:
        name = f"{self.network}-{service}-{number}"
        labels = [f"gameday.service={service}", self.mark, "gameday.data=/data"]
        if opted_in:
            labels.append("gameday.sandbox=true")
        self.docker(
            *("run", "--detach", "--env", "HOST=0.0.0.0", "--name", name),
            *("--network", network or self.network, "--tmpfs", "/data:size=8m", *self.options),
            *(part for label in labels for part in ("--label", label)),
            *(*words, self.image, *(command or self.command)),
        )
        self.names.append(name)
        return name

    def start_clock(
        self, service: str = "clock", *words: str, program: str = CLOCK_PROGRAM, **other: str
    ) -> str:
        """A program that lets its clock be set; ``other`` variables, none where they are empty."""
        given = {name: value for name, value in (CLOCK_SET | other).items() if value}
        variables = (part for name in given for part in ("--env", f"{name}={given[name]}"))
        return self.start(service, 1, *variables, *words, command=("python3", "-c", program))

    def __enter__(self) -> Containers:
        self.docker("network", "create", self.network)
        self.start("front", 1, "--label", "gameday.links=back")
        self.start("back", 1, "--label", "gameday.links=")
        self.start("back", 2, "--label", "gameday.links=")
        return self

    def __exit__(self, *exc: object) -> None:
        self.docker("rm", "--force", "--volumes", *self.names)
        self.docker("network", "rm", self.network)

    def inspected(self) -> Any:
        """All that the engine says of the containers and their network, identity apart."""
        text = self.docker("inspect", *self.names)
        for one in json.loads(text):
            text = text.replace(one["Id"], "id").replace(one["Id"][:12], "id")
        found = json.loads(text)
        for one in found:
            for key in ("Created", "GraphDriver"):
                one.pop(key)
            one["Mounts"].sort(key=lambda mount: str(mount["Destination"]))
            for key in ("Pid", "StartedAt", "FinishedAt", "ExitCode", "Error", "Health"):
                one["State"].pop(key, None)
            one["NetworkSettings"].pop("SandboxID")
            one["NetworkSettings"].pop("SandboxKey")
            for network in one["NetworkSettings"]["Networks"].values():
                for key in ("EndpointID", "IPAddress", "MacAddress"):
                    network.pop(key)
        return dict(flat(found))


@pytest.fixture(scope="module")
def containers(
    docker: dict[str, str], base_image: str, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Containers]:
    with Containers(docker, base_image, tmp_path_factory.mktemp("docker")) as made:
        made.start_clock()
        yield made


@pytest.fixture(scope="module")
def box(containers: Containers) -> DockerSandbox:
    """The sandbox, attached by a label."""
    return attach(containers)


def attach(containers: Containers) -> DockerSandbox:
    ref = DockerSandbox.plan_ref(
        f"gameday-test-{os.getpid()}",
        label=containers.mark,
        deeds=containers.folder / "deeds.jsonl",
        where=containers.where,
    )
    made = run(DockerSandbox.connect, ref)
    me = process.process_id(os.getpid())
    assert me is not None
    made.owners = (me,)
    return made


def make(kind: str, **parameters: object) -> Fault:
    found = registry.fault_class(kind)
    # Without Compose, which of two backs it is depends on the other: only the front can be removed.
    slot = {"container.remove": "front-1", "clock.skew": "clock-1"}.get(kind, "back-1")
    target = {"link": "front->back-1"} if hits_links(found) else {"slot": slot}
    given = {"target": target} | PARAMETERS.get(kind, {}) | parameters
    return found.of(given)


@pytest.mark.parametrize("kind", EVERY_KIND)
@pytest.mark.parametrize("law", LAWS, ids=lambda law: law.__name__)
def test_containers_obey(law: Law, kind: str, box: DockerSandbox, containers: Containers) -> None:
    before = containers.inspected()
    run(law, Trial(box, make(kind), patience=30.0, places=(f"back-1:{FILE}", f"clock-1:{CLOCK}")))
    assert containers.inspected() == before
    assert not process.find_by_environment("GAMEDAY_SANDBOX", box.tag)


@pytest.mark.acceptance
@pytest.mark.parametrize("law", LAWS, ids=lambda law: law.__name__)
def test_latency_obeys_without_a_packet_queue(
    law: Law, box: DockerSandbox, containers: Containers
) -> None:
    front = run(box.find, "front-1")
    assert front is not None
    assert front.process is not None
    with no_packet_queue(front.process.pid):
        test_containers_obey(law, "net.latency", box, containers)


def test_what_is_being_killed_is_started_anew(box: DockerSandbox) -> None:
    """Though the engine may say yet that it runs, and would do nothing."""

    async def killed(delay: float) -> None:
        container = await box.find("back-1")
        assert container is not None
        assert container.process is not None
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(box.signal, container, signal.SIGKILL)
            await anyio.sleep(delay)
            done = await box.run_step(StartSlot("back-1", container.process))
        again = await box.find("back-1")
        assert done.outcome is Outcome.PUT_BACK, (delay, done)
        assert again is not None
        assert again.process not in (None, container.process), (
            delay,
            done,
            again.inspected["State"],
        )

    for delay in (0.0, 0.005, 0.01, 0.015, 0.02, 0.03, 0.05, 0.1):
        run(killed, delay)


def test_what_was_told_to_stop_and_has_not_yet_ends_with_the_undo(
    box: DockerSandbox, containers: Containers
) -> None:
    """Else the engine would end it once its grace is over, when everything has been put back."""
    deaf = ("sh", "-c", "trap '' TERM; while :; do sleep 0.1; done")
    name = containers.start("stubborn", 1, command=deaf)

    async def stopped_in_vain() -> None:
        fault = make("container.stop", target={"slot": "stubborn-1"}, grace="3s")
        (injection,) = await fault.plan(box, Random(1))
        with anyio.move_on_after(0.5):
            await fault.inject(box, injection)
        (step,) = injection.undo
        done = await box.run_step(step)
        assert done.outcome is Outcome.PUT_BACK, done
        after = await box.find("stubborn-1")
        await anyio.sleep(4.0)
        later = await box.find("stubborn-1")
        assert after is not None
        assert later is not None
        assert injection.before != after.process == later.process is not None
        assert (await box.run_step(step)).outcome is Outcome.NOTHING

    try:
        run(stopped_in_vain)
    finally:
        containers.docker("rm", "--force", "--volumes", name)
        containers.names.remove(name)


def test_what_has_ended_is_started_anew_though_the_engine_has_not_heard_of_it(
    box: DockerSandbox, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def ended() -> None:
        container = await box.find("back-1")
        assert container is not None
        assert container.process is not None
        stat = Path(f"/proc/{container.process.pid}/stat").read_text()
        tells = int(stat.rpartition(")")[2].split()[1])  # its parent: it tells the engine
        os.kill(tells, signal.SIGSTOP)
        try:
            os.kill(container.process.pid, signal.SIGKILL)
            with monkeypatch.context() as hasty:
                hasty.setattr(process, "DIES_WITHIN", 0.2)
                with pytest.raises(SandboxError, match="back-1 was killed, and has not ended yet"):
                    await box.run_step(StartSlot("back-1", container.process))
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(_later, 0.5, os.kill, tells, signal.SIGCONT)
                done = await box.run_step(StartSlot("back-1", container.process))
        finally:
            os.kill(tells, signal.SIGCONT)
        again = await box.find("back-1")
        assert done.outcome is Outcome.PUT_BACK, done
        assert again is not None
        assert again.process not in (None, container.process)

    run(ended)


@pytest.mark.parametrize(("lasts", "waits"), [(0.6, True), (30.0, False)])
def test_a_pause_waits_for_a_health_check_to_end_but_not_for_long(
    lasts: float, waits: bool, box: DockerSandbox, containers: Containers
) -> None:
    """An engine that is starting one is not heard before the check's time is over."""
    name = next(name for name in containers.names if name.endswith("back-1"))
    check = subprocess.Popen(
        ["docker", "exec", name, "sh", "-c", f"echo; exec sleep {lasts}"],
        env=os.environ | containers.where,
        stdout=subprocess.PIPE,
    )
    assert check.stdout is not None
    check.stdout.readline()

    async def pause() -> float:
        container = await box.find("back-1")
        assert container is not None
        began = time.monotonic()
        await box.signal(container, signal.SIGSTOP)
        paused = time.monotonic() - began
        await box.signal(container, signal.SIGCONT)
        return paused

    try:
        paused = run(pause)
        assert paused < 3
        assert (check.poll() is not None) is waits
        assert paused > (lasts if waits else 1.0) - 0.2
    finally:
        if not waits:
            containers.docker("exec", name, "pkill", "sleep")
        check.communicate()


async def _later(delay: float, call: Callable[..., object], *args: object) -> None:
    await anyio.sleep(delay)
    call(*args)


@pytest.mark.parametrize("kind", EVERY_KIND)
def test_what_is_printed_to_be_done_by_hand_undoes_it(
    kind: str, box: DockerSandbox, containers: Containers
) -> None:
    """Pasted into a shell, with the engine's client and, for a link, with Gameday's own."""
    undo_by_hand(make(kind), box, containers)


def undo_by_hand(fault: Fault, box: DockerSandbox, containers: Containers) -> None:
    shell = os.environ | containers.where
    shell["PATH"] = f"{Path(sys.executable).parent}:{shell['PATH']}"
    trial = Trial(box, fault, patience=30.0)
    image = run(trial.image)
    ((injection, _),) = run(trial.inject)
    for step in injection.undo:
        if isinstance(step, ONLY_OURS):  # `gameday recover` alone knows what it was
            assert by_hand(step, box.ref) == "gameday recover"
            run(box.run_step, step)
            continue
        done = subprocess.run(
            ["bash", "-c", by_hand(step, box.ref)],
            env=shell,
            capture_output=True,
            text=True,
        )
        assert done.returncode == 0, (by_hand(step, box.ref), done.stdout, done.stderr)
    run(trial.expect, image)


COMPOSED = """\
services:
  db:
    image: {image}
    init: true
    command: [sleep, "600"]
    labels: {{gameday.sandbox: "true"}}
  api:
    image: {image}
    init: true
    command: [sh, -c, "sleep 600 # --password hunter2"]
    environment: {{DB_PASSWORD: {password}, COLOUR: blue}}
    labels: {{gameday.sandbox: "true"}}
    depends_on: [db]
"""


def test_a_change_of_the_environment_is_found_and_not_shown(
    containers: Containers, base_image: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What Compose notes of a container that it makes anew is no change."""
    monkeypatch.setenv("PATH", compose())
    file, project = tmp_path / "compose.yaml", f"gameday-env-{os.getpid()}"
    ref = DockerSandbox.plan_ref(project, project=project, where=containers.where)

    def say(*words: str) -> None:
        of = (*Compose.command(), "--project-name", project, "--file", str(file))
        where = os.environ | containers.where
        done = subprocess.run([*of, *words], env=where, capture_output=True, text=True)
        assert done.returncode == 0, done.stderr

    def up(password: str, *words: str) -> dict[str, str]:
        file.write_text(COMPOSED.format(image=base_image, password=password))
        say("up", "--detach", *words)
        return dict(run(box.fingerprint, "api-1"))

    box = run(DockerSandbox.connect, ref)
    try:
        before = up("hunter2")
        assert "DB_PASSWORD" in before["environment"]
        assert "hunter2" not in repr(before)
        found = run(box.find, "api-1")
        assert up("hunter2", "--force-recreate") == before
        assert run(box.find, "api-1").id != found.id
        after = up("hunter3")
        assert {key for key in before | after if before.get(key) != after.get(key)} == {
            "values of the environment"
        }
        assert "hunter" not in repr(after)
        containers.docker("rm", "--force", run(box.find, "api-1").id)
        told = run(difference, box, "api-1", before, lambda: 0.0)
        assert told == "the container is gone"
        told = run(difference, box, "api-1:/etc/hosts", {"file": "1 bytes"}, lambda: 0.0)
        assert told == "the container is gone"
    finally:
        say("down", "--timeout", "0")


def test_a_removed_container_comes_back_whole(
    box: DockerSandbox, containers: Containers, docker: dict[str, str]
) -> None:
    """With addresses, aliases, volumes with and without a name, and what is in them."""
    second = f"{containers.network}-second"
    containers.docker("network", "create", "--subnet", "10.123.45.0/24", second)
    name = containers.start(
        *("odd", 1, "--network-alias", "curious", "--volume", "/nameless"),
        *("--mount", "type=volume,target=/unnamed"),  # as Compose says it
        *("--volume", f"{second}:/named", "--env", "SECRET=swordfish", "--memory", "64m"),
    )
    try:
        containers.docker(
            *("network", "connect", "--ip", "10.123.45.67", "--alias", "other", second, name)
        )
        for folder in ("nameless", "unnamed", "named"):
            containers.docker("exec", name, "sh", "-c", f"echo kept > /{folder}/file")
        before = containers.inspected()
        trial = Trial(box, make("container.remove", target={"slot": "odd-1"}), patience=30.0)
        image = run(trial.image)
        ((injection, _),) = run(trial.inject)
        assert name not in containers.docker("ps", "--all", "--format", "{{.Names}}").split()
        assert "swordfish" not in repr(injection)  # it stays in a file of the drill alone
        assert "swordfish" not in repr(image)  # which is what undo.jsonl holds of before
        (kept,) = (containers.folder / "containers").iterdir()
        assert "swordfish" in kept.read_text()
        assert kept.stat().st_mode & 0o077 == 0
        assert kept.parent.stat().st_mode & 0o077 == 0
        (done,) = run(trial.undo, [injection])
        assert done.outcome is Outcome.PUT_BACK
        assert not kept.exists()
        run(trial.expect, image)
        after = containers.inspected()
        changed = {path for path in before | after if before.get(path) != after.get(path)}
        # A volume without a name has to be named to be had again; no option is not an empty one.
        how = (
            "/HostConfig/Binds/2",
            "/Mounts/2/Mode",
            "/HostConfig/Mounts/0/Source",
            "/DriverOpts",
        )
        assert all(path.endswith(how) for path in changed), changed
        for folder in ("nameless", "unnamed", "named"):
            assert containers.docker("exec", name, "cat", f"/{folder}/file") == "kept"
        ((injection, _),) = run(trial.inject)
        containers.names.remove(name)
        containers.start("odd", 1)  # somebody makes another one there
        (done,) = run(trial.undo, [injection])
        assert done.outcome is Outcome.TAKEN_OVER
        assert not kept.exists()
    finally:
        containers.docker("rm", "--force", "--volumes", name)
        containers.docker("network", "rm", second)
        containers.docker("volume", "rm", "--force", second)
        containers.names.remove(name)


@pytest.mark.parametrize(
    ("since", "outcome"),
    [
        ("true", Outcome.PUT_BACK),
        ("chmod 600 {path}", Outcome.PUT_BACK),
        ("echo more >> {path}", Outcome.PUT_BACK),
        ("tr a-z A-Z < /etc/passwd > {path}", Outcome.TAKEN_OVER),
        ("rm {path}", Outcome.TAKEN_OVER),
        ("kill 1", Outcome.PUT_BACK),
    ],
)
def test_a_corrupt_file_is_put_back_whatever_became_of_it(
    since: str, outcome: Outcome, box: DockerSandbox, containers: Containers
) -> None:
    """Exactly what we overwrote, and nothing that others wrote; also where no process runs any more."""
    _, back, *_ = containers.names
    path = "/var/data.bin"
    since = since.format(path=path)

    def look() -> bytes:
        text = containers.docker("exec", back, "sh", "-c", f"base64 -w0 {path} || true")
        return base64.b64decode(text)

    containers.docker("exec", back, "sh", "-c", f"seq 1 20000 > {path}")
    whole = look()
    trial = Trial(box, make("file.corrupt", path=path, blocks=8), patience=30.0)
    ((injection, seen),) = run(trial.inject)
    assert seen.seen.startswith("8 places")
    assert whole not in look()
    if since == "kill 1":
        containers.docker("kill", back)
    else:
        containers.docker("exec", back, "sh", "-c", since)
    others = look() if outcome is Outcome.TAKEN_OVER else None
    (done,) = run(trial.undo, [injection])
    assert done.outcome is outcome, done
    if since == "kill 1":
        containers.docker("start", back)
    mended = whole + b"more\n" if "more" in since else whole
    assert look() == (mended if others is None else others)
    assert not list((containers.folder / "files").iterdir())
    containers.docker("exec", back, "rm", "-f", path)


def test_a_denied_file_is_denied_to_root_too(box: DockerSandbox, containers: Containers) -> None:
    _, back, *_ = containers.names
    trial = Trial(box, make("file.deny"), patience=30.0)
    text = containers.docker("exec", back, "cat", FILE)
    ((injection, _),) = run(trial.inject)
    done = subprocess.run(
        ["docker", "exec", back, "cat", FILE],
        env=os.environ | containers.where,
        capture_output=True,
        text=True,
    )
    assert "Permission denied" in done.stderr
    run(trial.undo, [injection])
    assert containers.docker("exec", back, "cat", FILE) == text
    with pytest.raises(UsageError, match="has no file /no/such"):
        run(Trial(box, make("file.deny", path="/no/such")).plan)
    with pytest.raises(UsageError, match="is no plain file"):
        run(Trial(box, make("file.deny", path="/etc")).plan)


def test_a_limit_below_what_is_used_is_told(box: DockerSandbox) -> None:
    trial = Trial(box, make("memory.limit", size="4MiB"), patience=30.0)
    image = run(trial.image)
    (injection,) = run(trial.plan)
    with pytest.raises(SandboxError, match=r"uses .* of memory, and cannot do with 4 MiB"):
        run(trial.fault.inject, box, injection)
    run(trial.undo, [injection])
    run(trial.expect, image)


def test_a_limit_below_what_is_used_is_told_where_the_kernel_would_kill_for_it(
    tmp_path: Path,
) -> None:
    """By version 2 of control groups, of which these are the files."""
    mib = 1 << 20
    kept = f"anon {30 * mib}\nfile {500 * mib}\nshmem {2 * mib}\npagetables {mib}\npgfault 7\n"
    (tmp_path / "memory.stat").write_text(kept)
    (tmp_path / "memory.max").write_text("max\n")
    with pytest.raises(SandboxError, match=r"back-1 uses 33 MiB of memory, .* with 32 MiB"):
        limits.write_memory(tmp_path, 2, 32 * mib, "back-1")
    assert (tmp_path / "memory.max").read_text() == "max\n"
    limits.write_memory(tmp_path, 2, 40 * mib, "back-1")
    assert (tmp_path / "memory.max").read_text() == str(40 * mib)


# What is seen from outside: packets, counted and timed by programs that know nothing of us.

PEER = """
import socket, threading
u = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
u.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1 << 24)
u.bind(("0.0.0.0", 9000))
count = 0
def datagrams():
    global count
    while True:
        data, sender = u.recvfrom(2000)
        if data == b"echo":
            u.sendto(data, sender)
        elif data == b"count":
            u.sendto(str(count).encode(), sender)
        else:
            count += 1
threading.Thread(target=datagrams, daemon=True).start()
server = socket.create_server(("0.0.0.0", 9001))
while True:
    client, _ = server.accept()
    buffer = bytearray(1 << 16)
    while client.recv_into(buffer):
        pass
    client.sendall(b"x")
    client.close()
"""
MEASURE = """
import socket, statistics, sys, time
peer, what = sys.argv[1], sys.argv[2]
u = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
u.settimeout(1.0)

def ask(word):
    for _ in range(100):
        try:
            u.sendto(word, (peer, 9000))
            return u.recv(100)
        except (PermissionError, TimeoutError):
            pass  # lost

if what == "loss":
    before = int(ask(b"count"))
    for number in range(20000):
        try:
            u.sendto(b"packet", (peer, 9000))
        except PermissionError:
            pass  # how the kernel tells a sender of datagrams that one was dropped on its way out
        if number % 50 == 0:
            time.sleep(0.002)
    time.sleep(0.5)
    print(1 - (int(ask(b"count")) - before) / 20000)
elif what == "delay":
    found = []
    for _ in range(50):
        begun = time.perf_counter()
        ask(b"echo")
        found.append(time.perf_counter() - begun)
        time.sleep(0.01)
    print(statistics.median(found))
else:
    with socket.create_connection((peer, 9001)) as stream:
        begun = time.perf_counter()
        stream.sendall(bytes(500000))
        stream.shutdown(socket.SHUT_WR)
        stream.recv(1)
        print(500000 * 8 / (time.perf_counter() - begun))
"""


@pytest.mark.alone
@pytest.mark.parametrize(
    ("kind", "given", "what", "asked"),
    [
        ("net.latency", {"delay": "50ms"}, "delay", 0.05),
        ("net.loss", {"share": "10%"}, "loss", 0.1),
        ("net.bandwidth", {"rate": "1Mbit/s"}, "rate", 1e6),
    ],
)
def test_what_was_asked_is_what_is_measured(
    kind: str,
    given: dict[str, object],
    what: str,
    asked: float,
    box: DockerSandbox,
    containers: Containers,
) -> None:
    front, back, *_ = containers.names
    containers.docker("exec", "--detach", back, "python3", "-c", PEER)
    container = run(box.find, "back-1")
    assert container is not None
    address, *_ = container.addresses[containers.network]

    def measure() -> float:
        return float(containers.docker("exec", front, "python3", "-c", MEASURE, address, what))

    time.sleep(0.5)
    assert not asked * 0.5 < measure() < asked * 2
    trial = Trial(box, make(kind, **given), patience=30.0)
    ((injection, _),) = run(trial.inject)
    try:
        assert measure() == pytest.approx(asked, rel=0.1)
    finally:
        run(trial.undo, [injection])
    assert not asked * 0.5 < measure() < asked * 2


@pytest.mark.alone
def test_a_burner_counts_as_one_of_many(
    box: DockerSandbox, containers: Containers, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Three burners leave a busy container a quarter of its CPU, as they would on a local sandbox."""
    monkeypatch.setattr(containers, "command", ("python3", "-c", "while True: pass"))
    name = containers.start("busy", 1)
    try:
        fault = make("cpu.burn", target={"slot": "busy-1"})
        trial = Trial(box, fault, patience=30.0)
        ((injection, _),) = run(trial.inject)
        container = run(box.find, "busy-1")
        assert container is not None
        assert container.process is not None
        main = process.tree(container.process)
        burners = run(box.cpu.helpers, injection.tag)

        def used() -> tuple[int, int]:
            return sum(map(ticks, main)), sum(map(ticks, burners))

        mine, theirs = used()
        time.sleep(4)
        mine, theirs = (now - before for now, before in zip(used(), (mine, theirs), strict=True))
        run(trial.undo, [injection])
        assert mine / (mine + theirs) == pytest.approx(0.25, abs=0.08)
        assert not [path for path, _, _ in os.walk("/sys/fs/cgroup") if injection.tag in path]
    finally:
        containers.docker("rm", "--force", name)
        containers.names.remove(name)


def ticks(who: ProcessId) -> int:
    """CPU time that a process has used."""
    fields = Path(f"/proc/{who.pid}/stat").read_text().rpartition(")")[2].split()
    return int(fields[11]) + int(fields[12])


@pytest.mark.parametrize("kind", ["net.latency", "process.crashloop", "cpu.burn"])
def test_a_helper_ends_when_its_drill_is_gone(kind: str, containers: Containers) -> None:
    """Runner and watchdog dead, nobody to undo: what needs a helper ends by itself."""
    ref = DockerSandbox.plan_ref("orphan", label=containers.mark, where=containers.where)
    owner = subprocess.Popen(["sleep", "60"])
    who = process.process_id(owner.pid)
    assert who is not None
    made = run(DockerSandbox.connect, ref)
    made.owners = (who,)
    trial = Trial(made, make(kind), patience=30.0)
    image = run(trial.image)
    ((injection, _),) = run(trial.inject)
    assert process.find_by_environment("GAMEDAY_SANDBOX", "orphan")
    owner.kill()
    owner.wait()
    deadline = time.monotonic() + 5
    while process.find_by_environment("GAMEDAY_SANDBOX", "orphan"):
        assert time.monotonic() < deadline
        time.sleep(0.05)
    evidence = run(trial.fault.look, made, injection)
    assert not evidence.in_force
    run(trial.undo, [injection])
    run(trial.expect, image)
