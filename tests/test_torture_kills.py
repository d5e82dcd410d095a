"""The short form of the campaign of real kills: every fault, and every way to die, at least once."""

from __future__ import annotations

import subprocess
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.torture import kills

pytestmark = [
    pytest.mark.sandbox,
    pytest.mark.slow,
    pytest.mark.alone,
    pytest.mark.timeout(600),
]
DRILLS = 30


def test_nothing_is_left_whatever_dies(needs: Callable[[bool, str], None]) -> None:
    needs(not (why := kills.lacks()), why)
    begun = time.monotonic()
    found = kills.result(kills.run_all(range(DRILLS), jobs=2), time.monotonic() - begun)
    assert not found["wrong"], kills.show(found)
    assert set(found["faults"]) == set(kills.FAULTS)
    assert all(each["drills"] for each in found["endings"].values())
    # The instants are drawn: in most drills something was armed when somebody died.
    assert sum(each["outstanding"] for each in found["endings"].values()) >= DRILLS / 3


def test_what_is_left_is_seen(needs: Callable[[bool, str], None]) -> None:
    """A campaign that could find nothing would prove nothing."""
    needs(not (why := kills.lacks()), why)
    before = kills.world(Path("/nowhere"))
    left = subprocess.Popen(["sleep", "60"])
    try:
        assert any("sleep 60" in each for each in kills.world(Path("/nowhere")) - before)
    finally:
        left.kill()
        left.wait()
