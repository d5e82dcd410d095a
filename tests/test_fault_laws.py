"""The laws, for every registered fault: on fake clusters of every shape."""

from __future__ import annotations

import signal
from collections.abc import Mapping
from functools import partial
from pathlib import Path
from random import Random
from typing import Any

import anyio
import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gameday.injectors import laws, registry
from gameday.injectors.errors import Unsupported, UsageError
from gameday.injectors.fault import (
    Aim,
    Evidence,
    Fault,
    Injection,
    SlotTarget,
    exclude_each_other,
    hits_links,
)
from gameday.injectors.laws import LAWS, Law, Trial, undo_needs_only_json
from gameday.injectors.sandbox.base import Sandbox
from gameday.injectors.sandbox.fake import FakeClock, FakeSandbox
from gameday.injectors.undo import EndHelpers, SignalProcess, StartSlot, Step
from gameday.scenarios.schema import scenario_schema

KINDS = registry.known_kinds(third_party=True)

EXAMPLES: dict[str, dict[str, Any]] = {
    "net.latency": {"delay": "300ms", "jitter": "20ms"},
    "net.bandwidth": {"rate": "64kbit/s"},
    "net.loss": {"share": "10%"},
    "net.corrupt": {"share": "10%"},
    "net.duplicate": {"share": "10%"},
    "cpu.limit": {"cpus": 0.2},
    "memory.limit": {"size": "16MiB"},
    "file.corrupt": {"path": "/etc/hosts"},
    "file.deny": {"path": "/etc/hosts"},
    "clock.skew": {"offset": "1h"},
}


def make(kind: str, target: Mapping[str, object], **parameters: object) -> Fault:
    """A fault as a scenario writes it."""
    given = EXAMPLES.get(kind, {}) | parameters
    return registry.fault_class(kind).of({"target": dict(target)} | given)


def on_links(kind: str) -> bool:
    return hits_links(registry.fault_class(kind))


def name_of(value: object) -> str:
    return getattr(value, "__name__", str(value))


# On fake clusters of every shape.

PARAMETERS: dict[str, dict[str, st.SearchStrategy[Any]]] = {
    "process.crashloop": {"uptime": st.sampled_from(["50ms", "1s", "1.5s", "1m"])},
    "cpu.burn": {"workers": st.integers(1, 64)},
    "memory.hog": {"headroom": st.sampled_from([0, "1", "512kB", "4MiB", "1GiB"])},
    "disk.fill": {"leave": st.sampled_from([0, "4KiB", "1MiB"])},
    "net.latency": {
        "delay": st.sampled_from(["1ms", "300ms", "1.25s", "1m"]),
        "jitter": st.sampled_from([0, "0s", "10ms", "60s"]),
    },
    "net.bandwidth": {"rate": st.sampled_from(["1kbit/s", "1.5Mbit/s", "10Gbit/s"])},
    "net.partition": {"direction": st.sampled_from(["both", "forth", "back"])},
    "dns.fail": {"refused": st.booleans()},
    "cpu.limit": {"cpus": st.floats(0.01, 64)},
    "memory.limit": {"size": st.sampled_from(["4MiB", "1GiB", "1TiB"])},
    "clock.skew": {"offset": st.sampled_from(["1h", "-5m", "+250ms", "-1.5s", "3650d"])},
    "container.stop": {"grace": st.sampled_from(["0s", "500ms", "1m"])},
}


