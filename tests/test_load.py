"""The loader: whatever lies at a path, the answer is a scenario or problems in our words, at once."""

from __future__ import annotations

import copy
import os
import re
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, cast

import pytest
import yaml
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from gameday.injectors.errors import ScenarioError
from gameday.injectors.registry import fault_class, known_kinds
from gameday.scenarios.catalog import CATALOGUE, find_scenario
from gameday.scenarios.document import parse_document
from gameday.scenarios.load import (
    LoadedScenario,
    load_cluster,
    load_scenario,
    load_text,
    load_yaml,
)
from gameday.scenarios.model import Load, Scenario
from gameday.scenarios.sandboxes import PARTS
from gameday.scenarios.source import read_source

CLUSTER = """\
name: own
entry: web
services:
  web: {command: [serve], links: [api]}
  api: {command: [serve], replicas: 3, links: [db], environment: {MODE: quick, LEVEL: info}}
  db: {command: [serve]}
"""

GOOD = """\
apiVersion: gameday/v1
name: good
title: A scenario that is fine
severity: SEV-2
objectives: ["Does it hold?"]
duration: 2m
sandbox: {file: sandbox.yaml}
roles: {breaker: automated, fixer: on-call}
load: {journey: visit.py, users: 20, spawn_rate: 2.5}
slis:
  availability: {path: /products, every: 50ms, good: "status < 500 and latency < 500ms", over: 2s}
  slow: {quantile: 99%}
steady_state: {availability: ">= 99%", slow: "< 300ms"}
acceptable: {availability: ">= 97%"}
hypotheses:
  - {id: stays, claim: It stays., expect: "availability >= 95%"}
  - {id: told, claim: We are told., expect: "time_to_detect <= 15s"}
alerts:
  - name: Burn
    when: availability < 98% for 2s
    summary: It fails.
    impact: Customers see it.
    verify: The figures.
    first_step: Look.
    escalate: The team.
    runbook: runbooks/a.md
  - {name: Fyi, tier: fyi, at: 5s, summary: By the way.}
faults:
  - {at: 10s, inject: process.kill, target: {service: api, count: 1}}
  - {at: 20s, lasts: 10s, inject: net.latency, target: {link: api->db}, delay: 200ms, jitter: 50ms}
reports:
  - {at: 40s, from: customer, text: It hangs.}
fixers:
  scripted: {reaction: 3s, steps: [ack, identify, "restart {{ unhealthy.api }}", mitigate, resolve]}
hints: [Look at the nodes.]
abort_when: [availability < 10% for 20s]
debrief: {questions: ["What now?"]}
"""

JARGON = re.compile(
    r"Expected `|Object missing|msgspec|https?://|\[type=|validation error"
    r"|value_error|\b(string|int|float|bool|list|dict|model)_(type|parsing)\b|unable to parse|NoneType|Traceback|<class|ScenarioError|Misfit",
)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "runbooks").mkdir()
    (tmp_path / "runbooks" / "a.md").write_text("# Runbook\n")
    (tmp_path / "sandbox.yaml").write_text(CLUSTER)
    (tmp_path / "visit.py").write_text("")
    (tmp_path / "good.yaml").write_text(GOOD)
    return tmp_path


def problems(path: Path, load: Callable[[Path], object] = load_scenario) -> list[str]:
    """``line:column message | hint`` of each problem."""
    with pytest.raises(ScenarioError) as caught:
        load(path)
    assert caught.value.exit_code == 2
    return _shown(caught.value)


def _shown(error: ScenarioError) -> list[str]:
    return [
        f"{one.line}:{one.column} {one.message}" + (f" | {one.hint}" if one.hint else "")
        for one in error.problems
    ]


def changed(folder: Path, old: str, new: str) -> list[str]:
    """The problems of the good scenario with one change."""
    assert GOOD.count(old) == 1, old
    path = folder / "changed.yaml"
    path.write_text(GOOD.replace(old, new))
    return problems(path)


# A good file


def test_a_good_scenario_comes_with_what_it_names(folder: Path) -> None:
    loaded = load_scenario(folder / "good.yaml")
    assert loaded.text == GOOD
    assert loaded.scenario.name == "good"
    assert loaded.cluster is not None
    assert list(loaded.cluster.services) == ["web", "api", "db"]
    assert loaded.cluster_path == folder / "sandbox.yaml"
    assert loaded.locustfile == folder / "visit.py"
    assert loaded.runbooks == {"runbooks/a.md": "# Runbook\n"}
    assert [fault.breaks.kind for fault in loaded.scenario.faults] == [
        "process.kill",
        "net.latency",
    ]
    assert loaded.scenario.load is not None
    assert loaded.scenario.load.spawn_rate == 2.5


def test_the_scenario_changes_the_cluster_that_it_breaks(folder: Path) -> None:
    own = "{file: sandbox.yaml, replicas: {api: 5}, environment: {api: {MODE: slow, NEW: x}}}"
    (folder / "good.yaml").write_text(GOOD.replace("{file: sandbox.yaml}", own))
    cluster = load_scenario(folder / "good.yaml").cluster
    assert cluster is not None
    assert cluster.services["api"].replicas == 5
    assert cluster.services["api"].environment == {"MODE": "slow", "LEVEL": "info", "NEW": "x"}


def test_a_control_drill_needs_neither_faults_nor_alerts_nor_hypotheses(folder: Path) -> None:
    text = GOOD[: GOOD.index("hypotheses:")]
    (folder / "control.yaml").write_text(text)
    scenario = load_scenario(folder / "control.yaml").scenario
    assert (scenario.faults, scenario.alerts, scenario.hypotheses) == ([], [], [])


def test_the_copy_in_a_drills_folder_is_read_without_the_files_beside_it() -> None:
    loaded = load_text(GOOD, "scenario.yaml")
    assert loaded.scenario == load_text(GOOD, "x").scenario
    assert loaded.cluster is None
    assert loaded.runbooks == {}
    with pytest.raises(ScenarioError, match=r"scenario.yaml:4:11: severity"):
        load_text(GOOD.replace("SEV-2", "SEV-9"), "scenario.yaml")


def test_a_byte_order_mark_and_other_line_ends_are_fine(folder: Path) -> None:
    path = folder / "windows.yaml"
    path.write_bytes(b"\xef\xbb\xbf" + GOOD.replace("\n", "\r\n").encode())
    assert load_scenario(path).scenario.name == "good"


