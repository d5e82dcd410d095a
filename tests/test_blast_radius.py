"""The blast radius: limits are limits, whatever is planned; and refused before anything is touched."""

from __future__ import annotations

import json
import re
from functools import partial
from pathlib import Path
from random import Random

import anyio
import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gameday.drills.aim import Aim
from gameday.drills.blast_radius import BlastRadius, Reach, reach_of
from gameday.drills.planned import Planned
from gameday.injectors.errors import Refused, ScenarioError
from gameday.injectors.fault import Injection
from gameday.injectors.registry import fault_class
from gameday.injectors.sandbox.fake import FakeSandbox
from gameday.scenarios.blast_radius import Most, parse_most
from gameday.scenarios.load import load_scenario
from tests.commands import Terminal
from tests.little_drill import CLUSTER, lay_out, scenario

REACH = Reach({"api-1": "api", "api-2": "api", "api-3": "api", "store-1": "store"})


def planned(target: str, at: float = 1.0, until: float = 9.0, entry: int = 0) -> Planned:
    injection = Injection(id=f"{target}{at}", fault="process.kill", target=target, tag="t", undo=())
    return Planned(at, injection, until, entry)


@pytest.mark.parametrize(
    ("text", "there_are", "allowed"),
    [
        ("1 of 3", 3, 1),
        ("1 of 3", 6, 2),
        ("1 of 3", 2, 0),
        ("2 of 3", 3, 2),
        ("30%", 3, 0),
        ("30%", 10, 3),
        ("100%", 7, 7),
        ("2", 50, 2),
        (2, 1, 2),
        ("0%", 9, 0),
    ],
)
def test_what_it_allows(text: str | int, there_are: int, allowed: int) -> None:
    assert parse_most(text).of(there_are) == allowed


@given(st.integers(1, 60), st.integers(1, 60), st.integers(0, 200))
def test_a_part_is_never_exceeded(some: int, whole: int, there_are: int) -> None:
    if some > whole:
        with pytest.raises(ValueError, match="part of a whole"):
            parse_most(f"{some} of {whole}")
        return
    allowed = parse_most(f"{some} of {whole}").of(there_are)
    assert allowed * whole <= some * there_are < (allowed + 1) * whole


@given(
    st.lists(
        st.tuples(st.sampled_from(sorted(REACH.groups)), st.integers(0, 20), st.integers(1, 20)),
        max_size=8,
    ),
    st.integers(0, 4),
    st.integers(1, 5),
)
def test_what_passes_never_goes_further_at_any_instant(
    drawn: list[tuple[str, int, int]], most: int, at_once: int
) -> None:
    plan = [planned(target, at, at + lasts) for target, at, lasts in drawn]
    try:
        BlastRadius(Most("", count=most), frozenset(), at_once).check(plan, REACH)
        passed = True
    except Refused:
        passed = False
    # Slowly, at every instant.
    within = True
    for instant in range(45):
        force = [p for p in plan if p.at <= instant < p.until]
        hit = {"api": set[str](), "store": set[str]()}
        for each in force:
            hit[REACH.group(each.injection.target)].add(each.injection.target)
        within &= len(force) <= at_once and all(len(each) <= most for each in hit.values())
    assert passed is within


@pytest.mark.parametrize("name", ["api", "api-2"])
def test_what_is_protected_is_never_a_target(name: str) -> None:
    limits = BlastRadius(protected=frozenset({name}))
    limits.check([planned("store-1")], REACH)
    with pytest.raises(Refused, match=f"would hit api-2, and {name} is protected"):
        limits.check([planned("store-1"), planned("api-2")], REACH)


def test_links_are_a_group_for_each_pair_of_services() -> None:
    async def test() -> None:
        box = FakeSandbox({"gateway": 1, "api": 3}, ["gateway->api"])
        reach = await reach_of(box)
        assert reach.size("gateway->api") == 3
        fault = fault_class("net.blackhole").of({"target": {"link": "gateway->api"}})
        plan = [Planned(1.0, each, 9.0) for each in await fault.plan(box, Random(1))]
        with pytest.raises(Refused, match="3 of the 3 of gateway->api would be hit"):
            BlastRadius(parse_most("1 of 3")).check(plan, reach)
        with pytest.raises(Refused, match="protected"):
            BlastRadius(protected=frozenset({"gateway->api"})).check(plan, reach)

    anyio.run(test)


def test_what_changed_since_the_plan_is_said_and_checked_again() -> None:
    box = FakeSandbox({"api": 3, "store": 1})
    limits = BlastRadius(parse_most(1))
    aim = Aim(box, limits, [planned("api-1"), planned("store-1", entry=1)], {0: ["api-1"]})
    assert anyio.run(aim.allow, 0, [planned("api-1").injection]) == ""
    assert "hits api-3, and not api-1 as planned" in anyio.run(
        aim.allow, 0, [planned("api-3").injection]
    )
    with pytest.raises(Refused, match="2 of the 3 of api"):
        anyio.run(aim.allow, 0, [planned("api-3").injection, planned("api-1").injection])


