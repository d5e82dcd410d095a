"""Engines of our own, one for each test, and the way to them through ssh."""

from __future__ import annotations

import getpass
import http.server
import os
import shutil
import signal
import socket
import subprocess
import threading
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path

import pytest

from gameday.injectors.sandbox import process
from tests.commands import Terminal, wait_until

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
PASSWORD = "hunter2"
"""In the environment of each container; no record may have it."""


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
                *("--label", "gameday.service=victim", "--env", f"DB_PASSWORD={PASSWORD}"),
                *(image, "/wait"),
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


def free_port() -> int:
    """A port that nothing listens on."""
    with socket.create_server(("127.0.0.1", 0)) as free:
        port: int = free.getsockname()[1]
        return port


class Sshd:
    """A real sshd with keys of its own, behind which an engine is; and an `ssh` that knows them.

    Args:
        folder: For all that it needs.
        engine: The engine's ``DOCKER_HOST``, as it is there.
    """

    def __init__(self, folder: Path, engine: str) -> None:
        self.folder = folder
        self.port = free_port()
        self._daemon: subprocess.Popen[bytes] | None = None
        Path("/run/sshd").mkdir(exist_ok=True)
        for name in ("host", "user", "stranger"):
            self._make_key(name)
        host = (folder / "host.pub").read_text().split()
        (folder / "known").write_text(f"[127.0.0.1]:{self.port} {host[0]} {host[1]}\n")
        (folder / "sshd_config").write_text(
            f"ListenAddress 127.0.0.1:{self.port}\nHostKey {folder}/host\nPidFile none\n"
            f"AuthorizedKeysFile {folder}/user.pub\nStrictModes no\nUsePAM no\n"
            f"PasswordAuthentication no\nKbdInteractiveAuthentication no\n"
            f"SetEnv DOCKER_HOST={engine}\n"
        )
        self.trust(key="user")
        # OpenSSH looks for its configuration in the home of the user database, whatever HOME is.
        program = folder / "bin" / "ssh"
        program.parent.mkdir()
        program.write_text(f'#!/bin/sh\nexec {shutil.which("ssh")} -F {folder}/ssh_config "$@"\n')
        program.chmod(0o755)

    @property
    def address(self) -> str:
        """As in ``DOCKER_HOST``."""
        return f"ssh://{getpass.getuser()}@127.0.0.1:{self.port}"

    @property
    def path(self) -> str:
        """PATH with its `ssh`."""
        return f"{self.folder}/bin:{os.environ['PATH']}"

    def trust(self, *, key: str, known: str = "known") -> None:
        """What the client shows, and whom it believes."""
        (self.folder / "ssh_config").write_text(
            f"IdentityFile {self.folder}/{key}\nIdentitiesOnly yes\nIdentityAgent none\n"
            f"UserKnownHostsFile {self.folder}/{known}\nGlobalKnownHostsFile none\n"
        )

    def start(self) -> None:
        with (self.folder / "log").open("ab") as log:
            self._daemon = subprocess.Popen(
                ["/usr/sbin/sshd", "-D", "-e", "-f", str(self.folder / "sshd_config")],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )
        wait_until(self._listens, "sshd listens")

    def cut(self) -> int:
        """End each connection, as a network does; how many processes that were."""
        assert self._daemon is not None
        own = process.process_id(self._daemon.pid)
        assert own is not None
        ended = [who for who in process.tree(own) if who != own]
        for who in ended:
            process.signal_process(who, signal.SIGKILL)
        return len(ended)

    def end(self) -> None:
        """End it, with all connections."""
        if self._daemon is not None and self._daemon.poll() is None:
            self._daemon.send_signal(signal.SIGSTOP)  # nobody comes in any more
            self.cut()
            self._daemon.kill()
            self._daemon.wait()

    def _listens(self) -> bool:
        with suppress(OSError), socket.create_connection(("127.0.0.1", self.port), 1):
            return True
        return False

    def _make_key(self, name: str) -> None:
        words = ("ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", str(self.folder / name))
        subprocess.run(words, check=True)


@pytest.fixture
def ssh(needs: Callable[[bool, str], None], tmp_path: Path) -> Iterator[Callable[[str], Sshd]]:
    """Makes an sshd before an engine, and puts its `ssh` first on the path."""
    there = shutil.which("ssh") is not None and Path("/usr/sbin/sshd").exists()
    needs(there, "OpenSSH is not installed (Debian: openssh-server, openssh-client)")
    made: list[Sshd] = []
    before = os.environ["PATH"]

    def make(engine: str) -> Sshd:
        folder = tmp_path / f"ssh-{len(made)}"
        folder.mkdir(mode=0o700)
        made.append(Sshd(folder, engine))
        made[-1].start()
        os.environ["PATH"] = made[-1].path
        return made[-1]

    yield make
    os.environ["PATH"] = before
    for one in made:
        one.end()
