"""The stage's real effects, on real processes: who measures keeps off the CPU that burns, and a refusal."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from random import Random

import anyio
import pytest

from gameday.drills import state
from gameday.drills.affinity import Affinity
from gameday.drills.conclusion import conclude
from gameday.drills.folder import list_drills
from gameday.drills.pages import DrillPages
from gameday.drills.production import produce
from gameday.drills.runner import Runner, Stage
from gameday.drills.stage import Options, run_drill
from gameday.drills.standby import Standby
from gameday.drills.view import View
from gameday.injectors.errors import Refused
from gameday.injectors.sandbox import process
from gameday.injectors.sandbox.fake import FakeSandbox
from gameday.scenarios.load import load_scenario
from gameday.scoring import events
from tests import little_drill
from tests.simulation import MemoryJournal, MemoryUndo, _Prober, scenario
from tests.small_sandbox import sandbox, small

pytestmark = pytest.mark.sandbox


@pytest.fixture
def ours() -> Iterator[Affinity]:
    """Our CPUs, with a load that is only asleep."""
    affinity = Affinity()
    load = subprocess.Popen([sys.executable, "-S", "-c", "import time; time.sleep(60)"])
    affinity.load_pid = load.pid
    yield affinity
    affinity.restore()
    load.kill()
    load.wait()


@pytest.mark.alone
def test_runner_and_load_leave_the_cpu_that_burns_and_return(
    tmp_path: Path, ours: Affinity
) -> None:
    if len(ours.cpus) < 2:
        pytest.skip("there is no other CPU to go to")
    seen: list[tuple[str, set[int], set[int]]] = []
    burnt: set[int] = set()

    async def run() -> str:
        async with sandbox(small(tmp_path), tmp_path) as box:
            box.drill = "burn"
            burn = {"at": "500ms", "inject": "cpu.burn", "workers": 2, "lasts": "1s"}
            played = scenario(
                duration="3s",
                faults=[burn | {"target": {"slot": "back-1"}}],
                alerts=[],
                hypotheses=[],
            )

            def note(event: events.Event) -> None:
                if isinstance(event, events.PhaseBegan):
                    who = os.sched_getaffinity(0), os.sched_getaffinity(ours.load_pid)
                    seen.append((event.phase, *who))

            async def watch(runner: Runner) -> None:
                while not burnt:
                    cpus = await box.cpu.burning()
                    if cpus and os.sched_getaffinity(0) != ours.cpus:
                        seen.append(
                            (
                                "burning",
                                os.sched_getaffinity(0),
                                os.sched_getaffinity(ours.load_pid),
                            )
                        )
                        burnt.update(cpus)
                    await anyio.sleep(0.02)

            steady = FakeSandbox({"gateway": 1})
            stage = Stage(
                box=box,
                journal=MemoryJournal(),
                undo=MemoryUndo(),
                pages=DrillPages("burn", "SEV-3", [], lambda: 0.0),
                watchers={"probe": _Prober("availability", steady, Random(1)).run, "look": watch},
                keep_off=ours.keep_off,
                listeners=[note],
            )
            runner = Runner(played, stage, seed=1, zero=anyio.current_time())
            why = await runner.run()
            assert runner.steady_after
            assert process.process_id(os.getpid()) is not None
            return why

    assert anyio.run(run) == "hard-stop"
    (burning,) = [each for each in seen if each[0] == "burning"]
    assert burning[1] == burning[2] == ours.cpus - burnt
    (reverting,) = [each for each in seen if each[0] == "reverting"]
    assert reverting[1] == reverting[2] == ours.cpus  # given back when the fault was over


def test_where_every_cpu_burns_nobody_moves(ours: Affinity) -> None:
    ours.keep_off(frozenset(ours.cpus))
    assert os.sched_getaffinity(0) == ours.cpus


def test_a_load_that_has_ended_is_no_reason_to_stop(ours: Affinity) -> None:
    gone = subprocess.Popen([sys.executable, "-S", "-c", ""])
    gone.wait()
    ours.load_pid = gone.pid
    ours.keep_off(frozenset(list(ours.cpus)[:1]))
    ours.keep_off(frozenset())
    assert os.sched_getaffinity(0) == ours.cpus


def test_where_the_watchdog_is_stopped_the_drill_is_refused_and_its_record_says_so(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("GAMEDAY_STATE", str(tmp_path / "state"))
    path = little_drill.lay_out(tmp_path / "drill", little_drill.scenario())
    production = produce(load_scenario(path), {}, {})
    began = time.monotonic()
    with Standby.start() as standby:
        os.kill(standby.pid, signal.SIGSTOP)
        with pytest.raises(Refused, match="does not stand: it is stopped") as refused:
            anyio.run(run_drill, production, Options(tmp_path, seed=1), View(), standby)
    assert time.monotonic() - began < 20
    (folder,) = list_drills(tmp_path)
    found = conclude(folder)
    problem, _, ended = found.events[-3:]
    assert isinstance(problem, events.Problem)
    assert problem.what == str(refused.value)
    assert isinstance(ended, events.DrillEnded)
    assert ended.why == "refused"
    assert found.score.exit_code == Refused.exit_code
    told = folder.debrief("md").read_text()
    assert "not begun: it was refused" in told
    assert "the runner died" not in told
    assert state.open_drills() == []
