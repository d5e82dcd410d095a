"""Gameday attacked: by a scenario file, by another user of the machine, by what people type."""

from __future__ import annotations

import json
import os
import pty
import re
import stat
import subprocess
import sys
import time
import xml.etree.ElementTree as ET
from collections.abc import Callable, Iterator
from html.parser import HTMLParser
from pathlib import Path

import msgspec
import pytest
from markdown_it import MarkdownIt

from gameday.drills import state
from gameday.drills.channels import Book, forget_book, read_book, write_book
from gameday.drills.channels.webhook import Webhook, read_webhook, redacted
from gameday.drills.durable import append, open_append
from gameday.drills.folder import DrillFolder, list_drills
from gameday.drills.ownership import not_ours
from gameday.drills.permission import check_permission, commands_of
from gameday.drills.planned import Planned
from gameday.drills.printable import printable
from gameday.drills.recover import recover
from gameday.drills.undo_log import UndoLog, read_undo_log
from gameday.injectors.errors import Refused, SandboxError, ScenarioError, UsageError
from gameday.injectors.fault import Injection
from gameday.injectors.sandbox.kinds import by_hand
from gameday.injectors.sandbox.local import orders
from gameday.injectors.sandbox.local.client import Client
from gameday.injectors.undo import Armed, RunCommand, SandboxRef
from gameday.scenarios.load import load_scenario, load_text
from gameday.scoring import events
from gameday.scoring.debrief import debrief
from gameday.scoring.render.html import to_html
from gameday.scoring.render.junit import to_junit
from gameday.scoring.render.markdown import to_markdown
from tests import drill_examples
from tests.commands import Terminal, assert_nothing_left, no_traceback
from tests.test_people import receiver

STRANGER = 61_234
"""Another user of the machine; only root can become one."""

SERVICE = """\
import http.server, os, sys
print("\\x1b]0;taken over\\x07 \\x1b[2J I am up", flush=True)
class H(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        self.send_response(200); self.send_header("Content-Length", "0"); self.end_headers()
    def log_message(self, *a): pass
http.server.ThreadingHTTPServer(("127.0.0.1", int(sys.argv[1])), H).serve_forever()
"""
SANDBOX = """\
name: tiny
entry: web
services:
  web:
    command: ["{{ python }}", "{{ folder }}/serve.py", "{{ port }}"]
    owner: "[bold]\u202enwo"
    health: {tcp: true, every: 100ms}
"""
SCENARIO = """\
apiVersion: gameday/v1
name: tiny
title: "A title that reads \u202eotherwise [red]"
sandbox: {file: sandbox.yaml}
duration: 30s
stabilise: 500ms
slis:
  up: {path: /, every: 100ms, good: status < 500, over: 500ms}
steady_state: {up: ">= 50%"}
alerts:
  - name: Bell
    tier: page
    at: 0s
    summary: "It rings \u202e [link=http://x]here[/link]"
    impact: They hear it.
    verify: listen
    first_step: listen
    escalate: the ringer
fixers:
  scripted:
    reaction: 200ms
    steps: [ack, "exec web-1 sh -c 'touch proof-of-exec'", resolve]
"""


@pytest.fixture
def tiny(terminal: Terminal) -> Path:
    """A scenario whose script runs a command."""
    (terminal.cwd / "serve.py").write_text(SERVICE)
    (terminal.cwd / "sandbox.yaml").write_text(SANDBOX, encoding="utf-8")
    path = terminal.cwd / "tiny.yaml"
    path.write_text(SCENARIO, encoding="utf-8")
    return path


def root_only(needs: Callable[[bool, str], None]) -> None:
    needs(os.geteuid() == 0, "only root can become another user")


# Commands of the drill's own


def test_a_script_that_runs_commands_is_refused_without_the_words(
    terminal: Terminal, tiny: Path
) -> None:
    done = terminal.gameday("run", tiny)
    assert done.returncode == 6
    assert "sh -c 'touch proof-of-exec'" in done.stderr
    assert "--allow-exec" in done.stderr
    assert not list_drills(terminal.cwd)
    assert not terminal.open_drills()


def test_the_plan_shows_them_and_asks_for_the_words(terminal: Terminal, tiny: Path) -> None:
    shown = terminal.say("run", tiny, "--dry-run")
    assert "--allow-exec" in shown
    assert "at web-1: sh -c 'touch proof-of-exec'" in shown
    plan = json.loads(terminal.say("run", tiny, "--dry-run", "--json"))
    assert plan["commands"] == ["the scripted fixer, at web-1: sh -c 'touch proof-of-exec'"]
    people = json.loads(terminal.say("run", tiny, "--dry-run", "--json", "--fixers", "people"))
    assert people["commands"] == []


