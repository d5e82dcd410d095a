"""Engines that end in the middle of a drill, or stand elsewhere: one of our own for each test, without a bridge."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from gameday.drills.folder import list_drills
from gameday.drills.undo_log import read_undo_log
from gameday.scoring import events
from tests.commands import Terminal, no_traceback, wait_until
from tests.own_engine import PASSWORD, Engine, free_port, is_running, write

pytestmark = [pytest.mark.docker, pytest.mark.acceptance, pytest.mark.timeout(300)]


@pytest.mark.parametrize(
    ("fault", "how"), [("process.pause", signal.SIGKILL), ("process.kill", signal.SIGTERM)]
)
def test_an_engine_that_ends_in_a_drill(
    own: Engine,
    terminal: Terminal,
    port: int,
    fault: str,
    how: signal.Signals,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The drill ends with what could not be put back, and how; once it is there again, `recover` does it."""
    monkeypatch.setenv("DOCKER_HOST", own.where["DOCKER_HOST"])
    # Without `--init` it hears no SIGTERM: the engine waits for it when the others have ended.
    own.say("run", "-d", "--network=none", "--stop-timeout=3", "waits", "/wait")
    write(terminal, port, fault)
    run = terminal.start("s.yaml", "--fixers", "people")
    run.until(lambda: [e for e in run.of(events.Looked) if e.took_effect], "it is broken")
    own.end(how)
    assert run.wait(within=120) == 5, run.said()
    said = run.said()
    assert "does not answer" in said
    assert "docker" in said
    assert "by hand" in said
    assert not any(raw in said for raw in ("Connection aborted", "Max retries", "Errno"))
    named = [(e.slot, e.action) for e in run.of(events.SandboxChanged) if e.by == "fixer"]
    assert not named, "the engine itself ended its containers"
    failures = [(e.injection, e.detail) for e in run.of(events.InjectionUndone)]
    assert len(set(failures)) == len(failures)
    own.start()
    (drill,) = list_drills(terminal.cwd)
    told = terminal.gameday("list")
    assert "gameday recover" in told.stderr
    done = terminal.gameday("recover", timeout=90)
    no_traceback(done.stdout, done.stderr)
    assert done.returncode == 0, done.stdout + done.stderr
    assert not read_undo_log(drill.undo, drill.recovery).outstanding
    names = own.say("ps", "--format", "{{.Names}} {{.Status}}")
    hit = run.of(events.InjectionArmed)[0].injection.target
    if fault == "process.kill":
        assert hit in names
    assert "Paused" not in names


