"""The loader on any text: what is no YAML of ours is told in our words, and nothing breaks it."""

from __future__ import annotations

import copy
import re
import time
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from gameday.injectors.errors import ScenarioError
from gameday.scenarios.document import parse_document
from gameday.scenarios.load import LoadedScenario, load_scenario, load_text
from tests.good_scenario import GOOD, _shown, changed, folder

__all__ = ["folder"]


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


# Whatever comes


JARGON = re.compile(
    r"Expected `|Object missing|msgspec|https?://|\[type=|validation error"
    r"|value_error|\b(string|int|float|bool|list|dict|model)_(type|parsing)\b|unable to parse|NoneType|Traceback|<class|ScenarioError|Misfit",
)


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
