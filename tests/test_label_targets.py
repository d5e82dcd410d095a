"""Targets by label: what is hit carries it, whatever its service, and never more than may be."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from random import Random

import anyio
import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gameday.drills.blast_radius import BlastRadius, reach_of
from gameday.drills.planned import Planned
from gameday.injectors.errors import Refused, ScenarioError, UsageError
from gameday.injectors.fault import SlotTarget, choose
from gameday.injectors.registry import fault_class
from gameday.injectors.sandbox.base import carries
from gameday.injectors.sandbox.fake import FakeSandbox
from gameday.scenarios.blast_radius import Most
from gameday.scenarios.load import load_scenario
from tests.commands import Terminal
from tests.little_drill import CLUSTER, lay_out, scenario

LABELS = st.dictionaries(st.sampled_from(["tier", "team"]), st.sampled_from(["a", "b", "a=b"]))
COMPOSE = """\
services:
  web:
    image: none
    deploy: {replicas: 2}
    labels: [gameday.sandbox=true, tier=front, gameday.owner=edge]
  cache:
    image: none
    labels: {gameday.sandbox: "true", tier: cache, critical: }
  secret:
    image: none
    labels: {tier: hidden}
"""
ON_DOCKER = """\
apiVersion: gameday/v1
name: labelled
title: One of them dies
sandbox: {kind: docker, compose: compose.yaml}
slis:
  availability: {service: web}
steady_state: {availability: ">= 99%"}
faults:
  - {at: 1s, inject: process.kill, target: TARGET}
"""


@given(
    clusters=st.dictionaries(
        st.sampled_from(["web", "api", "cache", "store"]),
        st.tuples(st.integers(1, 3), LABELS),
        min_size=1,
    ),
    label=st.sampled_from(["tier", "tier=a", "tier=a=b", "team", "team=b", "none"]),
    choice=st.one_of(
        st.just({}),
        st.builds(lambda count: {"count": count}, st.integers(1, 6)),
        st.sampled_from([{"share": 0.01}, {"share": 0.5}, {"share": 1.0}]),
    ),
    most=st.integers(0, 3),
    protected=st.sampled_from(["web", "api", "none"]),
    seed=st.integers(0, 99),
)
def test_what_is_hit_carries_the_label_and_is_no_more_than_may_be(
    clusters: dict[str, tuple[int, dict[str, str]]],
    label: str,
    choice: dict[str, float],
    most: int,
    protected: str,
    seed: int,
) -> None:
    """Against a slow count: the same seed takes the same; each service has its own limit."""
    labels = {name: each for name, (_, each) in clusters.items()}
    box = FakeSandbox({name: count for name, (count, _) in clusters.items()}, labels=labels)
    name, equals, value = label.partition("=")
    fitting = [
        f"{service}-{number}"
        for service, (replicas, own) in clusters.items()
        if name in own and (not equals or own[name] == value)
        for number in range(1, replicas + 1)
    ]
    fault = fault_class("process.pause").of({"target": {"label": label} | choice})
    wanted = int(choice.get("count", 1))
    if "share" in choice:
        wanted = -int(-choice["share"] * len(fitting) // 1)
    if not fitting or wanted > len(fitting):
        with pytest.raises(UsageError, match=r"has the label|only \d+ match"):
            anyio.run(fault.plan, box, Random(seed))
        return
    plan = anyio.run(fault.plan, box, Random(seed))
    hit = [injection.target for injection in plan]
    assert len(hit) == len(set(hit)) == wanted
    assert set(hit) <= set(fitting)
    assert hit == [each.target for each in anyio.run(fault.plan, box, Random(seed))]

    by_service = Counter(target.rpartition("-")[0] for target in hit)
    within = max(by_service.values()) <= most and protected not in by_service
    limits = BlastRadius(Most("", count=most), frozenset({protected}))
    try:
        limits.check([Planned(1.0, each) for each in plan], anyio.run(reach_of, box))
        passed = True
    except Refused:
        passed = False
    assert passed is within


def test_slots_that_run_come_first() -> None:
    box = FakeSandbox({"a": 1, "b": 1}, labels={"a": {"tier": "x"}, "b": {"tier": "x"}})
    box.crash("a-1")
    for seed in range(5):
        (slot,) = anyio.run(choose, box, SlotTarget(label="tier=x"), Random(seed))
        assert slot.name == "b-1"


def test_new_replicas_carry_the_labels_of_their_service() -> None:
    async def test() -> None:
        box = FakeSandbox({"a": 1}, labels={"a": {"tier": "x"}})
        await box.hands.scale("a", 3, by="fixer")
        found = await choose(box, SlotTarget(label="tier", share=1.0), Random(1))
        assert [slot.name for slot in found] == ["a-1", "a-2", "a-3"]

    anyio.run(test)


def test_an_empty_value_is_a_value() -> None:
    assert carries({"critical": ""}, "critical")
    assert carries({"critical": ""}, "critical=")
    assert not carries({"critical": "yes"}, "critical=")


@pytest.mark.parametrize("wrong", ["", "=cache", "tier of cache=1", 7, {"tier": "cache"}])
def test_what_is_no_label_is_refused(wrong: object) -> None:
    with pytest.raises(ValueError, match="expected"):
        fault_class("process.kill").of({"target": {"label": wrong}})


def _problem(folder: Path, target: str) -> str:
    (folder / "compose.yaml").write_text(COMPOSE)
    (folder / "labelled.yaml").write_text(ON_DOCKER.replace("TARGET", target))
    with pytest.raises(ScenarioError) as caught:
        load_scenario(folder / "labelled.yaml")
    (problem,) = caught.value.problems
    assert problem.line == 9
    column = ON_DOCKER.splitlines()[8].index("TARGET") + 1
    assert problem.column is not None
    assert problem.column > column
    return f"{problem.message} {problem.hint}"


@pytest.mark.parametrize(
    ("target", "says"),
    [
        ("{label: tier=cash}", "no slot has the label 'tier=cash' Did you mean tier=cache?"),
        ("{label: teir}", "no slot has the label 'teir' Did you mean tier?"),
        ("{label: zone=north-1}", "There are: critical=, owner=edge, tier=cache, tier=front."),
        ("{label: tier=hidden}", "no slot has the label 'tier=hidden'"),
        ("{label: tier, count: 4}", "only 3 match They are: cache-1, web-1, web-2."),
    ],
)
def test_a_label_that_matches_nothing_is_found_in_the_file(
    target: str, says: str, tmp_path: Path
) -> None:
    """What did not opt in is not there; an engine's own labels are no suggestions."""
    assert says in _problem(tmp_path, target)


