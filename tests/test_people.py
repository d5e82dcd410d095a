"""What people do while a drill runs: other terminals, signals, pages to a real receiver."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import msgspec
import pytest

from gameday.drills.folder import list_drills
from gameday.drills.undo_log import read_undo_log
from gameday.scenarios.load import load_scenario
from gameday.scoring import events
from tests.commands import Run, Terminal, assert_nothing_left, no_traceback, wait_until

pytestmark = [pytest.mark.sandbox, pytest.mark.slow, pytest.mark.timeout(240)]

SECRETS = ("velvet-otter", "Secret title", "Secret purpose", "Secret belief", "Secret question")
QUICK = """\
apiVersion: gameday/v1
name: velvet-otter
title: Secret title
description: Secret purpose
objectives: [Secret purpose]
sandbox: {kind: local, app: shop}
slis:
  availability: {path: /products, every: 50ms, good: status < 500, over: 500ms}
steady_state: {availability: ">= 20%"}
stabilise: 500ms
duration: 3m
hypotheses:
  - {id: believed, claim: Secret belief, expect: availability >= 10%}
alerts:
  - name: ShopBell
    tier: page
    at: 0s
    summary: The bell rings for the shop.
    impact: Customers hear it.
    verify: "`gameday status`"
    first_step: "`gameday sandbox ps`"
    escalate: the bell ringer
    runbook: bell.md
hints: [The first hint., The second hint.]
debrief: {questions: [Secret question]}
faults:
  - {at: 200ms, inject: net.latency, target: {link: gateway->api, count: 1}, delay: 30ms}
  - {at: 200ms, inject: process.pause, target: {service: api, count: 1}}
"""
FAULTS = ("net.latency", "process.pause", "InjectionArmed", "injection")


def write_quick(terminal: Terminal, *, faults: bool = True) -> Path:
    path = terminal.cwd / "quick.yaml"
    path.write_text(QUICK if faults else QUICK[: QUICK.index("faults:")])
    (terminal.cwd / "bell.md").write_text("# The bell\n\nLook at the shop; then ack.\n")
    return path


def start(terminal: Terminal, *options: str, faults: bool = True) -> Run:
    """A drill without scripted fixers, once its page is out and its faults are in force."""
    run = terminal.start(write_quick(terminal, faults=faults), "-q", *options)
    run.until(lambda: run.of(events.AlertDelivered), "the page was delivered")
    if faults:
        run.until(lambda: len(effective(run)) == 2, "both faults took effect")
    return run


def effective(run: Run) -> set[str]:
    return {event.injection for event in run.of(events.Looked) if event.took_effect}


def pages(run: Run) -> list[dict[str, Any]]:
    """What the file channel got."""
    assert run.folder is not None
    lines = (run.folder.path / "pages.jsonl").read_text().splitlines()
    return [json.loads(line) for line in lines]


def assert_put_back(terminal: Terminal, run: Run) -> None:
    """Every fault undone, every page resolved, nothing left."""
    assert run.folder is not None
    assert_nothing_left(terminal, run.id)
    log = read_undo_log(run.folder.undo, run.folder.recovery)
    assert not log.outstanding
    assert not log.problems
    sent = pages(run)
    assert {page["key"] for page in sent if page["status"] == "firing"} == {
        page["key"] for page in sent if page["status"] == "resolved"
    }


# A receiver of webhooks


class Receiver:
    """Takes Alertmanager's webhooks; refuses the first ``refusals`` with 503."""

    def __init__(self, refusals: int) -> None:
        self.refusals = refusals
        self.bodies: list[dict[str, Any]] = []
        self.refused: list[dict[str, Any]] = []
        self.url = ""

    def take(self, body: dict[str, Any]) -> int:
        if len(self.refused) < self.refusals:
            self.refused.append(body)
            return 503
        self.bodies.append(body)
        return 200


@contextmanager
def receiver(refusals: int) -> Iterator[Receiver]:
    taken = Receiver(refusals)

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            length = int(self.headers["Content-Length"])
            status = taken.take(json.loads(self.rfile.read(length)))
            self.send_response(status)
            self.send_header("Content-Length", "0")
            self.end_headers()

        def log_message(self, format: str, *args: object) -> None:  # noqa: A002
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    taken.url = f"http://127.0.0.1:{server.server_port}/hook?team=shop"
    try:
        yield taken
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


# One drill, from its page to its end


