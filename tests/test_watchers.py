"""What is watched beside a drill: a host that slept is noticed, said, and voids what spans it."""

from __future__ import annotations

import os
import signal
import subprocess
from collections.abc import AsyncIterator
from datetime import UTC, datetime
from pathlib import Path
from types import SimpleNamespace
from typing import cast

import anyio
import pytest

from gameday.drills import state
from gameday.drills.folder import DrillFolder
from gameday.drills.recover import check_recovered, recover
from gameday.drills.runner import Runner
from gameday.drills.stop_signals import StopSignals
from gameday.drills.undo_log import UndoLog
from gameday.drills.watchers import watch_changes, watch_machine
from gameday.injectors.errors import SandboxGone
from gameday.injectors.sandbox.base import Change
from gameday.injectors.sandbox.process import is_stopped, process_id
from gameday.injectors.undo import Armed, Outcome, ProcessId, SandboxRef, SignalProcess, TearDown
from gameday.scoring import events
from gameday.scoring.debrief import debrief
from gameday.scoring.render.markdown import to_markdown
from gameday.scoring.score import State, Verdict
from gameday.scoring.scorer import score
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
