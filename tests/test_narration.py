"""Every event in words: none is forgotten, none raises, and what people said stands apart."""

from __future__ import annotations

from typing import Any, get_args

import msgspec
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from gameday.injectors.fault import Injection
from gameday.scoring import events
from gameday.scoring.narration import Narrator

KINDS: tuple[type[events.Event], ...] = get_args(events.Event)
LANES = {"drill", "load", "fault", "alert", "people", "sandbox", "sli"}
UNTOLD = {"Sample"}
"""Those that are figures, not happenings."""


def make(kind: type[events.Event], text: str = "text", number: float = 1.5) -> events.Event:
    """An event of that kind, each of its texts ``text``."""
    values: dict[str, Any] = {}
    for each in msgspec.structs.fields(kind):
        if each.name in ("seq", "wall", "version"):
            continue
        values[each.encode_name] = _value(each.type, text, number)
    return kind(**values)


def _value(wanted: Any, text: str, number: float) -> Any:
    if wanted is Injection:
        return Injection(id=text, fault=text, target=text, tag=text, undo=())
    if wanted is str:
        return text
    if wanted is bool:
        return True
    if wanted is int:
        return int(number)
    if wanted is float:
        return number
    found = str(wanted)
    if found.startswith("dict[str, str]"):
        return {text: text}
    if found.startswith("dict[str, int]"):
        return {"5": 1}
    return {} if found.startswith("dict") else None


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.__name__)
def test_every_kind_is_told(kind: type[events.Event]) -> None:
    told = list(Narrator().tell(make(kind)))
    assert bool(told) is (kind.__name__ not in UNTOLD)
    for each in told:
        assert each.lane in LANES
        assert each.text.strip() == each.text
        assert each.text[-1] in ".:)?" or each.text.endswith("text"), each.text
        assert "None" not in each.text


@given(
    st.lists(
        st.tuples(st.sampled_from(KINDS), st.text(max_size=40), st.floats(0, 1e6)), max_size=12
    )
)
@example([(events.SandboxChanged, "{", 0.0)])
@settings(max_examples=150, deadline=None)
def test_no_order_of_events_and_no_text_makes_it_stumble(
    drawn: list[tuple[type[events.Event], str, float]],
) -> None:
    narrator = Narrator()
    for kind, text, number in drawn:
        for each in narrator.tell(make(kind, text, number)):
            assert each.text


@pytest.mark.parametrize(
    "verb",
    [
        "ack",
        "declare",
        "note",
        "update",
        "identify",
        "mitigate",
        "resolve",
        "all-clear",
        "hand-over",
        "hint",
        "abort",
    ],
)
def test_what_people_say_is_quoted_word_for_word(verb: str) -> None:
    said = events.Said(at=1.0, verb=verb, role="fixer", text="we ‘think’ it is api-2")
    (told,) = Narrator().tell(said)
    assert told.lane == "people"
    assert told.quote == said.text
    assert told.text.startswith("fixer ")
    assert told.text.endswith(":")


def test_names_are_remembered() -> None:
    narrator = Narrator()
    made = Injection(id="i1", fault="process.kill", target="api-2", tag="t", undo=())
    list(narrator.tell(events.InjectionArmed(at=1.0, injection=made)))
    fired = events.AlertFired(at=1.0, page="P-1", alert="Down", tier="page", source="synthetic")
    list(narrator.tell(fired))
    (called,) = narrator.tell(events.InjectCalled(at=1.0, injection="i1"))
    assert "process.kill on api-2" in called.text
    (resolved,) = narrator.tell(events.AlertResolved(at=2.0, page="P-1", by="monitoring"))
    assert resolved.text == "Down resolved by monitoring."


def test_an_error_of_the_load_is_told_once() -> None:
    narrator = Narrator()
    bucket = events.LoadBucket(at=1.0, start=0.9, endpoint="GET /", ok=0, errors={"E": "why"})
    assert [each.quote for each in narrator.tell(bucket)] == ["why"]
    assert list(narrator.tell(bucket)) == []
