"""Drills on containers that run already, by the command line: what is refused, and what people do meanwhile."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from gameday.scoring import events
from tests.commands import Run, Terminal, no_traceback
from tests.containers import Containers
from tests.own_engine import port

pytestmark = [pytest.mark.docker, pytest.mark.acceptance, pytest.mark.timeout(180)]
__all__ = ["port"]

SCENARIO = """\
apiVersion: gameday/v1
name: attached
title: Containers that ran before
duration: {duration}
stabilise: 200ms
sandbox: {{kind: docker, label: {label}}}
slis:
  up: {{address: "127.0.0.1:{port}", path: /, every: 100ms, over: 500ms}}
steady_state: {{up: ">= 1%"}}
faults:
  - {{at: 200ms, inject: {fault}}}
"""


@pytest.fixture
def containers(
    docker: dict[str, str],
    base_image: str,
    tmp_path_factory: pytest.TempPathFactory,
    monkeypatch: pytest.MonkeyPatch,
) -> Iterator[Containers]:
    for name, value in docker.items():
        monkeypatch.setenv(name, value)
    with Containers(docker, base_image, tmp_path_factory.mktemp("docker")) as made:
        yield made


class Scene:
    """A terminal, and a scenario on the containers."""

    def __init__(self, terminal: Terminal, containers: Containers, port: int) -> None:
        self.terminal, self.containers, self._port = terminal, containers, port

    def write(self, fault: str, duration: str = "3s") -> None:
        text = SCENARIO.format(
            duration=duration, label=self.containers.mark, port=self._port, fault=fault
        )
        (self.terminal.cwd / "s.yaml").write_text(text)

    def refused(self, fault: str) -> str:
        """What a plan that is refused says."""
        self.write(fault)
        done = self.terminal.gameday("run", "s.yaml", "--dry-run")
        no_traceback(done.stdout, done.stderr)
        assert done.returncode == 6, done.stdout + done.stderr
        return done.stderr


@pytest.fixture
def scene(terminal: Terminal, containers: Containers, port: int) -> Scene:
    return Scene(terminal, containers, port)


def test_what_says_that_it_is_protected_is_never_hit(scene: Scene) -> None:
    scene.containers.start("back", 3, "--label", "gameday.protected=true")
    scene.containers.start("guarded", 1, "--label", "gameday.protected=true")
    said = scene.refused("process.kill, target: {service: guarded}")
    assert "would hit guarded-1, and guarded-1 is protected" in said
    assert "back-3 is protected" in scene.refused("process.kill, target: {service: back, count: 3}")
    scene.write("process.kill, target: {slot: back-1}")
    scene.terminal.say("run", "s.yaml", "--dry-run")


def test_a_limit_that_is_lower_already_is_not_raised(scene: Scene) -> None:
    back = scene.containers.names[1]
    scene.containers.docker("update", "--memory=64m", "--memory-swap=128m", "--cpus=0.5", back)
    said = scene.refused("memory.limit, target: {slot: back-1}, size: 128MiB")
    assert "back-1 may use no more than 64 MiB of memory as it is" in said
    said = scene.refused("cpu.limit, target: {slot: back-1}, cpus: 1.5")
    assert "back-1 may use no more than 0.5" in said
    scene.write("memory.limit, target: {slot: back-1}, size: 32MiB")
    scene.terminal.say("run", "s.yaml", "--dry-run")


def test_where_a_network_is_shared_it_is_left_alone(scene: Scene) -> None:
    back = scene.containers.names[1]
    for name, network in (("beside", f"container:{back}"), ("wide", "host"), ("far", "bridge")):
        scene.containers.start(
            name, 1, "--label", "gameday.links=front", command=("sleep", "100"), network=network
        )
    for fault in ("dns.fail, target: {slot: beside-1}", "net.disconnect, target: {slot: beside-1}"):
        assert "beside-1 has no network of its own: it shares another" in scene.refused(fault)
    for link, why in {
        "beside-1->front": "beside-1 has no network of its own: it shares another container's",
        "wide-1->front": "wide-1 has no network of its own: it uses its machine's",
        "far-1->front": "far-1 and front-1 are in no network together",
    }.items():
        assert why in scene.refused(f"net.loss, target: {{link: {link}}}, share: 10%")
    assert "uses the network of back-1" in scene.refused("process.kill, target: {slot: back-1}")
    scene.write("net.loss, target: {link: front->back-1}, share: 10%")
    scene.terminal.say("run", "s.yaml", "--dry-run")
    stranger = scene.containers.start(
        "stranger", 1, command=("sleep", "100"), network=f"container:{back}", opted_in=False
    )
    said = scene.refused("net.loss, target: {link: front->back-1}, share: 10%")
    assert f"{stranger} uses the network of back-1, and may not be broken" in said


def test_a_container_that_ran_before_is_removed_and_made_again(scene: Scene) -> None:
    front = scene.containers.names[0]
    was = scene.containers.docker("inspect", "--format", "{{.Id}}", front)
    scene.write("container.remove, target: {slot: front-1}, lasts: 1s")
    scene.terminal.say("run", "s.yaml", "--dry-run")
    assert scene.containers.docker("inspect", "--format", "{{.Id}}", front) == was
    run = scene.terminal.start("s.yaml")
    assert run.wait() in (0, 1), run.said()
    (undone,) = run.of(events.InjectionUndone)
    assert undone.outcome == "put-back"
    now = scene.containers.docker("inspect", "--format", "{{.Id}} {{.State.Running}}", front)
    assert now.split()[0] != was
    assert now.split()[1] == "true"


@pytest.mark.parametrize(("end", "outcome"), [("front", "taken-over"), ("back", "put-back")])
def test_a_link_of_which_an_end_was_removed_has_a_safe_end(
    end: str, outcome: str, scene: Scene
) -> None:
    scene.write("net.latency, target: {link: front->back-1}, delay: 50ms", "4s")
    run = scene.terminal.start("s.yaml", "--fixers", "people")
    run.until(lambda: [e for e in run.of(events.Looked) if e.took_effect], "it is broken")
    name = next(name for name in scene.containers.names if name.endswith(f"{end}-1"))
    scene.containers.docker("rm", "--force", name)
    scene.containers.names.remove(name)
    assert run.wait() in (0, 1), run.said()
    (undone,) = run.of(events.InjectionUndone)
    assert undone.outcome == outcome
    assert "could not be put back" not in run.said()


def test_a_container_is_put_back_under_another_name(scene: Scene) -> None:
    """Two that only a label tells apart swap their names while one of them is paused."""
    scene.write("process.pause, target: {slot: back-1}", "5s")
    run = scene.terminal.start("s.yaml", "--fixers", "people")
    run.until(lambda: [e for e in run.of(events.Looked) if e.took_effect], "it is broken")
    docker = scene.containers.docker
    paused, other = scene.containers.names[1:3]
    for was, becomes in ((paused, f"{paused}-away"), (other, paused), (f"{paused}-away", other)):
        docker("rename", was, becomes)
    assert docker("inspect", "--format", "{{.State.Paused}}", other) == "true"
    assert run.wait() in (0, 1), run.said()
    (undone,) = run.of(events.InjectionUndone)
    assert undone.outcome == "put-back"
    assert [e.equal for e in run.of(events.TargetChecked)] == [True]
    assert (
        docker("inspect", "--format", "{{.State.Paused}}", paused, other).split() == ["false"] * 2
    )


def test_faults_that_overlap_in_one_container_are_each_compared_with_what_was_before_all(
    scene: Scene,
) -> None:
    """The rules of a fault on its link stand in the network of the one that is paused."""
    scene.write(
        "net.loss, target: {link: front->back-1}, share: 1%, lasts: 2s}\n"
        "  - {at: 700ms, inject: net.duplicate, target: {link: front->back-2}, share: 1%, lasts: 2s}\n"
        "  - {at: 1200ms, inject: process.pause, target: {slot: front-1}, lasts: 2s",
        "6s",
    )
    run = scene.terminal.start("s.yaml", "--fixers", "people")
    assert run.wait() in (0, 1), run.said()
    assert [e.outcome for e in run.of(events.InjectionUndone)] == ["put-back"] * 3
    assert [(e.equal, e.detail) for e in run.of(events.TargetChecked)] == [(True, "")] * 3


def test_a_limit_that_somebody_changes_meanwhile_is_theirs(scene: Scene) -> None:
    back = scene.containers.names[1]
    docker = scene.containers.docker
    docker("update", "--memory=256m", "--memory-swap=512m", "--cpus=0.8", back)
    scene.write(
        "memory.limit, target: {slot: back-1}, size: 64MiB}\n"
        "  - {at: 300ms, inject: cpu.limit, target: {slot: back-1}, cpus: 0.1",
        "5s",
    )
    run = scene.terminal.start("s.yaml", "--fixers", "people")
    run.until(lambda: len([e for e in run.of(events.Looked) if e.took_effect]) > 1, "it is broken")
    docker("update", "--memory=300m", "--memory-swap=600m", "--cpus=1.5", back)
    run.wait()
    undone = run.of(events.InjectionUndone)
    assert [(e.outcome, e.by) for e in undone] == [("taken-over", "fixer")] * 2
    path = docker("inspect", "--format", "{{.Id}}", back)
    for group, file, value in (
        ("memory", "memory.limit_in_bytes", 300 << 20),
        ("cpu", "cpu.cfs_quota_us", 150_000),
    ):
        (found,) = Path("/sys/fs/cgroup", group).rglob(f"{path}/{file}")
        assert int(found.read_text()) == value


def test_who_restarts_a_container_that_burns_is_seen(scene: Scene) -> None:
    scene.write("cpu.burn, target: {slot: back-1}", "6s")
    run = scene.terminal.start("s.yaml", "--fixers", "people")
    run.until(lambda: [e for e in run.of(events.Looked) if e.took_effect], "it is broken")
    scene.containers.docker("restart", "--time", "0", scene.containers.names[1])
    assert run.wait() in (0, 1), run.said()
    assert [e for e in run.of(events.SandboxChanged) if e.action == "restart" and e.by == "fixer"]


def _by_fixers(run: Run) -> list[tuple[str, str]]:
    return [(e.action, e.slot) for e in run.of(events.SandboxChanged) if e.by == "fixer"]


def test_who_connects_a_container_again_is_seen_and_has_repaired_it(scene: Scene) -> None:
    docker, network, back = (
        scene.containers.docker,
        scene.containers.network,
        scene.containers.names[1],
    )
    docker("network", "disconnect", network, back)
    docker("network", "connect", "--alias", "one", "--alias", "two", network, back)
    scene.write("net.disconnect, target: {slot: back-1}", "5s")
    run = scene.terminal.start("s.yaml", "--fixers", "people")
    run.until(lambda: [e for e in run.of(events.Looked) if e.took_effect], "it is broken")
    docker("network", "connect", "--alias", "two", "--alias", "one", network, back)
    run.until(lambda: _by_fixers(run), "it is seen who connected it")
    assert run.wait() in (0, 1), run.said()
    assert _by_fixers(run) == [("connect", "back-1")]
    assert [(e.outcome, e.by) for e in run.of(events.InjectionUndone)] == [("taken-over", "fixer")]
    assert [(e.equal, e.detail) for e in run.of(events.TargetChecked)] == [(True, "")]
    assert "connected back-1 to a network" in scene.terminal.say("debrief", "--format", "md")


def test_who_takes_a_container_off_a_network_is_seen_once(scene: Scene) -> None:
    docker, network, back = (
        scene.containers.docker,
        scene.containers.network,
        scene.containers.names[2],
    )
    scene.write("net.disconnect, target: {slot: back-1}", "4s")
    run = scene.terminal.start("s.yaml", "--fixers", "people")
    run.until(lambda: [e for e in run.of(events.Looked) if e.took_effect], "it is broken")
    docker("network", "disconnect", network, back)
    assert run.wait() in (0, 1), run.said()
    assert _by_fixers(run) == [("disconnect", "back-2")]
    assert [e.outcome for e in run.of(events.InjectionUndone)] == ["put-back"]


def test_what_an_engine_connects_and_disconnects_by_itself_is_no_fixers_doing(scene: Scene) -> None:
    """It does that with the other networks of a container that ends or starts."""
    docker, back = scene.containers.docker, scene.containers.names[1]
    docker("network", "connect", "bridge", back)
    scene.write(
        f"net.disconnect, target: {{slot: back-1}}, network: {scene.containers.network}", "8s"
    )
    run = scene.terminal.start("s.yaml", "--fixers", "people")
    run.until(lambda: [e for e in run.of(events.Looked) if e.took_effect], "it is broken")
    for number, words in enumerate((("restart", "--time=0"), ("stop", "--time=0"), ("start",)), 1):
        docker(*words, back)
        run.until(lambda: len(_by_fixers(run)) == number, words[0])  # noqa: B023 - used at once
    assert run.wait() in (0, 1), run.said()
    assert _by_fixers(run) == [(done, "back-1") for done in ("restart", "stop", "start")]
    assert [e.outcome for e in run.of(events.InjectionUndone)] == ["put-back"]
