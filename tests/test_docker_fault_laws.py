"""Every fault on a real Docker Engine obeys the laws, and ends by hand and by itself."""

from __future__ import annotations

import subprocess
import time

import pytest

from gameday.injectors.laws import LAWS, Law, Trial
from gameday.injectors.sandbox import process
from gameday.injectors.sandbox.docker.driver import DockerSandbox
from tests.containers import (
    FILE,
    KINDS_HERE,
    Containers,
    box,
    containers,
    make,
    run,
    undo_by_hand,
)
from tests.engine import CLOCK
from tests.namespaces import no_packet_queue

pytestmark = [pytest.mark.docker, pytest.mark.timeout(180)]

__all__ = ["box", "containers"]

OF_EACH_MAKE = {
    *("process.kill", "cpu.burn", "net.latency", "container.remove", "file.corrupt"),
    "clock.skew",
}
"""Faults that are put back each in another way; `make acceptance` plays the others."""
EVERY_KIND = [
    pytest.param(kind, marks=() if kind in OF_EACH_MAKE else pytest.mark.acceptance)
    for kind in KINDS_HERE
]


@pytest.mark.parametrize("kind", EVERY_KIND)
@pytest.mark.parametrize("law", LAWS, ids=lambda law: law.__name__)
def test_containers_obey(law: Law, kind: str, box: DockerSandbox, containers: Containers) -> None:
    before = containers.inspected()
    run(law, Trial(box, make(kind), patience=30.0, places=(f"back-1:{FILE}", f"clock-1:{CLOCK}")))
    assert containers.inspected() == before
    assert not process.find_by_environment("GAMEDAY_SANDBOX", box.tag)


@pytest.mark.acceptance
@pytest.mark.parametrize("law", LAWS, ids=lambda law: law.__name__)
def test_latency_obeys_without_a_packet_queue(
    law: Law, box: DockerSandbox, containers: Containers
) -> None:
    front = run(box.find, "front-1")
    assert front is not None
    assert front.process is not None
    with no_packet_queue(front.process.pid):
        test_containers_obey(law, "net.latency", box, containers)


@pytest.mark.parametrize("kind", EVERY_KIND)
def test_what_is_printed_to_be_done_by_hand_undoes_it(
    kind: str, box: DockerSandbox, containers: Containers
) -> None:
    """Pasted into a shell, with the engine's client and, for a link, with Gameday's own."""
    undo_by_hand(make(kind), box, containers)


@pytest.mark.parametrize("kind", ["net.latency", "process.crashloop", "cpu.burn"])
def test_a_helper_ends_when_its_drill_is_gone(kind: str, containers: Containers) -> None:
    """Runner and watchdog dead, nobody to undo: what needs a helper ends by itself."""
    ref = DockerSandbox.plan_ref("orphan", label=containers.mark, where=containers.where)
    owner = subprocess.Popen(["sleep", "60"])
    who = process.process_id(owner.pid)
    assert who is not None
    made = run(DockerSandbox.connect, ref)
    made.owners = (who,)
    trial = Trial(made, make(kind), patience=30.0)
    image = run(trial.image)
    ((injection, _),) = run(trial.inject)
    assert process.find_by_environment("GAMEDAY_SANDBOX", "orphan")
    owner.kill()
    owner.wait()
    deadline = time.monotonic() + 5
    while process.find_by_environment("GAMEDAY_SANDBOX", "orphan"):
        assert time.monotonic() < deadline
        time.sleep(0.05)
    evidence = run(trial.fault.look, made, injection)
    assert not evidence.in_force
    run(trial.undo, [injection])
    run(trial.expect, image)
