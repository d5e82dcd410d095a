"""A rootless engine, run by a user who is nobody on this machine; we are root there."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from gameday.injectors.errors import GamedayError
from gameday.injectors.laws import Trial, a_restart_by_a_fixer_is_no_conflict, undo_restores
from gameday.injectors.sandbox import process
from gameday.injectors.sandbox.docker.driver import DockerSandbox
from tests.commands import Terminal, no_traceback, wait_until
from tests.containers import KINDS_HERE, Containers, attach, run
from tests.engine import compose
from tests.own_engine import write
from tests.test_docker_bare import bare_containers, on_it

pytestmark = [pytest.mark.docker, pytest.mark.acceptance, pytest.mark.timeout(180)]

USER = 62000
START = """\
mount --make-rprivate /
for name in passwd group subuid subgid; do mount --bind {folder}/etc/$name /etc/$name; done
mount --bind {folder}/tun /dev/net/tun
cd {folder}
export HOME={folder}/home XDG_RUNTIME_DIR={folder}/run USER=rootless
exec setpriv --reuid {user} --regid {user} --clear-groups \\
  rootlesskit --state-dir={folder}/run/kit --net=slirp4netns --mtu=1500 --disable-host-loopback \\
  --port-driver=builtin --copy-up=/etc --copy-up=/run --propagation=rslave sh -c '
    rm -f /run/docker /run/containerd /run/xtables.lock
    exec dockerd --rootless --host {host} --data-root {folder}/data --exec-root {folder}/run/exec \\
      --pidfile {folder}/run/pid --storage-driver vfs'
"""
GROUPS = {"memory.hog", "memory.limit", "cpu.limit"}
"""What needs control groups of the container's own."""


@pytest.fixture(scope="module")
def rootless(needs: Callable[[bool, str], None]) -> Iterator[dict[str, str]]:
    """The engine, as dockerd-rootless.sh starts it; its user exists in its own mounts alone."""
    programs = ("dockerd", "rootlesskit", "slirp4netns", "newuidmap", "setpriv", "unshare")
    lacking = [name for name in programs if shutil.which(name) is None]
    needs(not lacking, f"not installed: {', '.join(lacking)} (Debian: rootlesskit, uidmap)")
    needs(os.geteuid() == 0, "only root can become another user")
    folder = Path(f"/tmp/gameday-rootless-{os.getpid()}")
    for name in ("etc", "home", "run", "data"):
        (folder / name).mkdir(parents=True)
        os.chown(folder / name, USER, USER)
    line = f"rootless:x:{USER}:{USER}::{folder}/home:/bin/sh\n"
    (folder / "etc/passwd").write_text(Path("/etc/passwd").read_text() + line)
    (folder / "etc/group").write_text(Path("/etc/group").read_text() + f"rootless:x:{USER}:\n")
    for name in ("subuid", "subgid"):
        (folder / "etc" / name).write_text("rootless:700000:65536\n")
    os.mknod(folder / "tun", 0o020666, os.makedev(10, 200))
    (folder / "tun").chmod(0o666)
    where = {"DOCKER_HOST": f"unix://{folder}/run/docker.sock"}
    start = START.format(folder=folder, user=USER, host=where["DOCKER_HOST"])
    with (folder / "log").open("wb") as log:
        daemon = subprocess.Popen(
            ["unshare", "--mount", "sh", "-ec", start],
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            start_new_session=True,
        )

    def answers() -> bool:
        assert daemon.poll() is None, (folder / "log").read_text()[-3000:]
        return not subprocess.run(
            ["docker", "version"], env=os.environ | where, capture_output=True
        ).returncode

    try:
        wait_until(answers, "the rootless engine answers")
        yield where
    finally:
        daemon.send_signal(signal.SIGTERM)
        daemon.wait(60)
        shutil.rmtree(folder)


@pytest.fixture(scope="module")
def containers(
    rootless: dict[str, str], tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Containers]:
    with bare_containers(rootless, tmp_path_factory.mktemp("rootless")) as made:
        yield made


@pytest.fixture(scope="module")
def box(containers: Containers) -> DockerSandbox:
    return attach(containers)


def has_groups(containers: Containers) -> bool:
    return containers.docker("info", "--format", "{{.CgroupDriver}}") != "none"


@pytest.mark.parametrize("kind", [kind for kind in KINDS_HERE if kind != "clock.skew"])
def test_a_fault_works_or_says_why_not(
    kind: str, box: DockerSandbox, containers: Containers
) -> None:
    """Root enters the user's namespaces; without control groups there is nothing to limit or freeze."""
    assert "rootless" in containers.docker("info", "--format", "{{.SecurityOptions}}")
    before = containers.inspected()
    trial = on_it(kind, box)
    if has_groups(containers) or kind not in {*GROUPS, "process.pause"}:
        for law in (undo_restores, a_restart_by_a_fixer_is_no_conflict):
            run(law, trial)
    else:
        image = run(trial.image)
        with pytest.raises(GamedayError, match=r"no control group|cgroups not configured"):
            run(inject, trial)
        run(trial.expect, image)
    assert containers.inspected() == before
    assert not process.find_by_environment("GAMEDAY_SANDBOX", box.tag)


async def inject(trial: Trial) -> None:
    for injection in await trial.plan():
        await trial.fault.inject(trial.box, injection)


def test_a_drill_on_it(
    containers: Containers, terminal: Terminal, port: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in containers.where.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setenv("PATH", compose())
    assert ", rootless" in terminal.gameday("doctor").stdout
    for kind in ("process.kill", "process.pause"):
        write(terminal, port, kind, duration="3s")
        scenario = terminal.cwd / "s.yaml"
        text = scenario.read_text().replace("app=victim", containers.mark)
        scenario.write_text(text.replace("service: victim", "service: back, count: 1"))
        done = terminal.gameday("run", "s.yaml")
        no_traceback(done.stdout, done.stderr)
        works = kind == "process.kill" or has_groups(containers)
        assert done.returncode == 0 if works else done.returncode != 70, done.stdout + done.stderr
        assert works or "cgroups not configured" in " ".join(done.stdout.split()), done.stdout
        assert containers.docker("ps", "--quiet").count("\n") == 2