def test_a_container_that_vanishes_is_taken_over(
    own: Engine, terminal: Terminal, port: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DOCKER_HOST", own.where["DOCKER_HOST"])
    write(terminal, port, "process.pause", duration="6s")
    run = terminal.start("s.yaml", "--fixers", "people")
    run.until(lambda: [e for e in run.of(events.Looked) if e.took_effect], "it is broken")
    own.say("rm", "-f", run.of(events.InjectionArmed)[0].injection.target)
    assert run.wait(within=60) in (0, 3), run.said()
    (undone,) = run.of(events.InjectionUndone)
    assert undone.outcome in ("nothing", "taken-over")
    assert [each.detail for each in run.of(events.TargetChecked)] == ["the container is gone"]
    (drill,) = list_drills(terminal.cwd)
    records = [path for path in drill.path.rglob("*") if path.is_file()]
    assert drill.undo in records
    assert drill.debrief("html") in records
    assert PASSWORD not in run.said()
    assert not [path for path in records if PASSWORD.encode() in path.read_bytes()]


TCP = free_port()


@pytest.mark.parametrize(
    "own", [("--host", f"tcp://127.0.0.1:{TCP}", "--tls=false")], indirect=True
)
def test_an_engine_elsewhere_kills_but_does_not_burn(
    own: Engine, terminal: Terminal, port: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """By TCP: what acts on processes of its machine is refused, with the reason."""
    monkeypatch.setenv("DOCKER_HOST", f"tcp://127.0.0.1:{TCP}")
    write(terminal, port, "process.kill", duration="2s")
    done = terminal.gameday("run", "s.yaml")
    no_traceback(done.stdout, done.stderr)
    assert done.returncode == 0, done.stdout + done.stderr
    wait_until(is_running(own), "both run again")
    write(terminal, port, "cpu.burn", ", workers: 2")
    done = terminal.gameday("run", "s.yaml")
    no_traceback(done.stdout, done.stderr)
    assert done.returncode in (2, 6), done.stdout + done.stderr
    assert "runs on another machine" in done.stderr
    told = terminal.gameday("doctor").stdout.partition("Faults on Docker\n")[2]
    lacking, those, able, *_ = told.splitlines()
    assert lacking.startswith("  no   ")
    assert "runs on another machine" in lacking
    assert {"cpu.burn", "disk.fill", "clock.skew"} <= set(those.strip().split(", "))
    assert able.endswith("all the others")


def test_doctor_says_in_one_line_that_all_can_be_done(
    own: Engine,
    terminal: Terminal,
    monkeypatch: pytest.MonkeyPatch,
    needs: Callable[[bool, str], None],
) -> None:
    monkeypatch.setenv("DOCKER_HOST", own.where["DOCKER_HOST"])
    found = json.loads(terminal.gameday("doctor", "--json").stdout)
    packets = [fact["fine"] for fact in found["machine"] if fact["name"] == "packets"]
    needs(all(packets), "not every network fault can be made here")
    assert all(fact["fine"] for fact in found["docker"])
    told = terminal.gameday("doctor").stdout.partition("Faults on Docker\n")[2]
    assert told.splitlines()[0].endswith("all of them, also those of a local sandbox")


CERTIFICATES = """
openssl req -x509 -newkey rsa:2048 -nodes -days 2 -subj /CN=ca -keyout ca-key.pem -out ca.pem
for who in server client; do
  openssl req -newkey rsa:2048 -nodes -subj /CN=$who -keyout $who-key.pem -out $who.csr
  printf 'subjectAltName=IP:127.0.0.1\\nextendedKeyUsage=serverAuth,clientAuth\\n' > $who.ext
  openssl x509 -req -in $who.csr -CA ca.pem -CAkey ca-key.pem -CAcreateserial -days 2 \
    -extfile $who.ext -out $who-cert.pem
done
mkdir client && cp ca.pem client && cp client-cert.pem client/cert.pem && cp client-key.pem client/key.pem
"""
TLS = free_port()
HOME = Path(f"/tmp/gameday-tls-{os.getpid()}")


@pytest.fixture
def certificates(needs: Callable[[bool, str], None]) -> Iterator[Path]:
    needs(shutil.which("openssl") is not None, "openssl is not installed")
    HOME.mkdir()
    try:
        done = subprocess.run(
            ["bash", "-ec", CERTIFICATES], cwd=HOME, capture_output=True, text=True
        )
        assert done.returncode == 0, done.stderr
        yield HOME
    finally:
        shutil.rmtree(HOME)


@pytest.mark.parametrize(
    "own",
    [
        (
            *("--host", f"tcp://127.0.0.1:{TLS}", "--tlsverify", "--tlscacert", f"{HOME}/ca.pem"),
            *("--tlscert", f"{HOME}/server-cert.pem", "--tlskey", f"{HOME}/server-key.pem"),
        )
    ],
    indirect=True,
)
def test_an_engine_behind_tls(
    certificates: Path, own: Engine, terminal: Terminal, port: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DOCKER_HOST", f"tcp://127.0.0.1:{TLS}")
    monkeypatch.setenv("DOCKER_TLS_VERIFY", "1")
    monkeypatch.setenv("DOCKER_CERT_PATH", str(certificates / "client"))
    write(terminal, port, "process.pause", duration="2s")
    done = terminal.gameday("run", "s.yaml")
    no_traceback(done.stdout, done.stderr)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "Paused" not in own.say("ps", "--format", "{{.Status}}")
    shutil.rmtree(certificates / "client")
    begun = time.monotonic()
    done = terminal.gameday("run", "s.yaml")
    no_traceback(done.stdout, done.stderr)
    assert done.returncode in (2, 3), done.stdout + done.stderr
    assert time.monotonic() - begun < 30