def test_simple_aliases_are_fine(folder: Path) -> None:
    text = GOOD.replace('">= 99%", slow', '&bound ">= 99%", slow').replace('">= 97%"', "*bound")
    (folder / "alias.yaml").write_text(text)
    assert load_scenario(folder / "alias.yaml").scenario.acceptable == {"availability": ">= 99%"}


def test_any_model_can_be_read(folder: Path) -> None:
    (folder / "load.yaml").write_text("users: 3\n")
    assert load_yaml(folder / "load.yaml", Load).value == Load(users=3)
    (folder / "load.yaml").write_text("usres: 3\n")
    assert problems(folder / "load.yaml", lambda path: load_yaml(path, Load)) == [
        "1:1 `usres` is no key | Did you mean `users`?"
    ]


# What lies at the path


def test_a_missing_file_names_the_nearest(folder: Path) -> None:
    assert problems(folder / "god.yaml") == [
        f"None:None there is no such file | Did you mean {folder / 'good.yaml'}?"
    ]
    assert "There is no folder" in problems(folder / "no" / "such.yaml")[0]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "None:None the file is empty | `gameday init` writes a first scenario."),
        (b" \n\n", "None:None the file is empty | `gameday init` writes a first scenario."),
        (b"# nothing\n", "None:None there is nothing in the file but comments"),
        (b"a: \0b", "None:None the file is binary (byte 4 is NUL); expected UTF-8 text"),
        ("a: b".encode("utf-16"), "the file is UTF-16; expected UTF-8"),
        ("a: 1\nb: ä".encode("latin-1"), "2:4 the file is not UTF-8: found the byte 0xe4"),
        (b"\x7fELF\x02\x01\x01\0", "the file is binary"),
        (b"a: \x07", "1:4 found the control character U+0007"),
        (b'a: "\\e[31m"', "1:4 found the control character U+001B in a text"),
        ("a: b\u2028c".encode(), "1:5 found the control character U+2028"),
    ],
)
def test_no_text_no_scenario(tmp_path: Path, content: bytes, message: str) -> None:
    path = tmp_path / "a.yaml"
    path.write_bytes(content)
    (found,) = problems(path)
    assert message in found


def test_what_is_no_file_is_refused_without_waiting(tmp_path: Path) -> None:
    fifo, loop = tmp_path / "fifo", tmp_path / "loop"
    os.mkfifo(fifo)
    loop.symlink_to(loop)
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(tmp_path / "socket"))
        found = {
            "directory": problems(tmp_path),
            "pipe": problems(fifo),
            "device": problems(Path("/dev/zero")),
            "socket": problems(tmp_path / "socket"),
        }
    for kind, (text,) in found.items():
        assert kind in text
        assert "expected a file" in text
    assert "cannot be opened" in problems(loop)[0]
    assert "NUL" in problems(tmp_path / "a\0b")[0]
    assert "cannot be opened" in problems(tmp_path / ("x" * 5000))[0]


def test_a_large_file_is_not_read(tmp_path: Path) -> None:
    path = tmp_path / "large.yaml"
    with path.open("wb") as file:
        file.truncate(100 * 1024 * 1024)
    assert problems(path) == [
        "None:None the file is too large: found 100 MiB, expected at most 1 MiB"
    ]


@contextmanager
def an_ordinary_user() -> Iterator[None]:
    """Root may read everything, so be somebody else for a while."""
    if os.geteuid() != 0:
        yield
        return
    os.seteuid(65534)
    try:
        yield
    finally:
        os.seteuid(0)


def test_an_unreadable_file(tmp_path: Path) -> None:
    path = tmp_path / "a.yaml"
    path.write_text("a: 1")
    path.chmod(0)
    with an_ordinary_user():
        assert "permission denied" in problems(path)[0]


def test_a_file_that_grows_while_it_is_read_is_cut_off(tmp_path: Path) -> None:
    with pytest.raises(ScenarioError, match="too large"):
        read_source(Path("/proc/kallsyms"), limit=1000)


# YAML


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("a: 1\nb: 2\na: 3", "3:1 `a` is given twice; first at line 1"),
        ("a: 1\n---\nb: 2", "2:1 a second document begins here; a file holds one"),
        ("a: !!python/object/apply:os.system [id]", "1:4 found the tag"),
        ("a: !env HOME", "1:4 found the tag '!env'"),
        ("a: [1, 2", "2:1 the list that begins at line 1, column 4 with '[' lacks"),
        ("a: {b: 1", "2:1 the mapping that begins at line 1, column 4 with '{' lacks"),
        ("a: 'x", "the quote that begins at line 1, column 4 is never closed"),
        ("a:\n\tb: 1", "2:1 found a tab; expected spaces"),
        ("a: @b", "1:4 no value can begin with '@'"),
        ("a: b: c", "1:5 found a ':' where no key can stand"),
        ("a:\n  b: 1\n c: 2", "3:2 expected a key of the mapping that begins at line 1"),
        ("a:\n - b\n c: 1", "3:2 expected the next '-' of the list that begins at line 2"),
        ("a: - b", "1:4 found a '-' where no list can begin"),
        ("a: *nope", "1:4 the alias *nope names no anchor"),
        ("a: &a [*a]", "1:8 the alias *a stands inside its own anchor"),
        ("? [a]\n: b", "1:3 found a list or mapping as a key; expected text"),
        ("a: .nan", "1:4 found the number .nan, expected a finite number"),
        ("a: -.inf", "1:4 found the number -.inf, expected a finite number"),
        ("a: 1e999", "1:4 found the number 1e999, expected a finite number"),
        ("a: " + "9" * 5000, "1:4 found a number of 5000 characters"),
        ("a: 010", "1:4 found 010, which some programs read as octal; expected 10"),
        ("- a", "1:1 found a list, expected keys with values"),
        ("just words", "1:1 found the text 'just words', expected keys with values"),
        ("a: " + "x" * 200_000, "1:4 found a text of 200000 characters"),
        ("%a\n" * 10, "5:1 found 10 lines that begin with '%'"),
        ("a: >three", "1:5 found text right after the '>' that begins a text of several lines"),
        ("a: |0\n b", "1:5 found a 0 after the '|'"),
        ("a: b\n\tc", "2:1 found a tab; expected spaces"),
        ("a: |\n\t x", "2:1 found a tab; expected spaces"),
        ("{users:} 12", "1:7 found a ':' without a space after it, expected `key: value`"),
        ("a: ? b", "1:4 found a '?' where no key can begin"),
        ("a: 1\nfoo\n\n\nb: 2", "2:1 the key at line 2 lacks its ':'"),
        ("% b\n", "1:1 found a '%' at the start of a line, expected a key"),
        ("a: 1\n%5", "2:1 found a '%' at the start of a line, expected a key"),
        ("%TAG !a! %z\n---\n", "1:1 found a '%' at the start of a line, expected a key"),
        ("%YAML 1.2\na: 1", "2:1 found no '---' after a line that begins with '%'"),
        ("a: !<b", "1:4 found a tag ('!…'); expected a plain value"),
        ("a: !%zz", "1:4 found a tag ('!…'); expected a plain value"),
        ('a: "\\us"', "1:7 found a backslash with x, u or U, expected 2, 4 or 8 hexadecimal"),
        ('a: "\\ud800"', "1:7 found a backslash with the number of no character"),
        ('a: "b\n--- c', "1:4 the quote that begins at line 1, column 4 is not closed before"),
        ("a: 'it's'", "begins at line 1, column 4 and ends at line 1, column 7"),
        ('a: ["x" y]', "1:9 the list that begins at line 1, column 4 with '['"),
    ],
)
def test_yaml_that_we_do_not_take(text: str, message: str) -> None:
    with pytest.raises(ScenarioError) as caught:
        load_text(text, "a.yaml")
    assert any(message in one for one in _shown(caught.value)), _shown(caught.value)


