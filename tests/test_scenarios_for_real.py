"""The shipped scenarios on real processes, through the command: what a team would run."""

from __future__ import annotations

import json
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import jsonschema
import pytest

from gameday.drills.folder import DrillFolder, list_drills
from gameday.drills.journal import read_journal
from gameday.drills.undo_log import read_undo_log
from gameday.scenarios.catalog import CATALOGUE
from gameday.scenarios.load import load_scenario
from gameday.scoring import events
from gameday.scoring.render.json import json_schema
from tests.commands import (
    Run,
    Terminal,
    assert_nothing_left,
    copy_scenario,
    no_traceback,
    wait_until,
    without,
)

pytestmark = [pytest.mark.sandbox, pytest.mark.slow, pytest.mark.timeout(300)]

FILES = {
    "debrief.html",
    "debrief.json",
    "debrief.md",
    "inbox.jsonl",
    "journal.jsonl",
    "junit.xml",
    "logs",
    "recovery.jsonl",
    "scenario.yaml",
    "undo.jsonl",
}
QUICKER = (
    ("at: 8s", "at: 3s"),
    ("reaction: 2s", "reaction: 1s"),
    ("stabilise: 5s", "stabilise: 3s"),
)
"""Edits that shorten a shipped scenario without changing what it is about."""


@dataclass
class Played:
    """A drill that is over."""

    code: int
    debrief: dict[str, Any]
    folder: DrillFolder

    @property
    def events(self) -> tuple[events.Event, ...]:
        return read_journal(self.folder.journal).events

    @property
    def incident(self) -> dict[str, Any]:
        """The one incident of the drill's own making; a blip of a busy machine is another."""
        broken = bool(self.debrief["injections"])
        found: list[dict[str, Any]] = [
            each
            for each in self.debrief["incidents"]
            if bool(each["injections"]) == broken and (broken or each["kind"] == "false-alarm")
        ]
        assert len(found) == 1, self.told()
        return found[0]

    @property
    def verdicts(self) -> dict[str, str]:
        return {each["id"]: each["verdict"] for each in self.debrief["hypotheses"]}

    def findings(self, kind: str) -> list[dict[str, Any]]:
        return [each for each in self.debrief["findings"] if each["kind"] == kind]

    def told(self) -> str:
        """For a failed assertion: all but the timeline."""
        rest = {key: value for key, value in self.debrief.items() if key != "timeline"}
        return json.dumps(rest, indent=1)

    @property
    def disturbed(self) -> bool:
        """The machine was too busy to say anything: by the drill's own account."""
        ids = {finding["id"] for finding in self.findings("validity")}
        busy = {"void-samples", "unhealthy-start", "pre-existing-alert", "suspended"}
        if ids & busy or self.debrief["drill"]["outcome"] == "aborted":
            return True
        called = min((each["called"] or 0.0 for each in self.debrief["injections"]), default=None)
        return called is not None and any(
            not incident["injections"] or incident["instants"]["impact"]["high"] < called
            for incident in self.debrief["incidents"]
        )


def play(terminal: Terminal, scenario: str | Path, *options: str) -> Played:
    """Run it to its end, with all that must hold of any drill."""
    done = terminal.gameday("run", scenario, "--json", *options, timeout=180)
    no_traceback(done.stderr)
    assert done.stdout, done.stderr
    debrief = json.loads(done.stdout)
    folder = list_drills(terminal.cwd)[0]
    assert folder.id == debrief["drill"]["id"]
    played = Played(done.returncode, debrief, folder)
    assert_sound(terminal, played)
    return played


def play_in_peace(terminal: Terminal, scenario: str | Path, *options: str) -> Played:
    """As `play`; once more if the drill itself says that the machine disturbed it."""
    played = play(terminal, scenario, *options)
    return play(terminal, scenario, *options) if played.disturbed else played


