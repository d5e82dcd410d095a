"""Whole drills on a real Docker Engine, through the command: the shop from its Compose file."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from gameday.drills.folder import list_drills
from gameday.drills.journal import read_journal
from gameday.drills.undo_log import read_undo_log
from gameday.injectors.sandbox import process
from gameday.scoring import events
from tests import engine
from tests.commands import Terminal, no_traceback, wait_until
from tests.own_engine import Sshd
from tests.test_scenarios_for_real import BROKEN, play_and_judge

pytestmark = [pytest.mark.docker, pytest.mark.acceptance, pytest.mark.timeout(300)]

ROOT = Path(__file__).parent.parent
CLOCK = """\
apiVersion: gameday/v1
name: late
title: The clock of an api node is an hour slow
duration: 20s
sandbox: {kind: docker, app: shop}
slis: {availability: {path: /products, every: 100ms, over: 1s}}
steady_state: {availability: ">= 90%"}
stabilise: 1s
hypotheses: [{id: shop, claim: The shop does not mind., expect: "availability >= 90%"}]
faults: [{at: 2s, inject: clock.skew, target: {service: api, count: 1}, offset: -1h, lasts: 5s}]
"""
QUICK = """\
apiVersion: gameday/v1
name: quick
title: One api container dies
duration: 20s
stabilise: 1s
sandbox: {kind: docker, app: shop}
slis:
  availability: {path: /products, every: 100ms, timeout: 500ms, good: "status < 500", over: 1s}
steady_state: {availability: ">= 99%"}
hypotheses:
  - {id: mitigated, claim: It is mitigated., expect: time_to_mitigate <= 15s}
faults:
  - {at: 500ms, inject: process.kill, target: {service: api, count: 1}}
fixers: {scripted: {reaction: 500ms, steps: ["wait 1s", "restart {{ unhealthy.api }}", resolve]}}
"""


class Docker:
    """The engine as an outsider sees it."""

    def __init__(self, where: dict[str, str]) -> None:
        self.where = where
        self._environment = os.environ | where

    def say(self, *words: str) -> str:
        done = subprocess.run(
            ["docker", *words], env=self._environment, capture_output=True, text=True
        )
        assert done.returncode == 0, (words, done.stderr)
        return done.stdout.strip()

    def dead(self) -> str:
        """The api containers of the shop that have ended."""
        return self.say("ps", "-aq", "--filter", "status=exited", "--filter", "name=-api-")

    def left(self) -> dict[str, list[str]]:
        """Containers, networks and volumes that there are."""
        return {
            "containers": sorted(self.say("ps", "-aq").split()),
            "networks": sorted(self.say("network", "ls", "-q").split()),
            "volumes": sorted(self.say("volume", "ls", "-q").split()),
        }


@pytest.fixture
def outside(docker: dict[str, str]) -> Docker:
    return Docker(docker)


@pytest.fixture
def shop(
    terminal: Terminal, outside: Docker, base_image: str, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Terminal]:
    """A terminal in which the shop can be brought up; nothing of it may stay."""
    before = outside.left()
    for name, value in outside.where.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setenv("SHOP_BASE", base_image)
    monkeypatch.setenv("PATH", engine.compose())
    (terminal.cwd / "quick.yaml").write_text(QUICK)
    yield terminal
    for run in terminal.running:
        run.end()
    wait_until(lambda: outside.left() == before, "nothing of the drill is left on the engine")
    for drill in list_drills(terminal.cwd):
        read = read_undo_log(drill.undo, drill.recovery)
        assert not read.outstanding
        assert not process.find_by_environment("GAMEDAY_SANDBOX", drill.id)
        assert not process.find_by_environment("GAMEDAY_HELPER", drill.id)


def journal(terminal: Terminal) -> list[Any]:
    (drill,) = list_drills(terminal.cwd)
    return list(read_journal(drill.journal).events)


@pytest.mark.parametrize("name", sorted(BROKEN))
def test_a_scenario_runs_on_docker_from_the_same_file(shop: Terminal, name: str) -> None:
    """With the same outcome as on processes; only the sandbox is another one.

    A machine of two CPUs, one of which burns on after the gateway was mended, has little to spare
    for containers and their engine: availability may drop again.
    """
    may_relapse = name == "gateway-cpu-starved"
    play_and_judge(shop, name, "--sandbox", "docker", "--seed", "1", may_relapse=may_relapse)


@pytest.mark.parametrize("name", ["one-redis-dies", "redis-is-gone"])
def test_a_project_that_knows_nothing_of_us_is_drilled(
    shop: Terminal, base_image: str, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    """HAProxy before two Redis servers, from Debian's packages: the example of the documentation."""
    monkeypatch.setenv("BASE", base_image)
    shutil.copytree(ROOT / "docs" / "examples" / "redis", shop.cwd, dirs_exist_ok=True)
    done = shop.gameday("run", f"{name}.yaml", "--seed", "1", timeout=180)
    no_traceback(done.stdout, done.stderr)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "Every hypothesis is supported" in done.stdout
    (drill,) = list_drills(shop.cwd)
    found = json.loads(drill.debrief("json").read_text())
    assert {each["how"] for each in found["injections"]} <= {"put-back", "taken-over"}


