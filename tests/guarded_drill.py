"""A drill that a watchdog guards: its folder, its sandbox, a process to be paused, and a runner."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import textwrap
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path

import anyio
import anyio.to_thread
import pytest

from gameday.drills import state
from gameday.drills.folder import DrillFolder
from gameday.drills.undo_log import read_undo_log
from gameday.injectors.sandbox.fake import FakeSandbox
from gameday.injectors.sandbox.process import is_alive, is_stopped, process_id
from gameday.injectors.undo import ProcessId

LINKS = ("gateway-1->api-1", "gateway-1->api-2")


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GAMEDAY_STATE", str(tmp_path / "state"))


def identify(pid: int) -> ProcessId:
    found = process_id(pid)
    assert found is not None
    return found


def spawn(*argv: str, **options: object) -> subprocess.Popen[bytes]:
    return subprocess.Popen(argv, stdout=subprocess.PIPE, **options)  # type: ignore[call-overload,no-any-return]


@dataclass
class Scene:
    """A drill's folder, a fake sandbox in a file, and a real process to be paused."""

    folder: DrillFolder
    box: FakeSandbox
    target: subprocess.Popen[bytes]
    started: list[subprocess.Popen[bytes]] = field(default_factory=list)

    def run(self, body: str, **options: object) -> subprocess.Popen[bytes]:
        """A runner in a process of its own; returns once it has printed a line."""
        argv = [str(self.folder.path), self.box.ref.address, str(self.target.pid)]
        child = spawn(sys.executable, "-c", RUNNER + textwrap.dedent(body), *argv, **options)
        self.started.append(child)
        assert child.stdout is not None
        assert child.stdout.readline() == b"go\n"
        return child

    def log(self) -> str:
        return (self.folder.logs / "watchdog.log").read_text()

    def outstanding(self) -> list[str]:
        read = read_undo_log(self.folder.undo, self.folder.recovery)
        assert read.problems == ()
        return [armed.id for armed in read.outstanding]

    def toxics(self) -> int:
        return sum(len(link.toxics) for link in self.box.state.links.values())

    def all_is_put_back(self) -> bool:
        stopped = is_stopped(identify(self.target.pid))
        return not self.outstanding() and not self.toxics() and not stopped


RUNNER = textwrap.dedent("""
    import anyio, os, random, signal, sys, time
    from pathlib import Path
    from gameday.drills import state
    from gameday.drills.folder import DrillFolder
    from gameday.drills.undo_log import UndoLog
    from gameday.drills.watchdog import Watchdog
    from gameday.injectors.sandbox.base import Toxic
    from gameday.injectors.sandbox.kinds import connect
    from gameday.injectors.sandbox.fake import FakeSandbox
    from gameday.injectors.sandbox.process import process_id
    from gameday.injectors.undo import *

    folder, address, target = DrillFolder(Path(sys.argv[1])), sys.argv[2], int(sys.argv[3])
    box_ref = SandboxRef("fake", "shop", address)
    local_ref = SandboxRef("local", "shop", "/nowhere", {"tag": folder.id})
    me = process_id(os.getpid())
    who = process_id(target)

    async def stand(kind="fake", **options):
        watchdog = Watchdog.start(folder, me, kind=kind, **options)
        state.remember(state.OpenDrill(
            id=folder.id, folder=str(folder.path), runner=me, watchdog=watchdog.process))
        await watchdog.ready()
        return watchdog

    async def inject(log, box, name, link="gateway-1->api-1"):
        await log.arm(Armed(name, name, box_ref, (RemoveToxic(link, name),)))
        await box.links.add(link, Toxic("latency", name, {"delay": 1.0}))

    async def pause(log, name):
        step = SignalProcess("s", who, signal.SIGCONT)
        await log.arm(Armed(name, name, local_ref, (step,)))
        os.kill(target, signal.SIGSTOP)
""")


@pytest.fixture
def scene(tmp_path: Path) -> Iterator[Scene]:
    folder = DrillFolder.create(tmp_path, datetime.now())
    box = FakeSandbox(
        {"gateway": 1, "api": 2}, ["gateway->api"], name="shop", path=tmp_path / "box.json"
    )
    scene = Scene(folder, box, spawn("sleep", "300"))
    yield scene
    drills = [drill for drill in state.open_drills() if drill.watchdog is not None]
    for child in (scene.target, *scene.started):
        child.kill()
        child.communicate()
    for drill in drills:  # what a failed test left
        if drill.watchdog is not None and is_alive(drill.watchdog):
            os.kill(drill.watchdog.pid, signal.SIGKILL)


async def until(condition: Callable[[], bool], within: float = 20.0) -> float:
    """Wait for it; how long that took."""
    start = time.monotonic()
    with anyio.fail_after(within):
        while not condition():  # noqa: ASYNC110 - it happens in other processes
            await anyio.sleep(0.01)
    return time.monotonic() - start


def closed() -> bool:
    return state.open_drills() == []
