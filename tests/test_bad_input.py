"""Bad input through the command: one clear message for each, exit 2, at once, nothing started."""

from __future__ import annotations

import json
import os
import re
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest

from gameday.drills.folder import list_drills
from gameday.scoring import events
from gameday.scoring.narration import Narrator
from tests.commands import Terminal, assert_nothing_left, no_traceback

AT_ONCE = 5.0
"""Seconds, start-up of the interpreter on a busy machine included."""

GOOD = """\
apiVersion: gameday/v1
name: probe-me
title: A scenario that is fine
sandbox: {kind: local, app: shop}
load: {journey: browse, users: 2, spawn_rate: 2}
slis:
  availability: {path: /products, every: 50ms, good: status < 500, over: 2s}
steady_state: {availability: ">= 99%"}
hypotheses:
  - {id: stays-up, claim: It stays up., expect: availability >= 95%}
duration: 1m
faults:
  - {at: 8s, inject: process.kill, target: {service: api, count: 1}}
"""


def changed(old: str, new: str) -> bytes:
    assert old in GOOD
    return GOOD.replace(old, new).encode()


@dataclass(frozen=True)
class Case:
    """A file's content, the line where the problem is (None: the file as a whole), and what
    the message must say: what was found, what was expected, what to do."""

    content: bytes
    line: int | None
    says: tuple[str, ...]


LATER = "\n  - {at: 9s, inject: "
CASES = {
    "empty": Case(b"", None, ("empty",)),
    "only comments": Case(b"# nothing\n\n", None, ("empty|nothing",)),
    "not UTF-8": Case(
        changed("A scenario", "Kr\u00e4he").replace("\u00e4".encode(), b"\xe4"), 3, ("UTF-8",)
    ),
    "binary": Case(
        b"\x7fELF\x02\x01\x01\0\0\0\0" + bytes(range(256)), None, (r"UTF-8|text|binary",)
    ),
    "a NUL": Case(
        changed("It stays up.", "It \0 up."), None, (r"character|NUL|control|\\x00|U\+0000",)
    ),
    "a list": Case(b"- one\n- two\n", 1, ("list|sequence", "mapping|keys|apiVersion")),
    "a number": Case(b"42\n", 1, ("42|number",)),
    "not YAML": Case(b"name: [1, 2\ntitle: x\n", 2, (r"[,\]]|flow|close",)),
    "duplicate keys": Case(
        changed("duration: 1m", "duration: 1m\nduration: 2m"),
        12,
        ("duration", "twice|already|duplicate"),
    ),
    "deep nesting": Case(b"[" * 1_000_000, 1, ("deep|nest|level",)),
    "deep blocks": Case(
        b"".join(b" " * n + b"a:\n" for n in range(1200)), None, ("deep|nest|level",)
    ),
    "an alias bomb": Case(
        b"a: &a [x, x, x, x, x, x, x, x, x, x]\n"
        + b"".join(
            b"%c: &%c [%s]\n" % (c + 1, c + 1, b", ".join([b"*" + bytes([c])] * 10))
            for c in range(ord("a"), ord("k"))
        ),
        None,
        ("20000 values",),
    ),
    "an alias of itself": Case(b"name: &a [*a]\n", 1, ("alias",)),
    "a huge file": Case(b"# " + b"x" * 100_000_000, None, ("large|big|MB|MiB",)),
    "a key that is unknown": Case(
        changed("hypotheses:", "hypotheseis:"), 9, ("hypotheseis", "hypotheses")
    ),
    "a fault that is unknown": Case(
        changed("process.kill", "proces.kill"), 13, ("proces.kill", "process.kill")
    ),
    "NaN": Case(changed("users: 2", "users: .nan"), 5, ("nan|NaN", "number|whole")),
    "infinite": Case(changed("duration: 1m", "duration: .inf"), 11, ("inf", "finite")),
    "a negative duration": Case(
        changed("duration: 1m", "duration: -5s"), 11, ("-5s", "10s|negative|zero")
    ),
    "a duration without unit": Case(changed("at: 8s", "at: 8"), 13, ("8", "unit|10s")),
    "more than the whole": Case(changed(">= 99%", ">= 199%"), 8, ("199%", "95%")),
    "a target that matches nothing": Case(
        changed("service: api,", "service: apj,"), 13, ("apj", "api")
    ),
    "more than there are": Case(changed("count: 1", "count: 7"), 13, ("7", "3")),
    "a hypothesis on no SLI": Case(
        changed("expect: availability", "expect: avalability"), 10, ("avalability", "availability")
    ),
    "faults that exclude each other": Case(
        changed(
            "count: 1}}", "count: 1}}".replace("service: api, count: 1", "slot: api-1")
        ).replace(
            b"{service: api, count: 1}}",
            b"{slot: api-1}}" + LATER.encode() + b"process.pause, target: {slot: api-1}}",
        ),
        14,
        ("api-1", "process.kill|line 13"),
    ),
    "a fault after the end": Case(changed("at: 8s", "at: 2m"), 13, ("2 min", "1 min")),
    "a journey that is unknown": Case(
        changed("journey: browse", "journey: browze"), 5, ("browze", "browse")
    ),
    "an app that is unknown": Case(changed("app: shop", "app: shopp"), 4, ("shopp", "shop")),
    "another version": Case(changed("gameday/v1", "gameday/v9"), 1, ("v9", "gameday/v1")),
    "a condition that is none": Case(
        changed("good: status < 500", "good: status <> 500"), 7, ("<>|status",)
    ),
}


