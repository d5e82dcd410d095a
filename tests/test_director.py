"""The director, played by lot: a small world answers its commands, and laws hold at every step."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from random import Random
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from gameday.drills import director
from gameday.drills.director import (
    STEADY_TIMEOUT,
    Begin,
    Command,
    Direction,
    End,
    FireAlert,
    Inject,
    Revert,
    SendReport,
    advance,
    lots,
    observe,
)
from gameday.injectors.fault import Injection
from gameday.scenarios.model import Scenario
from gameday.scoring import events
from tests.simulation import scenario

SECONDS = st.floats(0, 20).map(lambda value: round(value, 2))
SLACK = 1e-5


@st.composite
def scenarios(draw: st.DrawFn) -> Scenario:
    def some(entry: dict[str, Any], most: int) -> list[dict[str, Any]]:
        return [entry | {"at": f"{at}s"} for at in draw(st.lists(SECONDS, max_size=most))]

    faults = some({"inject": "process.pause", "target": {"service": "api"}}, 3)
    for fault in faults:
        if draw(st.booleans()):
            fault["lasts"] = f"{draw(SECONDS)}s"
    return scenario(
        duration=f"{draw(st.integers(1, 30))}s",
        stabilise=f"{draw(st.sampled_from([0, 1, 4]))}s",
        faults=faults,
        alerts=[a | {"name": f"A{i}"} for i, a in enumerate(some({"summary": "Odd."}, 2))],
        reports=some({"from": "customer", "text": "Hm."}, 2),
        hypotheses=[],
    )


@dataclass
class World:
    """What surrounds a director: faults take a moment, people speak, an SLI goes in and out."""

    scenario: Scenario
    seed: int
    state: Direction = field(init=False)
    now: float = 0.0
    told: list[tuple[float, Command]] = field(default_factory=list)
    seen: list[events.Event] = field(default_factory=list)
    calls: int = 0
    coming: list[tuple[float, events.Event]] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.rng = Random(self.seed)
        self.now = self.rng.choice([0.0, 12.345, 1e5 / 3])
        self.state = Direction(self.scenario, started=self.now)
        at = self.now + self.rng.choice([0.0, 0.5, STEADY_TIMEOUT + 1])
        inside = True
        for _ in range(self.rng.randrange(6)):
            self.say(
                at,
                events.SliBroke(
                    at=at, sli="availability", bounds="steady", inside=inside, value=1.0
                ),
            )
            at, inside = at + self.rng.uniform(0.2, 9.0), not inside
        for _ in range(self.rng.randrange(4)):
            when = self.now + self.rng.uniform(0.0, 40.0)
            verb = self.rng.choice(["ack", "resolve", "all-clear", "mitigate"])
            self.say(when, events.Said(at=when, verb=verb, role="fixer"))
        if self.rng.random() < 0.1:
            when = self.now + self.rng.uniform(0.0, 40.0)
            self.say(when, events.AbortAsked(at=when, by="person", why=""))

    def say(self, at: float, event: events.Event) -> None:
        self.coming.append((at, event))
        self.coming.sort(key=lambda each: each[0])

    def answer(self, command: Command) -> None:
        """Carry a command out: what is injected is called a moment later, and may end by itself."""
        if isinstance(command, Inject):
            at = self.now + self.rng.choice([0.0, 0.01, 0.4])
            name = f"i{command.entry}"
            made = Injection(id=name, fault="process.pause", target="api-1", tag="t", undo=())
            self.say(at, events.InjectionArmed(at=at, injection=made))
            self.say(at, events.InjectCalled(at=at, injection=name))
            if self.rng.random() < 0.5:
                over = at + self.rng.uniform(0.1, 9.0)
                look = events.Looked(
                    at=over, injection=name, took_effect=True, in_force=False, seen="", previous=at
                )
                self.say(over, look)
        elif isinstance(command, Revert):
            undone = events.InjectionUndone(
                at=self.now, injection=f"i{command.entry}", outcome="put-back", called=self.now
            )
            self.say(self.now, undone)

    def play(self) -> World:
        while not self.state.ended:
            self.calls += 1
            assert self.calls < 500, "the director makes no progress"
            before = self.state
            self.state, commands, wakeup = advance(before, self.now)
            assert advance(before, self.now) == (self.state, commands, wakeup)
            assert wakeup >= self.now
            for command in commands:
                self.told.append((self.now, command))
                self.answer(command)
            if self.state.ended:
                break
            if self.coming and self.coming[0][0] <= max(wakeup, self.now):
                at, event = self.coming.pop(0)
                self.now = max(self.now, at)
                self.seen.append(event)
                self.state = observe(self.state, event)
            elif wakeup < math.inf:
                self.now = max(self.now, wakeup)
        return self

    @property
    def end(self) -> tuple[float, str]:
        at, command = self.told[-1]
        assert isinstance(command, End)
        return at, command.why


worlds = st.builds(
    lambda played, seed: World(played, seed).play(), scenarios(), st.integers(0, 10**6)
)


@given(worlds)
@settings(max_examples=120, deadline=None)
def test_each_command_once_nothing_before_begin_and_nothing_after_the_end(world: World) -> None:
    commands = [command for _, command in world.told]
    assert len(set(commands)) == len(commands)
    assert [c for c in commands if isinstance(c, End)] == commands[-1:]
    if world.state.begun is None:
        assert len(commands) == 1
    else:
        assert commands[0] == Begin()
    assert advance(world.state, world.now + 1.0) == (world.state, (), math.inf)


@given(worlds)
@settings(max_examples=120, deadline=None)
def test_everything_at_its_time_and_the_hard_stop_at_its_own(world: World) -> None:
    begun = world.state.begun
    if begun is None:
        return
    played = world.scenario
    for at, command in world.told:
        match command:
            case Inject(entry):
                due = played.faults[entry].at
            case Revert(entry):
                due = played.faults[entry].at + (played.faults[entry].lasts or 0.0)
            case FireAlert(entry):
                due = played.alerts[entry].at or 0.0
            case SendReport(entry):
                due = played.reports[entry].at
            case _:
                continue
        assert abs(at - (begun + due)) < SLACK
    at, why = world.end
    assert at <= begun + played.duration + SLACK
    if why in ("hard-stop", "control-over"):
        assert abs(at - (begun + played.duration)) < SLACK
        assert (why == "control-over") is world.state.is_control


@given(worlds)
@settings(max_examples=120, deadline=None)
def test_resolved_only_once_it_is_calm_and_nothing_more_is_planned(world: World) -> None:
    at, why = world.end
    if why not in ("resolved", "all-clear"):
        return
    played, begun = world.scenario, world.state.begun
    assert begun is not None
    told = {command for _, command in world.told}
    assert {Inject(n) for n in range(len(played.faults))} <= told
    assert {FireAlert(n) for n, rule in enumerate(played.alerts) if rule.at is not None} <= told
    last = max((e.at for e in world.seen if isinstance(e, events.SliBroke)), default=begun)
    breaks = [e for e in world.seen if isinstance(e, events.SliBroke)]
    assert breaks[-1].inside
    ends: dict[str, float] = {}
    for e in world.seen:
        if isinstance(e, events.Looked | events.InjectionUndone):
            ends.setdefault(e.injection, e.at)  # what has ended by itself is not ended once more
    issued = [when for when, c in world.told if isinstance(c, Inject | FireAlert)]
    assert at + SLACK >= max([last, begun, *issued, *ends.values()]) + played.stabilise
    said = [
        e.at
        for e in world.seen
        if isinstance(e, events.Said) and e.verb in ("resolve", "all-clear")
    ]
    # Somebody said so after the last thing that we did to them was due.
    assert said[-1] + SLACK >= max(issued, default=-math.inf)
    verbs = [e.verb for e in world.seen if isinstance(e, events.Said)]
    assert [v for v in verbs if v in ("resolve", "all-clear")][-1] == {"resolved": "resolve"}.get(
        why, why
    )


@given(worlds)
@settings(max_examples=80, deadline=None)
def test_an_abort_ends_at_once_and_an_unhealthy_sandbox_is_left_alone(world: World) -> None:
    at, why = world.end
    asked = [e.at for e in world.seen if isinstance(e, events.AbortAsked)]
    assert bool(asked) is (why == "aborted")
    if asked:
        assert at <= asked[0] + SLACK
    if why == "unhealthy-start":
        assert world.state.begun is None
        assert abs(at - (world.state.started + STEADY_TIMEOUT)) < SLACK


@given(worlds, st.integers(0, 100))
@settings(max_examples=100, deadline=None)
def test_the_same_events_give_the_same_state(world: World, cut: int) -> None:
    fresh = [Direction(world.scenario) for _ in range(2)]
    for number, event in enumerate(world.seen):
        fresh[0] = observe(fresh[0], event)
        if number < cut:
            fresh[1] = observe(fresh[1], event)
    for event in world.seen[cut:]:
        fresh[1] = observe(fresh[1], event)
    assert fresh[0] == fresh[1]
    assert fresh[0].steady_since == world.state.steady_since
    assert fresh[0].in_force == world.state.in_force


@given(st.integers(), st.integers(0, 99))
def test_the_lots_of_one_entry_depend_on_nothing_else(seed: int, entry: int) -> None:
    assert lots(seed, entry).random() == lots(seed, entry).random()
    assert lots(seed, entry).random() != lots(seed, entry + 1).random()


def test_a_failed_undo_leaves_the_fault_in_force() -> None:
    state = observe(Direction(scenario()), events.InjectCalled(at=1.0, injection="i"))
    failed = events.InjectionUndone(at=2.0, injection="i", outcome="failed", called=2.0)
    assert observe(state, failed).in_force == {"i"}
    assert not observe(state, events.InjectFailed(at=2.0, injection="i", error="x")).in_force
    assert director.observe(state, failed).calm == 0.0


def test_under_load_the_steady_state_has_to_hold_for_a_while_first() -> None:
    load = {"journey": "browse", "users": 5}
    state = Direction(scenario(load=load, stabilise="70s", hypotheses=[]))
    inside = events.SliBroke(at=2.0, sli="availability", bounds="steady", inside=True, value=1.0)
    state = observe(state, inside)
    state, commands, wakeup = advance(state, 2.0)
    assert (commands, wakeup) == ((), STEADY_TIMEOUT)  # no load yet
    state = observe(state, events.LoadStarted(at=5.0, journey="browse", users=5))
    state, commands, wakeup = advance(state, 5.0)
    assert (commands, wakeup) == ((), 75.0)
    assert advance(state, 75.0)[1][0] == Begin()
    outside = observe(state, events.SliBroke(**{**_fields(inside), "at": 70.0, "inside": False}))
    assert advance(outside, 70.0)[1] == (End("unhealthy-start"),)


def _fields(event: events.SliBroke) -> dict[str, Any]:
    return {name: getattr(event, name) for name in ("sli", "bounds", "inside", "value", "at")}