def third_party(*argv: str) -> Injection:
    return Injection("i1", "their.fault", "web-1", "gameday-x-1", (RunCommand("web-1", argv),))


def test_an_undo_that_runs_a_command_is_shown_and_refused() -> None:
    planned = [Planned(1.0, third_party("sh", "-c", "rm -rf 'a b'"))]
    found = commands_of(drill_examples.scenario(), planned, scripted=True)
    assert found == ["the undo of their.fault, for web-1: sh -c 'rm -rf '\"'\"'a b'\"'\"''"]
    with pytest.raises(Refused, match="--allow-exec"):
        check_permission(found, allowed=False)
    check_permission(found, allowed=True)


async def test_a_fault_that_plans_otherwise_than_it_showed_arms_nothing(tmp_path: Path) -> None:
    log = UndoLog(tmp_path / "undo.jsonl")
    injection = third_party("true")
    ref = SandboxRef("attached", "a", "")
    with pytest.raises(Refused, match="--allow-exec"):
        await log.arm(Armed("i1", "it", ref, injection.undo))
    log.close()
    assert not log.outstanding
    assert not (tmp_path / "undo.jsonl").read_bytes()


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


pytestmark = pytest.mark.anyio


# A whole drill: what lies about, who can read it, and what it shows

SECRET = "s3cr3t-t0ken"


def _modes(folder: Path) -> Iterator[tuple[Path, int]]:
    yield folder, folder.stat().st_mode
    for path in folder.rglob("*"):
        yield path, path.lstat().st_mode


@pytest.mark.sandbox
@pytest.mark.slow
@pytest.mark.timeout(180)
def test_a_drill_keeps_its_secrets_and_its_files_to_itself(terminal: Terminal, tiny: Path) -> None:
    before = os.umask(0)  # the most careless
    try:
        with receiver(refusals=0) as webhook:
            url = webhook.url + "&key=" + SECRET
            run = terminal.start(tiny, "--allow-exec", env={"GAMEDAY_WEBHOOK": url})
            run.until(lambda: webhook.bodies, "the page arrived")
            seen = _processes_that_tell(SECRET, runner=run.process.pid)
            run.wait()
    finally:
        os.umask(before)
    assert run.folder is not None
    no_traceback(run.said())
    assert any(s.action == "exec" for s in run.of(events.SandboxChanged)), run.said()
    assert not seen
    places = [run.folder.path.parent.parent, terminal.state]
    for path, mode in (found for place in places for found in _modes(place)):
        if stat.S_ISDIR(mode):
            assert stat.S_IMODE(mode) == 0o700, path
        else:
            assert stat.S_IMODE(mode) == 0o600, path
            assert SECRET.encode() not in path.read_bytes(), path
    assert SECRET not in run.said()
    assert not re.search("[\x00-\x08\x0b-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069]", run.said())
    assert_nothing_left(terminal, run.id)


def _processes_that_tell(secret: str, *, runner: int) -> list[str]:
    """Processes whose arguments, or inherited environment, hold the secret."""
    found = []
    for entry in Path("/proc").iterdir():
        if not entry.name.isdigit() or int(entry.name) in (os.getpid(), runner):
            continue
        for name in ("cmdline", "environ"):
            try:
                if secret.encode() in (entry / name).read_bytes():
                    found.append(f"{entry.name} {name}")
            except OSError:
                continue
    try:
        if secret.encode() in Path(f"/proc/{runner}/cmdline").read_bytes():
            found.append("the runner's arguments")
    except OSError:
        pass
    return found


def test_a_webhook_is_given_by_a_file_too(tmp_path: Path) -> None:
    file = tmp_path / "hook"
    file.write_text(f"https://ana:{SECRET}@example.org/services/{SECRET}\n")
    assert Webhook(read_webhook(f"@{file}")).target == f"/services/{SECRET}"
    with pytest.raises(UsageError, match="no such file"):
        read_webhook(f"@{tmp_path}/none")


