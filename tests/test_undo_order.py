"""In which order changes are undone: newest first, and at once what a fault did to several targets."""

from __future__ import annotations

import signal

import anyio
import anyio.lowlevel
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gameday.drills.undoing import undo_in_order
from gameday.injectors.undo import Armed, ProcessId, RemoveToxic, SandboxRef, SignalProcess

WHO = ProcessId("boot", 1, 1)
STEPS = {
    "latency": RemoveToxic("a->b", "t"),
    "pause": SignalProcess("a", WHO, signal.SIGCONT),
}


def change(number: int, fault: str, target: str, address: str = "here") -> Armed:
    ref = SandboxRef("fake", "fake-one", address)
    return Armed(f"{number}", f"{fault} on {target}", ref, (STEPS[fault],), target=target)


changes = st.lists(
    st.tuples(st.sampled_from([*STEPS]), st.sampled_from("abcdefgh"), st.sampled_from("xy")),
    max_size=30,
).map(lambda drawn: [change(n, *each) for n, each in enumerate(drawn)])


async def _undo(newest_first: list[Armed], failing: frozenset[str] = frozenset()) -> list[str]:
    """What began (``+``) and ended (``-``), in that order."""
    seen = []

    async def undo(armed: Armed) -> None:
        seen.append(f"+{armed.id}")
        for _ in range(20 + int(armed.id) % 3):
            await anyio.lowlevel.checkpoint()
        seen.append(f"-{armed.id}")
        if armed.id in failing:
            raise ValueError(f"{armed.id} failed")

    if not failing:
        await undo_in_order(newest_first, undo)
        return seen
    with pytest.raises(ValueError, match="failed"):
        await undo_in_order(newest_first, undo)
    return seen


@given(changes)
@settings(deadline=None)
def test_each_once_and_nothing_before_what_is_newer_and_not_of_its_kind(every: list[Armed]) -> None:
    seen = anyio.run(_undo, every)
    assert sorted(seen) == sorted(f"{sign}{each.id}" for each in every for sign in "+-")
    place = {what: index for index, what in enumerate(seen)}
    for index, newer in enumerate(every):
        for older in every[index + 1 :]:
            alike = (newer.what.split()[0], newer.sandbox) == (older.what.split()[0], older.sandbox)
            if newer.target == older.target or not alike:
                assert place[f"-{newer.id}"] < place[f"+{older.id}"]


def test_what_hit_fifty_targets_is_undone_some_at_a_time() -> None:
    seen = anyio.run(_undo, [change(n, "pause", f"api-{n}") for n in range(50)])
    running, most = 0, 0
    for each in seen:
        running += 1 if each[0] == "+" else -1
        most = max(most, running)
    assert most == 8
    assert [each for each in seen if each[0] == "+"] == [f"+{n}" for n in range(50)]


@given(changes.filter(bool), st.data())
@settings(deadline=None)
def test_an_error_stops_nothing_else(every: list[Armed], data: st.DataObject) -> None:
    failing = data.draw(st.frozensets(st.sampled_from([each.id for each in every]), min_size=1))
    seen = anyio.run(_undo, every, failing)
    assert len(seen) == 2 * len(every)
