"""Network faults where the networks of containers cannot be entered: by helper container."""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import anyio
import pytest

from gameday.drills.folder import list_drills
from gameday.drills.undo_log import read_undo_log
from gameday.injectors.errors import SandboxGone, Unsupported
from gameday.injectors.sandbox import process
from gameday.injectors.sandbox.base import Toxic
from gameday.injectors.sandbox.docker import image
from gameday.injectors.sandbox.docker.driver import DockerSandbox
from gameday.injectors.sandbox.docker.elsewhere import Elsewhere
from gameday.injectors.sandbox.docker.engine import Engine
from gameday.injectors.sandbox.netns.keeper import LEASE
from gameday.injectors.sandbox.netns.namespace import Namespace
from gameday.injectors.undo import Outcome, RemoveToxic
from tests.commands import no_traceback, wait_until
from tests.containers import LABEL, Containers
from tests.namespaces import no_packet_queue, sh_in

pytestmark = [pytest.mark.docker, pytest.mark.acceptance, pytest.mark.timeout(240)]

ROOT = Path(__file__).parent.parent
NOBODY, GROUP = 65534, 64123
LINK = "front-1->back-1"
TOXICS = [
    Toxic("latency", "gameday-outside-1", {"delay": 0.05, "jitter": 0.0}),
    Toxic("bandwidth", "gameday-outside-2", {"rate": 1e6}),
    Toxic("blackhole", "gameday-outside-3"),
    Toxic("loss", "gameday-outside-4", {"share": 0.5}),
]
SCENARIO = """\
apiVersion: gameday/v1
name: slow
title: The network is slow
duration: 25s
stabilise: 500ms
sandbox: {kind: docker, label: LABEL}
slis:
  up: {address: "ADDRESS:8000", path: /, every: 100ms, good: "status < 500", over: 500ms}
steady_state: {up: ">= 1%"}
faults:
  - {at: 500ms, inject: net.latency, target: {link: front->back-1}, delay: 50ms}
  - {at: 600ms, inject: net.loss, target: {link: front->back-2}, share: 10%}
"""


@pytest.fixture(scope="module")
def containers(
    docker: dict[str, str], base_image: str, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Containers]:
    os.environ[image.BASE] = base_image
    try:
        with Containers(docker, base_image, tmp_path_factory.mktemp("docker")) as made:
            yield made
    finally:
        del os.environ[image.BASE]


@pytest.fixture(scope="module")
def built(containers: Containers) -> str:
    async def build() -> None:
        engine = Engine(containers.where)
        try:
            await image.require(engine, "the test wants it so")
        finally:
            engine.close()

    anyio.run(build)
    return image.name()


@pytest.fixture
def outside(containers: Containers, built: str) -> DockerSandbox:
    """The sandbox as somebody has it who may not enter, with an owner that is ours to end."""
    assert built
    ref = DockerSandbox.plan_ref(
        f"outside-{os.getpid()}", label=containers.mark, where=containers.where
    )
    return DockerSandbox(ref, outside="the test wants it so")


def helpers(containers: Containers) -> list[str]:
    """Those that share the network of the front, running or not."""
    front = containers.docker("inspect", "--format", "{{.Id}}", containers.names[0]).strip()
    return containers.docker("ps", "-aq", "--filter", f"label=gameday.helps={front}").split()


async def entered(box: DockerSandbox) -> Namespace:
    """The same network, by the other way."""
    found = await box.find("front-1")
    assert found is not None
    assert found.process is not None
    return Namespace(found.process)


def test_an_image_that_cannot_be_built_is_refused_with_the_command(
    containers: Containers, monkeypatch: pytest.MonkeyPatch
) -> None:
    if image.name() in containers.docker("images", "--format", "{{.Repository}}:{{.Tag}}"):
        containers.docker("rmi", "--force", image.name())
    monkeypatch.setenv(image.BASE, "nobody.invalid/nothing:1")
    engine = Engine(containers.where)
    with pytest.raises(
        Unsupported, match=r"as you are elsewhere; its image .* is not there and cannot be built: ."
    ) as refused:
        anyio.run(image.require, engine, "you are elsewhere")
    engine.close()
    assert image.by_hand() in refused.value.hint
    assert f"--build-arg BASE=nobody.invalid/nothing:1 --file {ROOT}" in image.by_hand()


