"""The command that is printed for an undo step does what the step does, pasted into a shell."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

import anyio
import pytest

from gameday.injectors.laws import Trial
from gameday.injectors.sandbox import process
from gameday.injectors.sandbox.kinds import by_hand
from gameday.injectors.sandbox.local.cluster import Cluster
from gameday.injectors.sandbox.local.driver import LocalSandbox
from gameday.injectors.undo import TearDown
from tests.commands import leftovers, wait_until
from tests.test_faults_on_real_processes import CLUSTER, HERE, make, refused, run

pytestmark = pytest.mark.sandbox

DRILL = "20200101-00000{}-{:04x}"


def shell(command: str, tmp_path: Path) -> None:
    """As a person pastes it: in any folder, with `gameday` on the path, and of a dead drill."""
    path = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
    state = tmp_path / "state"
    done = subprocess.run(
        ["bash", "-c", command],
        cwd=tmp_path,
        env=os.environ | {"PATH": path, "GAMEDAY_STATE": str(state)},
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert done.returncode == 0, (command, done.stdout, done.stderr)


@pytest.fixture(scope="module")
def box(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LocalSandbox]:
    """The sandbox of a drill that does not run any more: as when something was not put back."""
    made = bring_up(tmp_path_factory.mktemp("little"))
    try:
        yield made
    finally:
        run(made.run_step, TearDown(made.ref.options["tag"]))


def bring_up(folder: Path, number: int = 0) -> LocalSandbox:
    ref = LocalSandbox.plan_ref(None, DRILL.format(number, os.getpid() % 65536))
    me = process.process_id(os.getpid())
    assert me is not None
    up = partial(
        LocalSandbox.up,
        Cluster.of(CLUSTER),
        ref,
        log_dir=folder,
        owners=[me],
        folder=Path(__file__).parent / "little",
    )
    return anyio.run(up)


@pytest.mark.parametrize("kind", HERE)
def test_what_is_printed_undoes_each_fault(
    kind: str, box: LocalSandbox, tmp_path: Path, needs: Callable[[bool, str], None]
) -> None:
    fault = make(kind)
    needs(not refused(box, fault), "this machine lacks what it needs")
    trial = Trial(box, fault, patience=30.0)
    image = run(trial.image)
    ((injection, _),) = run(trial.inject)
    try:
        for step in injection.undo:
            shell(by_hand(step, box.ref), tmp_path)
        assert not run(fault.look, box, injection).in_force
        run(trial.expect, image)
    finally:
        run(trial.undo, [injection])


@pytest.mark.parametrize("supervisor", ["well", "stopped", "dead"])
def test_what_is_printed_ends_a_sandbox(supervisor: str, tmp_path: Path) -> None:
    made = bring_up(tmp_path, number=1)
    tag = made.ref.options["tag"]
    try:
        found = process.find_by_environment("GAMEDAY_SANDBOX", tag)
        assert found
        if supervisor != "well":
            signal = 19 if supervisor == "stopped" else 9
            for each in supervisors(made.ref.address):
                os.kill(each, signal)
        words = by_hand(TearDown(tag), made.ref)
        if supervisor == "dead":  # without its supervisors it may be gone before: then it says so
            words += ' 2>said || grep -q "no sandbox .* stands" said'
        shell(words, tmp_path)
        wait_until(lambda: not leftovers(tag), "nothing is left")
    finally:
        run(made.run_step, TearDown(tag))


def supervisors(address: str) -> list[int]:
    found = []
    for entry in Path("/proc").iterdir():
        try:
            line = (entry / "cmdline").read_bytes()
        except OSError:
            continue
        if b"local.supervisor" in line and address.encode() in line:
            found.append(int(entry.name))
    return sorted(found, reverse=True)