@pytest.mark.parametrize(
    "url",
    [
        f"ftp://ana:{SECRET}@example.org/{SECRET}",
        f"https//example.org/{SECRET}",
        f"http://[::1/{SECRET}",
        f"https://example.org/{SECRET} x",
        f"https://example.org/{SECRET}\r\nX: y",
        f"https://example.org:99999/{SECRET}",
    ],
)
def test_a_webhook_that_is_none_is_not_shown(url: str) -> None:
    with pytest.raises(UsageError) as caught:
        Webhook(url)
    assert SECRET not in str(caught.value)
    assert SECRET not in redacted(url)


def test_the_webhook_is_kept_for_the_watchdog_and_no_longer(tmp_path: Path) -> None:
    write_book(tmp_path, Book("d", webhook=f"http://x/{SECRET}"))
    assert (tmp_path / "pages.json").stat().st_mode & 0o777 == 0o600
    forget_book(tmp_path)
    assert read_book(tmp_path) is None
    forget_book(tmp_path)
    (tmp_path / "pages.json").write_bytes(b'{"drill": "\xff"}')
    assert read_book(tmp_path) is None


# Other users


def test_a_folder_that_others_can_write_to_is_not_ours(tmp_path: Path) -> None:
    assert not not_ours(tmp_path)
    assert not not_ours(tmp_path / "none")
    tmp_path.chmod(0o777)
    assert not_ours(tmp_path) == "others may write to it"
    (tmp_path / "file").write_text("x")
    (tmp_path / "file").chmod(0o600)
    assert not_ours(tmp_path / "file") == "it is no folder"


def test_no_drill_begins_in_a_folder_of_drills_that_others_can_write_to(
    terminal: Terminal, tiny: Path
) -> None:
    (terminal.cwd / ".gameday").mkdir()
    (terminal.cwd / ".gameday").chmod(0o777)
    done = terminal.gameday("run", tiny, "--allow-exec")
    assert done.returncode == 6
    assert "others may write to it" in done.stderr
    assert not list_drills(terminal.cwd)


def _their_undo_log(folder: Path, proof: Path) -> None:
    """What would have us run a command of theirs."""
    options = {"attached": json.dumps({"web": {}})}
    step = RunCommand("web-1", ("touch", str(proof)))
    armed = Armed("a", "it", SandboxRef("attached", "a", "", options), (step,))
    fd = open_append(folder / "undo.jsonl")
    append(fd, msgspec.json.encode(armed))
    os.close(fd)
    (folder / "journal.jsonl").touch()


async def test_recover_runs_nothing_that_another_user_wrote(
    tmp_path: Path, needs: Callable[[bool, str], None]
) -> None:
    root_only(needs)
    folder, proof = tmp_path / "20260101-000000-0000", tmp_path / "proof"
    folder.mkdir(mode=0o700)
    _their_undo_log(folder, proof)
    os.chown(folder, STRANGER, STRANGER)
    with pytest.raises(Refused, match="belongs to"):
        await recover(DrillFolder(folder), by="recover")
    assert not proof.exists()
    assert read_undo_log(folder / "undo.jsonl", folder / "recovery.jsonl").outstanding


def test_a_state_folder_that_another_user_made_is_neither_used_nor_obeyed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, needs: Callable[[bool, str], None]
) -> None:
    root_only(needs)
    theirs = tmp_path / "state"
    monkeypatch.setenv("GAMEDAY_STATE", str(theirs))
    drill = state.OpenDrill(
        id="20260101-000000-0000", folder=str(tmp_path), runner=state.ProcessId("other", 1, 1)
    )
    state.remember(drill)
    _their_undo_log(tmp_path, tmp_path / "proof")
    assert state.outstanding_message()
    os.chown(theirs, STRANGER, STRANGER)
    assert not state.outstanding_message()
    assert not state.open_drills()
    with pytest.raises(Refused, match="belongs to"):
        state.remember(drill)
    with pytest.raises(Refused, match="belongs to"):
        state.lock_sandbox("local:x", "d")


def test_a_planted_link_leads_nowhere(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, needs: Callable[[bool, str], None]
) -> None:
    root_only(needs)
    monkeypatch.setenv("GAMEDAY_STATE", str(tmp_path / "state"))
    (tmp_path / "victim").mkdir(mode=0o700)
    (tmp_path / "state").symlink_to(tmp_path / "victim")
    os.chown(tmp_path / "state", STRANGER, STRANGER, follow_symlinks=False)
    with pytest.raises(Refused, match="belongs to"):
        state.stop("why", "me")
    assert not list((tmp_path / "victim").iterdir())


