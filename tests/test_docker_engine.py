"""Engines that end in the middle of a drill, or stand elsewhere: one of our own for each test, without a bridge."""

from __future__ import annotations

import http.server
import os
import shutil
import signal
import socket
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path

import pytest

from gameday.drills.folder import list_drills
from gameday.drills.undo_log import read_undo_log
from gameday.scoring import events
from tests.commands import Terminal, no_traceback, wait_until

pytestmark = [pytest.mark.docker, pytest.mark.slow, pytest.mark.timeout(300)]

SCENARIO = """\
apiVersion: gameday/v1
name: elsewhere
title: A container dies
duration: {duration}
stabilise: 200ms
sandbox: {{kind: docker, label: app=victim}}
slis:
  availability: {{address: "127.0.0.1:{port}", every: 100ms, over: 500ms, good: "status == 200"}}
steady_state: {{availability: ">= 1%"}}
faults:
  - {{at: 300ms, inject: {fault}, target: {{service: victim}}{more}}}
"""


BRIDGE = "gameday-own"


class Engine:
    """A dockerd with a folder of its own, that can be ended and started again."""

    def __init__(self, folder: Path, *options: str) -> None:
        self.folder = folder
        self.where = {"DOCKER_HOST": f"unix://{folder}/docker.sock"}
        self._options = options
        self._daemon: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        with (self.folder / "log").open("ab") as log:
            self._daemon = subprocess.Popen(
                [
                    *("dockerd", "--host", self.where["DOCKER_HOST"], f"--bridge={BRIDGE}"),
                    *("--data-root", f"{self.folder}/data", "--exec-root", f"{self.folder}/exec"),
                    *("--pidfile", f"{self.folder}/pid", "--iptables=false", "--ip6tables=false"),
                    *self._options,
                ],
                stdout=log,
                stderr=log,
                start_new_session=True,
            )
        wait_until(lambda: self.answers(self.where), "the engine answers")

    def answers(self, where: dict[str, str]) -> bool:
        asked = ["docker", "version", "--format", "{{.Server.Version}}"]
        return not subprocess.run(asked, env=os.environ | where, capture_output=True).returncode

    def end(self, how: signal.Signals) -> None:
        assert self._daemon is not None
        if how is signal.SIGKILL:
            os.killpg(self._daemon.pid, how)  # its containerd with it
        else:
            self._daemon.send_signal(how)
        self._daemon.wait(60)

    def say(self, *words: str) -> str:
        done = subprocess.run(
            ["docker", *words], env=os.environ | self.where, capture_output=True, text=True
        )
        assert done.returncode == 0, (words, done.stderr)
        return done.stdout.strip()

    def clear(self) -> None:
        if self._daemon is not None and self._daemon.poll() is not None:
            with suppress(Exception):
                self.start()
        if self._daemon is not None and self._daemon.poll() is None:
            with suppress(AssertionError):
                self.say("rm", "-fv", *self.say("ps", "-aq").split())
            self.end(signal.SIGTERM)
        mounts = [line.split()[1] for line in Path("/proc/mounts").read_text().splitlines()]
        for mount in sorted((m for m in mounts if m.startswith(f"{self.folder}/")), reverse=True):
            subprocess.run(["umount", "--lazy", mount], check=False)
        shutil.rmtree(self.folder, ignore_errors=True)


def small_image(engine: Engine, folder: Path) -> str:
    """An image of one program that waits."""
    (folder / "wait.c").write_text("#include <unistd.h>\nint main(void) { for (;;) pause(); }\n")
    subprocess.run(["cc", "-static", "-o", "wait", "wait.c"], cwd=folder, check=True)
    subprocess.run(["tar", "-cf", "image.tar", "wait"], cwd=folder, check=True)
    engine.say("import", str(folder / "image.tar"), "waits")
    return "waits"


@pytest.fixture
def own(
    request: pytest.FixtureRequest, needs: Callable[[bool, str], None], tmp_path: Path
) -> Iterator[Engine]:
    """An engine with two containers that may be broken."""
    needs(shutil.which("dockerd") is not None and os.geteuid() == 0, "no dockerd can be started")
    needs(shutil.which("cc") is not None, "there is no C compiler")
    folder = Path(f"/tmp/gameday-own-{os.getpid()}")
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir()
    made = Engine(folder, *getattr(request, "param", ()))
    # Without a bridge of its own it would use, or delete, that of the other engine.
    subprocess.run(["ip", "link", "delete", BRIDGE], check=False, capture_output=True)
    subprocess.run(["ip", "link", "add", BRIDGE, "type", "bridge"], check=True)
    subprocess.run(["ip", "address", "add", "10.211.7.1/24", "dev", BRIDGE], check=True)
    try:
        made.start()
        image = small_image(made, tmp_path)
        for number in (1, 2):
            made.say(
                *("run", "-d", "--init", "--network=none", "--name", f"victim-{number}"),
                *("--label", "app=victim", "--label", "gameday.sandbox=true"),
                *("--label", "gameday.service=victim", image, "/wait"),
            )
        yield made
    finally:
        made.clear()
        subprocess.run(["ip", "link", "delete", BRIDGE], check=True)


class Quiet(http.server.BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        self.send_response(200)
        self.end_headers()

    def log_message(self, *_: object) -> None:
        return


@pytest.fixture
def port() -> Iterator[int]:
    """Where something answers that no drill breaks."""
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Quiet) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield server.server_port
        server.shutdown()


def write(terminal: Terminal, port: int, fault: str, more: str = "", duration: str = "40s") -> None:
    text = SCENARIO.format(port=port, fault=fault, more=more, duration=duration)
    (terminal.cwd / "s.yaml").write_text(text)


def is_running(own: Engine) -> Callable[[], bool]:
    return lambda: own.say("ps", "-q").count("\n") == 1


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
    write(terminal, port, fault)
    run = terminal.start("s.yaml", "--fixers", "people")
    run.until(lambda: [e for e in run.of(events.Looked) if e.took_effect], "it is broken")
    own.end(how)
    assert run.wait(within=120) == 5, run.said()
    said = run.said()
    assert "does not answer" in said
    assert "docker" in said
    assert "by hand" in said
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


def _free() -> int:
    with socket.create_server(("127.0.0.1", 0)) as free:
        port: int = free.getsockname()[1]
        return port


TCP = _free()


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
TLS = _free()
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