@pytest.mark.parametrize("toxic", TOXICS, ids=lambda toxic: toxic.kind)
def test_both_ways_make_the_same_and_each_undoes_the_other(
    toxic: Toxic, outside: DockerSandbox, containers: Containers
) -> None:
    async def test() -> None:
        network = await entered(outside)
        before = await network.fingerprint()
        await outside.links.add(LINK, toxic)
        assert [one.toxic for one in await network.toxics()] == [toxic]
        assert list(await outside.links.toxics(LINK)) == [toxic]
        made = await network.fingerprint()
        assert len(helpers(containers)) == 1
        step = RemoveToxic(LINK, toxic.tag)
        assert (await outside.run_step(step)).outcome is Outcome.PUT_BACK
        assert (await outside.run_step(step)).outcome is Outcome.NOTHING
        assert await network.fingerprint() == before
        assert not helpers(containers)

        found = await outside.find("back-1")
        assert found is not None
        peers = [one for each in found.addresses.values() for one in each]
        await network.add(toxic, peers)
        assert _numbered(await network.fingerprint()) == _numbered(made)
        if toxic.kind != "latency":  # its packets wait in a process of this machine
            assert list(await outside.links.toxics(LINK)) == [toxic]
            assert (await outside.run_step(step)).outcome is Outcome.PUT_BACK
        await network.remove(toxic.tag)
        assert await network.fingerprint() == before
        assert not helpers(containers)

    anyio.run(test)


def test_without_a_packet_queue_the_helper_is_a_proxy(
    outside: DockerSandbox, containers: Containers
) -> None:
    async def test() -> None:
        network = await entered(outside)
        before = await network.fingerprint()
        found = await outside.find("front-1")
        assert found is not None
        assert found.process is not None
        with no_packet_queue(found.process.pid):
            await outside.links.add(LINK, TOXICS[0])
        assert "tun" in sh_in(found.process.pid, "ip -details link show")
        assert list(await outside.links.toxics(LINK)) == [TOXICS[0]]
        step = RemoveToxic(LINK, TOXICS[0].tag)
        assert (await outside.run_step(step)).outcome is Outcome.PUT_BACK
        assert await network.fingerprint() == before

    anyio.run(test)


def _numbered(found: dict[str, str]) -> dict[str, str]:
    """Without the numbers that the kernel draws: of packet queues, and of what tc makes."""
    return {name: re.sub(r"\b(4700\d|8[0-9a-f]{3}:)", "N", of) for name, of in found.items()}


def test_several_faults_share_a_helper_that_goes_with_the_last(
    outside: DockerSandbox, containers: Containers
) -> None:
    async def test() -> None:
        for toxic in TOXICS:
            await outside.links.add(LINK, toxic)
        assert len(helpers(containers)) == 1
        for left, toxic in reversed(list(enumerate(TOXICS))):
            began = time.monotonic()
            await outside.run_step(RemoveToxic(LINK, toxic.tag))
            assert time.monotonic() - began < 10
            assert len(helpers(containers)) == (1 if left else 0)
            assert {one.tag for one in await outside.links.toxics(LINK)} == {
                one.tag for one in TOXICS[:left]
            }

    anyio.run(test)


def test_a_helper_ends_when_its_drill_is_gone_and_takes_its_faults_along(
    outside: DockerSandbox, containers: Containers
) -> None:
    """Runner and watchdog dead, nobody to undo."""
    owner = subprocess.Popen(["sleep", "100"])
    who = process.process_id(owner.pid)
    assert who is not None
    outside.owners = (who,)

    async def test() -> None:
        network = await entered(outside)
        before = await network.fingerprint()
        for toxic in TOXICS:
            await outside.links.add(LINK, toxic)
        await anyio.sleep(LEASE + 5)  # as long as the drill lives, they stay
        assert len(await network.toxics()) == len(TOXICS)
        owner.kill()
        owner.wait()
        wait_until(lambda: not helpers(containers), "it has ended", within=LEASE + 20)
        assert await network.fingerprint() == before
        assert not process.find_by_environment("GAMEDAY_SANDBOX", outside.tag)

    anyio.run(test)


def test_a_target_that_ends_while_a_helper_starts_has_lost_its_network(
    outside: DockerSandbox, containers: Containers
) -> None:
    """Its process is dead, and its engine learns of that only while the helper starts."""

    async def meanwhile(ask: Callable[[Elsewhere], Awaitable[object]]) -> object:
        found = await outside.find("front-1")
        assert found is not None
        assert found.process is not None
        try:
            with told_late(found.process.pid):
                return await ask(Elsewhere(outside, found))
        finally:
            containers.docker("start", found.name)

    async def test() -> None:
        assert await meanwhile(Elsewhere.toxics) == ()
        assert await meanwhile(lambda network: network.remove(TOXICS[0].tag)) is False
        with pytest.raises(SandboxGone, match="front-1 has ended, and with it its network"):
            await meanwhile(lambda network: network.add(TOXICS[0]))
        assert not containers.docker("ps", "-aq", "--filter", f"label=gameday.helper={outside.tag}")

    anyio.run(test)


@contextmanager
def told_late(main: int) -> Iterator[None]:
    """The main process of a container is killed; for a second its engine does not hear of that."""
    parent = int(Path(f"/proc/{main}/stat").read_text().rpartition(")")[2].split()[1])
    later = threading.Timer(1.0, os.kill, (parent, signal.SIGCONT))
    os.kill(parent, signal.SIGSTOP)
    later.start()
    try:
        os.kill(main, signal.SIGKILL)
        yield
    finally:
        later.join()


