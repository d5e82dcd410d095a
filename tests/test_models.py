"""What models take, what they refuse, and that every refusal says where and what was expected."""

from __future__ import annotations

import enum
from typing import Annotated, Any, ClassVar, Literal

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec import Meta

from gameday.injectors.fault import BitsPerSecond, Bytes, Seconds, Share
from gameday.injectors.models import (
    Check,
    Flattened,
    Misfit,
    Misfits,
    Model,
    Unfit,
    Within,
    field_types,
    read,
    show_path,
)


def _even(value: int) -> int:
    if value % 2:
        raise ValueError(f"{value} is odd")
    return value


class Colour(enum.Enum):
    """A type of a third party's."""

    RED = "red"


class Inner(Model):
    """A part."""

    number: Annotated[int, Meta(ge=1, le=9, description="A digit.")]
    text: Annotated[str, Meta(min_length=1, max_length=3)] = "a"

    def __post_init__(self) -> None:
        if self.text == "no":
            raise Misfit("expected yes", hint="Say yes.", path=("text",))


class Chosen(Model, flavour="sweet"):
    """What `Outer.rest` is held against."""

    flavour: ClassVar[str]
    extra: int = 0


def _choose(given: dict[str, Any]) -> tuple[type[Model], dict[str, Any]]:
    if "which" not in given:
        raise Misfit("What it is.", hint="Say chosen.", path=("which",), missing=True)
    if given["which"] != "chosen":
        raise Misfit("expected chosen", path=("which",))
    return Chosen, {key: value for key, value in given.items() if key != "which"}


class Outer(Model):
    """Everything that a model can say of a value."""

    wait: Annotated[Seconds, Within(0.01, 60), Meta(description="How long.")] = 0.1
    limit: Annotated[Seconds, Meta(gt=0, le=60)] = 1.0
    share: Share | None = None
    size: Bytes = 0
    rate: BitsPerSecond = 1.0
    even: Annotated[int, Check(_even)] = 0
    ratio: Annotated[float, Meta(ge=0, lt=1, multiple_of=0.5)] = 0.0
    flag: bool = False
    word: Literal["one", "two"] = "one"
    yes: Literal[True] | None = None
    name: Annotated[str, Meta(pattern="^[a-z]+$", extra={"expected": "small letters"})] = "a"
    plain: Annotated[str, Meta(pattern="^x")] = "x"
    either: int | str = 0
    names: dict[Annotated[str, Meta(pattern="^[a-z]+$")], Inner] = msgspec.field(default={})
    list_: Annotated[list[Inner], Meta(max_length=2)] = msgspec.field(name="list", default=[])
    anything: Any = None
    colour: Colour = Colour.RED
    inner: Inner = Inner(number=1)
    rest: Annotated[Any, Flattened(_choose, keys=("which",))]


def unfit(given: object, *, written: bool = True) -> Unfit:
    """The only thing that does not fit."""
    with pytest.raises(Misfits) as caught:
        read(Outer, given, written=written)
    assert len(caught.value.unfits) == 1, caught.value
    return caught.value.unfits[0]


REFUSED: list[tuple[dict[str, Any], str]] = [
    ({"wait": "2m"}, "wait: 2 min is outside 10 ms to 1 min"),
    ({"wait": 5}, "wait: 5 has no unit; write 5s or 5ms"),
    ({"wait": 0.5}, "wait: 0.5 has no unit; write 0.5s or 0.5ms"),
    ({"wait": True}, "wait: expected a duration such as 500ms, 10s, 3m or 1m30s"),
    ({"wait": float("nan")}, "wait: expected a duration such as 500ms, 10s, 3m or 1m30s"),
    ({"limit": "0s"}, "limit: expected more than 0 s"),
    ({"limit": "2m"}, "limit: expected at most 1 min"),
    ({"limit": 0}, "limit: expected more than 0 s"),
    ({"rate": 0}, "rate: expected more than 0 bit/s"),
    ({"share": 1.5}, "share: expected at most 1"),
    ({"share": -0.5}, "share: expected at least 0"),
    ({"share": [1]}, "share: expected a share such as 95%"),
    ({"size": 1.5}, "size: expected a size such as 64MiB"),
    ({"size": -1}, "size: expected at least 0"),
    ({"rate": "0bit/s"}, "rate: expected more than 0 bit/s"),
    ({"rate": 10**400}, "rate: expected a data rate such as 1Mbit/s"),
    ({"even": 3}, "even: 3 is odd"),
    ({"even": True}, "even: expected a whole number"),
    ({"even": 2.0}, "even: expected a whole number"),
    ({"even": "2"}, "even: expected a whole number"),
    ({"ratio": -1}, "ratio: expected at least 0"),
    ({"ratio": 1}, "ratio: expected less than 1"),
    ({"ratio": 0.3}, "ratio: expected a multiple of 0.5"),
    ({"ratio": float("inf")}, "ratio: expected a number"),
    ({"flag": 1}, "flag: expected true or false"),
    ({"word": "three"}, "word: expected one of one, two"),
    ({"word": None}, "word: expected one of one, two"),
    ({"yes": 1}, "yes: expected true"),
    ({"name": "A"}, "name: expected small letters"),
    ({"name": "a\n"}, "name: expected small letters"),
    ({"plain": "a"}, "plain: expected text that matches ^x"),
    ({"either": []}, "either: expected a whole number or text"),
    ({"names": {"A": {"number": 1}}}, "names.A: expected text that matches ^[a-z]+$"),
    ({"names": {"a": {"number": 0}}}, "names.a.number: expected at least 1"),
    ({"names": []}, "names: expected keys with values"),
    ({"list": [{"number": 1}, {}]}, "`number` is missing from list[1]"),
    ({"list": {}}, "list: expected a list"),
    ({"list": [{"number": 1}] * 3}, "list: expected at most 2 entries"),
    ({"list": [3]}, "list[0]: expected keys with values"),
    ({"inner": {"number": 1, "text": ""}}, "inner.text: expected at least one character"),
    ({"inner": {"number": 1, "text": "long"}}, "inner.text: expected at most 3 characters"),
    ({"inner": {"number": 1, "text": "no"}}, "inner.text: expected yes"),
    ({"inner": {"number": 1, "test": "a"}}, "`test` is no key of inner"),
    ({"colour": "blue"}, "colour: Invalid enum value 'blue'"),
    ({"extra": "x"}, "extra: expected a whole number"),
    ({"extre": 1}, "`extre` is no key"),
    ({"rest": {"extra": 1}}, "`rest` is no key"),
    ({"which": "other"}, "which: expected chosen"),
]


