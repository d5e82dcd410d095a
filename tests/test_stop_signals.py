"""A real incident is going on: by a file, by a URL, by a command; drills do not begin, or end."""

from __future__ import annotations

import os
import shutil
import threading
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import anyio
import pytest

from gameday.drills.stop_signals import StopSignals
from gameday.drills.undo_log import read_undo_log
from gameday.injectors.errors import Refused, UsageError
from gameday.scoring import events
from tests.commands import Run, Terminal, assert_nothing_left, no_traceback
from tests.little_drill import lay_out, scenario


class Monitoring:
    """A server of the team's, and what it answers."""

    def __init__(self) -> None:
        self.status, self.body = 200, b"[]"
        outer = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                self.send_response(outer.status)
                self.send_header("Content-Length", str(len(outer.body)))
                self.end_headers()
                if outer.status != 204:
                    self.wfile.write(outer.body)

            def log_message(self, *args: object) -> None:
                pass

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server.server_port}/api/v2/alerts?active=true"
        threading.Thread(target=self.server.serve_forever, args=(0.05,), daemon=True).start()

    def close(self) -> None:
        self.server.shutdown()
        self.server.server_close()


@pytest.fixture
def monitoring() -> Iterator[Monitoring]:
    found = Monitoring()
    yield found
    found.close()


@pytest.mark.parametrize(
    ("status", "body", "says"),
    [
        (200, b"[]", ""),
        (200, b" \n", ""),
        (200, b"null\n", ""),
        (204, b"", ""),
        (404, b"no incident", ""),
        (200, b"checkout is down\nsince noon", "checkout is down"),
        (200, b'[{"labels": {"alertname": "Down"}}]', "Down"),
    ],
)
def test_what_a_url_says(monitoring: Monitoring, status: int, body: bytes, says: str) -> None:
    monitoring.status, monitoring.body = status, body
    said = anyio.run(StopSignals(url=monitoring.url).url_says)
    assert (says in said) if says else (said == "")
    assert "since noon" not in said


@pytest.mark.parametrize("status", [500, 503, 301, 401])
def test_a_url_that_does_not_say_lets_nothing_begin(monitoring: Monitoring, status: int) -> None:
    monitoring.status = status
    with pytest.raises(Refused, match=f"does not say .* it answered {status}"):
        anyio.run(StopSignals(url=monitoring.url).check)


def test_a_url_that_nobody_serves_lets_nothing_begin(monitoring: Monitoring) -> None:
    monitoring.close()
    with pytest.raises(Refused, match="does not say"):
        anyio.run(StopSignals(url=monitoring.url).check)


@pytest.mark.parametrize("url", ["nonsense", "ftp://x/", "http://", "http://[1"])
def test_no_url_is_refused(url: str) -> None:
    with pytest.raises(UsageError, match="is no stop URL"):
        StopSignals.given(None, url, {})


def test_a_file_stops_as_long_as_it_is_there(tmp_path: Path) -> None:
    signals = StopSignals.given(None, None, {"GAMEDAY_STOP_FILE": str(tmp_path / "stop")})
    assert signals.file_says() == ""
    (tmp_path / "stop").touch()
    assert signals.file_says().endswith("is there")
    (tmp_path / "stop").write_text("payments are down\nmore")
    assert signals.file_says().endswith("is there: payments are down")
    (tmp_path / "stop").unlink()
    (tmp_path / "stop").mkdir()
    assert "cannot be read" in signals.file_says()
    (tmp_path / "stop").rmdir()
    os.mkfifo(tmp_path / "stop")  # nobody writes to it, and nobody waits for that
    assert signals.file_says().endswith("is there")


@pytest.mark.sandbox
def test_no_drill_begins_while_it_is_said(terminal: Terminal, monitoring: Monitoring) -> None:
    path = lay_out(terminal.cwd, scenario())
    monitoring.body = b"a real incident"
    done = terminal.gameday("run", path, env={"GAMEDAY_STOP_URL": monitoring.url})
    assert done.returncode == 6
    assert "a real incident" in done.stderr
    (terminal.cwd / "stop").touch()
    done = terminal.gameday("run", path, "--stop-file", "stop")
    assert done.returncode == 6
    assert "the stop file" in done.stderr
    no_traceback(done.stderr)
    assert not (terminal.cwd / ".gameday").exists()


def started(terminal: Terminal, *options: str) -> Run:
    """A drill that would last a minute, with a fault in force."""
    path = lay_out(terminal.cwd, scenario(duration="1m"))
    run = terminal.start(path, *options)
    run.until(lambda: run.of(events.InjectCalled), "something is broken")
    return run