def test_people_in_another_terminal(terminal: Terminal) -> None:
    """They find the drill from any folder, see what fixers may see, and are recorded."""
    elsewhere = terminal.cwd.parent / "elsewhere"
    elsewhere.mkdir()
    catalog = terminal.say("catalog")
    with receiver(refusals=1) as webhook:
        run = start(terminal, "--webhook", webhook.url)
        look_around(terminal, run, elsewhere, catalog)
        speak(terminal, run, elsewhere)
        use_hands(terminal, run)
        terminal.say("resolve", "all is well", "--role", "operations", cwd=elsewhere)
        assert run.wait() == 0, run.said()
        assert_put_back(terminal, run)
    assert_webhook(webhook, run)
    no_traceback(run.said())
    recorded = {entry["quote"] for entry in run.debrief()["timeline"]}
    assert {"a guess", "news", "a diagnosis"} <= recorded
    told = terminal.gameday("status")
    assert told.returncode == 2
    assert "no drill is running" in told.stderr


def look_around(terminal: Terminal, run: Run, elsewhere: Path, catalog: str) -> None:
    seen = {
        "status": terminal.say("status", cwd=elsewhere),
        "status --json": terminal.say("status", "--json", cwd=elsewhere),
        "runbook": terminal.say("status", "--runbook", cwd=elsewhere),
        "list": terminal.say("list"),
        "list --json": terminal.say("list", "--json"),
        "ps": terminal.say("sandbox", "ps", "--drill", run.id, cwd=elsewhere),
        "ps --json": terminal.say("sandbox", "ps", "--json", "--drill", run.id),
        "pages": json.dumps(pages(run)),
    }
    for name in ("latest", run.id, run.id[-4:]):
        told = terminal.gameday("debrief", name)
        assert told.returncode == 2, told
        assert "still running" in told.stderr
        seen[f"debrief {name}"] = told.stderr
    assert terminal.say("catalog") == catalog
    for name, text in seen.items():
        no_traceback(text)
        for secret in (*SECRETS, *FAULTS, *effective(run)):
            assert secret not in text, (name, secret, text)
    assert "ShopBell" in seen["status"]
    assert "The bell rings for the shop." in seen["status"]
    assert "EXERCISE" in seen["status"]
    assert "not acknowledged" in seen["status"]
    assert "Look at the shop" in seen["runbook"]
    status = json.loads(seen["status --json"])
    assert status["drill"] == run.id
    assert [page["alert"] for page in status["pages"]] == ["ShopBell"]
    assert {slot["name"] for slot in status["slots"]} >= {"api-1", "api-2", "api-3", "store-1"}
    assert [row["outcome"] for row in json.loads(seen["list --json"])] == ["running"]


def speak(terminal: Terminal, run: Run, elsewhere: Path) -> None:
    who = ("--role", "incident-commander", "--name", "Grace")
    said = [
        ("ack", ()),
        ("declare", ("it", "looks", "bad")),
        ("note", ("a guess",)),
        ("update", ("news",)),
        ("identify", ("a diagnosis",)),
        ("mitigate", ("a \x1b[31mtrick\x07",)),
    ]
    for verb, words in said:
        terminal.say(verb, *words, *who, cwd=elsewhere)
    run.until(lambda: len(run.of(events.Said)) >= len(said), "all was heard")
    heard = run.of(events.Said)
    assert [(e.verb, e.role, e.name) for e in heard] == [
        (verb, "incident-commander", "Grace") for verb, _ in said
    ]
    assert heard[1].text == "it looks bad"
    assert all(not event.scripted and 0 < event.at < run.events()[-1].at + 60 for event in heard)
    status = terminal.say("status")
    assert "not acknowledged" not in status
    assert "a guess" in status
    assert "Grace" not in status
    assert "\x1b" not in status
    assert "\x07" not in status
    for hint in ("The first hint.", "The second hint.", "There is no further hint."):
        assert terminal.say("hint").strip() == hint
    empty = terminal.gameday("note")
    assert empty.returncode == 2
    assert "WORDS" in empty.stderr
    long = terminal.gameday("note", "x" * 5000)
    assert long.returncode == 2
    assert "too long" in long.stderr


