"""An engine behind a real sshd, and engines that a Docker context leads to."""

from __future__ import annotations

import socket
import subprocess
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from gameday.drills.folder import list_drills
from gameday.drills.undo_log import read_undo_log
from gameday.injectors.errors import UsageError
from gameday.injectors.sandbox.docker.contexts import in_use
from gameday.injectors.sandbox.docker.ssh import command
from gameday.scoring import events
from tests.commands import Terminal, no_traceback, wait_until
from tests.engine import compose
from tests.own_engine import Engine, Sshd, is_running, write

pytestmark = [pytest.mark.docker, pytest.mark.acceptance, pytest.mark.timeout(300)]


@pytest.fixture
def behind(own: Engine, ssh: Callable[[str], Sshd], monkeypatch: pytest.MonkeyPatch) -> Sshd:
    """The way to an engine of our own; `DOCKER_HOST` leads there."""
    made = ssh(own.where["DOCKER_HOST"])
    monkeypatch.setenv("DOCKER_HOST", made.address)
    return made


@pytest.mark.parametrize("fault", ["process.kill", "process.pause", "process.crashloop"])
def test_a_drill_through_ssh(
    behind: Sshd, own: Engine, terminal: Terminal, port: int, fault: str
) -> None:
    write(terminal, port, fault, duration="3s")
    done = terminal.gameday("run", "s.yaml")
    no_traceback(done.stdout, done.stderr)
    assert done.returncode == 0, done.stdout + done.stderr
    wait_until(is_running(own), "both run again")
    assert "Paused" not in own.say("ps", "--format", "{{.Status}}")
    (drill,) = list_drills(terminal.cwd)
    assert not read_undo_log(drill.undo, drill.recovery).outstanding
    wait_until(lambda: not behind.cut(), "no connection is left")


@pytest.mark.parametrize("fault", ["cpu.burn", "dns.fail", "net.latency"])
def test_what_needs_the_machine_is_refused(
    behind: Sshd, terminal: Terminal, port: int, fault: str
) -> None:
    write(terminal, port, fault, ", delay: 100ms" if fault == "net.latency" else "")
    if fault == "net.latency":
        text = (terminal.cwd / "s.yaml").read_text()
        text = text.replace("{service: victim}", '{link: "victim->victim"}')
        (terminal.cwd / "s.yaml").write_text(text)
    done = terminal.gameday("run", "s.yaml")
    no_traceback(done.stdout, done.stderr)
    assert done.returncode in (2, 6), done.stdout + done.stderr
    assert f"the engine at {behind.address} runs on another machine" in done.stderr


def test_connections_that_break_are_made_again(
    behind: Sshd, own: Engine, terminal: Terminal, port: int
) -> None:
    """The drill sees it, ends safely, and puts everything back through new ones."""
    write(terminal, port, "process.pause", duration="30s")
    run = terminal.start("s.yaml", "--fixers", "people")
    run.until(lambda: [e for e in run.of(events.Looked) if e.took_effect], "it is broken")
    assert behind.cut()
    assert run.wait(within=60) == 4, run.said()
    no_traceback(run.said())
    (drill,) = list_drills(terminal.cwd)
    assert not read_undo_log(drill.undo, drill.recovery).outstanding
    assert "Paused" not in own.say("ps", "--format", "{{.Status}}")


@pytest.mark.parametrize("fault", ["process.pause", "process.kill"])
def test_a_way_that_is_gone_ends_the_drill_and_recover_finishes_it(
    behind: Sshd, own: Engine, terminal: Terminal, port: int, fault: str
) -> None:
    write(terminal, port, fault)
    run = terminal.start("s.yaml", "--fixers", "people")
    run.until(lambda: [e for e in run.of(events.Looked) if e.took_effect], "it is broken")
    behind.end()
    assert run.wait(within=120) == 5, run.said()
    no_traceback(run.said())
    said = " ".join(run.said().split())
    assert f"the Docker engine at {behind.address} does not answer" in said
    assert "Connection refused" in said
    assert "by hand" in said
    behind.start()
    done = terminal.gameday("recover", timeout=90)
    no_traceback(done.stdout, done.stderr)
    assert done.returncode == 0, done.stdout + done.stderr
    (drill,) = list_drills(terminal.cwd)
    assert not read_undo_log(drill.undo, drill.recovery).outstanding
    assert "Paused" not in own.say("ps", "--format", "{{.Status}}")
    assert is_running(own)()


def test_a_runner_that_is_killed_is_undone_through_ssh(
    behind: Sshd, own: Engine, terminal: Terminal, port: int
) -> None:
    write(terminal, port, "process.pause")
    run = terminal.start("s.yaml", "--fixers", "people")
    run.until(lambda: [e for e in run.of(events.Looked) if e.took_effect], "it is broken")
    run.process.kill()
    (drill,) = list_drills(terminal.cwd)
    wait_until(
        lambda: not read_undo_log(drill.undo, drill.recovery).outstanding, "undone", within=20
    )
    assert "Paused" not in own.say("ps", "--format", "{{.Status}}")
    wait_until(lambda: not behind.cut(), "no connection is left")


def refusal(terminal: Terminal, *words: str) -> str:
    """What a drill that cannot begin says, in one message, and soon."""
    begun = time.monotonic()
    done = terminal.gameday(*(words or ("run", "s.yaml")))
    took = time.monotonic() - begun
    no_traceback(done.stdout, done.stderr)
    assert done.returncode in (2, 3), done.stdout + done.stderr
    assert took < 20, took
    return done.stderr