PARSER = [
    "block sequence entries are not allowed in this context",
    *("could not find expected ':'", "could not find expected directive name"),
    *("did not find URI escaped octet", "did not find expected '!'"),
    *("did not find expected ',' or ']'", "did not find expected ',' or '}'"),
    *("did not find expected '-' indicator", "did not find expected <document start>"),
    "did not find expected alphabetic or numeric character",
    "did not find expected comment or line break",
    *("did not find expected digit or '.' character", "did not find expected hexdecimal number"),
    *("did not find expected key", "did not find expected node content"),
    *("did not find expected tag URI", "did not find expected version number"),
    *("did not find expected whitespace", "did not find the expected '>'"),
    *("exceeded maximum nesting depth", "found a tab character that violates indentation"),
    "found a tab character where an indentation space is expected",
    "found an incorrect leading UTF-8 octet",
    "found an incorrect trailing UTF-8 octet",
    *("found an indentation indicator equal to 0", "found character that cannot start any token"),
    *("found duplicate %TAG directive", "found duplicate %YAML directive"),
    *("found extremely long version number", "found incompatible YAML document"),
    *("found invalid Unicode character escape code", "found undefined tag handle"),
    *("found unexpected ':'", "found unexpected document indicator"),
    *("found unexpected end of stream", "found unexpected non-alphabetical character"),
    *("found unknown directive name", "found unknown escape character"),
    "mapping keys are not allowed in this context",
    "mapping values are not allowed in this context",
]
"""What libyaml says; nobody who writes a scenario should have to understand it."""

WORN = ["cannot stand here in YAML", "this is not YAML"]
"""What is said where we know nothing better."""

EDITS = st.tuples(
    st.integers(0, len(GOOD)),
    st.sampled_from([0, 0, 0, 1, 1, 3, 12]),
    st.sampled_from(
        [
            *"\"'{}[]:,-?&*!|>%@`#\t\n \\",
            *(": ", "- ", "? ", "{a:}", "\n? ", "\n\t", "\t- ", "&a ", "*a ", "''", '""', "]]"),
            *("!<a", "!a!b", "!%zz", '"\\x', '"\\u12"', '"\\ud800"', "|0\n", ">99", "|+ x\n"),
            *("\n%", "\n%a b\n", "\n---\n", "\n...\n", "\n%YAML 1.2\n", "\n%TAG ! x\n", "%%"),
        ]
    ),
)


@given(edits=st.lists(EDITS, min_size=1, max_size=3))
@settings(deadline=None, max_examples=3000)
def test_no_typing_mistake_is_told_in_the_parsers_words(edits: list[tuple[int, int, str]]) -> None:
    text = GOOD
    for at, length, new in edits:
        text = text[:at] + new + text[at + length :]
    try:
        parse_document(text, "a.yaml")
    except ScenarioError as error:
        for told in _shown(error):
            assert not any(words in told for words in (*PARSER, *WORN)), (told, text)


QUOTE_SPOTS = [found.end() for found in re.finditer(r"(?m)^[ -]*|: |[\[{,] ?", GOOD)]


@given(at=st.sampled_from(QUOTE_SPOTS), quote=st.sampled_from("\"'"))
@settings(deadline=None, max_examples=300)
def test_a_stray_quote_is_told_with_the_line_where_it_begins(at: int, quote: str) -> None:
    line = GOOD.count("\n", 0, at) + 1
    try:
        parse_document(GOOD[:at] + quote + GOOD[at:], "a.yaml")
    except ScenarioError as error:
        last = error.problems[-1]
        assert last.line == line or f"line {line}," in last.message + last.hint, last


def test_a_quote_that_ends_at_the_next_one_is_told_where_it_begins(folder: Path) -> None:
    assert changed(folder, "title: A", 'title: "A') == [
        "3:8 found more text right after the quote that begins at line 3, column 8 and ends at "
        "line 5, column 14 | Close it where the text ends; a quote inside the text is written "
        "\\\" or, in single quotes, ''."
    ]
    (found,) = changed(folder, "title: A", '"title: A')
    assert found.startswith(
        "3:1 the quote that begins at line 3, column 1 begins a key, but no ':'"
    )
    (found,) = changed(folder, 'objectives: ["Does it hold?"]', 'objectives: ["Does it hold?]')
    assert found.startswith("5:14 found more text right after the quote that begins at line 5")


def test_plain_words_mean_what_they_say() -> None:
    text = "a: no\nb: on\nc: 1:30\nd: 2024-01-01\ne: 0o17\nf: 0x1F\ng: 1_000\nh: ~\ni: true\n<<: m"
    root, found = parse_document(text, "a.yaml")
    assert not found
    assert root.plain() == {
        "a": "no",
        "b": "on",
        "c": "1:30",
        "d": "2024-01-01",
        "e": 15,
        "f": 31,
        "g": "1_000",
        "h": None,
        "i": True,
        "<<": "m",
    }