def assert_sound(terminal: Terminal, played: Played) -> None:
    """Of any drill: complete, valid, all put back, nothing left."""
    folder, debrief = played.folder, played.debrief
    assert {path.name for path in folder.path.iterdir()} >= FILES
    assert not folder.reserve.exists()
    jsonschema.validate(debrief, json_schema())
    assert json.loads(folder.debrief("json").read_text()) == debrief
    assert debrief["drill"]["exit_code"] == played.code
    ElementTree.parse(folder.junit)
    log = read_undo_log(folder.undo, folder.recovery)
    assert not log.outstanding
    assert not log.problems
    found = played.events
    assert [event.seq for event in found] == list(range(1, len(found) + 1))
    assert isinstance(found[-1], events.DrillEnded)
    armed = {
        event.injection.id: event.seq for event in found if isinstance(event, events.InjectionArmed)
    }
    for event in found:
        if isinstance(event, events.InjectCalled):
            assert armed[event.injection] < event.seq
    undone = [event for event in found if isinstance(event, events.InjectionUndone)]
    assert {event.injection for event in undone} == set(armed)
    fired = {event.page for event in found if isinstance(event, events.AlertFired)}
    assert {e.page for e in found if isinstance(e, events.AlertResolved)} == fired
    assert_nothing_left(terminal, folder.id)


# The five


@dataclass(frozen=True)
class Expected:
    """What must come of a shipped scenario with the scripted fixer."""

    refuted: set[str]
    hit: str
    fault: str
    quicker: bool = True


BROKEN = {
    "api-node-failure": Expected({"stays-available"}, "api-", "process.kill", quicker=False),
    "slow-store": Expected({"slow-node-is-contained"}, "api-", "net.latency"),
    "store-unreachable": Expected({"one-node-suffices"}, "api-", "net.blackhole"),
    "gateway-cpu-starved": Expected({"stays-fast-enough"}, "gateway", "cpu.burn"),
}


MARKS = {
    "slow-store": [pytest.mark.acceptance],
    "store-unreachable": [pytest.mark.acceptance],
    "gateway-cpu-starved": [pytest.mark.acceptance, pytest.mark.alone],
}


@pytest.mark.parametrize(
    "name", [pytest.param(name, marks=MARKS.get(name, ())) for name in sorted(BROKEN)]
)
def test_a_scenario_breaks_is_noticed_and_mended(terminal: Terminal, name: str) -> None:
    play_and_judge(terminal, name)


def play_and_judge(terminal: Terminal, name: str, *options: str, may_relapse: bool = False) -> None:
    """Play a shipped scenario, and judge what must come of it on any sandbox."""
    expected = BROKEN[name]
    scenario = copy_scenario(terminal.cwd, name, *QUICKER) if expected.quicker else name
    played = play_in_peace(terminal, scenario, *options)
    told = played.told()
    incident = played.incident
    instants, timings = incident["instants"], incident["timings"]

    # It really left its steady state, because of what was broken, and not before.
    assert incident["kind"] == "impact", told
    assert incident["injections"], told
    assert instants["impact"]["high"] >= instants["onset"]["low"], told
    assert played.debrief["impact"]["outside"][0] > 0.5, told
    for injection in played.debrief["injections"]:
        assert injection["fault"] == expected.fault
        assert injection["target"].startswith(expected.hit), told
        assert injection["took_effect"] is not None, told
        assert injection["how"] in ("put-back", "taken-over"), told
        assert injection["healthy"], told
    # It was noticed, and mended by the fixers.
    assert timings["time_to_detect"]["state"] == "measured", told
    assert timings["time_to_detect"]["source"] in ("monitoring", "customer"), told
    for key in ("time_to_acknowledge", "time_to_identify", "time_to_mitigate"):
        assert timings[key]["state"] == "measured", (key, told)
        assert timings[key]["low"] <= timings[key]["value"] <= timings[key]["high"]
    assert timings["time_to_mitigate"]["source"] == "fixers", told
    assert incident["relapses"] == 0 or may_relapse, told
    # What was believed, what was seen.
    beliefs = {each.id for each in load_scenario(CATALOGUE / f"{name}.yaml").scenario.hypotheses}
    assert set(played.verdicts) == beliefs
    assert {k for k, v in played.verdicts.items() if v == "refuted"} == expected.refuted, told
    assert set(played.verdicts.values()) == {"refuted", "supported"}, told
    assert played.debrief["drill"]["outcome"] == "resolved", told
    assert played.code == 1, told
    assert played.debrief["impact"]["requests"] > 50, told
    assert played.debrief["impact"]["failed"] > 0 or name == "slow-store", told
    assert "refuted" in {finding["id"] for finding in played.findings("poorly")}, told
    assert played.debrief["action_items"], told


