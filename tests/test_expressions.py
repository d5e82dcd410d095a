"""The little language of bounds and conditions, and the steps of scripted fixers."""

from __future__ import annotations

import math
from contextlib import suppress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gameday.injectors.models import Misfit
from gameday.injectors.sandbox.base import Slot
from gameday.scenarios.expressions import (
    AllOf,
    AnyOf,
    Comparison,
    Condition,
    names_of,
    parse_bound,
    parse_comparison,
    parse_condition,
    parse_when,
)
from gameday.scenarios.steps import (
    VERBS,
    Drain,
    Execute,
    Restart,
    Say,
    Scale,
    Until,
    Wait,
    fill,
    parse_step,
)

names = st.from_regex(r"[a-z][a-z0-9_]{0,8}", fullmatch=True).filter(
    lambda name: name not in ("and", "or", "for")
)
operators = st.sampled_from(["<", "<=", ">", ">=", "==", "!="])
values = st.one_of(
    st.integers(0, 100).map(lambda n: (n / 100, "share", f"{n}%")),
    st.integers(1, 5000).map(lambda n: (n / 1000, "duration", f"{n}ms")),
    st.integers(0, 999).map(lambda n: (float(n), "number", str(n))),
)


@st.composite
def comparisons(draw: st.DrawFn) -> tuple[Comparison, str]:
    name, op, (value, unit, text) = draw(names), draw(operators), draw(values)
    return Comparison(name, op, value, unit), f"{name} {op} {text}"


def _parts(kind: type[AllOf] | type[AnyOf], parts: list[Condition]) -> Condition:
    return parts[0] if len(parts) == 1 else kind(tuple(parts))


@given(st.lists(st.lists(comparisons(), min_size=1, max_size=3), min_size=1, max_size=3))
def test_a_condition_reads_back_as_written(table: list[list[tuple[Comparison, str]]]) -> None:
    text = " or ".join(" and ".join(text for _, text in row) for row in table)
    expected = _parts(AnyOf, [_parts(AllOf, [one for one, _ in row]) for row in table])
    found = parse_condition(text)
    assert str(found) == str(expected)
    assert set(names_of(found)) == {one.name for row in table for one, _ in row}


@given(comparisons(), st.floats(0, 1e6))
def test_a_comparison_holds_as_its_operator_says(
    pair: tuple[Comparison, str], value: float
) -> None:
    bound, text = pair
    found = parse_comparison(text)
    assert found.value == pytest.approx(bound.value)
    table = {
        "<": value < found.value,
        "<=": value <= found.value,
        ">": value > found.value,
        ">=": value >= found.value,
        "==": value == found.value,
        "!=": value != found.value,
    }
    assert found.holds(value) is table[bound.op]
    assert not found.holds(math.nan)
    assert not found.evaluate({})


@given(comparisons())
def test_what_is_shown_can_be_read_again(pair: tuple[Comparison, str]) -> None:
    found = parse_comparison(pair[1])
    again = parse_comparison(str(found))
    assert (again.name, again.op, again.unit) == (found.name, found.op, found.unit)
    assert again.value == pytest.approx(found.value, rel=0.01, abs=0.001)


def test_and_binds_closer_than_or_and_parentheses_bind_closest() -> None:
    flat = parse_condition("a < 1 or b < 1 and c < 1")
    assert flat.evaluate({"a": 0, "b": 2, "c": 2})
    grouped = parse_condition("(a < 1 or b < 1) and c < 1")
    assert not grouped.evaluate({"a": 0, "b": 2, "c": 2})
    assert str(grouped) == "(a < 1 or b < 1) and c < 1"


def test_when_has_an_optional_hold() -> None:
    assert parse_when("availability < 98% for 2s").hold == 2
    assert parse_when("availability < 98%").hold == 0
    assert str(parse_when("availability < 98% for 2s")) == "availability < 98 % for 2 s"


@pytest.mark.parametrize(
    ("text", "found", "expected"),
    [
        ("", "the end", "a name"),
        ("availability", "the end", "one of < <= > >= == !="),
        ("availability >=", "the end", "a value such as"),
        ("availability >= 95% now", "'now'", "the end"),
        ("(a < 1", "the end", "a closing parenthesis"),
        ("a < 1 and", "the end", "a name"),
        ("a <> 1", "'>'", "a value such as"),
        ("ä < 1", "'ä < 1'", "a name"),
    ],
)
def test_a_mistake_says_what_was_found_and_expected(text: str, found: str, expected: str) -> None:
    with pytest.raises(ValueError, match="found") as caught:
        parse_condition(text)
    assert f"found {found}, expected {expected}" in str(caught.value)