def test_a_host_that_does_not_let_us_in(
    own: Engine,
    ssh: Callable[[str], Sshd],
    terminal: Terminal,
    port: int,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """One clear message each, and nobody is asked for a password."""
    way = ssh(own.where["DOCKER_HOST"])
    write(terminal, port, "process.kill")
    monkeypatch.setenv("DOCKER_HOST", way.address)
    way.trust(key="stranger")
    assert "Permission denied (publickey)" in refusal(terminal)
    way.trust(key="user", known="nobody")
    assert "Host key verification failed" in refusal(terminal)
    way.trust(key="user")
    monkeypatch.setenv("DOCKER_HOST", f"{way.address}/no/such.sock")
    assert "no such file" in refusal(terminal)
    monkeypatch.setenv("DOCKER_HOST", "ssh://nobody.invalid")
    assert "Could not resolve hostname" in refusal(terminal)
    with socket.create_server(("127.0.0.1", 0)) as silent:
        at = f"ssh://127.0.0.1:{silent.getsockname()[1]}"
        monkeypatch.setenv("DOCKER_HOST", at)
        said = refusal(terminal)
        assert at in said
        assert "timed out" in said
    monkeypatch.setenv("DOCKER_HOST", "ssh://me:secret@host")
    said = refusal(terminal)
    assert "a password cannot be given" in said


def test_the_socket_there_can_be_named() -> None:
    assert command("ssh://me@far:2022/run/d.sock")[-11:] == [
        *("-l", "me", "-p", "2022", "--", "far", "docker", "--host", "unix:///run/d.sock"),
        *("system", "dial-stdio"),
    ]
    assert command("ssh://far")[-5:] == ["--", "far", "docker", "system", "dial-stdio"]
    for wrong in ("ssh://", "ssh://far:port", "ssh://me:word@far", "ssh://far?x=1"):
        with pytest.raises(UsageError):
            command(wrong)


# --- contexts ---------------------------------------------------------------------------------


class Client:
    """Docker's own client, with a configuration of its own."""

    def __init__(self, folder: Path) -> None:
        self.environment = {"DOCKER_CONFIG": str(folder), "PATH": "/usr/bin:/bin"}

    def context(self, *words: str) -> None:
        subprocess.run(
            ["docker", "context", *words], env=self.environment, check=True, capture_output=True
        )


@pytest.fixture
def client(tmp_path: Path) -> Client:
    return Client(tmp_path / "docker")


def test_a_context_in_use_leads_to_its_engine(
    client: Client,
    own: Engine,
    ssh: Callable[[str], Sshd],
    terminal: Terminal,
    port: int,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("PATH", compose())
    way = ssh(own.where["DOCKER_HOST"])
    client.context("create", "far", "--docker", f"host={way.address}")
    client.context("create", "near", "--docker", f"host={own.where['DOCKER_HOST']}")
    monkeypatch.setenv("DOCKER_CONFIG", client.environment["DOCKER_CONFIG"])
    monkeypatch.delenv("DOCKER_HOST", raising=False)
    client.context("use", "far")
    write(terminal, port, "process.kill", duration="2s")
    done = terminal.gameday("run", "s.yaml")
    no_traceback(done.stdout, done.stderr)
    assert done.returncode == 0, done.stdout + done.stderr
    wait_until(is_running(own), "both run again")
    assert way.address in terminal.gameday("doctor").stdout
    monkeypatch.setenv("DOCKER_CONTEXT", "near")
    assert own.say("ps", "-q")  # DOCKER_HOST stands before it
    done = terminal.gameday("run", "s.yaml")
    assert done.returncode == 0, done.stdout + done.stderr
    monkeypatch.setenv("DOCKER_CONTEXT", "gone")
    said = refusal(terminal)
    assert "the Docker context 'gone', which is in use, is not there" in said
    doctor = terminal.gameday("doctor")
    no_traceback(doctor.stdout, doctor.stderr)
    assert "'gone'" in doctor.stdout


def test_contexts_are_read_as_docker_has_them(client: Client, tmp_path: Path) -> None:
    assert in_use(client.environment) == {}
    words = ("req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2", "-subj", "/CN=far")
    made = ("-keyout", str(tmp_path / "key.pem"), "-out", str(tmp_path / "cert.pem"))
    subprocess.run(["openssl", *words, *made], check=True, capture_output=True)
    pair = f"cert={tmp_path}/cert.pem,key={tmp_path}/key.pem"
    files = f"host=tcp://far:2376,ca={tmp_path}/cert.pem,{pair}"
    client.context("create", "tls", "--docker", files)
    client.context("create", "lax", "--docker", "host=tcp://far:2376,skip-tls-verify=true")
    client.context("use", "tls")
    found = in_use(client.environment)
    assert found["DOCKER_HOST"] == "tcp://far:2376"
    assert found["DOCKER_TLS_VERIFY"] == "1"
    assert {each.name for each in Path(found["DOCKER_CERT_PATH"]).iterdir()} == {
        *("ca.pem", "cert.pem", "key.pem")
    }
    assert in_use(client.environment | {"DOCKER_CONTEXT": "default"}) == {}
    with pytest.raises(UsageError, match="skip-tls-verify"):
        in_use(client.environment | {"DOCKER_CONTEXT": "lax"})
    client.context("use", "default")
    assert in_use(client.environment) == {}