def test_a_false_alarm_never_leaves_the_steady_state(terminal: Terminal) -> None:
    scenario = copy_scenario(
        terminal.cwd,
        "false-alarm",
        ("at: 5s", "at: 2s"),
        ("reaction: 2s", "reaction: 1s"),
        ("stabilise: 5s", "stabilise: 3s"),
    )
    played = play_in_peace(terminal, scenario)
    told = played.told()
    assert played.incident["kind"] == "false-alarm", told
    assert played.debrief["injections"] == []
    assert "impact" not in played.incident["instants"], told
    assert played.debrief["impact"]["outside"] == [0.0, 0.0], told
    timings = played.incident["timings"]
    assert timings["time_to_acknowledge"]["state"] == "measured", told
    assert timings["time_to_all_clear"]["state"] == "measured", told
    assert timings["time_to_mitigate"]["state"] == "not-applicable", told
    assert set(played.verdicts.values()) == {"supported"}, told
    assert played.debrief["drill"]["outcome"] == "all-clear", told
    assert played.code == 0, told
    # Declaring on suspicion, and looking, is never held against anybody.
    assert not played.findings("poorly"), told


# Controls


def write_control(folder: Path, seconds: int) -> Path:
    text = (CATALOGUE / "api-node-failure.yaml").read_text(encoding="utf-8")
    text = without(text, "faults", "reports", "fixers", "hints", "hypotheses", "abort_when")
    text = text.replace("duration: 2m", f"duration: {seconds}s").replace(
        "stabilise: 5s", "stabilise: 2s"
    )
    text += (
        "\nhypotheses:\n  - {id: steady, claim: Nothing happens., expect: availability >= 95%}\n"
    )
    path = folder / "control.yaml"
    path.write_text(text, encoding="utf-8")
    shutil.copytree(CATALOGUE / "runbooks", folder / "runbooks", dirs_exist_ok=True)
    return path


@pytest.mark.acceptance
def test_a_control_finds_nothing(terminal: Terminal) -> None:
    """Load, rules, probes, and no fault: no alert, no finding, nobody was needed."""
    scenario = write_control(terminal.cwd, 12)
    played = play(terminal, scenario)
    if played.code != 0:  # the machine's own noise is real; a control that cries wolf twice is ours
        played = play(terminal, scenario)
    told = played.told()
    assert played.code == 0, told
    assert played.debrief["drill"]["control"] is True
    assert played.debrief["drill"]["outcome"] == "control-over", told
    assert played.debrief["incidents"] == [], told
    assert not played.findings("poorly"), told
    assert not played.findings("surprise"), told
    assert not [e for e in played.events if isinstance(e, events.AlertFired)]
    buckets = [event for event in played.events if isinstance(event, events.LoadBucket)]
    assert sum(event.ok for event in buckets) > 20
    assert sum(event.failed for event in buckets) == 0
    assert sum(isinstance(event, events.Sample) for event in played.events) > 150
    assert_function_of_its_files(terminal, played)


def assert_function_of_its_files(terminal: Terminal, played: Played) -> None:
    """`gameday debrief` writes the same bytes again, also in another folder."""
    forms = [*(played.folder.debrief(form) for form in ("md", "html", "json")), played.folder.junit]
    before = [path.read_bytes() for path in forms]
    terminal.say("debrief", played.folder.id[-6:])
    assert [path.read_bytes() for path in forms] == before
    for path in forms:
        path.unlink()
    elsewhere = terminal.cwd / "elsewhere"
    shutil.copytree(played.folder.path, elsewhere)
    terminal.say("debrief", elsewhere)
    assert [(elsewhere / path.name).read_bytes() for path in forms] == before