def test_journals_and_logs_do_not_follow_links(tmp_path: Path) -> None:
    (tmp_path / "victim").write_text("mine")
    (tmp_path / "journal.jsonl").symlink_to(tmp_path / "victim")
    with pytest.raises(OSError, match="symbolic links"):
        open_append(tmp_path / "journal.jsonl")
    assert (tmp_path / "victim").read_text() == "mine"


_ASK = """
import socket, sys
peer = socket.socket(socket.AF_UNIX)
peer.settimeout(10)
try:
    peer.connect(sys.argv[1])
    peer.sendall(b'{"type":"Hello"}\\n')
    print("answer", peer.recv(9))
except OSError as error:
    print("refused", type(error).__name__)
"""


def _as_stranger(*argv: str) -> str:
    command = ["setpriv", f"--reuid={STRANGER}", f"--regid={STRANGER}", "--clear-groups", *argv]
    done = subprocess.run(command, capture_output=True, text=True, timeout=30, cwd="/")
    return done.stdout + done.stderr


def _in_a_terminal(terminal: Terminal, *args: str) -> str:
    """What a command shows where a person looks on."""
    ours, theirs = pty.openpty()
    try:
        command = [sys.executable, "-m", "gameday", *args]
        environment = terminal.environment()
        subprocess.run(
            command, stdout=theirs, stderr=theirs, cwd=terminal.cwd, env=environment, timeout=60
        )
        return os.read(ours, 1 << 16).decode()
    finally:
        os.close(ours)
        os.close(theirs)


@pytest.mark.sandbox
@pytest.mark.slow
def test_a_sandbox_takes_no_order_of_another_user(
    terminal: Terminal, tiny: Path, needs: Callable[[bool, str], None]
) -> None:
    root_only(needs)
    python = "/usr/bin/python3"
    needs(Path(python).exists(), "a Python that another user can run")
    terminal.say("sandbox", "up", "--detach", tiny.with_name("sandbox.yaml"))
    try:
        (slot,) = json.loads(terminal.say("sandbox", "ps", "--json", "--sandbox", "tiny"))
        assert slot["name"] == "web-1"
        (place,) = Path("/tmp").glob("gameday-0-tiny-*")
        address = str(place / orders.SOCKET)
        assert stat.S_IMODE(place.stat().st_mode) == 0o700
        assert stat.S_IMODE((place / orders.SOCKET).stat().st_mode) == 0o600
        assert stat.S_IMODE((place / orders.SPEC).stat().st_mode) == 0o600
        assert _as_stranger(python, "-c", _ASK, address) == "refused PermissionError\n"
        place.chmod(0o755)  # even where the modes do not keep them out
        (place / orders.SOCKET).chmod(0o666)
        told = _as_stranger(python, "-c", _ASK, address)
        assert "answer b''" in told or "refused Connection" in told or "BrokenPipe" in told
        table = terminal.say("sandbox", "ps", "--sandbox", "tiny")
        assert "\u202e" not in table
        assert "[bold]" in table
        logs = _in_a_terminal(terminal, "sandbox", "logs", "web-1", "--sandbox", "tiny")
        assert "I am up" in logs
        assert not re.search("[\x00-\x08\x0b\x0c\x0e-\x1f]", logs)
    finally:
        place.chmod(0o700)
        terminal.say("sandbox", "down", "--sandbox", "tiny")


def test_we_give_no_order_to_another_user(
    tmp_path: Path, needs: Callable[[bool, str], None]
) -> None:
    root_only(needs)
    python = "/usr/bin/python3"
    needs(Path(python).exists(), "a Python that another user can run")
    place = Path("/tmp") / f"gameday-stranger-{os.getpid()}"
    place.mkdir()
    place.chmod(0o777)
    listen = (
        "import socket, sys, time; s = socket.socket(socket.AF_UNIX); s.bind(sys.argv[1]); "
        "s.listen(); print('up', flush=True); time.sleep(30)"
    )
    command = ["setpriv", f"--reuid={STRANGER}", f"--regid={STRANGER}", "--clear-groups"]
    command += [python, "-c", listen, str(place / orders.SOCKET)]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, cwd="/")
    try:
        assert process.stdout is not None
        assert process.stdout.readline() == b"up\n"
        client = Client(place)
        with pytest.raises(SandboxError, match="another user"):
            client._connect()
    finally:
        process.kill()
        process.communicate()
        (place / orders.SOCKET).unlink(missing_ok=True)
        place.rmdir()


# What a scenario names

OUT = ["../secret.md", "/etc/hostname", "runbooks/../../secret.md", "link.md", "linked/secret.md"]


