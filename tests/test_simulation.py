"""Random drills on virtual time, each verdict and each interval against the constructed truth."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

from gameday.injectors.undo import Armed
from gameday.scoring import events
from gameday.scoring.score import State
from gameday.scoring.scorer import score
from tests.simulation import LINKS, SERVICES, MemoryUndo, Simulation, scenario
from tests.torture import simulate

DRILLS = int(os.environ.get("GAMEDAY_SIMULATIONS", "1000"))
LONG = 5
BATCHES = 20


@pytest.mark.parametrize("batch", range(BATCHES))
def test_random_drills_against_the_constructed_truth(batch: int) -> None:
    tally = simulate.campaign(range(batch, DRILLS, BATCHES))
    assert not tally.wrong, simulate.show(simulate.result(tally, long=0, seconds=0))
    assert tally.drills == len(range(batch, DRILLS, BATCHES))
    assert min(tally.events) >= simulate.FEWEST_EVENTS


@pytest.mark.parametrize("seed", range(LONG))
def test_drills_as_long_as_the_shipped_ones(seed: int) -> None:
    tally = simulate.campaign([seed], long=True)
    assert not tally.wrong, simulate.show(simulate.result(tally, long=1, seconds=0))


def test_a_seed_plays_the_same_drill_in_another_process() -> None:
    """Otherwise what fails could not be played again."""
    program = (
        "from tests.torture.simulate import random_drill; from gameday.scoring.events import encode;"
        "print([encode(e) for s in range(8) for e in random_drill(s).run().journal.events])"
    )
    said = [
        subprocess.run(
            [sys.executable, "-c", program],
            env=os.environ | {"PYTHONHASHSEED": seed},
            capture_output=True,
            check=True,
        ).stdout
        for seed in ("1", "2")
    ]
    assert said[0] == said[1]
    assert len(said[0]) > 10_000


def test_the_campaign_sees_what_does_not_hold(monkeypatch: pytest.MonkeyPatch) -> None:
    """A sandbox that forgets its undo, and a score that shifts an instant, are found."""

    async def nothing_done(self: object, step: object) -> object:
        from gameday.injectors.undo import Outcome, StepResult

        return StepResult(Outcome.PUT_BACK)

    monkeypatch.setattr("gameday.injectors.sandbox.fake.FakeSandbox.run_step", nothing_done)
    found = simulate.result(simulate.campaign(range(12)), long=0, seconds=0)
    assert found["wrong"]
    assert "--first" in found["wrong"][0]["again"]


class AbortsWhileArming(MemoryUndo):
    """Somebody asks to stop in the very moment in which an undo reaches the disk."""

    def __init__(self, drill: Simulation) -> None:
        super().__init__()
        self.drill = drill

    async def arm(self, record: Armed) -> None:
        await super().arm(record)
        assert self.drill.runner is not None
        self.drill.runner.abort("facilitator", "that is enough")


def test_nothing_is_injected_once_somebody_asked_to_stop() -> None:
    kill = {"at": "1s", "inject": "process.kill", "target": {"service": "gateway"}}
    drill = Simulation(scenario(faults=[kill]), SERVICES, LINKS)
    drill.undo = AbortsWhileArming(drill)
    drill.run()
    armed = [e for e in drill.journal.events if isinstance(e, events.InjectionArmed)]
    assert len(armed) == 1
    simulate.check_undone(drill)
    assert not drill.outages


def test_a_control_drill_finds_nothing() -> None:
    drill = Simulation(scenario(duration="20s", hypotheses=[]), SERVICES, LINKS).run()
    found = score(drill.scenario, drill.journal.events)
    assert found.ended == "control-over"
    assert found.exit_code == 0
    assert not found.incidents
    assert not found.alerts
    assert not [finding for finding in found.findings if finding.kind in ("poorly", "validity")]


def test_without_fixers_the_end_is_censored_and_the_hypothesis_refuted() -> None:
    kill = {"at": "1s", "inject": "process.kill", "target": {"service": "gateway"}}
    drill = Simulation(scenario(duration="40s", faults=[kill]), SERVICES, LINKS).run()
    found = score(drill.scenario, drill.journal.events)
    (incident,) = found.incidents
    assert incident.timings["time_to_mitigate"].state is State.CENSORED
    assert incident.timings["time_to_restore"].state is State.CENSORED
    assert found.exit_code == 1
    assert not drill.undo.armed
