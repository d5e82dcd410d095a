"""Whole drills on a Compose project that they bring up, with what such projects have beside services."""

from __future__ import annotations

import pytest

from gameday.scoring import events
from tests.commands import Terminal
from tests.containers import Containers
from tests.engine import compose
from tests.own_engine import port
from tests.test_docker_attached import containers

pytestmark = [pytest.mark.docker, pytest.mark.acceptance, pytest.mark.timeout(180)]
__all__ = ["containers", "port"]

PROJECT = """\
services:
  db:
    image: {image}
    init: true
    command: [sleep, "600"]
    networks: {{back: {{aliases: [store, base]}}, front: }}
    volumes: [/kept]
    labels: {{gameday.sandbox: "true", gameday.entry: "true"}}
  exporter:
    image: {image}
    init: true
    command: [sleep, "600"]
    network_mode: service:db
networks: {{back: , front: }}
"""

SCENARIO = """\
apiVersion: gameday/v1
name: composed
title: A project with networks and a volume without a name
duration: 6s
stabilise: 200ms
sandbox: {{kind: docker, compose: compose.yaml}}
slis:
  up: {{address: "127.0.0.1:{port}", path: /, every: 100ms, over: 500ms}}
steady_state: {{up: ">= 1%"}}
faults:
{faults}
"""


class Project:
    """A terminal in whose folder the project lies."""

    def __init__(self, terminal: Terminal, image: str, port: int) -> None:
        self.terminal, self._image, self._port = terminal, image, port

    def write(self, *faults: str, without: str = "") -> None:
        lines = "\n".join(f"  - {{{fault}}}" for fault in faults)
        cwd = self.terminal.cwd
        (cwd / "s.yaml").write_text(SCENARIO.format(port=self._port, faults=lines))
        text = PROJECT.format(image=self._image)
        (cwd / "compose.yaml").write_text(text.replace(without, "") if without else text)


@pytest.fixture
def project(
    terminal: Terminal,
    containers: Containers,
    base_image: str,
    port: int,
    monkeypatch: pytest.MonkeyPatch,
) -> Project:
    monkeypatch.setenv("PATH", compose())
    return Project(terminal, base_image, port)


EXPORTER = PROJECT[PROJECT.index("  exporter") : PROJECT.index("networks: {{back: , ")]


def test_networks_have_the_names_of_the_file_and_no_volume_stays(
    project: Project, containers: Containers, base_image: str
) -> None:
    project.write(
        "at: 200ms, inject: net.disconnect, target: {service: db}, network: back, lasts: 1s",
        "at: 2s, inject: container.remove, target: {service: db}, lasts: 1s",
        without=EXPORTER.format(image=base_image),
    )
    before = containers.docker("volume", "ls", "-q")
    project.terminal.say("run", "s.yaml", "--dry-run")
    run = project.terminal.start("s.yaml", "--fixers", "people")
    assert run.wait() in (0, 1), run.said()
    assert [e.outcome for e in run.of(events.InjectionUndone)] == ["put-back"] * 2
    assert [e.detail for e in run.of(events.TargetChecked)] == ["", ""]
    assert containers.docker("volume", "ls", "-q") == before


def test_nobody_who_did_not_opt_in_stays_without_the_network_that_they_share(
    project: Project,
) -> None:
    project.write("at: 200ms, inject: process.kill, target: {service: db}")
    run = project.terminal.start("s.yaml", "--fixers", "people")
    assert run.wait() == 6, run.said()
    assert "exporter-1 uses the network of db-1, and would stay without" in run.said()
    assert not run.of(events.InjectCalled)