@st.composite
def trials(draw: st.DrawFn, kind: str) -> Trial:
    """A fault of that kind, with any parameters, on any cluster where it has a target."""
    front, back = draw(st.integers(1, 3)), draw(st.integers(1, 4))
    start = draw(st.floats(0, 1e6))
    box = FakeSandbox(
        {"front": front, "back": back},
        ["front->back"],
        clock=(clock := FakeClock(start)),
        cpus=draw(st.integers(1, 8)),
        drill=draw(st.sampled_from(["", "d-1"])),
        labels={"back": {"tier": "data"}},
    )
    clock.advance(draw(st.floats(0, 1e3)))
    if on_links(kind):
        ends = draw(st.sampled_from(["front->back", "front-1->back", "front -> back-1"]))
        target, most = {"link": ends}, 1
        most = (1 if "front-1" in ends else front) * (1 if "back-1" in ends else back)
    elif draw(st.booleans()):
        by = draw(st.sampled_from([("service", "back"), ("label", "tier=data"), ("label", "tier")]))
        target, most = dict([by]), back
    else:
        target, most = {"slot": f"back-{draw(st.integers(1, back))}"}, 1
    choice = draw(
        st.one_of(
            st.just({}),
            st.builds(lambda count: {"count": count}, st.integers(1, most)),
            st.sampled_from([{"share": "1%"}, {"share": "50%"}, {"share": "100%"}]),
        )
    )
    parameters = {name: draw(values) for name, values in PARAMETERS.get(kind, {}).items()}
    fault = make(kind, target | choice, **parameters)
    return Trial(box, fault, draw(st.integers(0, 2**32)), clock.sleep, patience=70.0)


@pytest.mark.parametrize("law", LAWS, ids=name_of)
@pytest.mark.parametrize("kind", KINDS)
@settings(max_examples=20, deadline=None)
@given(data=st.data())
def test_fake_clusters_obey(law: Law, kind: str, data: st.DataObject) -> None:
    anyio.run(law, data.draw(trials(kind)))


@pytest.mark.parametrize("kind", KINDS)
@settings(max_examples=20, deadline=None)
@given(data=st.data())
def test_plan_leaves_no_trace(kind: str, data: st.DataObject) -> None:
    """Not a byte of the fake cluster changes, its change log included."""
    trial = data.draw(trials(kind))
    assert isinstance(trial.box, FakeSandbox)
    before = msgspec.json.encode(trial.box.state)
    anyio.run(trial.plan)
    assert msgspec.json.encode(trial.box.state) == before


@pytest.mark.parametrize("kind", KINDS)
def test_another_process_undoes(kind: str, tmp_path: Path) -> None:
    """A fake cluster in a file; the undo runs in a process that has only JSON."""
    box = FakeSandbox({"front": 1, "back": 2}, ["front->back"], path=tmp_path / "box.json")
    target = {"link": "front->back"} if on_links(kind) else {"service": "back"}
    anyio.run(undo_needs_only_json, Trial(box, make(kind, target)))


# What holds without a cluster.


@pytest.mark.parametrize("one", KINDS)
def test_exclusion_is_symmetric(one: str) -> None:
    first = registry.fault_class(one)
    for other in KINDS:
        second = registry.fault_class(other)
        assert exclude_each_other(first, second) == exclude_each_other(second, first)
        assert (other in first.excludes) == (one in second.excludes), "say it on both sides"
        assert (not exclude_each_other(first, second)) or on_links(one) == on_links(other)


@pytest.mark.parametrize("kind", KINDS)
def test_a_fault_says_what_it_is(kind: str) -> None:
    cls = registry.fault_class(kind)
    assert cls.kind == kind
    line = registry.describe(kind)
    assert 20 < len(line) < 100, line
    assert line.endswith("."), line
    assert line == (cls.__doc__ or "").partition("\n")[0]
    schema = scenario_schema()["$defs"][kind]
    for name, shown in schema["properties"].items():
        if name not in ("target", "inject", "at", "lasts"):
            assert shown["description"].endswith("."), name
            assert isinstance(shown.get("default", ""), str) or shown["type"] in (
                "integer",
                "boolean",
            )


@pytest.mark.parametrize("kind", KINDS)
def test_what_is_missing_is_refused_with_its_reason(kind: str) -> None:
    fault = make(kind, {"link": "a->b"} if on_links(kind) else {"service": "b"})
    for part in fault.needs:
        box = FakeSandbox({"a": 1, "b": 1}, ["a->b"], lacks={part: "the moon is full"})
        with pytest.raises(Unsupported, match="the moon is full"):
            anyio.run(fault.plan, box, Random(1))