def _bomb() -> str:
    lines = ["a0: &a0 [x, x, x, x, x, x, x, x, x, x]"]
    for level in range(1, 10):
        lines.append(f"a{level}: &a{level} [{', '.join([f'*a{level - 1}'] * 9)}]")
    return "\n".join(lines)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("[" * 1_000_000, "nest deeper than 50 levels"),
        ("a: " + "[" * 1_000_000, "nest deeper than 50 levels"),
        ("{a: " * 250_000, "nest deeper than 50 levels"),
        ("- " * 500_000, "nest deeper than 50 levels"),
        ("".join(" " * depth + "a:\n" for depth in range(1400)), "nest deeper than 50 levels"),
        (_bomb(), "more than 20000 values"),
        ("a: &a x\nb: [" + "*a, " * 5000 + "x]", "more than 100 aliases"),
        ("- a\n" * 250_000, "more than 20000 values"),
        ("a:\n" * 300_000, "more than 20000 values"),
        ("%TAG !a! b\n" * 90_000, "lines that begin with '%'"),
        ("".join(f"k{n}: 1\n" for n in range(9000)), "further problems are not shown"),
    ],
)
def test_a_hostile_file_is_refused_at_once(text: str, message: str) -> None:
    began = time.process_time()
    with pytest.raises(ScenarioError, match=message):
        load_text(text[: 1024 * 1024], "a.yaml")
    assert time.process_time() - began < 3  # a second, on a machine that has nothing else to do


# Every problem at once


def test_every_problem_is_reported_at_its_place(folder: Path) -> None:
    (folder / "bad.yaml").write_text(
        """\
apiVersion: gameday/v2
name: Bad name
titel: Bad
duration: 3
sandbox: {file: sandbox.yaml}
load: {journey: visit.py, users: true, spawn_rate: "ten"}
slis:
  availability: {path: products, every: 50ms, good: "status < 500 and latncy < 500ms"}
steady_state: {availability: "over 3"}
hypotheses:
  - {id: a, claim: x, expect: "availabilty >= 95%"}
  - {id: a, claim: x, expect: "time_to_detect <= 15%"}
alerts:
  - {name: A, when: "availability < 98% for 2s", sumary: s}
faults:
  - {at: 10s, inject: proces.kill, target: {service: api}}
  - {at: 10s, inject: net.latency, target: {link: api-db}, delay: 200ms, jiter: 50ms}
  - {at: 9m, inject: process.kill, target: {service: api, count: 9}}
reports:
  - {at: -3s, from: boss, text: ""}
"""
    )
    found = problems(folder / "bad.yaml")
    assert [one.split(" | ")[0] for one in found] == [
        "1:13 apiVersion: found the text 'gameday/v2', expected gameday/v1",
        "2:7 name: found the text 'Bad name', expected lower-case letters, digits and dashes, "
        "such as api-node-failure",
        "3:1 `titel` is no key",
        "4:11 duration: 3 has no unit; write 3s or 3ms",
        "6:34 load.users: found true, expected a whole number",
        "6:52 load.spawn_rate: found the text 'ten', expected a number",
        "8:24 slis.availability.path: found the text 'products', expected a path that begins "
        "with /",
        "8:53 slis.availability.good: 'latncy' is not known of a sample; there are status and "
        "latency",
        "9:30 steady_state.availability: in 'over 3': found 'over', expected one of < <= > >= "
        "== !=",
        "11:31 hypothesis a: there is no SLI or timing 'availabilty'",
        "12:10 the hypothesis a is given twice; first at line 11",
        "12:31 hypothesis a: time_to_detect is a duration; 15 % is none",
        "14:50 `sumary` is no key of alerts[0]",
        "16:23 faults[0].inject: there is no fault 'proces.kill'",
        "17:51 faults[1].target.link: 'api-db' is not a link; write it as api->store or "
        "api-1->store",
        "17:74 `jiter` is no key of faults[1]",
        "18:66 the target asks for 9, but only 3 match",
        "20:10 reports[0].at: '-3s' is negative; write it as 500ms, 10s, 3m or 1m30s",
        "20:21 reports[0].from: found the text 'boss', expected one of customer, stakeholder",
        "20:33 reports[0].text: found the text '', expected at least one character",
    ]
    hints = dict(re.findall(r"^(\d+:\d+) .* \| (.*)$", "\n".join(found), re.MULTILINE))
    assert hints["3:1"] == "Did you mean `title`?"
    assert hints["11:31"] == "Did you mean availability?"
    assert hints["14:50"] == "Did you mean `summary`?"
    assert hints["16:23"].startswith("Did you mean process.kill?")
    assert hints["17:74"] == "Did you mean `jitter`?"


def test_the_problem_is_shown_as_editors_take_it(folder: Path) -> None:
    path = folder / "changed.yaml"
    path.write_text(GOOD.replace("users: 20", "usres: 20"))
    with pytest.raises(ScenarioError) as caught:
        load_scenario(path)
    assert str(caught.value) == (
        f"{path}:9:27: `usres` is no key of load\n    Did you mean `users`?"
    )


