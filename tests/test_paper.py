"""Lines for a terminal: folded at words, in colours only where they are seen."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.cells import cell_len

from gameday.drills.paper import Paper, fold


@given(st.text(), st.integers(2, 100))
def test_no_line_is_too_long_and_no_word_is_lost(text: str, width: int) -> None:
    lines = list(fold(text, width))
    assert all(cell_len(line) <= width for line in lines)
    assert "".join("".join(lines).split()) == "".join(text.split())


def test_it_folds_between_words_and_within_those_that_are_too_long() -> None:
    assert list(fold("one two three\n\nfour", 7)) == ["one two", "three", "", "four"]
    assert list(fold("a abcdefgh", 4)) == ["a", "abcd", "efgh"]
    assert list(fold("日本語です", 4)) == ["日本", "語で", "す"]


def test_what_follows_is_indented(capsys: pytest.CaptureFixture[str]) -> None:
    Paper(9).write("one two\x1b three", indent=2, sign="? ")
    assert capsys.readouterr().out == "? one two\n  three\n"


@pytest.mark.parametrize(
    ("environment", "shown"),
    [
        ({}, "well"),
        ({"FORCE_COLOR": "1"}, "\x1b[1;32mwell\x1b[0m"),
        ({"FORCE_COLOR": "1", "NO_COLOR": "1"}, "well"),
        ({"FORCE_COLOR": "1", "TERM": "dumb"}, "well"),
    ],
)
def test_styles_are_only_where_they_are_seen(
    environment: dict[str, str], shown: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("FORCE_COLOR", "NO_COLOR"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("TERM", "xterm")
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    assert Paper(80).style("well", "bold green") == shown
