"""What is watched beside a drill: a host that slept, or a runner that stood still, is noticed and said."""

from __future__ import annotations

import os
import signal
import subprocess
import time
from collections.abc import AsyncIterator, Callable
from datetime import UTC, datetime
from pathlib import Path
from types import SimpleNamespace
from typing import cast

import anyio
import msgspec
import pytest

from gameday.drills import state
from gameday.drills.folder import DrillFolder
from gameday.drills.recover import check_recovered, recover
from gameday.drills.runner import Runner
from gameday.drills.stop_signals import StopSignals
from gameday.drills.undo_log import UndoLog
from gameday.drills.watchers import watch_changes, watch_machine, watch_pace
from gameday.injectors.errors import SandboxGone
from gameday.injectors.sandbox.base import Change
from gameday.injectors.sandbox.process import is_stopped, process_id
from gameday.injectors.undo import Armed, Outcome, ProcessId, SandboxRef, SignalProcess, TearDown
from gameday.scoring import events
from gameday.scoring.debrief import debrief
from gameday.scoring.render.markdown import to_markdown
from gameday.scoring.score import State, Verdict
from gameday.scoring.scorer import score
from tests.commands import Terminal, assert_nothing_left
from tests.little_drill import lay_out
from tests.little_drill import scenario as little
from tests.simulation import LINKS, SERVICES, Action, Simulation, scenario


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GAMEDAY_STATE", str(tmp_path / "state"))


class Slept(Simulation):
    """The host sleeps for two hours, eight seconds after the start (of the axis that stands still)."""

    at = 8.0

    async def _watch(self, runner: Runner) -> None:
        def asleep() -> float:
            return 40.0 + (7200.0 if runner.now() >= self.at else 0.0)

        await watch_machine(StopSignals(), runner, asleep)


def test_a_host_that_slept_is_noticed_and_no_figure_spans_it() -> None:
    kill = {"at": "3s", "inject": "process.kill", "target": {"service": "gateway"}}
    actions = [Action(5.5, "ack"), Action(9.0, restart="gateway-1"), Action(10.0, "resolve")]
    for kind, voids in ((Slept, True), (Simulation, False)):
        drill = kind(scenario(duration="40s", faults=[kill]), SERVICES, LINKS, actions).run()
        slept = [e for e in drill.journal.events if isinstance(e, events.Suspended)]
        assert [e.seconds for e in slept] == ([7200.0] if voids else [])
        found = score(drill.scenario, drill.journal.events)
        (incident,) = found.incidents
        mitigated = incident.timings["time_to_mitigate"]
        assert mitigated.state is (State.UNKNOWN if voids else State.MEASURED)
        # It was over before the host slept.
        assert incident.timings["time_to_detect"].state is State.MEASURED
        verdicts = {each.id: each.verdict for each in found.hypotheses}
        assert verdicts["mitigated"] is (Verdict.INCONCLUSIVE if voids else Verdict.SUPPORTED)
        text = to_markdown(debrief(drill.scenario, drill.journal.events, found))
        assert ("suspended" in text.lower() or "slept" in text.lower()) is voids


def burn(seconds: float) -> None:
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        pass


def paced(hold: Callable[[float], None], seconds: float, late: float) -> list[events.Event]:
    """What is journalled where ``hold`` keeps the event loop from running for so long."""
    told: list[events.Event] = []

    def abort(by: str, why: str) -> None:
        told.append(events.AbortAsked(at=0.0, by=by, why=why))

    runner = SimpleNamespace(
        now=anyio.current_time,
        emit=told.append,
        abort=abort,
        direction=SimpleNamespace(ended=False, abort=""),
    )

    async def run() -> None:
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(watch_pace, cast(Runner, runner), late)
            await anyio.sleep(0.3)
            hold(seconds)
            await anyio.sleep(0.3)
            tasks.cancel_scope.cancel()

    anyio.run(run)
    return told