CHECKS = [
    # names that meet
    ('{availability: ">= 99%", slow', '{availabilty: ">= 99%", slow', "13:16", "availability?"),
    ('{availability: ">= 97%"}', '{fast: ">= 97%"}', "14:14", "There are: availability, slow."),
    ("when: availability <", "when: availabilty <", "20:11", "Did you mean availability?"),
    ("when: availability <", "when: time_to_detect <", "20:11", "is a timing; expected an SLI"),
    ("[availability < 10%", "[avail < 10%", "36:14", "Did you mean availability?"),
    ("id: told", "id: stays", "17:10", "hypothesis stays is given twice; first at line 16"),
    ("name: Fyi", "name: Burn", "27:12", "the alert Burn is given twice; first at line 19"),
    # units
    ('"availability >= 95%"', '"availability >= 95ms"', "16:43", "is a share; 95 ms is none"),
    ('"availability >= 95%"', '"availability >= 95"', "16:43", "Write it as 95%."),
    ('"availability >= 95%"', '"slow <= 95%"', "16:43", "slow is a duration; 95 % is none"),
    ('"time_to_detect <= 15s"', '"time_to_detect <= 15"', "17:45", "is a duration; 15 is none"),
    ('">= 99%", slow', '">= 99s", slow', "13:30", "1 min 39 s is none"),
    ("latency < 500ms", "latency < 500", "11:54", "latency is a duration; 500 is none"),
    ("status < 500 and", "status < 5% and", "11:54", "status is a number; 5 % is none"),
    # bounds and windows that make sense
    ('">= 97%"', '">= 99.5%"', "14:28", "tighter than steady_state"),
    ("over: 2s", "over: 10ms", "11:96", "the window (10 ms) is shorter than"),
    ("slow: {quantile: 99%}", "slow: {quantile: 99%, probe: tcp, good: status < 400}", "12:43", "a tcp probe has no status"),
    # times
    ("at: 10s", "at: 2m", "29:10", "a fault at 2 min comes after the drill's end (2 min)"),
    ("at: 40s", "at: 10m", "32:10", "a report at 10 min comes after"),
    ("at: 5s", "at: 5m", "27:32", "an alert at 5 min comes after"),
    ("lasts: 10s", "lasts: 0s", "30:22", "the fault would end as it begins"),
    ("for 2s", "for 3m", "20:11", "3 min is not shorter than the drill (2 min)"),
    ("duration: 2m", "duration: 2m\nstabilise: 2m", "7:12", "stabilise (2 min) is not shorter"),
    ("reaction: 3s", "reaction: 30s", "34:24", "take at least 2 min 30 s"),
    ("duration: 2m", "duration: 25h", "6:11", "expected at most"),
    ("duration: 2m", "duration: -2m", "6:11", "'-2m' is negative"),
    ("duration: 2m", "duration: 1:30", "6:11", "'1:30' is not a duration"),
    ("duration: 2m", "duration: 2024-01-01", "6:11", "'2024-01-01' is not a duration"),
    ("duration: 2m", "duration: yes", "6:11", "'yes' is not a duration"),
    ("duration: 2m", "duration: [2m]", "6:11", "found a list, expected a duration such as 500ms"),
    ("duration: 2m", "duration:", "6:10", "found nothing, expected a duration such as"),
    ("duration: 2m", "duration: 2.5", "6:11", "2.5 has no unit; write 2.5s"),
    # targets
    ("service: api, count: 1", "service: apy", "29:55", "no service 'apy' | Did you mean api?"),
    ("service: api, count: 1", "slot: api-4", "29:52", "no slot 'api-4'; api has 3"),
    ("service: api, count: 1", "slot: web-2, count: 1", "29:52", "web has 1"),
    ("service: api, count: 1", "service: api, count: 4", "29:67", "asks for 4, but only 3 match"),
    ("service: api, count: 1", "service: api, slot: api-1", "29:45", "give one of service, slot and label"),
    ("service: api, count: 1", "service: api, count: 1, share: 5%", "29:45", "count or share"),
    ("service: api, count: 1", "service: api, cuont: 1", "29:60", "Did you mean `count`?"),
    ("link: api->db", "link: web->db", "30:63", "no link web->db | There are: web->api, api->db."),
    ("link: api->db", "link: api-9->db", "30:63", "no service or slot 'api-9'"),
    ("link: api->db", "link: api->db, count: 4", "30:79", "asks for 4, but only 3 match"),
    ("target: {service: api, count: 1}", "target: api", "29:45", "expected keys with values"),
    ("inject: process.kill", "inject: 3", "29:23", "found the number 3, expected text"),
    ("delay: 200ms", "delay: 200", "30:80", "200 has no unit"),
    ("delay: 200ms", "delay: 2h", "30:80", "2 h is outside 1 ms to 1 min"),
    ("delay: 200ms, ", "", "30:5", "`delay` is missing"),
    # services
    ("slow: {quantile: 99%}", "slow: {quantile: 99%, service: wbe}", "12:34", "Did you mean web?"),
    ("{file: sandbox.yaml}", "{file: sandbox.yaml, replicas: {apo: 2}}", "7:42", "mean api?"),
    ("{file: sandbox.yaml}", "{file: sandbox.yaml, environment: {apo: {A: b}}}", "7:45", "api?"),
    ("{file: sandbox.yaml}", "{file: sandbox.yaml, environment: {api: {A: 1}}}", "7:54", 'in quotes: "1"'),
    ("{file: sandbox.yaml}", "{app: shp}", "7:16", "no application 'shp' | Did you mean shop?"),
    ("{file: sandbox.yaml}", "{app: shop, file: sandbox.yaml}", "7:10", "give app"),
    ("{file: sandbox.yaml}", "{}", "7:10", "give app"),
    ("{file: sandbox.yaml}", "{kind: lokal}", "7:17", "Did you mean local?"),
    ("{file: sandbox.yaml}", "{kind: attached, app: shop}", "7:10", "leave out app and file"),
    ("{file: sandbox.yaml}", "{kind: attached}", "30:35", "needs links, which a sandbox of kind attached lacks"),
    # fixers
    ("steps: [ack,", "steps: [akc,", "34:36", "Did you mean ack?"),
    ("unhealthy.api", "unhealthy.apy", "34:51", "no service 'apy' | Did you mean api?"),
    ('"restart {{ unhealthy.api }}"', "restart api-7", "34:51", "no slot 'api-7'; api has 3"),
    ('"restart {{ unhealthy.api }}"', "scale apis 3", "34:51", "no service 'apis'"),
    ("steps: [ack, identify, \"restart {{ unhealthy.api }}\", mitigate, resolve]", "steps: []", "34:35", "at least one entry"),
    # files beside it
    ("runbooks/a.md", "runbooks/b.md", "26:14", "there is no such file | Did you mean"),
    ("runbooks/a.md", "/etc/passwd", "26:14", "leads out of the scenario's folder"),
    ("runbooks/a.md", "../a.md", "26:14", "leads out of the scenario's folder"),
    ("runbooks/a.md", "runbooks", "26:14", "found a directory"),
    ("runbooks/a.md", "out.md", "26:14", "is a link out of the scenario's folder"),
    ("runbooks/a.md", '""', "26:14", "expected the name of a file"),
    ("file: sandbox.yaml", "file: ../sandbox.yaml", "7:17", "leads out of the scenario's folder"),
    ("file: sandbox.yaml", "file: sandbx.yaml", "7:17", "there is no such file"),
    ("visit.py", "browse", "9:17", "expected a locustfile beside the scenario"),
    ("visit.py", "other.py", "9:17", "there is no such file"),
    ("visit.py", "../visit.py", "9:17", "leads out of the scenario's folder"),
    # pages, roles, severities
    ("    impact: Customers see it.\n", "", "19:5", "the page Burn lacks impact (who feels it)"),
    ("when: availability < 98% for 2s", "at: 3s\n    when: availability < 98%", "19:5", "one of them"),
    ("fixer: on-call", "fixr: on-call", "8:29", "Did you mean fixer?"),
    ("fixer: on-call", "Fixer: on-call", "8:29", "found the key 'Fixer', expected lower-case"),
    ("severity: SEV-2", "severity: SEV-9", "4:11", "expected SEV-0 to SEV-5 or P1 to P4"),
    ("severity: SEV-2", "severity: SEV-2\nseverity_scheme: P1..4", "4:11", "not in the scheme P1..4"),
    ("title: A scenario that is fine", "title: 3", "3:8", 'put it in quotes: "3"'),
    ("title: A scenario that is fine\n", "", "1:1", "`title` is missing"),
    ("users: 20", "users: 0", "9:34", "found the number 0, expected at least 1"),
    ("users: 20", 'users: "20"', "9:34", "Numbers are written without quotes."),
    ("users: 20", "users: 2.5", "9:34", "expected a whole number"),
    ("spawn_rate: 2.5", "spawn_rate: 1_2", "9:50", "found the text '1_2', expected a number | Write it as 12."),
    ("impact: Customers see it.", 'impact: ""', "22:13", "the page Burn: `impact` is empty, expected who feels it"),
    ("every: 50ms", "every: 0", "11:42", "found the number 0, expected at least 10 ms"),
    ("every: 50ms", 'every: "0s"', "11:42", "found the text '0s', expected at least 10 ms"),
    ("duration: 2m", "duration: 2m\nblast_radius: {at_most: x}", "7:25", "blast_radius.at_most: found the text 'x', expected a count"),
    ("duration: 2m", "duration: 2m\nblast_radius: {at_most: 2 of 1}", "7:25", "found the text '2 of 1', expected a count"),
    ("duration: 2m", "duration: 2m\nblast_radius: {at_most: -1}", "7:25", "found the number -1, expected a count"),
    ("inject: process.kill, ", "", "29:5", "`inject` is missing from faults[0] | The kind of fault. There are: process.kill,"),
    ("inject: process.kill", "injct: process.kill", "29:5", "`inject` is missing from faults[0] | The kind of fault. Did you mean it by `injct`?"),
]  # fmt: skip