@pytest.fixture
def trap(tmp_path: Path) -> Path:
    """A folder for scenarios, beside a secret, with links that lead to it."""
    (tmp_path / "secret.md").write_text(SECRET)
    (tmp_path / "secret.py").write_text(SECRET)
    home = tmp_path / "home"
    (home / "runbooks").mkdir(parents=True)
    (home / "link.md").symlink_to(tmp_path / "secret.md")
    (home / "link.py").symlink_to(tmp_path / "secret.py")
    (home / "linked").symlink_to(tmp_path)
    return home


@pytest.mark.parametrize("name", OUT)
@pytest.mark.parametrize(
    "line",
    [
        "runbook: {name}",
        "alerts: [{{name: A, tier: page, at: 1s, summary: s, runbook: {name}}}]",
        "sandbox: {{file: {name}}}",
    ],
)
def test_a_scenario_reads_nothing_outside_its_folder(trap: Path, name: str, line: str) -> None:
    text = "apiVersion: gameday/v1\nname: a\ntitle: t\n"
    text += "" if line.startswith("sandbox") else "sandbox: {app: shop}\n"
    path = trap / "a.yaml"
    path.write_text(text + line.format(name=name) + "\n")
    with pytest.raises(ScenarioError) as caught:
        load_scenario(path)
    assert SECRET not in str(caught.value)
    assert "out of the scenario's folder" in str(caught.value)


@pytest.mark.parametrize("name", ["../secret.py", "link.py", "linked/secret.py", "/etc/x.py"])
def test_nor_does_its_load(trap: Path, name: str) -> None:
    path = trap / "a.yaml"
    head = "apiVersion: gameday/v1\nname: a\ntitle: t\nsandbox: {app: shop}\n"
    path.write_text(f"{head}load: {{journey: {name}, users: 1, spawn_rate: 1}}\n")
    with pytest.raises(ScenarioError, match="out of the scenario's folder"):
        load_scenario(path)


@pytest.mark.parametrize("name", ["../x", "/etc/x", "a/../../x", "./x", "a//x", ""])
def test_a_sandbox_writes_no_file_outside_its_slots(trap: Path, name: str) -> None:
    (trap / "s.yaml").write_text(
        f'name: s\nservices: {{web: {{command: ["true"], files: {{"{name}": x}}}}}}\n'
    )
    path = trap / "a.yaml"
    path.write_text("apiVersion: gameday/v1\nname: a\ntitle: t\nsandbox: {file: s.yaml}\n")
    with pytest.raises(ScenarioError, match="not a file inside the slot's folder"):
        load_scenario(path)


# What people type

HOSTILE = (
    "<script>alert(1)</script><img src=x onerror=alert(1)>\x1b[2J\x1b]8;;http://evil\x07here\x1b]8;;\x07"
    "\u202egnp.exe \u2066x\u2069 [x](javascript:alert(1)) ![x](http://evil/p.png) `a` | b ]]> & \" '"
)


class _Scripts(HTMLParser):
    def __init__(self) -> None:
        super().__init__()
        self.found: list[str] = []
        self.seen: set[str] = set()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.seen.add(tag)
        if tag in ("script", "iframe", "object", "embed", "link", "base", "form"):
            self.found.append(tag)
        for name, value in attrs:
            if (
                name.startswith("on")
                or name in ("src", "action")
                or "script:" in (value or "")
                or (name == "href" and not (value or "").startswith("#"))
            ):
                self.found.append(f"{tag} {name}={value}")


def _hostile_debrief() -> tuple[str, str, str]:
    example = drill_examples.EXAMPLES["node-failure"]()
    scenario = msgspec.structs.replace(example.scenario, title=HOSTILE, description=HOSTILE)
    told = []
    for event in example.events:
        changed = {
            name: HOSTILE
            for name in ("text", "why", "what", "detail", "by", "error", "alert", "slot", "seen")
            if isinstance(getattr(event, name, None), str) and getattr(event, name)
        }
        told.append(msgspec.structs.replace(event, **changed))
    judged = [
        msgspec.structs.replace(one, claim=HOSTILE, evidence=HOSTILE)
        for one in example.score.hypotheses
    ]
    score = msgspec.structs.replace(example.score, hypotheses=tuple(judged))
    found = debrief(scenario, told, score)
    return to_html(found), to_markdown(found), to_junit(found)