def use_hands(terminal: Terminal, run: Run) -> None:
    hand = ("--drill", run.id, "--role", "operations")
    before = run.events()[-1].at
    logs = terminal.say("sandbox", "logs", "api-1", "-n", "3", *hand).splitlines()
    assert 1 <= len(logs) <= 3
    assert {json.loads(line)["slot"] for line in logs} == {"api-1"}
    paused = {e.injection.target for e in run.of(events.InjectionArmed)}
    well = next(slot for slot in ("api-1", "api-2", "api-3") if slot not in paused)
    terminal.say("sandbox", "restart", well, *hand)
    terminal.say("sandbox", "drain", well, *hand)
    terminal.say("sandbox", "drain", well, "--back", *hand)
    terminal.say("sandbox", "scale", "api", "4", *hand)
    told = terminal.say("sandbox", "exec", *hand, well, "--", "sh", "-c", "echo hello from $0; pwd")
    assert "hello from sh" in told
    failed = terminal.gameday("sandbox", "exec", *hand, well, "--", "sh", "-c", "exit 7")
    assert failed.returncode == 7
    unknown = terminal.gameday("sandbox", "restart", "apj-1", *hand)
    assert unknown.returncode == 2
    assert "apj-1" in unknown.stderr
    no_traceback(unknown.stderr, failed.stderr)
    slots = json.loads(terminal.say("sandbox", "ps", "--json", "--drill", run.id))
    assert "api-4" in {slot["name"] for slot in slots}
    changes = [e for e in run.of(events.SandboxChanged) if e.by == "operations"]
    actions = {event.action for event in changes}
    assert {"restart", "drain", "undrain", "scale"} <= actions, changes
    assert any("exec" in action for action in actions), changes
    assert all(before <= event.at <= run.events()[-1].at + 1 for event in changes)
    assert "operations" in terminal.say("status")
    down = terminal.gameday("sandbox", "down", "--drill", run.id)
    assert down.returncode == 2
    assert "gameday abort" in down.stderr


@pytest.mark.acceptance
def test_a_receiver_that_is_gone(terminal: Terminal) -> None:
    """A page that cannot be resolved was not put back: exit 5, and how to do it by hand."""
    with receiver(refusals=0) as webhook:
        run = start(terminal, "--webhook", webhook.url, faults=False)
        wait_until(lambda: webhook.bodies, "the page arrived")
    terminal.say("abort")
    assert run.wait() == 5, run.said()
    told = run.said()
    no_traceback(told)
    assert "ShopBell" in told
    assert "gameday recover" in told
    assert terminal.open_drills() == [run.id]  # known to be outstanding


def assert_webhook(webhook: Receiver, run: Run) -> None:
    assert len(webhook.refused) == 1
    assert [body["status"] for body in webhook.bodies] == ["firing", "resolved"]
    assert webhook.refused[0] == webhook.bodies[0]  # tried again, the same message
    for body in webhook.bodies:
        assert body["version"] == "4"
        assert len(body["alerts"]) == 1
        labels = body["alerts"][0]["labels"]
        assert labels["alertname"] == "ShopBell"
        assert labels["exercise"] == "true"
        assert labels["drill"] == run.id
        assert "EXERCISE" in body["alerts"][0]["annotations"]["summary"]
        told = json.dumps(body)
        for secret in (*SECRETS, *FAULTS):
            assert secret not in told
    assert "EXERCISE ENDED" in webhook.bodies[1]["alerts"][0]["annotations"]["summary"]
    first = webhook.bodies[0]["alerts"][0]["annotations"]
    assert set(first) >= {"summary", "impact", "verify", "first_step", "escalate", "runbook"}


def test_a_shipped_page_does_not_name_its_scenario() -> None:
    """A page says what is seen; the scenario's name says why."""
    from gameday.scenarios.catalog import CATALOGUE

    for path in sorted(CATALOGUE.glob("*.yaml")):
        scenario = load_scenario(path).scenario
        for alert in scenario.alerts:
            shown = [str(value) for value in msgspec.structs.astuple(alert)]
            for fault in scenario.faults:
                assert not any(fault.breaks.kind in text for text in shown), path.stem
            assert not any(scenario.name in text or scenario.title in text for text in shown), (
                path.stem
            )


# Several drills, and none


@pytest.mark.acceptance
def test_two_drills_at_once_must_be_named(terminal: Terminal) -> None:
    one = start(terminal, faults=False)
    two = start(terminal, faults=False)
    for command in (["status"], ["ack"], ["note", "x"], ["hint"], ["abort"], ["sandbox", "ps"]):
        told = terminal.gameday(*command)
        assert told.returncode == 2, (command, told)
        assert "2" in told.stderr
        assert one.id in told.stderr, command
        assert two.id in told.stderr, command
    terminal.say("note", "for two", "--drill", two.id)
    two.until(lambda: two.of(events.Said), "the note arrived")
    assert not one.of(events.Said)
    assert "for two" in terminal.say("status", "--drill", two.id)
    terminal.say("abort", "enough", "--drill", one.id)
    assert one.wait() == 4, one.said()
    assert two.process.poll() is None
    terminal.say("abort")  # only one is left, so it need not be named
    assert two.wait() == 4, two.said()
    for run in (one, two):
        assert_put_back(terminal, run)