@pytest.mark.parametrize(("old", "new", "place", "message"), CHECKS)
def test_a_mistake_is_found_where_it_stands(
    folder: Path, old: str, new: str, place: str, message: str
) -> None:
    outside = folder.parent / f"{folder.name}-outside.md"
    outside.write_text("")
    (folder / "out.md").symlink_to(outside)
    found = changed(folder, old, new)
    assert any(one.startswith(f"{place} ") and message in one for one in found), found


@pytest.mark.parametrize(
    ("faults", "clash"),
    [
        ("{at: 1s, inject: process.kill, target: {service: api}}", True),
        ("{at: 1s, inject: process.kill, target: {slot: api-2}}", True),
        ("{at: 1s, inject: process.kill, target: {slot: api-1}}", False),
        ("{at: 1s, lasts: 9s, inject: process.kill, target: {slot: api-2}}", False),
        ("{at: 30s, inject: process.kill, target: {slot: api-2}}", False),
        ("{at: 29s, inject: process.crashloop, target: {service: api}}", True),
        ("{at: 1s, inject: disk.fill, target: {slot: api-2}}", False),
    ],
)
def test_faults_that_exclude_each_other_cannot_meet(folder: Path, faults: str, clash: bool) -> None:
    begin, end = GOOD.index("faults:\n") + 8, GOOD.index("reports:")
    pause = "  - {at: 10s, lasts: 20s, inject: process.pause, target: {slot: api-2}}\n"
    path = folder / "faults.yaml"
    path.write_text(GOOD[:begin] + pause + f"  - {faults}\n" + GOOD[end:])
    if clash:
        (found,) = problems(path)
        assert found.startswith("30:5 ")
        assert "exclude each other, and both can be in force at api-2" in found
    else:
        load_scenario(path)


def test_another_role_is_the_teams_own_business(folder: Path) -> None:
    path = folder / "roles.yaml"
    path.write_text(GOOD.replace("fixer: on-call", "deputy: Ann's team, planning-lead: them"))
    assert set(load_scenario(path).scenario.roles) == {"breaker", "deputy", "planning-lead"}


# The sandbox's declaration


def test_a_declaration_is_checked_as_well(folder: Path) -> None:
    path = folder / "sandbox.yaml"
    path.write_text(
        "name: own\nentry: wbe\nservices:\n  web: {command: [serve], links: [apii, db]}\n"
        "  api: {comand: [serve]}\n  db: {command: [serve], links: [web]}\n"
    )
    assert problems(path, load_cluster) == [
        "2:8 entry: there is no service 'wbe' | Did you mean web?",
        "4:3 links form a circle: web -> db -> web; a start order is then impossible",
        "4:35 services.web.links: there is no service 'apii' | Did you mean api?",
        "5:9 `comand` is no key of services.api | Did you mean `command`?",
    ]
    (found,) = problems(folder / "good.yaml")
    assert found.startswith("7:17 sandbox.file: sandbox.yaml has 4 problems")
    assert f"{path}:5:9: `comand` is no key of services.api" in found


def test_a_declaration_without_an_entry_needs_a_service_to_probe(folder: Path) -> None:
    (folder / "sandbox.yaml").write_text(CLUSTER.replace("entry: web\n", ""))
    found = problems(folder / "good.yaml")
    assert "declares no entry" in found[0]


def test_unknown_journeys_of_the_shop(folder: Path) -> None:
    text = GOOD.replace("{file: sandbox.yaml}", "{app: shop}").replace("visit.py", "brwse")
    (folder / "shop.yaml").write_text(text)
    assert any(
        one.endswith("shop has no journey 'brwse' | Did you mean browse?")
        for one in problems(folder / "shop.yaml")
    )


# Whatever comes


def _sound(found: LoadedScenario | ScenarioError, lines: int) -> None:
    if isinstance(found, LoadedScenario):
        return
    assert found.problems
    for one in found.problems:
        assert not JARGON.search(one.message + " " + one.hint), (one.message, one.hint)
        assert one.message.strip()
        assert one.line is None or 1 <= one.line <= lines + 1
        assert one.column is None or one.column >= 1


def _load(path: Path, content: bytes) -> LoadedScenario | ScenarioError:
    path.write_bytes(content)
    try:
        return load_scenario(path)
    except ScenarioError as error:
        return error


RELAXED = settings(
    deadline=None, max_examples=150, suppress_health_check=[HealthCheck.function_scoped_fixture]
)


@given(content=st.binary(max_size=2000))
@RELAXED
def test_no_bytes_break_the_loader(folder: Path, content: bytes) -> None:
    _sound(_load(folder / "any.yaml", content), content.count(b"\n") + content.count(b"\r") + 1)


@given(content=st.text(st.sampled_from("ab:-[]{}&*!|>'\"%@` \n\t#,?.01~"), max_size=200))
@RELAXED
def test_no_yaml_breaks_the_loader(folder: Path, content: str) -> None:
    _sound(_load(folder / "any.yaml", content.encode()), content.count("\n") + 1)


