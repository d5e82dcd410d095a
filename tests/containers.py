"""Containers as somebody starts them who has no Compose, as a sandbox, and faults on them."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path
from typing import Any, TypeVar

import anyio
import pytest

from gameday.injectors import registry
from gameday.injectors.fault import Fault, hits_links
from gameday.injectors.laws import Trial
from gameday.injectors.sandbox import process
from gameday.injectors.sandbox.docker.driver import DockerSandbox
from gameday.injectors.sandbox.kinds import KINDS, by_hand
from gameday.injectors.undo import (
    AllowFile,
    CreateContainer,
    RestoreClock,
    RestoreFile,
)
from tests.engine import CLOCK_SET

T = TypeVar("T")

LABEL = "gameday.test"
FILE = "/etc/debian_version"
PARAMETERS: dict[str, dict[str, object]] = {
    "process.crashloop": {"uptime": "300ms"},
    "cpu.burn": {"workers": 3},
    "disk.fill": {"leave": "64KiB"},
    "net.latency": {"delay": "50ms"},
    "net.bandwidth": {"rate": "1Mbit/s"},
    "net.loss": {"share": "10%"},
    "net.corrupt": {"share": "10%"},
    "net.duplicate": {"share": "10%"},
    "cpu.limit": {"cpus": 0.2},
    "memory.limit": {"size": "64MiB"},
    "container.stop": {"grace": "2s"},
    "file.corrupt": {"path": FILE},
    "file.deny": {"path": FILE},
    "clock.skew": {"offset": "1h"},
}
ONLY_OURS = CreateContainer | RestoreFile | AllowFile | RestoreClock
KINDS_HERE = [
    kind
    for kind in registry.known_kinds()
    if set(registry.fault_class(kind).needs) <= KINDS["docker"].parts
]
CLOCK_PROGRAM = """
import asyncio, select, threading, time

async def never():
    try:
        await asyncio.wait_for(asyncio.Event().wait(), 0.05)
    except asyncio.TimeoutError:
        pass

waits = (
    lambda: time.sleep(0.05),
    lambda: select.select([], [], [], 0.05),
    lambda: threading.Event().wait(0.05),
    lambda: asyncio.run(never()),
)
while True:
    for number, wait in enumerate(waits):
        begun = time.monotonic()
        wait()
        ended = time.monotonic()
        print(time.time(), ended, number, ended - begun, flush=True)