def refuses(terminal: Terminal, path: str | Path, *says: str, command: str = "run") -> None:
    """The command refuses it: exit 2, at once, one message, nothing started."""
    began = time.monotonic()
    done = terminal.gameday(command, path, timeout=60)
    took = time.monotonic() - began
    told = done.stderr
    assert done.returncode == 2, (done.returncode, done.stdout[-500:], told[-2000:])
    no_traceback(done.stdout, told)
    assert done.stdout == ""
    if took >= AT_ONCE:  # once more: somebody else may have had the machine
        began = time.monotonic()
        terminal.gameday(command, path, timeout=60)
        took = time.monotonic() - began
    assert took < AT_ONCE, took
    assert len(told) < 4000, told[:4000]
    assert told.count("\n") <= 12, told
    for words in says:
        assert re.search(words, told), (words, told)
    assert not (terminal.cwd / ".gameday").exists()
    assert not terminal.state.exists()


@pytest.mark.parametrize("name", CASES)
def test_a_bad_file_is_refused(terminal: Terminal, name: str) -> None:
    case = CASES[name]
    (terminal.cwd / "bad.yaml").write_bytes(case.content)
    place = r"bad\.yaml" + (rf":{case.line}(:\d+)?: " if case.line else "(:|: )")
    refuses(terminal, "bad.yaml", place, *(f"(?i){words}" for words in case.says))


def test_validate_refuses_all_of_them(terminal: Terminal) -> None:
    """The same answers from `validate`, for all files in one go."""
    names = {f"bad-{number}.yaml": case for number, case in enumerate(CASES.values())}
    for name, case in names.items():
        (terminal.cwd / name).write_bytes(case.content)
    done = terminal.gameday("validate", *names)
    assert done.returncode == 2
    assert done.stdout == ""
    no_traceback(done.stderr)
    for name, case in names.items():
        told = "".join(re.findall(rf"(?m)^\S*/{name}:?.*\n(?: .*\n)*", done.stderr))
        for words in case.says:
            assert re.search(f"(?i){words}", told), (name, words, told)
    assert list(terminal.cwd.iterdir()) != []
    assert not (terminal.cwd / ".gameday").exists()
    assert not terminal.state.exists()


def test_the_good_one_is_fine(terminal: Terminal) -> None:
    """Otherwise the cases above could be refused for another reason."""
    (terminal.cwd / "good.yaml").write_text(GOOD)
    assert terminal.say("validate", "good.yaml").startswith("good.yaml: fine")