def test_what_people_type_harms_no_page_no_markdown_and_no_junit() -> None:
    page, text, junit = _hostile_debrief()
    scripts = _Scripts()
    scripts.feed(page)
    assert not scripts.found
    harmful = "[\x00-\x08\x0b-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069]"
    for form in (page, text, junit):
        assert "evil" in form
        assert not re.search(harmful, form)
    rendered = _Scripts()
    rendered.feed(MarkdownIt("commonmark").enable("table").render(text))  # lets HTML through
    assert not [found for found in rendered.found if "evil" in found or "script" in found]
    assert "img" not in rendered.seen
    ET.fromstring(junit)


@pytest.mark.parametrize(
    "text",
    [
        "\x1b[2J",
        "\x1b]8;;http://x\x07",
        "\u202eabc",
        "\u2066",
        "a\rb",
        "\x9b31m",
        "\u200b",
        "\ud800",
    ],
)
def test_nothing_drives_the_terminal(text: str) -> None:
    shown = printable(f"a{text}b\n", "\n")
    assert shown[:-1].isprintable()
    assert shown[-1] == "\n"
    assert len(shown) == len(text) + 3
    assert len(printable(text * 100_000)) == len(text) * 100_000


def test_an_error_about_a_file_does_not_drive_the_terminal(terminal: Terminal) -> None:
    path = terminal.cwd / "odd\x1b[2J\u202e.yaml"
    path.write_text("apiVersion: x\n\u202ename: y\n", encoding="utf-8")
    for command in ("validate", "run"):
        done = terminal.gameday(command, path)
        assert done.returncode == 2
        assert not re.search("[\x1b\u202e]", done.stdout + done.stderr)


DRIVES = "q\x1b]0;pwn\x07\x9b2J\u202e"


@pytest.mark.parametrize(
    "words",
    [
        ["init", DRIVES],
        ["init", "--name", DRIVES],
        ["validate", f"{DRIVES}.yaml"],
        ["catalog", "--source", f"{DRIVES}.yaml"],
        ["catalog", f"{DRIVES}.yaml"],
        ["catalog", DRIVES],
        ["debrief", "x", DRIVES],
        ["debrief", DRIVES],
        ["debrief", "--format", DRIVES],
        ["recover", DRIVES],
        ["recover", "--forget", DRIVES],
        ["run", "x", "--seed", DRIVES],
        ["run", f"{DRIVES}.yaml", "--dry-run"],
        ["run", "x", "--attach", DRIVES],
        ["run", "x", f"--{DRIVES}"],
        ["ack", "--drill", DRIVES],
        ["sandbox", DRIVES],
        ["sandbox", "ps", "--sandbox", DRIVES],
        ["sandbox", "up", "--detach", DRIVES],
        [DRIVES],
    ],
    ids=lambda words: " ".join(words).replace(DRIVES, "…"),
)
def test_no_argument_drives_the_terminal(terminal: Terminal, words: list[str]) -> None:
    """Whether it is refused or echoed, to a terminal."""
    (terminal.cwd / "serve.py").write_text(SERVICE)
    (terminal.cwd / "sandbox.yaml").write_text(SANDBOX, encoding="utf-8")
    text = f"# {DRIVES[-1]}\n{SCENARIO}"
    (terminal.cwd / f"{DRIVES}.yaml").write_text(text, encoding="utf-8")
    told = _in_a_terminal(terminal, *words)
    assert told.strip()
    ours = re.compile("\x1b\\[[0-9;]*m")  # what we style, on purpose
    assert not re.search("[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f\u202a-\u202e]", ours.sub("", told))


@pytest.mark.parametrize("what", ["x" * 900_000, "é" * 90_000, "a " * 50_000, "- " * 9000])
def test_very_long_texts_are_refused_at_once_and_not_shown(what: str) -> None:
    text = f"apiVersion: gameday/v1\nname: a\nseverity: '{what}'\nsandbox: {{app: shop}}\n"
    begun = time.process_time()
    with pytest.raises(ScenarioError) as caught:
        load_text(text, "s")
    assert len(str(caught.value)) < 5000
    assert time.process_time() - begun < 1.0


def test_a_command_by_hand_cannot_be_made_to_say_another() -> None:
    step = RunCommand("web-1", ("echo", "; rm -rf /", "$(id)"))
    shown = by_hand(step, SandboxRef("local", "a", "x; id"))
    done = subprocess.run(["sh", "-c", shown], capture_output=True, text=True, check=True)
    assert done.stdout == "; rm -rf / $(id)\n"