@pytest.mark.parametrize("label", ["tier", "tier=front", "critical", "owner=edge", "gameday.owner"])
def test_a_label_of_the_compose_file_is_a_target(label: str, tmp_path: Path) -> None:
    (tmp_path / "compose.yaml").write_text(COMPOSE)
    path = tmp_path / "labelled.yaml"
    path.write_text(ON_DOCKER.replace("TARGET", f"{{label: {label}}}"))
    assert load_scenario(path).scenario.faults[0].breaks.target.label == label


def test_faults_that_exclude_each_other_are_found_by_label(tmp_path: Path) -> None:
    (tmp_path / "compose.yaml").write_text(COMPOSE)
    text = ON_DOCKER.replace("TARGET", "{label: tier=cache}")
    text += "  - {at: 2s, inject: process.pause, target: {slot: cache-1}}\n"
    (tmp_path / "labelled.yaml").write_text(text)
    with pytest.raises(ScenarioError, match="exclude each other, and both can be in force at"):
        load_scenario(tmp_path / "labelled.yaml")


def test_attached_processes_carry_no_labels(tmp_path: Path) -> None:
    text = ON_DOCKER.replace("docker, compose: compose.yaml", "attached")
    (tmp_path / "labelled.yaml").write_text(text.replace("TARGET", "{label: tier}"))
    with pytest.raises(ScenarioError, match="kind attached carry no labels"):
        load_scenario(tmp_path / "labelled.yaml")


def test_a_local_cluster_is_aimed_at_by_owner_and_tier(terminal: Terminal) -> None:
    """`gameday run --dry-run` shows which slot it would be; `catalog` shows the label."""
    cluster = CLUSTER.replace("  back:\n", "  back:\n    tier: storage\n    owner: data\n")
    path = lay_out(
        terminal.cwd, scenario(parameters="target: {label: tier=storage}"), cluster=cluster
    )
    done = terminal.gameday("run", path, "--dry-run", "--json")
    assert done.returncode == 0, done.stderr
    assert [each["target"] for each in msgspec.json.decode(done.stdout)["injections"]] == ["back-1"]
    assert "process.kill on tier=storage" in terminal.gameday("catalog", path).stdout


@pytest.mark.sandbox
def test_a_local_drill_hits_what_carries_the_label(terminal: Terminal) -> None:
    cluster = CLUSTER.replace("  back:\n", "  back:\n    tier: storage\n")
    text = scenario(parameters="target: {label: tier}")
    done = terminal.gameday("run", lay_out(terminal.cwd, text, cluster=cluster), "--seed", "1")
    assert "back-1" in done.stdout, done.stdout + done.stderr