@given(
    cuts=st.lists(
        st.tuples(st.integers(0, len(GOOD)), st.integers(0, 30), st.text(max_size=6)),
        min_size=1,
        max_size=4,
    )
)
@RELAXED
def test_no_typing_mistake_breaks_the_loader(folder: Path, cuts: list[Any]) -> None:
    text = GOOD
    for at, length, new in cuts:
        text = text[:at] + new + text[at + length :]
    content = text.encode(errors="replace")
    _sound(_load(folder / "any.yaml", content), content.count(b"\n") + content.count(b"\r") + 1)


ODD = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(-5, 10**15),
    st.floats(allow_nan=False, allow_infinity=False),
    st.sampled_from(["", "x", "5s", "95%", "-1", "api", "api-2", "a->b", ">= 5%", "no", "1:30"]),
    st.lists(st.sampled_from(["x", "ack", 1]), max_size=2),
    st.dictionaries(st.sampled_from(["x", "service", "at", "inject"]), st.none(), max_size=2),
)


def _spots(value: Any, path: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    children = value.items() if isinstance(value, dict) else enumerate(value)
    spots = []
    for key, child in children:
        spots.append((*path, key))
        if isinstance(child, dict | list):
            spots += _spots(child, (*path, key))
    return spots


TREE = yaml.safe_load(GOOD)


@given(
    spot=st.sampled_from(_spots(TREE)),
    value=ODD,
    how=st.sampled_from(["replace", "remove", "add", "rename"]),
)
@settings(RELAXED, max_examples=400)
def test_no_value_in_no_place_is_refused_in_any_words_but_ours(
    folder: Path, spot: tuple[Any, ...], value: Any, how: str
) -> None:
    tree = copy.deepcopy(TREE)
    holder = tree
    for step in spot[:-1]:
        holder = holder[step]
    if how == "replace":
        holder[spot[-1]] = value
    elif how == "remove":
        del holder[spot[-1]]
    elif isinstance(holder, list):
        holder.append(value)
    elif how == "add":
        holder["extra"] = value
    else:
        holder[f"{spot[-1]}s"] = holder.pop(spot[-1])
    content = yaml.safe_dump(tree, allow_unicode=True)
    _sound(_load(folder / "any.yaml", content.encode()), content.count("\n") + 1)


# What it costs


def test_validating_imports_nothing_heavy() -> None:
    code = (
        "import sys; from pathlib import Path;"
        "from gameday.scenarios.load import load_scenario;"
        "from gameday.scenarios.catalog import find_scenario;"
        "load_scenario(find_scenario('api-node-failure', Path('.')));"
        "print(*sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    heavy = {"jinja2", "locust", "gevent", "aiohttp", "anyio", "rich", "asyncio", "jsonschema"}
    heavy |= {"prometheus_client", "docker", "kubernetes", "sqlalchemy", "click"}
    assert heavy.isdisjoint(done.stdout.split())


def test_the_default_of_each_key_is_valid() -> None:
    text = "{apiVersion: gameday/v1, name: a, title: t, sandbox: {kind: attached}, "
    loaded = load_text(text + "slis: {a: {}}, steady_state: {a: '>= 1%'}}", "a.yaml")
    assert isinstance(loaded.scenario, Scenario)


def test_what_a_kind_of_sandbox_can_do_is_what_its_driver_says() -> None:
    from gameday.injectors.sandbox import attached
    from gameday.injectors.sandbox.local import parts
    from gameday.injectors.sandbox.local.client import Client

    assert PARTS["local"] == set(parts.make(cast(Client, None)))
    assert PARTS["attached"].isdisjoint(attached._LACKS)
    assert PARTS["attached"] | set(attached._LACKS) == PARTS["local"]


def test_every_built_in_fault_can_be_done_somewhere() -> None:
    for kind in known_kinds():
        needs = set(fault_class(kind).needs)
        assert any(needs <= able for able in PARTS.values()), kind


# One mistake, one problem


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        ("duration: 2m", "duration: .inf", "found the number .inf"),
        ("duration: 2m", "duration: 0s", "expected more than 0 s"),
        ("slis:", "sils:", "`sils` is no key"),
    ],
)
def test_what_only_follows_from_a_mistake_is_not_told(
    tmp_path: Path, old: str, new: str, said: str
) -> None:
    assert old in GOOD
    (tmp_path / "sandbox.yaml").write_text(CLUSTER)
    (tmp_path / "visit.py").write_text("")
    path = tmp_path / "good.yaml"
    path.write_text(GOOD.replace(old, new))
    with pytest.raises(ScenarioError) as caught:
        load_scenario(path)
    shown = [
        problem.message for problem in caught.value.problems if "runbook" not in problem.message
    ]
    assert len(shown) == 1, shown
    assert said in shown[0]


SHOP = (CATALOGUE / "slow-store.yaml").read_text()


def shop(folder: Path, *changes: tuple[str, str]) -> list[str]:
    """The problems of a shipped scenario with some changes."""
    shutil.copytree(CATALOGUE / "runbooks", folder / "shop" / "runbooks")
    text = SHOP
    for old, new in changes:
        assert text.count(old) == 1, old
        text = text.replace(old, new)
    (folder / "shop" / "a.yaml").write_text(text)
    return problems(folder / "shop" / "a.yaml")


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        ("SHOP_STORE_TIMEOUT: 3s", "SHOP_STORE_TIMEOUT: 3", "found the number 3, expected text"),
        ("kind: local", "kind: kubernetes", "sandbox.kind: found the text 'kubernetes'"),
        ("  app: shop", "  ap: shop", "`ap` is no key of sandbox"),
        ("  app: shop", "  app: shop\n  file: a.yaml", "give app"),
        ("  app: shop", "  app: shop\n  replicas: {api: many}", "found the text 'many'"),
        ("  app: shop", "  app: shpo", "there is no application 'shpo'"),
    ],
)
def test_a_bad_sandbox_brings_no_second_problem(
    tmp_path: Path, old: str, new: str, said: str
) -> None:
    (found,) = shop(tmp_path, (old, new))
    assert said in found


def test_a_bad_variable_hides_no_other_problem(tmp_path: Path) -> None:
    bad = ("SHOP_STORE_TIMEOUT: 3s", "SHOP_STORE_TIMEOUT: 3")
    found = shop(tmp_path, bad, ("link: api->store", "link: api->stor"), ("browse", "brows"))
    assert [one.split(" | ")[-1] for one in found] == [
        'If it is text, put it in quotes: "3".',
        "Did you mean browse?",
        "Did you mean store?",
    ]