@pytest.mark.parametrize("kind", KINDS)
def test_a_target_that_matches_nothing(kind: str) -> None:
    box = FakeSandbox({"a": 1, "b": 1}, ["a->b"])
    fault = make(kind, {"link": "b->a"} if on_links(kind) else {"service": "c"})
    with pytest.raises(UsageError, match="matches nothing"):
        anyio.run(fault.plan, box, Random(1))


@pytest.mark.parametrize("kind", [kind for kind in KINDS if not on_links(kind)])
def test_an_empty_slot_is_no_target(kind: str) -> None:
    box = FakeSandbox({"a": 1})
    box.crash("a-1")
    with pytest.raises(UsageError, match="none runs at a-1"):
        anyio.run(make(kind, {"slot": "a-1"}).plan, box, Random(1))


@pytest.mark.parametrize(
    ("kind", "wrong", "says"),
    [
        ("process.crashloop", {"uptime": "2m"}, "2 min is outside 50 ms to 1 min"),
        ("process.crashloop", {"uptime": 5}, "5 has no unit; write 5s or 5ms"),
        ("net.latency", {"delay": "1h"}, "1 h is outside 1 ms to 1 min"),
        ("net.latency", {"delay": "-1s"}, "negative"),
        ("clock.skew", {"offset": "0"}, "at least 1 ms, forward or back"),
        ("clock.skew", {"offset": "-0.5ms"}, "at least 1 ms, forward or back"),
        ("clock.skew", {"offset": "3651d"}, "is outside -87600 h to 87600 h"),
        ("clock.skew", {"offset": 5}, "5 has no unit; write 5s or 5ms"),
        ("clock.skew", {"offset": -5}, "-5 has no unit; write -5s or -5ms"),
        ("clock.skew", {"offset": "--5s"}, "negative"),
        ("clock.skew", {"offset": "soon"}, "is not a duration"),
        ("net.latency", {"delay": float("nan")}, "a duration"),
        ("net.bandwidth", {"rate": "1bit/s"}, "1 bit/s is outside 1 kbit/s to 10 Gbit/s"),
        ("net.bandwidth", {"rate": "fast"}, "a rate"),
        ("memory.hog", {"headroom": "2GiB"}, "2 GiB is outside 0 B to 1 GiB"),
        ("cpu.burn", {"workers": 0}, "at least 1"),
        ("cpu.burn", {"burners": 3}, "burners"),
        (
            "process.kill",
            {"target": {"service": "a", "slot": "a-1"}},
            "one of service, slot and label",
        ),
        ("process.kill", {"target": {"service": "a", "count": 1, "share": "5%"}}, "not both"),
        ("net.reset", {"target": {"link": "a"}}, "not a link; write it as api->store"),
    ],
)
def test_a_parameter_out_of_bounds_is_refused_in_words(
    kind: str, wrong: dict[str, object], says: str
) -> None:
    target = {"link": "a->b"} if on_links(kind) else {"service": "a"}
    given = {"target": target} | EXAMPLES.get(kind, {}) | wrong
    with pytest.raises(ValueError, match=says):
        registry.fault_class(kind).of(given)


def test_that_it_took_effect_is_never_unlearnt() -> None:
    there, gone = Evidence(True, True, "there", 1.0), Evidence(False, False, "gone", 2.0)
    assert gone.after(there) == Evidence(True, False, "gone", 2.0)
    assert gone.after(None) == gone
    assert there.after(gone) == there


def test_the_order_of_slots_that_are_hit_is_the_sandboxes() -> None:
    box = FakeSandbox({"a": 12})
    plan = anyio.run(
        partial(make("process.kill", {"service": "a", "count": 12}).plan), box, Random(3)
    )
    assert [injection.target for injection in plan] == [f"a-{n}" for n in range(1, 13)]


# The laws have teeth: each of these faults breaks one, and is caught.