def test_a_victim_that_was_drained_counts_as_there() -> None:
    """Draining what is broken is the right response, and no reason to refuse what comes next."""
    box = FakeSandbox({"front": 3, "back": 3}, ["front->back"])
    first, later = planned("back-1", at=1.0, until=4.0), planned("back-2", at=7.0, entry=1)
    elsewhere = planned("front-2", at=8.0, entry=2)
    aim = Aim(box, BlastRadius(parse_most("1 of 3")), [first, later, elsewhere], {})
    anyio.run(aim.allow, 0, [first.injection])
    anyio.run(partial(box.hands.drain, "back-1", by="fixer"))
    anyio.run(aim.allow, 2, [elsewhere.injection])  # other replicas of another service
    with pytest.raises(Refused, match="1 of the 2 of back would be hit"):
        anyio.run(aim.allow, 1, [later.injection])  # one of two is more than one of three
    anyio.run(partial(box.hands.drain, "back-1", by="fixer", back=True))
    anyio.run(aim.allow, 1, [later.injection])


@pytest.mark.parametrize("how", ["scale", "drain", "stop"])
def test_replicas_that_were_taken_away_since_do_not_count(how: str) -> None:
    """One of three was allowed; of the one that is left, none is."""
    box = FakeSandbox({"api": 3, "store": 1}, ["store->api"])
    aim = Aim(box, BlastRadius(parse_most("1 of 3")), [planned("api-1")], {0: ["api-1"]})
    anyio.run(aim.allow, 0, [planned("api-1").injection])
    if how == "scale":
        anyio.run(partial(box.hands.scale, "api", 1, by="fixer"))
    else:
        for slot in ("api-2", "api-3"):
            anyio.run(partial(getattr(box.hands, how), slot, by="fixer"))
    with pytest.raises(Refused, match=r"1 of the 1 of api would be hit.*allows none"):
        anyio.run(aim.allow, 0, [planned("api-1").injection])
    assert anyio.run(reach_of, box).size("store->api") == 1


# Through files and the command


def folder(tmp_path: Path, limits: str, *, cluster: str = CLUSTER) -> Path:
    text = f"{scenario()}blast_radius: {limits}\n"
    return lay_out(tmp_path, text, cluster=cluster, name="limited")


@pytest.mark.parametrize(
    ("limits", "problem"),
    [
        ("{at_most: 4 of 3}", r"blast_radius.at_most: found the text .4 of 3., expected a count"),
        (
            "{at_most: lots}",
            r"blast_radius.at_most: found the text .lots., expected .* such as 2, 30% or 1 of 3",
        ),
        ("{at_most: -1}", r"blast_radius.at_most"),
        ("{protected: [bakc]}", r"no service, slot or link 'bakc'(.|\n)*Did you mean back"),
        ("{protected: [back->front]}", r"no service, slot or link"),
        ("{at_once: 0}", r"blast_radius.at_once"),
        ("{most: 1}", r"`most` is no key of blast_radius"),
    ],
)
def test_nonsense_is_refused_at_its_place(tmp_path: Path, limits: str, problem: str) -> None:
    path = folder(tmp_path, limits)
    with pytest.raises(ScenarioError) as caught:
        load_scenario(path)
    line = path.read_text().count("\n")
    assert re.search(rf"limited.yaml:{line}:\d+: .*{problem}", str(caught.value)), caught.value


@pytest.mark.parametrize(
    "limits", ["{protected: [front, front->back, front-1->back-1]}", "{at_most: 100%}"]
)
def test_what_is_allowed_is_valid(tmp_path: Path, limits: str) -> None:
    assert load_scenario(folder(tmp_path, limits)).scenario.blast_radius


@pytest.mark.sandbox
@pytest.mark.parametrize(
    ("limits", "cluster", "why"),
    [
        ("{protected: [back]}", CLUSTER, "back is protected"),
        ("{at_most: 1 of 3}", CLUSTER, "1 of the 1 of back would be hit"),
        ("{}", CLUSTER.replace("  back:", "  back:\n    protected: true"), "back is protected"),
    ],
)
@pytest.mark.parametrize("options", [(), ("--dry-run",)])
def test_what_goes_too_far_is_refused_before_anything_is_touched(
    terminal: Terminal, limits: str, cluster: str, why: str, options: tuple[str, ...]
) -> None:
    path = folder(terminal.cwd, limits, cluster=cluster)
    done = terminal.gameday("run", path, *options)
    assert done.returncode == 6
    assert why in done.stderr
    assert not (terminal.cwd / ".gameday").exists()


@pytest.mark.sandbox
def test_the_dry_run_is_what_the_drill_then_does(terminal: Terminal) -> None:
    cluster = CLUSTER.replace("  back:", "  back:\n    replicas: 3")
    path = folder(terminal.cwd, "{at_most: 1 of 3}", cluster=cluster)
    path.write_text(path.read_text().replace("{service: back}", "{service: back, count: 1}"))
    for seed in ("1", "2", "3"):
        plan = json.loads(terminal.say("run", path, "--dry-run", "--json", "--seed", seed))
        (target,) = [each["target"] for each in plan["injections"]]
        done = terminal.gameday("run", path, "--seed", seed, "--json")
        debrief = msgspec.json.decode(done.stdout)
        assert [each["target"] for each in debrief["injections"]] == [target]
        assert "as planned" not in done.stdout