def test_the_machines_own_network_is_refused(
    outside: DockerSandbox, containers: Containers
) -> None:
    name = containers.docker(
        *("run", "--detach", "--network=host", "--label", containers.mark),
        *("--label", "gameday.sandbox=true", "--label", "gameday.service=bare"),
        *(containers.image, "sleep", "100"),
    ).strip()
    try:
        with pytest.raises(Unsupported, match="no network of its own"):
            anyio.run(outside.links.add, "bare-1", Toxic("dns", "gameday-outside-9"))
        assert not containers.docker("ps", "-aq", "--filter", f"label=gameday.helper={outside.tag}")
    finally:
        containers.docker("rm", "--force", name)


# --- as a member of the group that may use the engine, by the command line ------------------------


class Member:
    """A user who is not root, and may use the engine."""

    def __init__(self, home: Path, python: list[str], environment: dict[str, str]) -> None:
        self.home, self._python, self._environment = home, python, environment
        self._who = ["setpriv", f"--reuid={NOBODY}", f"--regid={NOBODY}", f"--groups={GROUP}"]

    def start(self, *words: str) -> subprocess.Popen[str]:
        return subprocess.Popen(
            [*self._who, *self._python, "-m", "gameday", *words],
            cwd=self.home,
            env=self._environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )


@pytest.fixture
def member(
    containers: Containers, built: str, needs: Callable[[bool, str], None]
) -> Iterator[Member]:
    address = containers.where.get("DOCKER_HOST", "unix:///var/run/docker.sock")
    python = shutil.which("python3", path="/usr/bin") or ""
    needs(os.geteuid() == 0 and built != "", "only root can become somebody else")
    needs(address.startswith("unix:///tmp/"), "the engine is not one of our own")
    same = subprocess.run(
        [python, "-c", "import sys; print(*sys.version_info[:2])"], capture_output=True
    )
    needs(same.stdout.decode().split() == [*map(str, sys.version_info[:2])], f"{python} is another")
    socket = Path(address.removeprefix("unix://"))
    socket.parent.chmod(0o711)
    os.chown(socket, 0, GROUP)
    home = Path(f"/tmp/gameday-member-{os.getpid()}")
    home.mkdir(mode=0o700)
    own = "{{range .NetworkSettings.Networks}}{{.IPAddress}}{{end}}"
    front = containers.docker("inspect", "--format", own, containers.names[0]).strip()
    scenario = SCENARIO.replace("LABEL", containers.mark).replace("ADDRESS", front)
    (home / "slow.yaml").write_text(scenario)
    for path in (home, home / "slow.yaml"):
        os.chown(path, NOBODY, NOBODY)
    ours = [path for path in sys.path if path.endswith("site-packages")]
    try:
        yield Member(
            home,
            [python],
            {
                "PATH": os.environ["PATH"],
                "HOME": str(home),
                "PYTHONPATH": os.pathsep.join([*ours, str(ROOT / "src")]),
                "PYTHONDONTWRITEBYTECODE": "1",
                image.BASE: os.environ[image.BASE],
                **containers.where,
            },
        )
    finally:
        shutil.rmtree(home)


def test_a_member_of_the_group_makes_network_faults(member: Member, containers: Containers) -> None:
    before = containers.inspected()
    run = member.start("run", "slow.yaml")
    wait_until(lambda: bool(helpers(containers)), "a helper stands", within=60)
    out, err = run.communicate(timeout=120)
    no_traceback(out, err)
    assert run.returncode == 0, out + err
    (drill,) = list_drills(member.home)
    found = json.loads(drill.debrief("json").read_text())["injections"]
    assert [each["how"] for each in found] == ["put-back", "put-back"], out
    assert all(each["took_effect"] for each in found)
    assert not helpers(containers)
    assert containers.inspected() == before
    doctor, _ = member.start("doctor").communicate(timeout=60)
    assert "by a helper container" in doctor


def test_the_watchdog_undoes_it_too(member: Member, containers: Containers) -> None:
    run = member.start("run", "slow.yaml")
    wait_until(lambda: bool(helpers(containers)), "a helper stands", within=60)
    (drill,) = list_drills(member.home)
    wait_until(
        lambda: len(read_undo_log(drill.undo, drill.recovery).outstanding) == 2, "both are armed"
    )
    run.send_signal(signal.SIGKILL)
    run.communicate()
    wait_until(
        lambda: not read_undo_log(drill.undo, drill.recovery).outstanding, "undone", within=20
    )
    wait_until(lambda: not helpers(containers), "no helper is left", within=20)
    network = anyio.run(
        entered,
        DockerSandbox(
            DockerSandbox.plan_ref("x", label=f"{LABEL}={os.getpid()}", where=containers.where)
        ),
    )
    assert anyio.run(network.toxics) == ()