"""
"""Tells the time, and how long it waited for a twentieth of a second, each time in another way."""


def run(call: Callable[..., Awaitable[T]], *args: Any) -> T:
    return anyio.run(call, *args)


def flat(found: Any, path: str = "") -> Iterator[tuple[str, Any]]:
    """Each value by its path, so that a difference can be read."""
    if isinstance(found, dict | list) and found:
        for key, value in found.items() if isinstance(found, dict) else enumerate(found):
            yield from flat(value, f"{path}/{key}")
    else:
        yield path, found


class Containers:
    """A front and two backs, as somebody starts them who has no Compose."""

    def __init__(self, where: dict[str, str], image: str, folder: Path) -> None:
        self.where = where
        self.mark = f"{LABEL}={os.getpid()}"
        self.network = f"gameday-test-{os.getpid()}"
        self.image = image
        self.folder = folder
        self.names: list[str] = []
        source = Path(__file__).parent / "little"
        self.command: tuple[str, ...] = ("python3", "/little/service.py", "8000", "/data")
        self.options: tuple[str, ...] = ("--init", "--volume", f"{source}:/little:ro")

    def docker(self, *words: str) -> str:
        done = subprocess.run(
            ["docker", *words],
            env=os.environ | self.where,
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 0, (words, done.stderr)
        return done.stdout.strip()

    def start(
        self,
        service: str,
        number: int,
        *words: str,
        opted_in: bool = True,
        command: tuple[str, ...] = (),
        network: str = "",
    ) -> str:
        name = f"{self.network}-{service}-{number}"
        labels = [f"gameday.service={service}", self.mark, "gameday.data=/data"]
        if opted_in:
            labels.append("gameday.sandbox=true")
        self.docker(
            *("run", "--detach", "--env", "HOST=0.0.0.0", "--name", name),
            *("--network", network or self.network, "--tmpfs", "/data:size=8m", *self.options),
            *(part for label in labels for part in ("--label", label)),
            *(*words, self.image, *(command or self.command)),
        )
        self.names.append(name)
        return name

    def start_clock(
        self, service: str = "clock", *words: str, program: str = CLOCK_PROGRAM, **other: str
    ) -> str:
        """A program that lets its clock be set; ``other`` variables, none where they are empty."""
        given = {name: value for name, value in (CLOCK_SET | other).items() if value}
        variables = (part for name in given for part in ("--env", f"{name}={given[name]}"))
        return self.start(service, 1, *variables, *words, command=("python3", "-c", program))

    def __enter__(self) -> Containers:
        self.docker("network", "create", self.network)
        self.start("front", 1, "--label", "gameday.links=back")
        self.start("back", 1, "--label", "gameday.links=")
        self.start("back", 2, "--label", "gameday.links=")
        return self

    def __exit__(self, *exc: object) -> None:
        self.docker("rm", "--force", "--volumes", *self.names)
        self.docker("network", "rm", self.network)

    def inspected(self) -> Any:
        """All that the engine says of the containers and their network, identity apart."""
        text = self.docker("inspect", *self.names)
        for one in json.loads(text):
            text = text.replace(one["Id"], "id").replace(one["Id"][:12], "id")
        found = json.loads(text)
        for one in found:
            for key in ("Created", "GraphDriver"):
                one.pop(key)
            one["Mounts"].sort(key=lambda mount: str(mount["Destination"]))
            for key in ("Pid", "StartedAt", "FinishedAt", "ExitCode", "Error", "Health"):
                one["State"].pop(key, None)
            one["NetworkSettings"].pop("SandboxID")
            one["NetworkSettings"].pop("SandboxKey")
            for network in one["NetworkSettings"]["Networks"].values():
                for key in ("EndpointID", "IPAddress", "MacAddress"):
                    network.pop(key)
        return dict(flat(found))


@pytest.fixture(scope="module")
def containers(
    docker: dict[str, str], base_image: str, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Containers]:
    with Containers(docker, base_image, tmp_path_factory.mktemp("docker")) as made:
        made.start_clock()
        yield made


@pytest.fixture(scope="module")
def box(containers: Containers) -> DockerSandbox:
    """The sandbox, attached by a label."""
    return attach(containers)


def attach(containers: Containers) -> DockerSandbox:
    ref = DockerSandbox.plan_ref(
        f"gameday-test-{os.getpid()}",
        label=containers.mark,
        deeds=containers.folder / "deeds.jsonl",
        where=containers.where,
    )
    made = run(DockerSandbox.connect, ref)
    me = process.process_id(os.getpid())
    assert me is not None
    made.owners = (me,)
    return made


def make(kind: str, **parameters: object) -> Fault:
    found = registry.fault_class(kind)
    # Without Compose, which of two backs it is depends on the other: only the front can be removed.
    slot = {"container.remove": "front-1", "clock.skew": "clock-1"}.get(kind, "back-1")
    target = {"link": "front->back-1"} if hits_links(found) else {"slot": slot}
    given = {"target": target} | PARAMETERS.get(kind, {}) | parameters
    return found.of(given)


def undo_by_hand(fault: Fault, box: DockerSandbox, containers: Containers) -> None:
    shell = os.environ | containers.where
    shell["PATH"] = f"{Path(sys.executable).parent}:{shell['PATH']}"
    trial = Trial(box, fault, patience=30.0)
    image = run(trial.image)
    ((injection, _),) = run(trial.inject)
    for step in injection.undo:
        if isinstance(step, ONLY_OURS):  # `gameday recover` alone knows what it was
            assert by_hand(step, box.ref) == "gameday recover"
            run(box.run_step, step)
            continue
        done = subprocess.run(
            ["bash", "-c", by_hand(step, box.ref)],
            env=shell,
            capture_output=True,
            text=True,
        )
        assert done.returncode == 0, (by_hand(step, box.ref), done.stdout, done.stderr)
    run(trial.expect, image)
