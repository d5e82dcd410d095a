"""What single faults do on a real Docker Engine, as seen from outside."""

from __future__ import annotations

import base64
import os
import subprocess
import time
from pathlib import Path

import pytest

from gameday.drills.fingerprint import difference
from gameday.injectors.errors import SandboxError, UsageError
from gameday.injectors.laws import Trial
from gameday.injectors.sandbox import process
from gameday.injectors.sandbox.docker import limits
from gameday.injectors.sandbox.docker.compose import Compose
from gameday.injectors.sandbox.docker.driver import DockerSandbox
from gameday.injectors.undo import (
    Outcome,
    ProcessId,
)
from tests.containers import (
    FILE,
    Containers,
    box,
    containers,
    make,
    run,
)
from tests.engine import compose

pytestmark = [pytest.mark.docker, pytest.mark.timeout(180)]

__all__ = ["box", "containers"]

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