@pytest.mark.parametrize(
    "command",
    [
        *(["status"], ["status", "--json"], ["ack"], ["declare"], ["identify"], ["mitigate"]),
        *(["resolve"], ["all-clear"], ["note", "x"], ["update", "x"], ["hint"], ["abort"]),
        ["status", "--drill", "20200101-000000-abcd"],
    ],
    ids=" ".join,
)
def test_without_a_drill_they_say_so(terminal: Terminal, command: list[str]) -> None:
    told = terminal.gameday(*command)
    assert told.returncode == 2
    assert told.stdout == ""
    assert "is running" in told.stderr
    assert "gameday run" in told.stderr
    assert not terminal.state.exists()


# Stopping


def test_abort_puts_everything_back(terminal: Terminal) -> None:
    run = start(terminal)
    terminal.say("abort", "the real pager rang", "--role", "facilitator")
    assert run.wait() == 4, run.said()
    assert_put_back(terminal, run)
    asked = run.of(events.AbortAsked)
    assert asked[0].by == "person"
    assert asked[0].why == "the real pager rang"
    debrief = run.debrief()
    assert debrief["drill"]["outcome"] == "aborted"
    assert debrief["drill"]["exit_code"] == 4
    assert {each["how"] for each in debrief["injections"]} == {"put-back"}
    assert all(each["healthy"] for each in debrief["injections"])


@pytest.mark.short_form("SIGHUP")  # SIGINT: in test_stop_signals.py
@pytest.mark.parametrize("name", ["SIGINT", "SIGTERM", "SIGHUP"])
def test_a_signal_puts_everything_back(terminal: Terminal, name: str) -> None:
    run = start(terminal)
    run.process.send_signal(signal.Signals[name])
    assert run.wait() == 4, run.said()
    no_traceback(run.said())
    assert_put_back(terminal, run)
    assert run.of(events.AbortAsked)[0].by == "signal"
    assert run.debrief()["drill"]["exit_code"] == 4


@pytest.mark.parametrize("delay", [0.0, 0.3, 1.0])
def test_a_signal_while_the_sandbox_starts(terminal: Terminal, delay: float) -> None:
    """Nothing is up yet, or some of it; it ends as any abort does."""
    run = terminal.start(write_quick(terminal), "-q")
    threading.Event().wait(delay)
    run.process.send_signal(signal.SIGINT)
    assert run.wait() == 4, run.said()
    no_traceback(run.said())
    assert_nothing_left(terminal, run.id)
    assert run.debrief()["drill"]["outcome"] == "aborted"


def test_a_second_signal_does_not_skip_the_undo(terminal: Terminal) -> None:
    run = start(terminal)
    for _ in range(3):
        run.process.send_signal(signal.SIGINT)
        threading.Event().wait(0.05)
    assert run.wait() == 4, run.said()
    no_traceback(run.said())
    assert_put_back(terminal, run)


def test_the_watchdog_puts_back_what_a_killed_runner_left(terminal: Terminal) -> None:
    run = start(terminal)
    run.process.kill()
    run.process.wait()
    wait_until(lambda: not terminal.open_drills(), "the watchdog closed the drill", within=15)
    assert_put_back(terminal, run)
    assert run.folder is not None
    told = terminal.say("debrief")
    assert run.id in told
    debrief = run.debrief()
    assert debrief["drill"]["outcome"] == "died"
    assert {each["how"] for each in debrief["injections"]} == {"put-back"}
    assert {each["by"] for each in debrief["injections"]} == {"watchdog"}
    assert "exit " in terminal.say("list")
    assert terminal.say("recover").strip() == "Nothing is outstanding."


@pytest.mark.short_form("| head -1")
@pytest.mark.parametrize("output", ["| head -1", ">/dev/full", ">&-"])
def test_nobody_reads_the_story(terminal: Terminal, output: str) -> None:
    """The drill goes on to its end, and its verdict is the exit code."""
    path = write_quick(terminal)
    path.write_text(path.read_text().replace("duration: 3m", "duration: 2s"))
    script = f"set -o pipefail; {sys.executable} -m gameday run quick.yaml {output}"
    done = subprocess.run(
        ["bash", "-c", script],
        cwd=terminal.cwd,
        env=terminal.environment(),
        capture_output=True,
        text=True,
        timeout=60,
    )
    no_traceback(done.stdout, done.stderr)
    [folder] = list_drills(terminal.cwd)
    found = json.loads(folder.debrief("json").read_text())
    assert found["drill"]["outcome"] == "hard-stop"
    assert done.returncode == found["drill"]["exit_code"]
    assert_nothing_left(terminal, folder.id)