def _folder(path: Path) -> None:
    path.mkdir()


def _loop(path: Path) -> None:
    path.symlink_to(path)


def _dangling(path: Path) -> None:
    path.symlink_to("nowhere.yaml")


def _unreadable(path: Path) -> None:
    path.write_text(GOOD)
    path.chmod(0)


@pytest.mark.parametrize(
    ("make", "says"),
    [
        (_folder, "directory|folder"),
        (_loop, "symbolic link|loop"),
        (_dangling, "no such file|not there|no file|does not exist"),
        (lambda path: os.mkfifo(path), "regular file|no file|not a file|pipe"),
        (lambda path: path.symlink_to("/dev/zero"), "regular file|not a file|device"),
        (lambda path: None, "no such file|not there|no file|does not exist"),
        # Root may read everything; tests/test_load.py tries it as somebody else.
        *([(_unreadable, "permission|may not|cannot")] if os.geteuid() else []),
    ],
)
def test_what_is_no_file_is_refused(
    terminal: Terminal, make: Callable[[Path], None], says: str
) -> None:
    make(terminal.cwd / "bad.yaml")
    refuses(terminal, "bad.yaml", r"bad\.yaml: ", f"(?i){says}")


@pytest.mark.parametrize("name", ["api-node-failur", "", "x" * 5000, "../..", "--", "\x1b[31mred"])
def test_a_name_that_is_none_is_refused(terminal: Terminal, name: str) -> None:
    done = terminal.gameday("run", name)
    assert done.returncode == 2, done
    no_traceback(done.stdout, done.stderr)
    assert "\x1b" not in done.stderr
    assert not (terminal.cwd / ".gameday").exists()
    if name == "api-node-failur":
        assert "Did you mean api-node-failure?" in done.stderr


def test_all_problems_of_a_file_at_once(terminal: Terminal) -> None:
    text = GOOD.replace("users: 2", "users: many").replace("at: 8s", "at: -8s")
    text = text.replace("expect: availability", "expect: avalability")
    (terminal.cwd / "bad.yaml").write_text(text)
    refuses(terminal, "bad.yaml", r"bad\.yaml:5:", r"bad\.yaml:10:", r"bad\.yaml:13:")


def test_several_files_are_all_checked(terminal: Terminal) -> None:
    (terminal.cwd / "good.yaml").write_text(GOOD)
    (terminal.cwd / "bad.yaml").write_bytes(b"")
    done = terminal.gameday("validate", "bad.yaml", "good.yaml", "missing.yaml", "slow-store")
    assert done.returncode == 2
    assert "good.yaml: fine" in done.stdout
    assert "slow-store: fine" in done.stdout
    assert "bad.yaml" in done.stderr
    assert "missing.yaml" in done.stderr