class Offender(Fault):
    """A pause, done right; each subclass does one thing wrong."""

    needs = ("processes",)
    target: SlotTarget

    async def plan(self, box: Sandbox, rng: Random) -> list[Injection]:
        return [
            self.injection(aim.slot, *self.steps(aim), tag=aim.tag, before=aim.process)
            for aim in await self.aim(box, rng)
        ]

    def steps(self, aim: Aim) -> list[Step]:
        return [SignalProcess(aim.slot, aim.process, signal.SIGCONT)]

    async def inject(self, box: Sandbox, injection: Injection) -> None:
        await self.send(box, injection, signal.SIGSTOP)

    async def look(self, box: Sandbox, injection: Injection) -> Evidence:
        paused = (await box.processes.status(injection.target)).state == "paused"
        return Evidence(paused, paused, f"paused: {paused}", box.now())


class PlansInDeed(Offender, kind="bad.plans-in-deed"):
    async def plan(self, box: Sandbox, rng: Random) -> list[Injection]:
        plan = await super().plan(box, rng)
        await self.inject(box, plan[0])
        return plan


class PlansByLuck(Offender, kind="bad.plans-by-luck"):
    async def plan(self, box: Sandbox, rng: Random) -> list[Injection]:
        return await super().plan(box, Random())


class Forgetful(Offender, kind="bad.forgetful"):
    def steps(self, aim: Aim) -> list[Step]:
        return [StartSlot(aim.slot)]


class Rough(Offender, kind="bad.rough"):
    """Puts back with a hammer, needed or not."""

    def steps(self, aim: Aim) -> list[Step]:
        kill = SignalProcess(aim.slot, aim.process, signal.SIGKILL)
        return [kill, StartSlot(aim.slot)]


class Thief(Offender, kind="bad.thief"):
    def steps(self, aim: Aim) -> list[Step]:
        return [*super().steps(aim), EndHelpers(aim.slot, "gameday-somebody-elses")]


class Gullible(Offender, kind="bad.gullible"):
    """Takes the will for the deed."""

    async def inject(self, box: Sandbox, injection: Injection) -> None:
        return None


class Forever(Offender, kind="bad.forever"):
    async def look(self, box: Sandbox, injection: Injection) -> Evidence:
        evidence = await super().look(box, injection)
        ever = (await box.processes.status(injection.target)).restarts > 0
        return Evidence(evidence.took_effect, evidence.in_force or ever, "always, it seems to me")


class Vague(Offender, kind="bad.vague"):
    flavour: str = "sweet"

    def parameters(self) -> dict[str, Any]:
        return {"taste": self.flavour}


@pytest.mark.parametrize(
    ("offender", "law"),
    [
        (PlansInDeed, laws.plan_changes_nothing),
        (PlansByLuck, laws.same_seed_same_plan),
        (Forgetful, laws.undo_restores),
        (Forgetful, laws.looks_tell_the_truth),
        (Forgetful, laws.undo_needs_only_json),
        (Rough, laws.undo_without_inject_is_harmless),
        (Thief, laws.tags_are_its_own),
        (Gullible, laws.undo_restores),
        (Forever, laws.a_restart_by_a_fixer_is_no_conflict),
        (Vague, laws.parameters_survive_json),
    ],
    ids=name_of,
)
def test_an_offender_is_caught(offender: type[Offender], law: Law) -> None:
    box = FakeSandbox({"a": 3}, clock=(clock := FakeClock()))
    fault = offender(target=SlotTarget(service="a", count=2))
    with pytest.raises((AssertionError, ValueError)):
        anyio.run(law, Trial(box, fault, sleep=clock.sleep, patience=1.0))


def test_the_innocent_pass() -> None:
    class Innocent(Offender, kind="good"):
        """Nothing wrong."""

    for law in LAWS:
        box = FakeSandbox({"a": 3}, clock=(clock := FakeClock()))
        anyio.run(law, Trial(box, Innocent(target=SlotTarget(service="a")), sleep=clock.sleep))
