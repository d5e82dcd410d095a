"""An undo is proved: what it leaves behind is found, and said in the debrief and by the exit code."""

from __future__ import annotations

import os
import shutil
import textwrap
from pathlib import Path

import pytest

from gameday.scoring import events
from tests.commands import Terminal, assert_nothing_left, no_traceback

pytestmark = [pytest.mark.sandbox, pytest.mark.timeout(300)]

HERE = Path(__file__).parent
LEFT = {
    "paused": "process was running, is paused",
    "killed": "process was running, is gone",
    "stopped child": "stopped processes was 0, is 1",
    "hold": 'holds was [], is ["gameday-',
    "burners": 'burners was [], is ["gameday-',
    "pinned": "cpus was [[",
    "pinned child": "cpus was [[",
    "squeezed": "limit was [",
    "limited child": "limits of its processes was [",
    "file": 'files was [], is ["gameday-',
}
"""What a forgetful undo leaves at a slot, and the beginning of what is said of it."""


@pytest.fixture
def third_party(tmp_path: Path) -> dict[str, str]:
    """The environment in which the forgetful faults are installed."""
    info = tmp_path / "installed" / "leaving-1.0.dist-info"
    info.mkdir(parents=True)
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: leaving\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text(
        "[gameday.faults]\n"
        "leaves.behind = tests.leaving:LeavesBehind\n"
        "leaves.toxics = tests.leaving:LeavesToxics\n"
    )
    return {"PYTHONPATH": os.pathsep.join((str(info.parent), str(HERE.parent)))}


def declare(folder: Path, faults: str, *, replicas: int) -> Path:
    """A cluster whose processes have a child each, and a scenario that breaks it."""
    shutil.copy(HERE / "little" / "service.py", folder / "service.py")
    command = (
        '[sh, -c, "sleep 900 & exec {{ python }} {{ folder }}/service.py {{ port }} {{ data }}"]'
    )
    (folder / "cluster.yaml").write_text(
        textwrap.dedent(
            f"""
            name: little
            entry: front
            disk: 8MiB
            services:
              front:
                command: {command}
                health: {{http: /health, every: 200ms, start_within: 60s}}
                links: [back]
              back:
                command: {command}
                replicas: {replicas}
                health: {{http: /health, every: 200ms, start_within: 60s}}
            """
        )
    )
    path = folder / "forgetful.yaml"
    path.write_text(
        textwrap.dedent(
            """
            apiVersion: gameday/v1
            name: forgetful
            title: An undo forgets what its fault did
            sandbox: {file: cluster.yaml}
            duration: 4s
            stabilise: 1s
            slis: {availability: {path: /health, every: 100ms, good: status < 500, over: 1s}}
            steady_state: {availability: ">= 90%"}
            hypotheses: [{id: up, claim: It stays up., expect: availability >= 50%}]
            faults:
            """
        )
        + faults
    )
    return path


@pytest.mark.acceptance
def test_whatever_an_undo_leaves_behind_is_found_and_said(
    terminal: Terminal, third_party: dict[str, str]
) -> None:
    """One of each at a replica of its own; the steady state alone would show none of them."""
    pinnable = len(os.sched_getaffinity(0)) > 1
    wanted = {k: v for k, v in LEFT.items() if pinnable or not k.startswith("pinned")}
    kinds = ["nothing", *wanted]
    faults = "".join(
        f"  - {{at: 1s, inject: leaves.behind, target: {{slot: back-{number}}}, what: {kind}}}\n"
        for number, kind in enumerate(kinds, start=1)
    )
    faults += "  - {at: 1s, inject: leaves.toxics, target: {link: front-1->back-1}}\n"
    path = declare(terminal.cwd, faults, replicas=len(kinds))
    run = terminal.start(path, "--seed", "1", env=third_party)
    code = run.wait()
    no_traceback(run.said())
    debrief = run.debrief()
    assert code == debrief["drill"]["exit_code"] == 3, run.said()
    assert all(each["verdict"] == "supported" for each in debrief["hypotheses"]), "nobody noticed"

    checked = {event.injection: event for event in run.of(events.TargetChecked)}
    injections = {each["target"]: each for each in debrief["injections"]}
    assert len(checked) == len(injections) == len(kinds) + 1
    told = {
        finding["text"] for finding in debrief["findings"] if finding["id"] == "put-back-unhealthy"
    }
    assert run.folder is not None
    pages = [run.folder.debrief(form).read_text() for form in ("md", "html")]
    for number, kind in enumerate(kinds, start=1):
        target = f"back-{number}"
        injection = injections[target]
        check = checked[injection["id"]]
        said = [text for text in told if f"leaves.behind on {target} was put back" in text]
        if kind == "nothing":
            assert check.equal, check
            assert injection["healthy"]
            assert not said
            continue
        assert not check.equal, kind
        assert LEFT[kind] in check.detail, (kind, check.detail)
        assert not injection["healthy"]
        assert len(said) == 1, (kind, told)
        assert check.detail in said[0]
        assert all(f"leaves.behind on {target} was put back" in page for page in pages), kind
    link = checked[injections["front-1->back-1"]["id"]]
    assert not link.equal
    assert link.detail.startswith("toxics was []")
    assert_nothing_left(terminal, run.id)
