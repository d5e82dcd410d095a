"""Gameday's own bugs: whatever raises, everything is put back, recorded, and told in one line."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from gameday.drills.folder import list_drills
from gameday.drills.undo_log import read_undo_log
from tests.commands import Terminal, assert_nothing_left, leftovers, no_traceback
from tests.little_drill import lay_out, scenario

pytestmark = pytest.mark.sandbox

PLANT = """
import importlib.abc, importlib.machinery, os, sys

module, _, rest = os.environ["GAMEDAY_TEST_BUG"].partition(":")
path, _, after = rest.partition(" ")

def planted(*args, **kwargs):
    planted.calls += 1
    if planted.calls > int(after or 0):
        raise eval(os.environ.get("GAMEDAY_TEST_RAISES", "RuntimeError"))("planted")
    return planted.real(*args, **kwargs)

planted.calls = 0

class Planter(importlib.abc.MetaPathFinder):
    def find_spec(self, name, where, target=None):
        if name != module:
            return None
        spec = importlib.machinery.PathFinder.find_spec(name, where)
        run = spec.loader.exec_module
        def exec_module(made):
            run(made)
            holder, names = made, path.split(".")
            for each in names[:-1]:
                holder = getattr(holder, each)
            planted.real = getattr(holder, names[-1])
            setattr(holder, names[-1], planted if holder is made else lambda *a, **k: planted(*a, **k))
        spec.loader.exec_module = exec_module
        return spec

if not any("watchdog" in word or "supervisor" in word for word in sys.orig_argv):
    sys.meta_path.insert(0, Planter())
"""

BEFORE = (
    "gameday.scenarios.load:load_scenario",
    "gameday.drills.production:plan_drill",
    "gameday.injectors.faults.process_kill:ProcessKill.plan",
)
DURING = (
    "gameday.injectors.faults.process_kill:ProcessKill.plan 2",
    "gameday.injectors.faults.process_kill:ProcessKill.inject",
    "gameday.injectors.faults.process_kill:ProcessKill.look",
    "gameday.drills.director:advance 3",
    "gameday.drills.monitor:Monitor.observe 10",
    "gameday.drills.probes:Probe.run",
    "gameday.drills.alerts:Alerts.fire",
    "gameday.drills.pages:DrillPages.fire",
    "gameday.drills.channels.file:File.send",
    "gameday.drills.channels.terminal:Terminal.send",
    "gameday.drills.live:PlainView.observe 8",
    "gameday.drills.live:PlainView._write 8",
    "gameday.drills.stage:_Play._strike",
    "gameday.drills.stage:_Play._close",
    "gameday.drills.fixers:ScriptedFixer.run",
    "gameday.drills.injections:Injections.undo_all",
    "gameday.drills.armed_injection:ArmedInjection.difference",
    "gameday.drills.journal:Journal.append 20",
    "gameday.drills.undoing:undo_one",
)
AFTER = (
    "gameday.scoring.scorer:score",
    "gameday.scoring.render.html:to_html",
    "gameday.scoring.findings:findings",
    "gameday.drills.verdict:show_verdict",
)


def fails(terminal: Terminal, bug: str, raises: str = "RuntimeError") -> None:
    """Play a drill with that bug: 70, the bug in one line, and where to report it."""
    where = terminal.cwd / "planted"
    where.mkdir()
    (where / "sitecustomize.py").write_text(PLANT)
    fixers = "fixers: {scripted: {reaction: 300ms, steps: [ack]}}\n"
    path = lay_out(terminal.cwd, scenario() + fixers)
    env = {"PYTHONPATH": str(where), "GAMEDAY_TEST_BUG": bug, "GAMEDAY_TEST_RAISES": raises}
    done = terminal.gameday("run", path, env=env)
    no_traceback(done.stdout, done.stderr)
    assert done.returncode == 70, done.stderr + done.stdout
    assert "planted" in done.stderr
    assert "Please report it at" in done.stderr


def nothing_is_left(terminal: Terminal) -> None:
    for drill in list_drills(terminal.cwd):
        assert_nothing_left(terminal, drill.id)
        assert not leftovers(drill.id)
        read = read_undo_log(drill.undo, drill.recovery)
        assert not read.outstanding
        assert not read.problems


@pytest.mark.parametrize("bug", BEFORE)
def test_before_the_drill(terminal: Terminal, bug: str) -> None:
    fails(terminal, bug)
    assert list_drills(terminal.cwd) == []


@pytest.mark.short_form(
    "gameday.drills.director:advance 3",
    "gameday.drills.injections:Injections.undo_all",
    "gameday.drills.journal:Journal.append 20",
    "gameday.drills.live:PlainView.observe 8",
    "gameday.drills.monitor:Monitor.observe 10",
    "gameday.injectors.faults.process_kill:ProcessKill.look",
)
@pytest.mark.parametrize("bug", DURING)
def test_in_the_drill(terminal: Terminal, bug: str) -> None:
    fails(terminal, bug)
    nothing_is_left(terminal)
    (drill,) = list_drills(terminal.cwd)
    assert terminal.gameday("debrief", drill.id).returncode == 0
    if "Journal" not in bug:  # which could not write it down
        assert "planted" in drill.debrief("md").read_text()


@pytest.mark.short_form("inject-KeyboardInterrupt", "look-__import__('asyncio').CancelledError")
@pytest.mark.parametrize(
    "raises",
    ["SystemExit", "KeyboardInterrupt", "GeneratorExit", "__import__('asyncio').CancelledError"],
)
@pytest.mark.parametrize("verb", ["inject", "look"])
def test_a_fault_that_would_end_the_process(terminal: Terminal, verb: str, raises: str) -> None:
    fails(terminal, f"gameday.injectors.faults.process_kill:ProcessKill.{verb}", raises)
    nothing_is_left(terminal)
    (drill,) = list_drills(terminal.cwd)
    assert "planted" in drill.debrief("md").read_text()


def test_a_fault_that_would_end_the_process_as_it_is_planned(terminal: Terminal) -> None:
    bug = "gameday.injectors.faults.process_kill:ProcessKill.plan"
    fails(terminal, bug, "SystemExit")
    assert list_drills(terminal.cwd) == []


@pytest.mark.short_form("gameday.scoring.scorer:score")
@pytest.mark.parametrize("bug", AFTER)
def test_after_the_drill(terminal: Terminal, bug: str) -> None:
    """The record is whole: a version without the bug writes the debrief."""
    fails(terminal, bug)
    nothing_is_left(terminal)
    (drill,) = list_drills(terminal.cwd)
    assert terminal.gameday("debrief", drill.id).returncode == 0
    assert Path(drill.debrief("html")).exists()


_MOVES = """
import sys
from gameday.drills.watchdog import Watchdog
Watchdog.extend = lambda self, seconds: print(f"extended by {seconds:g} s", file=sys.stderr)
from gameday.__main__ import main
main()
"""


def test_each_undo_moves_the_limit_of_the_watchdog(terminal: Terminal) -> None:
    path = lay_out(terminal.cwd, scenario())
    done = subprocess.run(
        [sys.executable, "-c", _MOVES, "run", str(path)],
        cwd=terminal.cwd,
        env=terminal.environment(None),
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert done.stderr.count("extended by 60 s") == 1, done.stderr
