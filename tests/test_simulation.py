"""Random drills on virtual time, each verdict and each interval against the constructed truth."""

from __future__ import annotations

import math
import os
from random import Random
from typing import Any

import pytest

from gameday.injectors.errors import SandboxError
from gameday.injectors.sandbox.fake import FakeSandbox
from gameday.scoring import events
from gameday.scoring.score import Incident, Instant, Score, State, Timing, Verdict
from gameday.scoring.scorer import score
from tests.simulation import LINKS, SERVICES, Action, Simulation, scenario

DRILLS = int(os.environ.get("GAMEDAY_SIMULATIONS", "1000"))
BATCHES = 20
SLACK = 1e-6

TROUBLES = ("", "", "look", "fingerprint", "run_step", "inject", "list_slots")


def random_drill(seed: int) -> Simulation:
    """A drill with one fault that takes the entry down, and fixers who may act."""
    rng = Random(seed)
    at = rng.uniform(0.5, 3.0)
    fault: dict[str, Any] = {"at": f"{at:.3f}s"} | rng.choice(
        [
            {"inject": "process.kill", "target": {"service": "gateway"}},
            {"inject": "process.pause", "target": {"service": "gateway"}},
            {"inject": "net.blackhole", "target": {"link": "gateway->api"}},
            {"inject": "net.reset", "target": {"link": "gateway->api"}},
        ]
    )
    if rng.random() < 0.2:
        fault["lasts"] = f"{rng.uniform(0.5, 6.0):.3f}s"
    restarted = at + rng.uniform(0.2, 12.0)
    actions = [Action(at + rng.uniform(0.1, 4.0), "ack")] if rng.random() < 0.8 else []
    if rng.random() < 0.7:
        actions.append(Action(restarted, restart="gateway-1"))
        if rng.random() < 0.8:
            actions.append(Action(restarted + rng.uniform(0.0, 3.0), "resolve"))
    trouble = rng.choice(TROUBLES)

    def make_trouble(box: FakeSandbox) -> None:
        if trouble:
            box.fail(trouble, times=1, error=SandboxError("drawn by lot"))

    played = scenario(
        duration=f"{rng.uniform(8.0, 16.0):.2f}s",
        stabilise=f"{rng.uniform(0.5, 3.0):.2f}s",
        faults=[fault],
        hypotheses=[
            {
                "id": "detected",
                "claim": "It is detected.",
                "expect": f"time_to_detect <= {rng.uniform(0.5, 3.0):.3f}s",
            },
            {
                "id": "mitigated",
                "claim": "It is mitigated.",
                "expect": f"time_to_mitigate <= {rng.uniform(0.5, 9.0):.3f}s",
            },
        ],
    )
    heals = rng.uniform(0.3, 5.0) if rng.random() < 0.2 else None
    return Simulation(
        played, SERVICES, LINKS, actions, seed, heals_after=heals, trouble=make_trouble
    )


def contains(instant: Instant, truth: float) -> bool:
    return instant.low - SLACK <= truth <= instant.high + SLACK


def check_undone(drill: Simulation) -> None:
    """Every armed injection ended, and nothing was injected once the end had begun."""
    journal = drill.journal.events
    reverting = next(e.at for e in journal if getattr(e, "phase", "") == "reverting")
    armed = {e.injection.id for e in journal if isinstance(e, events.InjectionArmed)}
    ended = {e.injection for e in journal if isinstance(e, events.InjectionUndone)}
    assert armed == ended
    assert all(e.at <= reverting for e in journal if isinstance(e, events.InjectCalled))
    failed = [e for e in journal if isinstance(e, events.InjectionUndone) and e.outcome == "failed"]
    assert set(drill.undo.armed) <= {e.injection for e in failed}


def check_replay(drill: Simulation, found: Score) -> None:
    """What is read back from the disk scores the same."""
    lines = [events.encode(event) for event in drill.journal.events]
    assert score(drill.scenario, list(events.decode(lines))) == found


def check_instants(drill: Simulation, found: Score) -> None:
    """The truth lies inside the stated intervals, wherever they are stated."""
    for incident in found.incidents:
        impact = incident.instants.get("impact")
        if impact is None:
            continue
        down, up = min(drill.outages, key=lambda outage: abs(outage[0] - impact.high))
        assert contains(impact, down)
        restore = incident.instants.get("restore")
        if restore is not None and not incident.relapses:
            # Restored when the users are served again, and no fault is in force.
            assert restore.high + SLACK >= up
            if "mitigate" in incident.instants:  # not where it healed before anybody acted
                assert contains(incident.instants["mitigate"], up)


def check_timing(timing: Timing, truth: float) -> None:
    if timing.state is State.MEASURED:
        assert timing.low is not None
        assert timing.high is not None
        assert timing.low - SLACK <= truth <= timing.high + SLACK
    elif timing.state is State.CENSORED:
        assert timing.low is not None
        assert truth >= timing.low - SLACK


def check_verdicts(drill: Simulation, found: Score) -> None:
    """No verdict contradicts the truth; only what the bounds cannot tell is inconclusive."""
    if len(found.incidents) != 1 or "impact" not in found.incidents[0].instants:
        return
    incident = found.incidents[0]
    down, up = drill.outages[0]
    detect = incident.instants.get("detect")
    truths = {
        "detected": detect.high - down if detect else math.inf,
        "mitigated": up - detect.high if detect and _by_others(drill, up) else math.inf,
    }
    check_timing(incident.timings["time_to_detect"], truths["detected"])
    for verdict in found.hypotheses:
        limit = next(h for h in drill.scenario.hypotheses if h.id == verdict.id).comparison.value
        truth = truths[verdict.id]
        if verdict.verdict is Verdict.SUPPORTED and not _nothing_to_do(incident, verdict.id):
            assert truth <= limit + 0.25
        elif verdict.verdict is Verdict.REFUTED:
            assert truth > limit - 0.25


def _nothing_to_do(incident: Incident, hypothesis: str) -> bool:
    name = {"detected": "time_to_detect", "mitigated": "time_to_mitigate"}[hypothesis]
    return incident.timings[name].state is State.NOT_APPLICABLE


def _by_others(drill: Simulation, up: float) -> bool:
    """Did service come back by anything but our own undo?"""
    undone = [
        e
        for e in drill.journal.events
        if isinstance(e, events.InjectionUndone) and e.outcome == "put-back"
    ]
    return all(up < e.called for e in undone)


@pytest.mark.parametrize("batch", range(BATCHES))
def test_random_drills_against_the_constructed_truth(batch: int) -> None:
    for seed in range(batch, DRILLS, BATCHES):
        try:
            drill = random_drill(seed).run()
            found = score(drill.scenario, drill.journal.events)
            check_undone(drill)
            check_replay(drill, found)
            check_instants(drill, found)
            check_verdicts(drill, found)
        except Exception as error:
            error.add_note(f"replay it with random_drill({seed})")
            raise


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