def test_a_runner_that_stands_still_notices_and_one_that_computes_does_not() -> None:
    (stop,) = paced(time.sleep, 2.6, late=60.0)
    assert isinstance(stop, events.Suspended)
    assert stop.who == "runner"
    assert stop.seconds == pytest.approx(2.6, abs=0.5)
    assert paced(burn, 2.6, late=60.0) == []


@pytest.mark.parametrize("hold", [time.sleep, burn])
def test_one_that_stood_still_for_longer_than_it_may_aborts(hold: Callable[[float], None]) -> None:
    stop, abort = paced(hold, 0.8, late=0.7)
    assert isinstance(stop, events.Suspended)
    assert isinstance(abort, events.AbortAsked)
    assert abort.by == "gameday"
    assert "the runner stood still for" in abort.why


@pytest.mark.sandbox
def test_where_runner_and_watchdog_stood_still_no_more_is_broken(terminal: Terminal) -> None:
    """Both are let go on after the watchdog's deadline; meanwhile the fault had come due."""
    path = lay_out(terminal.cwd, little(duration="30s", at="2s"))
    run = terminal.start(path)
    run.until_phase("running")
    (drill,) = (terminal.state / "drills").glob("[!.]*.json")
    watchdog = msgspec.json.decode(drill.read_bytes(), type=state.OpenDrill).watchdog
    assert watchdog is not None
    both = (run.process.pid, watchdog.pid)
    for pid in both:
        os.kill(pid, signal.SIGSTOP)
    time.sleep(5.5)
    for pid in both:
        os.kill(pid, signal.SIGCONT)
    assert run.wait() == 4, run.said()
    assert [each.who for each in run.of(events.Suspended)] == ["runner"]
    assert [each.by for each in run.of(events.AbortAsked)] == ["gameday"]
    assert run.of(events.InjectCalled) == []
    assert_nothing_left(terminal, run.id)


@pytest.mark.sandbox
def test_after_a_reboot_nobody_elses_process_is_touched(tmp_path: Path) -> None:
    """The same pid, even the same start time: but of another boot."""
    sleeper = subprocess.Popen(["sleep", "60"])
    try:
        here = process_id(sleeper.pid)
        assert here is not None
        os.kill(sleeper.pid, signal.SIGSTOP)
        before = ProcessId("the boot before", here.pid, here.started)
        ref = SandboxRef("local", "local:/nowhere", str(tmp_path / "nowhere"), {"tag": "gone"})
        folder = DrillFolder.create(tmp_path, datetime(2026, 1, 1, tzinfo=UTC))
        log = UndoLog(folder.undo)
        undo = Armed("i1", "process.pause on api-1", ref, (SignalProcess("api-1", before, 18),))

        async def arm() -> None:
            await log.arm(Armed("sandbox", "the sandbox", ref, (TearDown("gone"),)))
            await log.arm(undo)

        anyio.run(arm)
        log.close()
        opened = state.OpenDrill(
            id=folder.id, folder=str(folder.path), runner=before, sandbox=ref, clock=1.0
        )
        state.remember(opened)
        assert "has died, and 2 things are not put back yet" in state.outstanding_message()
        for _ in range(2):
            done = anyio.run(lambda: recover(folder, by="recover"))
        check_recovered(folder)
        assert all(each.outcome is not Outcome.FAILED for each in done)
        while not is_stopped(here):
            pass
        assert is_stopped(here)
    finally:
        sleeper.kill()
        sleeper.wait()


def test_a_sandbox_that_falls_silent_ends_the_drill() -> None:
    """Its supervisor was killed while nothing was broken yet: nobody else would ask it for a minute."""

    class Ended:
        async def changes(self) -> AsyncIterator[Change]:
            for _ in ():
                yield Change(0.0, "started")

    runner = SimpleNamespace(stage=SimpleNamespace(box=Ended()), zero=0.0)
    with pytest.raises(SandboxGone):
        anyio.run(watch_changes, cast(Runner, runner))