def test_the_clock_of_a_shop_that_opted_in_is_wrong_for_a_while(
    shop: Terminal, outside: Docker, base_image: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """By its base image, which preloads libfaketime into every program; nothing else of the shop is changed."""
    made = outside.say("create", base_image, "true")
    changes = [f"ENV {name}={value}" for name, value in engine.CLOCK_SET.items()]
    words = (word for change in changes for word in ("--change", change))
    outside.say("commit", *words, made, "gameday-test-clock")
    outside.say("rm", made)
    monkeypatch.setenv("SHOP_BASE", "gameday-test-clock")
    (shop.cwd / "clock.yaml").write_text(CLOCK)
    done = shop.gameday("run", "clock.yaml", "--seed", "1", timeout=180)
    no_traceback(done.stdout, done.stderr)
    assert done.returncode == 0, done.stdout + done.stderr
    (drill,) = list_drills(shop.cwd)
    (injection,) = json.loads(drill.debrief("json").read_text())["injections"]
    assert injection["took_effect"] is not None
    assert injection["how"] == "put-back"
    assert "the wall clock of api-" in drill.debrief("md").read_text()


def test_what_people_do_with_docker_is_seen(shop: Terminal, outside: Docker) -> None:
    """Somebody restarts the container by `docker`, and is taken for a fixer."""
    run = shop.start("quick.yaml", "--fixers", "people")
    wait_until(lambda: bool(outside.dead()), "a container is dead", within=60)
    outside.say("start", outside.dead())
    wait_until(lambda: "fixer started api-" in run.said(), "the drill sees it", within=10)
    shop.say("resolve", "done")
    assert run.wait(within=60) == 3, run.said()  # nobody was told, so nothing was detected
    changes = [e for e in journal(shop) if isinstance(e, events.SandboxChanged) and e.by]
    assert [(e.action, e.by) for e in changes] == [("start", "fixer")]
    assert "with Docker" in changes[0].detail


def test_the_shop_is_brought_up_and_drilled_through_ssh(
    shop: Terminal,
    outside: Docker,
    ssh: Callable[[str], Sshd],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """With Docker Compose, the fixer's hands and the removal: all of it goes that way."""
    way = ssh(outside.where["DOCKER_HOST"])
    monkeypatch.setenv("DOCKER_HOST", way.address)
    run = shop.start("quick.yaml", "--fixers", "people")
    run.until(lambda: [e for e in run.of(events.Looked) if e.took_effect], "it is broken")
    slot = run.of(events.InjectionArmed)[0].injection.target
    monkeypatch.setenv("DOCKER_HOST", "unix:///no/such.sock")  # the drill knows where its engine is
    shop.say("sandbox", "restart", slot)
    assert "127.0.0.1" in shop.say("sandbox", "exec", slot, "--", "cat", "/etc/hosts")
    shop.say("resolve", "done")
    assert run.wait(within=60) == 3, run.said()  # nobody was told, so nothing was detected
    no_traceback(run.said())
    (undone,) = run.of(events.InjectionUndone)
    assert (undone.outcome, undone.by) == ("taken-over", "fixer")


@pytest.mark.parametrize("stage", ["bringing up", "in force"])
def test_a_runner_that_is_killed_leaves_nothing(
    shop: Terminal, outside: Docker, stage: str
) -> None:
    before = outside.left()
    run = shop.start("quick.yaml", "--fixers", "people")
    if stage == "bringing up":
        wait_until(lambda: outside.left() != before, "something comes up", within=30)
    else:
        wait_until(lambda: bool(outside.dead()), "the fault is in force", within=60)
    run.process.send_signal(signal.SIGKILL)
    killed = time.time()
    (drill,) = list_drills(shop.cwd)
    wait_until(
        lambda: not read_undo_log(drill.undo, drill.recovery).outstanding, "undone", within=20
    )
    undone = [
        each for each in read_undo_log(drill.undo, drill.recovery).undone if each.id != "sandbox"
    ]
    assert bool(undone) == (stage == "in force")
    assert all(0.0 < each.wall - killed < 2.0 for each in undone)
    assert shop.gameday("debrief", drill.id).returncode == 0


def test_a_project_that_is_there_already_is_refused(
    shop: Terminal, outside: Docker, base_image: str
) -> None:
    text = QUICK.replace("app: shop}", "app: shop, project: not-ours}")
    (shop.cwd / "quick.yaml").write_text(text)
    made = outside.say(
        *("run", "-d", "--label", "com.docker.compose.project=not-ours", base_image, "sleep", "60")
    )
    try:
        done = shop.gameday("run", "quick.yaml")
        no_traceback(done.stdout, done.stderr)
        assert "not ours to remove" in done.stdout + done.stderr
        assert outside.say("inspect", "-f", "{{.State.Running}}", made) == "true"
    finally:
        outside.say("rm", "-fv", made)


def test_a_label_is_a_target(shop: Terminal) -> None:
    """Two of the three that carry it, and the blast radius holds; the same two in plan and drill."""
    text = QUICK.replace("{service: api, count: 1}", "{label: owner=shop-api, share: 60%}")
    text = text.replace("duration: 20s", "duration: 8s").partition("fixers:")[0]
    (shop.cwd / "quick.yaml").write_text(text + "blast_radius: {at_most: 2 of 3}\n")
    planned = shop.gameday("run", "quick.yaml", "--seed", "3", "--dry-run", "--json")
    wanted = {each["target"] for each in json.loads(planned.stdout)["injections"]}
    assert len(wanted) == 2
    assert all(target.startswith("api-") for target in wanted)
    done = shop.gameday("run", "quick.yaml", "--seed", "3", timeout=180)
    no_traceback(done.stdout, done.stderr)
    assert done.returncode == 3, done.stdout + done.stderr  # nobody was told: nothing was detected
    (drill,) = list_drills(shop.cwd)
    found = json.loads(drill.debrief("json").read_text())["injections"]
    assert {each["target"] for each in found} == wanted
    assert {each["how"] for each in found} == {"put-back"}


def test_what_did_not_opt_in_is_no_target(shop: Terminal, outside: Docker, base_image: str) -> None:
    """Attached by a label: a container with it, but without the opt-in, does not exist for a drill."""
    text = QUICK.replace("app: shop}", "label: app=mine}").replace("service: api", "service: web")
    (shop.cwd / "quick.yaml").write_text(text)
    run = ("run", "-d", "--label", "app=mine", "--label", "gameday.service=web")
    made = outside.say(*run, base_image, "sleep", "60")
    try:
        done = shop.gameday("run", "quick.yaml", "--dry-run")
        no_traceback(done.stdout, done.stderr)
        assert done.returncode == 2
        assert "matches nothing" in done.stderr
        (shop.cwd / "quick.yaml").write_text(text.replace("service: web", "label: app=mine"))
        done = shop.gameday("run", "quick.yaml", "--dry-run")
        assert done.returncode == 2
        assert "no slot of the sandbox has the label 'app=mine'" in done.stderr
    finally:
        outside.say("rm", "-fv", made)


def test_an_engine_that_is_not_there_is_told(
    shop: Terminal, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DOCKER_HOST", f"unix://{shop.cwd}/no.sock")
    done = shop.gameday("run", "quick.yaml")
    no_traceback(done.stdout, done.stderr)
    assert done.returncode == 3, done.stdout + done.stderr
    assert "does not answer" in done.stdout + done.stderr
    assert "docker info" in done.stdout + done.stderr
