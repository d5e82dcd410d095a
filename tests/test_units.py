"""Durations, shares, sizes and rates: what is read, what is refused, what is shown."""

from __future__ import annotations

import math
from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gameday.injectors import units

NOT_NEGATIVE = st.floats(0, 1e6, allow_nan=False)


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("500ms", 0.5),
        ("250us", 0.00025),
        ("250µs", 0.00025),
        ("1.5 s", 1.5),
        ("3m", 180.0),
        ("3min", 180.0),
        ("1m30s", 90.0),
        ("1 m 30 s", 90.0),
        ("2h5m", 7500.0),
        ("1d", 86400.0),
        (" 10s ", 10.0),
        ("0s", 0.0),
    ],
)
def test_durations(text: str, seconds: float) -> None:
    assert units.parse_duration(text) == pytest.approx(seconds)


@pytest.mark.parametrize(
    ("text", "share"),
    [("95%", 0.95), ("99.9 %", 0.999), ("0.5", 0.5), ("100%", 1.0), ("1", 1.0), ("0", 0.0)],
)
def test_shares(text: str, share: float) -> None:
    assert units.parse_share(text) == pytest.approx(share)


@pytest.mark.parametrize(
    ("text", "size"),
    [
        ("512", 512),
        ("512B", 512),
        ("10 MB", 10_000_000),
        ("64MiB", 64 << 20),
        ("1.5GiB", 3 << 29),
        ("1kB", 1000),
        ("1KB", 1000),
        ("1kiB", 1024),
        ("1KiB", 1024),
        ("2TB", 2 * 10**12),
    ],
)
def test_sizes(text: str, size: int) -> None:
    assert units.parse_size(text) == size


@pytest.mark.parametrize(
    ("text", "rate"),
    [("100bit/s", 100.0), ("64kbit/s", 64e3), ("1.5 Mbit/s", 1.5e6), ("10Gbit/s", 1e10)],
)
def test_rates(text: str, rate: float) -> None:
    assert units.parse_rate(text) == rate


WRONG = ["", " ", "fast", "-1", "-1s", "+1s", "nan", "inf", "1e3", "1,5s", "%", "0x10", "10s!"]


@pytest.mark.parametrize(
    ("parse", "wrong"),
    [
        (units.parse_duration, [*WRONG, "10", "10x", "5M", "1S", "1m 30", "s", "1..5s"]),
        (units.parse_share, [*WRONG, "101%", "1.5", "95 percent", "95%%"]),
        (units.parse_size, [*WRONG, "64 mebibytes", "1mB", "1.B", "MB", "10Mbit"]),
        (units.parse_rate, [*WRONG, "1", "1Mbit", "1MB/s", "1mbit/s", "Mbit/s"]),
    ],
    ids=["duration", "share", "size", "rate"],
)
def test_anything_else_is_refused_with_an_example(
    parse: Callable[[str], float], wrong: list[str]
) -> None:
    for text in wrong:
        with pytest.raises(ValueError, match=r"such as|write it as") as refusal:
            parse(text)
        assert repr(text) in str(refusal.value) or "expected" in str(refusal.value)


@pytest.mark.parametrize("unit", ["s", "", "MiB", "Mbit/s", "%"])
def test_a_number_of_a_thousand_digits_is_refused(unit: str) -> None:
    for parse in (units.parse_duration, units.parse_share, units.parse_size, units.parse_rate):
        with pytest.raises(ValueError, match=r"large|is not"):
            parse("9" * 1000 + unit)


@given(st.text(max_size=30))
def test_no_text_crashes_a_parser(text: str) -> None:
    for parse in (units.parse_duration, units.parse_share, units.parse_size, units.parse_rate):
        try:
            value = parse(text)
        except ValueError:
            continue
        assert math.isfinite(value)
        assert value >= 0


@given(NOT_NEGATIVE)
def test_a_duration_that_is_shown_can_be_read(seconds: float) -> None:
    shown = units.show_duration(seconds)
    if seconds >= 3600:
        assert units.parse_duration(shown) == pytest.approx(seconds, abs=0.5)
    else:
        assert units.parse_duration(shown) == pytest.approx(seconds, rel=0.05, abs=5e-5)


@given(NOT_NEGATIVE, NOT_NEGATIVE)
def test_a_longer_duration_is_not_shown_as_a_shorter_one(one: float, other: float) -> None:
    short, long = sorted((one, other))
    shown = [units.parse_duration(units.show_duration(value)) for value in (short, long)]
    assert shown[0] <= shown[1]


@given(NOT_NEGATIVE)
def test_a_negative_duration_shows_its_sign(seconds: float) -> None:
    shown = units.show_duration(-seconds)
    assert shown.lstrip("-") == units.show_duration(seconds)
    assert shown.count("-") <= 1


@given(st.integers(0, 10_000))
def test_a_share_survives(hundredths: int) -> None:
    share = hundredths / 10_000
    assert units.parse_share(units.show_share(share)) == pytest.approx(share)


@given(st.integers(0, 1 << 50))
def test_a_size_that_is_shown_can_be_read(size: int) -> None:
    assert units.parse_size(units.show_size(size)) == pytest.approx(size, rel=0.06)


@given(st.floats(1, 1e12))
def test_a_rate_that_is_shown_can_be_read(rate: float) -> None:
    assert units.parse_rate(units.show_rate(rate)) == pytest.approx(rate, rel=0.06)


@pytest.mark.parametrize(
    ("seconds", "shown"),
    [
        (0.0, "0 s"),
        (0.35, "350 ms"),
        (0.0085, "8.5 ms"),
        (0.9999, "1 s"),
        (12.44, "12.4 s"),
        (59.94, "59.9 s"),
        (59.96, "1 min"),
        (252.0, "4 min 12 s"),
        (3600.0, "1 h"),
        (3661.0, "1 h 1 min 1 s"),
        (-1.5, "-1.5 s"),
    ],
)
def test_durations_for_people(seconds: float, shown: str) -> None:
    assert units.show_duration(seconds) == shown


@pytest.mark.parametrize("size", [1023, 1024, 1025, 1 << 20, (1 << 20) - 1, 1 << 30, (1 << 40) - 1])
def test_sizes_for_people_stay_below_a_thousand_and_more(size: int) -> None:
    number = float(units.show_size(size).split()[0])
    assert number < 1024


@pytest.mark.parametrize("rate", [999.9, 999.96, 1e3, 999_999.0, 1e6, 999_960.0, 1e9])
def test_rates_for_people_stay_below_a_thousand(rate: float) -> None:
    assert float(units.show_rate(rate).split()[0]) < 1000