@pytest.mark.sandbox
@pytest.mark.parametrize("how", ["file", "url", "silence", "stop-all", "abort", "SIGINT"])
def test_a_drill_ends_at_once_and_everything_is_put_back(
    terminal: Terminal, monitoring: Monitoring, how: str
) -> None:
    """From when it is asked for until all is undone: a second, and what asking takes."""
    run = started(terminal, "--stop-file", "stop", "--stop-url", monitoring.url)
    asked = time.monotonic()
    latest = 1.0
    if how == "file":
        (terminal.cwd / "stop").write_text("payments are down")
        latest += 0.25  # looked at four times a second
    elif how == "url":
        monitoring.body = b"payments are down"
        latest += 1.0  # asked once a second
    elif how == "silence":
        monitoring.status = 503
        latest += 3.0
    elif how == "SIGINT":
        run.process.send_signal(2)
    else:
        terminal.say(how)
    assert run.wait() == 4
    abort = run.of(events.AbortAsked)[0]
    undone = run.of(events.InjectionUndone)
    assert undone
    assert all(each.outcome in ("put-back", "taken-over", "nothing") for each in undone)
    # Until all is undone, the steps themselves apart, on the journal's own axis.
    steps = sum(each.at - each.called for each in undone)
    assert max(each.at for each in undone) - abort.at - steps <= 1.0
    began = run.of(events.DrillStarted)[0].clock
    assert began + undone[0].called - asked <= latest + 2.0  # commands take their time to start
    if how in ("file", "url"):
        assert "payments are down" in abort.why
    assert_nothing_left(terminal, run.id)
    assert run.debrief()["drill"]["exit_code"] == 4


SLOW = """\
name: slow
entry: front
services:
  front:
    command: ["sleep", "60"]
    health: {tcp: true, every: 200ms, timeout: 5s, start_within: 40s}
"""


@pytest.mark.sandbox
@pytest.mark.parametrize("how", ["file", "url", "stop-all", "abort"])
def test_it_is_heeded_while_the_sandbox_starts(
    terminal: Terminal, monitoring: Monitoring, how: str
) -> None:
    text = scenario(parameters="target: {service: front}", duration="1m")
    path = lay_out(terminal.cwd, text, cluster=SLOW)
    run = terminal.start(path, "--stop-file", "stop", "--stop-url", monitoring.url)
    run.until(lambda: run.of(events.PhaseBegan), "it starts")
    time.sleep(1.0)
    asked = time.monotonic()
    if how == "file":
        (terminal.cwd / "stop").write_text("payments are down")
    elif how == "url":
        monitoring.body = b"payments are down"
    else:
        terminal.say(how)
    assert run.wait() == 4, run.said()
    assert time.monotonic() - asked < 8.0
    (abort,) = run.of(events.AbortAsked)
    assert abort.by == ("monitoring" if how in ("file", "url") else "person")


@pytest.mark.sandbox
@pytest.mark.parametrize("file", ["inbox.jsonl", "undo.jsonl", "journal.jsonl", "lock"])
def test_a_drill_whose_files_are_removed_ends(terminal: Terminal, file: str) -> None:
    run = started(terminal)
    assert run.folder is not None
    if file == "lock":
        (lock,) = (terminal.state / "locks").iterdir()
        lock.unlink()
    else:
        (run.folder.path / file).unlink()
    assert run.wait() in (2, 4), run.said()  # 2: without a journal there is nothing to judge
    assert not read_undo_log(run.folder.undo, run.folder.recovery).outstanding


@pytest.mark.sandbox
@pytest.mark.parametrize("file", ["inbox.jsonl", "journal.jsonl"])
def test_a_drill_whose_files_are_replaced_ends_and_keeps_its_record(
    terminal: Terminal, file: str
) -> None:
    """As ``sed -i`` and programs that synchronise folders do it."""
    run = started(terminal)
    assert run.folder is not None
    path = run.folder.path / file
    shutil.copy(path, f"{path}.copy")
    Path(f"{path}.copy").replace(path)
    assert run.wait() == 4, run.said()
    assert f"{file} was removed or replaced" in " ".join(run.said().split())
    assert isinstance(run.events()[-1], events.DrillEnded)


@pytest.mark.sandbox
def test_stop_all_does_not_rely_on_an_inbox_that_takes_everything(terminal: Terminal) -> None:
    run = started(terminal)
    assert run.folder is not None
    inbox = run.folder.inbox
    inbox.unlink()
    os.mkfifo(inbox)
    begun = time.monotonic()
    terminal.say("stop-all")
    assert run.wait() == 4, run.said()
    assert time.monotonic() - begun < 8.0


@pytest.mark.sandbox
def test_junk_in_the_inbox_does_not_drown_an_abort(terminal: Terminal) -> None:
    run = started(terminal)
    assert run.folder is not None
    with run.folder.inbox.open("ab") as file:
        file.write(b"x" * (50 << 20))
    begun = time.monotonic()
    terminal.say("abort")
    assert run.wait() == 4, run.said()
    assert time.monotonic() - begun < 8.0


@pytest.mark.sandbox
def test_stop_all_stops_also_whom_it_cannot_tell(terminal: Terminal) -> None:
    runs = [started(terminal)]
    assert runs[0].folder is not None
    inbox = runs[0].folder.inbox
    inbox.rename(f"{inbox}.gone")
    terminal.say("stop-all")
    assert runs[0].wait() == 4, runs[0].said()