def test_of_a_file_that_is_none_of_ours_little_is_shown() -> None:
    secret = "$y$j9T$aVerySecretHash/AndMore"
    for text in (f"root:{secret}:19797:0:::\nbin:*:19797:::::\n", f"root:{secret}:1:\n", secret):
        with pytest.raises(ScenarioError) as caught:
            load_text(text, "a.yaml")
        assert "$y$j9T" in str(caught.value)
        assert "Hash" not in str(caught.value)
    with pytest.raises(ScenarioError, match="`an_unknown_key_of_a_scenario` is no key"):
        load_text(f"{GOOD}an_unknown_key_of_a_scenario: 1\n", "a.yaml")


def test_a_folder_is_told_as_one(folder: Path) -> None:
    (folder / "drills").mkdir()
    for name in ("drills", "drills/", "."):
        (found,) = problems(find_scenario(name, folder))
        assert "found a directory, expected a file" in found
    with pytest.raises(ScenarioError, match="there is no scenario of this name"):
        find_scenario("drill", folder)


def test_a_bad_step_hides_no_other_step(tmp_path: Path) -> None:
    (tmp_path / "sandbox.yaml").write_text(CLUSTER)
    (tmp_path / "visit.py").write_text("")
    path = tmp_path / "good.yaml"
    text = re.sub(r"(?ms)^fixers:.*?(?=^\S|\Z)", "", GOOD)
    steps = '["restart {{ unhealthy.wbe }}", "dance", "until quiet"]'
    path.write_text(text + f"\nfixers: {{scripted: {{steps: {steps}}}}}\n")
    with pytest.raises(ScenarioError) as caught:
        load_scenario(path)
    told = str(caught.value)
    assert "there is no service 'wbe'" in told
    assert "'dance' is no step" in told


# Templates of a declaration


TEMPLATED = """\
name: own
entry: web
services:
  web:
    command: [serve, "{{ %s }}"]
    links: [order-db]
  order-db: {command: [serve, "{{ port }}"]}
"""


@pytest.mark.parametrize(
    ("inside", "message", "hint"),
    [
        ("prot", "a template sees no 'prot'", "Did you mean port?"),
        ("links.order_dbb", "links.order_dbb: the service's `links` do not", "mean order_db?"),
        ("links.web[0].port", "links.web: the service's `links`", "Add web to"),
        ("links['orders'][0]", "links.orders: the service's `links`", "order_db"),
        ("", "names nothing", "Templates see python"),
        ("my port", "is no expression", "Templates see"),
        ("(port", "brackets", "Close"),
    ],
)
def test_a_template_that_cannot_be_filled_in_is_told_where_it_stands(
    tmp_path: Path, inside: str, message: str, hint: str
) -> None:
    path = tmp_path / "sandbox.yaml"
    path.write_text(TEMPLATED % inside)
    with pytest.raises(ScenarioError) as caught:
        load_cluster(path)
    (problem,) = caught.value.problems
    assert (problem.line, problem.column) == (5, 22)
    assert problem.message.startswith("services.web.command[1]: ")
    assert message in problem.message
    assert hint in problem.hint


def test_a_template_that_is_not_closed_is_told_with_its_line(tmp_path: Path) -> None:
    path = tmp_path / "sandbox.yaml"
    files = "\n    files:\n      a.conf: |\n        one\n        bind {{ port }\n"
    path.write_text((TEMPLATED % "port").replace("\n    links:", files + "    links:"))
    with pytest.raises(ScenarioError, match=r"7:15: services.web.files.a.conf, line 2 of it: a '"):
        load_cluster(path)


def test_templates_that_a_scenario_adds_are_looked_over_too(tmp_path: Path) -> None:
    (tmp_path / "sandbox.yaml").write_text(CLUSTER)
    (tmp_path / "visit.py").write_text("")
    path = tmp_path / "good.yaml"
    more = 'sandbox: {file: sandbox.yaml, environment: {api: {WHERE: "{{ hots }}"}}}'
    path.write_text(GOOD.replace("sandbox: {file: sandbox.yaml}", more))
    with pytest.raises(
        ScenarioError, match=r"sandbox\.environment\.api\.WHERE: .*'hots'"
    ) as caught:
        load_scenario(path)
    assert "Did you mean host?" in str(caught.value)


PIECES = st.sampled_from(
    [
        *("{{ port }}", "{{- slot -}}", "{{ links.order_db[0].address }}", "{{ number + 1 }}"),
        *("{{ links['order-db']|length }}", "{{ port  |  string | upper }}", "{{ 'a }} b' }}"),
        *("{{ links.order_db | map(attribute='address') | join(',') }}", "{{ {'a': {}} }}"),
        *("{{ prot | default(port) }}", "{{ 1 if prot is defined else 2 }}", "{# {{ prot }} #}"),
        *("{% for one in links.order_db %}{{ one.port }} {{ loop.index }}{% endfor %}", "{ x }"),
        *("{% set mine = port %}{{ mine }}", "{% raw %}{{ prot }}{% endraw %}", "it's", "}}", "\n"),
        *("{% for name, ends in links.items() %}{{ name }}={{ ends|length }}{% endfor %}", '"'),
        *("{% if prot is defined %}{{ prot }}{% endif %}", "{{ range(3) | list }}", "{{ port>1 }}"),
        *("{{ 'x' ~ port ~ \"'\" }}", "{{ not port }}", "{{ [port, host][0] }}", "{{ true }}"),
        *("{{ 2 * 1.5e3 }}", "{{ '%s' % port }}", "{{ links.get('none') }}", "{{ port == 1 }}"),
    ]
)


@given(st.lists(PIECES, max_size=5).map(" ".join))
def test_no_template_that_can_be_filled_in_is_complained_of(text: str) -> None:
    from gameday.injectors.sandbox.local.templates import render, variables
    from gameday.scenarios.document import Node, Place
    from gameday.scenarios.templates import KNOWN, template_problems

    ends = [{"slot": "order-db-1", "address": "a:1", "host": "a", "port": 1}]
    values = variables(
        slot="web-1",
        service="web",
        number=1,
        port=1,
        data="/data",
        endpoints="/endpoints.json",
        folder="/",
        links={"order-db": ends},
    )
    assert set(values) == set(KNOWN)
    render(text, values)
    node = Node(Place(1, 1), text, raw=text)
    assert not list(template_problems(node, "it", ["order-db"], ["web", "order-db"]))