@given(st.text(max_size=60))
def test_no_text_breaks_the_parsers(text: str) -> None:
    for parse in (parse_condition, parse_comparison, parse_when, parse_step):
        with suppress(ValueError):
            parse(text)
    with suppress(ValueError):
        parse_bound(text, "x")


@pytest.mark.parametrize("text", ["99.995%", "1011ms", "0.5%", "2s"])
def test_a_bound_is_shown_as_it_was_meant(text: str) -> None:
    bound = parse_bound(f">= {text}", "x")
    assert parse_bound(str(bound).removeprefix("x "), "x").value == pytest.approx(bound.value)


def test_parentheses_cannot_nest_without_end() -> None:
    with pytest.raises(ValueError, match="nest deeper"):
        parse_condition("(" * 100_000)


# Steps of scripted fixers


@pytest.mark.parametrize(
    ("text", "step"),
    [
        ("ack", Say("ack")),
        ("identify the store is slow", Say("identify", "the store is slow")),
        ("all-clear", Say("all-clear")),
        ("note  two words ", Say("note", "two words")),
        ("restart api-2", Restart("api-2")),
        ("restart {{ unhealthy.api }}", Restart("{{ unhealthy.api }}")),
        ("restart {{unhealthy}}", Restart("{{unhealthy}}")),
        ("drain api-2", Drain("api-2")),
        ("undrain api-2", Drain("api-2", back=True)),
        ("scale api 3", Scale("api", 3)),
        ("exec api-2 sh -c 'echo a b'", Execute("api-2", ("sh", "-c", "echo a b"))),
        (
            "exec {{ unhealthy.api }} kill -HUP 1",
            Execute("{{ unhealthy.api }}", ("kill", "-HUP", "1")),
        ),
        ("wait 1m30s", Wait(90)),
        ("until healthy", Until("healthy")),
        ("until quiet", Until("quiet")),
    ],
)
def test_steps(text: str, step: object) -> None:
    assert parse_step(text) == step


@pytest.mark.parametrize(
    ("text", "message", "hint"),
    [
        ("akc", "'akc' is no step", "Did you mean ack?"),
        ("reboot api-2", "'reboot' is no step", "There are: ack"),
        ("note", "note lacks its words", "note WORDS"),
        ("restart", "found nothing", "restart api-2"),
        ("restart api", "found 'api'", "{{ unhealthy.api }}"),
        ("restart {{ unhealthy.api", "lacks its '}}'", "{{ unhealthy.SERVICE }}"),
        ("restart {{ broken.api }}", "is not known", "{{ unhealthy }}"),
        ("note {{ config }}", "is not known", "{{ unhealthy }}"),
        ("scale api", "needs a service and a number", "scale api 3"),
        ("scale api 1000", "up to 100", "scale api 3"),
        ("exec api-2", "lacks its command", "exec api-2 COMMAND"),
        ("exec api-2 'a", "cannot be read", "exec api-2 COMMAND"),
        ("until heathy", "healthy and quiet", "Did you mean until healthy?"),
    ],
)
def test_a_bad_step_says_what_to_write(text: str, message: str, hint: str) -> None:
    with pytest.raises(Misfit) as caught:
        parse_step(text)
    assert message in str(caught.value)
    assert hint in caught.value.hint


def test_a_wait_has_a_unit() -> None:
    with pytest.raises(ValueError, match="'5' is not a duration"):
        parse_step("wait 5")


def _slot(
    name: str, state: str = "running", health: str = "healthy", drained: bool = False
) -> Slot:
    return Slot(name, name.rpartition("-")[0], state, health, drained=drained)


def test_templates_name_the_first_slot_that_is_not_well() -> None:
    slots = [
        _slot("gateway-1"),
        _slot("api-1", health="unhealthy", drained=True),
        _slot("api-2", health="unhealthy"),
        _slot("api-3", state="exited", health="unknown"),
        _slot("store-1", health="unknown"),
    ]
    assert fill("{{ unhealthy.api }}", slots) == "api-2"
    assert fill("restart {{ unhealthy }} now", slots) == "restart api-2 now"
    assert fill("api-1", slots) == "api-1"
    assert fill("{{ unhealthy.store }}", slots) is None
    assert fill("{{ unhealthy.api }}", slots[:2]) == "api-1"  # dealt with, but the only one


def test_every_verb_is_reached() -> None:
    examples = {
        "note": "note x",
        "update": "update x",
        "scale": "scale api 1",
        "exec": "exec api-1 true",
        "wait": "wait 1s",
        "until": "until quiet",
    }
    slots = ("restart", "drain", "undrain")
    for verb in VERBS:
        parse_step(examples.get(verb, f"{verb} api-1" if verb in slots else verb))