@pytest.mark.parametrize(("given", "says"), REFUSED)
def test_what_does_not_fit_is_said_with_its_path(given: dict[str, Any], says: str) -> None:
    assert unfit({"which": "chosen"} | given).sentence == says


TAKEN: list[tuple[str, Any, Any]] = [
    ("wait", "1m", 60.0),
    ("limit", "30s", 30.0),
    ("share", "5%", 0.05),
    ("share", 1, 1.0),
    ("share", None, None),
    ("size", "1kB", 1000),
    ("rate", "1kbit/s", 1000.0),
    ("ratio", 0, 0.0),
    ("yes", True, True),
    ("either", "x", "x"),
    ("either", 3, 3),
    ("anything", {"a": [1]}, {"a": [1]}),
    ("colour", "red", Colour.RED),
    ("list", [{"number": 2}], [Inner(number=2)]),
    ("names", {"a": {"number": 2}}, {"a": Inner(number=2)}),
    ("inner", Inner(number=5), Inner(number=5)),
    ("extra", 4, None),
]


@pytest.mark.parametrize(("name", "given", "value"), TAKEN)
def test_what_fits_is_taken(name: str, given: Any, value: Any) -> None:
    outer = read(Outer, {"which": "chosen", name: given})
    if name == "extra":
        assert outer.rest == Chosen(extra=4)
        return
    found = getattr(outer, field_types(Outer)[name].attribute)
    assert found == value
    assert type(found) is type(value)


def test_everything_is_said_at_once() -> None:
    with pytest.raises(Misfits) as caught:
        read(Outer, {"which": "chosen", "flag": 3, "inner": {}, "list": [{"number": 0}, 1], "x": 1})
    paths = {show_path(one.path) for one in caught.value.unfits}
    assert paths == {"flag", "inner.number", "list[0].number", "list[1]", "x"}
    assert str(caught.value).count("\n") == 4


def test_a_program_may_give_seconds_as_numbers() -> None:
    assert Outer.of({"wait": 0.5, "rest": Chosen(extra=2)}).wait == 0.5
    assert unfit({"which": "chosen", "wait": 5}, written=False).message.startswith("5 has no unit")


def test_an_unknown_key_knows_what_there_is() -> None:
    assert unfit({"which": "chosen", "inner": {"number": 1, "x": 1}}).known == ("number", "text")
    known = unfit({"which": "chosen", "extre": 1}).known
    assert known[0] == "extra"
    assert {"which", "wait", "list"} <= set(known)
    assert "rest" not in known


def test_what_is_missing_says_what_it_is() -> None:
    with pytest.raises(Misfits) as caught:
        read(Inner, {})
    assert [(one.why, one.about) for one in caught.value.unfits] == [("missing", "A digit.")]
    assert unfit({"which": "chosen", "wait": None}).why == "value"
    absent = unfit({"extra": 1})
    assert (absent.sentence, absent.about) == ("`which` is missing", "What it is. Say chosen.")


def test_class_keywords_are_attributes_and_models_are_frozen() -> None:
    assert Chosen.flavour == "sweet"
    with pytest.raises(AttributeError):
        Chosen().extra = 3  # type: ignore[misc]


PLAIN = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner),
    max_leaves=6,
)


@given(given=st.dictionaries(st.sampled_from([*field_types(Outer), "which", "x"]), PLAIN))
def test_reading_ends_with_a_value_or_with_reasons(given: dict[str, Any]) -> None:
    given = {"which": "chosen"} | given
    try:
        found = read(Outer, given)
    except Misfits as error:
        sentences = [one.sentence for one in error.unfits]
    else:
        sentences = [repr(found) == repr(read(Outer, given))]
    assert sentences
    assert all(sentences)