@pytest.mark.acceptance
def test_nobody_comes(terminal: Terminal) -> None:
    """Without a fixer every duration that is still open at our own revert is censored."""
    scenario = copy_scenario(
        terminal.cwd,
        "api-node-failure",
        ("at: 8s", "at: 2s"),
        ("duration: 2m", "duration: 16s"),
        ("stabilise: 5s", "stabilise: 3s"),
        ("at: 25s", "at: 10s"),
        ("at: 60s", "at: 12s"),
        ("for 20s", "for 15s"),
        ("time_to_acknowledge <= 30s", "time_to_acknowledge <= 2s"),
        ("time_to_mitigate <= 60s", "time_to_mitigate <= 4s"),
    )
    played = play_in_peace(terminal, scenario, "--fixers", "people")
    told = played.told()
    timings = played.incident["timings"]
    assert timings["time_to_detect"]["state"] == "measured", told
    for key in ("time_to_acknowledge", "time_to_mitigate", "time_to_restore"):
        assert timings[key]["state"] == "censored", (key, told)
        assert timings[key]["low"] > 4.0, (key, told)
        assert timings[key]["high"] is None, (key, told)
    assert played.verdicts["mitigated-in-time"] == "refuted", told
    assert played.verdicts["acknowledged-in-time"] == "refuted", told
    assert played.debrief["drill"]["outcome"] == "hard-stop", told
    assert played.code == 1, told
    assert [i["how"] for i in played.debrief["injections"]] == ["put-back"], told
    assert played.debrief["injections"][0]["healthy"], told
    assert not [event for event in played.events if isinstance(event, events.Said)]
    ended = played.events[-1]
    assert isinstance(ended, events.DrillEnded)
    assert ended.steady_after is True


# People and the script


@pytest.mark.acceptance
def test_a_person_is_faster_than_the_script(terminal: Terminal) -> None:
    scenario = copy_scenario(
        terminal.cwd,
        "api-node-failure",
        ("at: 8s", "at: 2s"),
        ("reaction: 2s", "reaction: 15s"),
        ("stabilise: 5s", "stabilise: 3s"),
    )
    played, to_its_end = respond(terminal, scenario)
    if played.disturbed or not to_its_end:
        played, to_its_end = respond(terminal, scenario)
    assert to_its_end
    told = played.told()
    said = [event for event in played.events if isinstance(event, events.Said)]
    verbs = [event.verb for event in said]
    # Nothing that a person said was repeated by the script.
    for verb in ("ack", "identify", "mitigate", "resolve"):
        assert verbs.count(verb) == 1, verbs
        assert not next(event for event in said if event.verb == verb).scripted
    hands = [e.by for e in played.events if isinstance(e, events.SandboxChanged)]
    assert "operations" in hands
    assert "fixer" not in hands
    assert played.incident["timings"]["time_to_mitigate"]["source"] == "fixers", told
    assert played.debrief["injections"][0]["how"] == "taken-over", told
    assert played.debrief["injections"][0]["by"] == "operations", told
    assert played.debrief["drill"]["outcome"] == "resolved", told
    # People appear by role, never by name, unless it is asked for.
    texts = [played.folder.debrief(form).read_text() for form in ("md", "html", "json")]
    assert not any("Ada" in text for text in texts)
    assert all("ncident-commander" in text or "ncident commander" in text for text in texts)
    assert "Ada" in terminal.say("debrief", played.folder.id, "--names", "--format", "md")


def respond(terminal: Terminal, scenario: Path) -> tuple[Played, bool]:
    """What a person does in another terminal, faster than the script; False if the machine was
    so slow that the script, or the guard rail, ended the drill first.
    """
    run = terminal.start(scenario, "--json")
    run.until(lambda: run.of(events.AlertDelivered), "a page was delivered")
    terminal.say("ack", "--role", "incident-commander", "--name", "Ada")
    terminal.say("identify", "an api node has exited")
    run.until(lambda: dead(terminal, run.id), "ps shows the dead node")
    slot = dead(terminal, run.id)[0]
    terminal.say("sandbox", "restart", slot, "--drill", run.id, "--role", "operations")
    wait_until(lambda: run.process.poll() is not None or calm(run), "the alert ended", within=120)
    said = [terminal.gameday("mitigate", "restarted it"), terminal.gameday("resolve")]
    code = run.wait()
    assert run.folder is not None
    played = Played(code, json.loads(run.out.read_text()), run.folder)
    assert_sound(terminal, played)
    return played, all(done.returncode == 0 for done in said)


def calm(run: Run) -> bool:
    """Does no alert fire any more?"""
    over = {event.page for event in run.of(events.AlertResolved)}
    return over >= {event.page for event in run.of(events.AlertFired)}


def dead(terminal: Terminal, drill: str) -> list[str]:
    """Slots that do not run, as `sandbox ps` shows them."""
    slots = json.loads(terminal.say("sandbox", "ps", "--json", "--drill", drill))
    return [slot["name"] for slot in slots if slot["state"] != "running"]