@pytest.mark.parametrize(
    ("args", "says"),
    [
        (("--seed", "-1"), "seed"),
        (("--seed", "many"), "seed"),
        (("--fixers", "elves"), "scripted"),
        (("--webhook", "ftp://example.org"), "http"),
        (("--webhook", "nonsense"), "http"),
        (("--webhook", "http://[::1"), "http|URL|webhook"),
        (("--webhook", "http://example.org:99999/"), "http|URL|webhook|port"),
        (("--attach", "web"), "NAME="),
        (("--attach", "web=1"), "its own sandbox"),
        (("--dryrun",), "--dry-run"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, tuple) else "",
)
def test_a_bad_option_is_refused_before_anything_is_started(
    terminal: Terminal, args: tuple[str, ...], says: str
) -> None:
    done = terminal.gameday("run", "api-node-failure", *args, timeout=90)
    assert done.returncode == 2, (done.returncode, done.stderr)
    no_traceback(done.stdout, done.stderr)
    assert re.search(says, done.stderr), done.stderr
    assert not (terminal.cwd / ".gameday").exists()
    assert not terminal.state.exists()


# A sandbox that does not start is the user's to mend, and the record says so


@pytest.mark.sandbox
def test_a_service_that_ends_at_once_is_no_fault_of_ours(terminal: Terminal) -> None:
    terminal.say("init", ".")
    declared = terminal.cwd / "sandbox.yaml"
    declared.write_text(declared.read_text().replace("/service.py", "/serv.py"))
    done = terminal.gameday("run", "first.yaml", timeout=90)
    (folder,) = list_drills(terminal.cwd)
    debrief = json.loads(folder.debrief("json").read_text())
    no_traceback(done.stdout, done.stderr)
    assert done.returncode == 3, done.stderr
    assert "serv.py" in done.stderr, "the end of the service's log"
    assert "of ours" not in done.stdout + done.stderr
    assert debrief["drill"]["exit_code"] == 3
    assert debrief["drill"]["outcome"] == "unhealthy-start"
    assert {h["evidence"] for h in debrief["hypotheses"]} == {"The sandbox did not start."}
    found = {finding["id"] for finding in debrief["findings"]}
    assert "not-started" in found
    assert not found & {"failed", "own-problem"}
    assert "Gameday itself failed" not in terminal.gameday("debrief").stdout
    assert f"{folder.id}  exit 3" in terminal.say("list")
    assert_nothing_left(terminal, folder.id)


def test_only_a_fault_of_ours_is_told_as_ours() -> None:
    def told(where: str, *phases: str) -> str:
        narrator = Narrator()
        for phase in phases:
            list(narrator.tell(events.PhaseBegan(at=0.0, phase=phase)))
        (found,) = narrator.tell(events.Problem(at=1.0, where=where, what="it broke"))
        return found.text

    assert told("sandbox", "starting") == "The sandbox did not start: it broke."
    assert "of ours" in told("sandbox", "starting", "steadying")
    assert "of ours" in told("drill", "starting")


@pytest.mark.parametrize(
    ("program", "says"),
    [
        ("/no/such/prog", "service back: there is no program /no/such/prog"),
        ("no-such-prog", "service back: the program 'no-such-prog' is not found on PATH"),
        ("{{ folder }}/none", "service back: there is no program /.*/none"),
        ("{{ folder }}/service.py", "service back: /.*/service.py may not be executed"),
    ],
)
def test_a_program_that_is_not_there_is_refused_before_anything_is_started(
    terminal: Terminal, program: str, says: str
) -> None:
    terminal.say("init", ".")
    declared = terminal.cwd / "sandbox.yaml"
    ours = '["{{ python }}", "{{ folder }}/service.py", back'
    assert ours in declared.read_text()
    declared.write_text(declared.read_text().replace(ours, f'["{program}", back'))
    (terminal.cwd / "service.py").chmod(0o644)
    assert "fine" in terminal.say("validate", "first.yaml"), "it may run elsewhere"
    done = terminal.gameday("run", "first.yaml")
    assert done.returncode == 6, done.stderr
    no_traceback(done.stdout, done.stderr)
    assert re.search(says, done.stderr), done.stderr
    assert not (terminal.cwd / ".gameday").exists()


def test_a_misspelt_template_is_told_where_it_stands(terminal: Terminal) -> None:
    terminal.say("init", ".")
    declared = terminal.cwd / "sandbox.yaml"
    declared.write_text(declared.read_text().replace("{{ endpoints }}", "{{ endpionts }}", 2))
    for command in ("validate", "run"):
        done = terminal.gameday(command, "first.yaml")
        assert done.returncode == 2, done.stderr
        assert re.search(r"sandbox\.yaml:\d+:\d+: services\.front\.command\[4\]: ", done.stderr)
        assert "Did you mean endpoints?" in done.stderr
    assert not (terminal.cwd / ".gameday").exists()


def test_validate_counts_in_good_english(terminal: Terminal) -> None:
    terminal.say("init", ".")
    assert terminal.say("validate", "first.yaml").endswith("(3 hypotheses, 1 fault, 1 alert)\n")
