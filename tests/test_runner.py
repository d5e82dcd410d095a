"""The runner on virtual time: the order of safety, whatever fails, hangs, races or is cancelled."""

from __future__ import annotations

import math
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from random import Random
from typing import Any

import anyio
import msgspec
import pytest
import trio.testing
from hypothesis import given, settings
from hypothesis import strategies as st

from gameday.drills.alerts import RESOLVE_LIMIT
from gameday.drills.channels.message import ChannelError, Message
from gameday.drills.pages import DrillPages
from gameday.drills.runner import VERIFY_TIMEOUT, Runner, Stage
from gameday.drills.watchers import watch_changes
from gameday.injectors.errors import SandboxError, StorageError
from gameday.injectors.fault import Evidence, Fault, Injection, SlotTarget
from gameday.injectors.sandbox.base import Sandbox
from gameday.injectors.sandbox.fake import FakeSandbox
from gameday.injectors.sandbox.fake_state import FakeState
from gameday.injectors.undo import Armed, Outcome, StartSlot, Step, StepResult, Undone
from gameday.scenarios.model import Scenario
from gameday.scoring import events
from gameday.scoring.score import Verdict
from gameday.scoring.scorer import score
from tests.simulation import LINKS, SERVICES, MemoryJournal, MemoryUndo, _Prober, scenario

Act = Callable[[Runner], Awaitable[None]]
KILL = {"at": "1s", "inject": "process.kill", "target": {"slot": "gateway-1"}}
PAUSE = {"at": "1s", "inject": "process.pause", "target": {"slot": "gateway-1"}}
RESET = {"at": "2s", "inject": "net.reset", "target": {"link": "gateway-1->api-1"}}


class Recorder:
    """A channel that keeps what it takes; it may be slow, hang, refuse or crash."""

    def __init__(
        self, name: str = "recorder", *, seconds: float = 0.0, error: Exception | None = None
    ) -> None:
        self.name = name
        self.seconds = seconds
        self.error = error
        self.taken: list[Message] = []

    async def send(self, message: Message) -> None:
        await anyio.sleep(self.seconds)
        if self.error is not None:
            raise self.error
        self.taken.append(message)


class Traced(FakeSandbox):
    """Writes down each operation, by its instant and its name."""

    trace: list[str]

    @asynccontextmanager
    async def operation(self, op: str, *, writes: bool = False) -> AsyncIterator[FakeState]:
        if writes or op.startswith("fingerprint"):
            self.trace.append(op)
        async with super().operation(op, writes=writes) as state:
            yield state


class TracedUndo(MemoryUndo):
    def __init__(self, trace: list[str], seconds: float, error: Exception | None) -> None:
        super().__init__()
        self.trace = trace
        self.seconds = seconds
        self.error = error

    async def arm(self, record: Armed) -> None:
        await anyio.sleep(self.seconds)
        if self.error is not None:
            raise self.error
        self.trace.append(f"arm {record.id}")
        await super().arm(record)

    async def undo(self, record: Armed, box: Sandbox) -> Undone:
        self.trace.append(f"undo {record.id}")
        return await super().undo(record, box)


class TracedJournal(MemoryJournal):
    def __init__(self, trace: list[str]) -> None:
        super().__init__()
        self.trace = trace

    def append(self, event: events.Event) -> events.Event:
        if not isinstance(event, events.Sample):
            self.trace.append(type(event).__name__)
        return super().append(event)


class Drill:
    """One drill on virtual time; afterwards everything that can be asked about it."""

    def __init__(
        self,
        played: Scenario,
        *,
        trouble: Callable[[FakeSandbox], None] = lambda box: None,
        watchers: dict[str, Act] | None = None,
        actors: dict[str, Act] | None = None,
        listeners: tuple[Callable[[events.Event], None], ...] = (),
        channels: tuple[Recorder, ...] = (),
        arming: float = 0.0,
        arm_error: Exception | None = None,
        cancel_at: float = math.inf,
        before: Callable[[Runner], None] = lambda runner: None,
        services: dict[str, int] = SERVICES,
        links: list[str] = LINKS,
    ) -> None:
        self.scenario = played
        self.trace: list[str] = []
        self.journal = TracedJournal(self.trace)
        self.undo = TracedUndo(self.trace, arming, arm_error)
        self.channels = channels
        self.burnt: list[frozenset[int]] = []
        self.why = ""
        self._trouble, self._before = trouble, before
        self._watchers, self._actors = watchers or {}, actors or {}
        self._listeners, self._cancel_at = listeners, cancel_at
        self._services, self._links = services, links
        self._clock = trio.testing.MockClock(autojump_threshold=0)
        anyio.run(self._run, backend="trio", backend_options={"clock": self._clock})

    async def _run(self) -> None:
        zero = anyio.current_time()
        self.box = Traced(self._services, self._links, clock=self._clock.current_time, drill="test")
        self.box.trace = self.trace
        stage = Stage(
            box=self.box,
            journal=self.journal,
            undo=self.undo,
            pages=DrillPages(
                "test",
                "SEV-2",
                self.channels,
                lambda: anyio.current_time() - zero,
                lambda error: self.runner.own_fault("channel", error),
            ),
            watchers={"sandbox": watch_changes} | self._watchers,
            actors=self._actors,
            keep_off=self.burnt.append,
            listeners=list(self._listeners),
        )
        for name in self.scenario.slis:
            stage.watchers[f"probe {name}"] = _Prober(name, self.box, Random(1)).run
        self._trouble(self.box)
        self.runner = Runner(self.scenario, stage, seed=7, zero=zero)
        self._before(self.runner)
        self.runner.emit(events.DrillStarted(at=0.0, id="t", scenario="s", gameday="0", seed=7))
        with anyio.move_on_after(self._cancel_at):
            self.why = await self.runner.run()
        self.lasted = now = anyio.current_time() - zero
        self.runner.emit(
            events.DrillEnded(
                at=now, why=self.why or "failed", steady_after=self.runner.steady_after
            )
        )

    def of(self, *kinds: type[events.Event]) -> list[Any]:
        return [event for event in self.journal.events if isinstance(event, kinds)]

    @property
    def problems(self) -> str:
        return "; ".join(event.what for event in self.of(events.Problem))

    def check_put_back(self) -> None:
        """Everything that was armed has ended, and the cluster is well and free of our traces."""
        armed = [event.injection.id for event in self.of(events.InjectionArmed)]
        ended = {event.injection for event in self.of(events.InjectionUndone)}
        assert ended == set(armed)
        assert not [key for key in self.undo.armed if key in ended]
        assert self.box.availability() == 1.0
        assert not self.box.state.helpers
        assert not any(link.toxics for link in self.box.state.links.values())
        assert not any(slot.holds or slot.files for slot in self.box.state.slots.values())

    def check_order(self) -> None:
        """Never called before it is armed; never called once the end has begun."""
        armed = {event.injection.id: event.seq for event in self.of(events.InjectionArmed)}
        reverting = next(e.seq for e in self.of(events.PhaseBegan) if e.phase == "reverting")
        for call in self.of(events.InjectCalled):
            assert armed[call.injection] < call.seq < reverting
        for look in self.of(events.Looked):
            assert look.seq < reverting


def acting(*steps: tuple[float, Callable[[Runner], Any]]) -> dict[str, Act]:
    """An actor who does each thing so many seconds after the scenario's start."""

    async def act(runner: Runner) -> None:
        while runner.began is None:  # noqa: ASYNC110 - on virtual time it costs nothing
            await anyio.sleep(0.05)
        for at, step in steps:
            await anyio.sleep(max(0.0, runner.began + at - runner.now()))
            done = step(runner)
            if done is not None:
                await done

    return {"actor": act}


def say(verb: str) -> Callable[[Runner], None]:
    return lambda runner: runner.emit(events.Said(at=runner.now(), verb=verb, role="fixer"))


def boom(*_: Any) -> Any:
    raise ValueError("boom")


# The order of safety


def test_each_injection_is_armed_before_it_is_made_and_looked_at_before_it_counts() -> None:
    drill = Drill(scenario(duration="10s", faults=[KILL, RESET]))
    for event in drill.of(events.InjectionArmed):
        key, kind = event.injection.id, event.injection.fault
        made = {"process.kill": "processes.signal", "net.reset": "links.add"}[kind]
        start = drill.trace.index(f"arm {key}")
        assert drill.trace[start - 1] == "fingerprint"
        after = [step for step in drill.trace[start + 1 :] if step != "SandboxChanged"]
        assert after[:3] == ["InjectionArmed", "InjectCalled", made]
        rest = after[3:]
        undo = rest.index(f"undo {key}")
        assert rest.index("Looked") < undo
        assert "InjectionUndone" in rest[undo:]
    drill.check_put_back()
    drill.check_order()
    assert drill.why == "hard-stop"


def test_undone_newest_first() -> None:
    later = RESET | {"at": "3s", "inject": "net.blackhole", "target": {"link": "gateway-1->api-2"}}
    drill = Drill(scenario(duration="10s", faults=[RESET, KILL, later]))
    armed = [step.split()[1] for step in drill.trace if step.startswith("arm ")]
    undone = [step.split()[1] for step in drill.trace if step.startswith("undo ")]
    armed = [key for key in armed if key in undone]
    assert undone == armed[::-1]
    assert len(undone) == 3


def test_nothing_is_injected_where_the_undo_cannot_be_recorded() -> None:
    drill = Drill(scenario(faults=[KILL]), arm_error=StorageError("the disk is full"))
    assert drill.why == "aborted"
    assert "processes.signal" not in drill.trace
    assert not drill.of(events.InjectionArmed, events.InjectCalled)
    assert "the disk is full" in drill.problems
    assert "ExceptionGroup" not in drill.problems


def test_several_targets_are_hit_at_once() -> None:
    both = {"at": "1s", "inject": "process.kill", "target": {"service": "api", "count": 2}}
    drill = Drill(scenario(duration="8s", faults=[both]), arming=0.5)
    first, second = drill.of(events.InjectCalled)
    assert first.at == second.at
    drill.check_put_back()


def test_two_faults_on_one_target_are_compared_with_what_was_before_both() -> None:
    slow = RESET | {"inject": "net.latency", "delay": "50ms"}
    thin = RESET | {"at": "3s", "inject": "net.bandwidth", "rate": "1Mbit/s"}
    drill = Drill(scenario(duration="8s", faults=[slow, thin, slow | {"at": "2.5s"}]))
    assert len(drill.of(events.TargetChecked)) == 3
    assert all(event.equal for event in drill.of(events.TargetChecked))
    drill.check_put_back()


def test_the_same_seed_chooses_the_same_targets_whatever_is_slow() -> None:
    faults = [
        {"at": "1s", "inject": "net.reset", "target": {"link": "gateway->api", "count": 1}},
        {"at": "1s", "inject": "process.kill", "target": {"service": "api", "count": 2}},
    ]
    services, links = {"gateway": 2, "api": 6}, ["gateway->api"]

    def plan(slow: float) -> set[tuple[str, str]]:
        def trouble(box: FakeSandbox) -> None:
            box.slow("list_links", slow)

        played = scenario(duration="6s", faults=faults)
        drill = Drill(played, trouble=trouble, services=services, links=links)
        return {(e.injection.id, e.injection.target) for e in drill.of(events.InjectionArmed)}

    assert plan(0.0) == plan(1.5)


# Whatever fails


WAYS = {
    "watcher": {"watchers": {"w": acting((2.0, boom))["actor"]}},
    "actor": {"actors": acting((2.0, boom))},
    "listener": {"listeners": (lambda e: boom() if isinstance(e, events.InjectCalled) else None,)},
    "channel": {"channels": (Recorder(error=ValueError("boom")),)},
    **{
        op: {"trouble": lambda box, op=op: box.fail(op, error=ValueError("boom"))}
        for op in ("list_slots", "fingerprint", "processes.signal", "processes.status")
    },
}


@pytest.mark.parametrize("way", WAYS)
def test_whatever_crashes_everything_is_put_back_and_recorded(way: str) -> None:
    options: dict[str, Any] = WAYS[way]
    drill = Drill(scenario(duration="10s", faults=[KILL, RESET]), **options)
    drill.check_put_back()
    drill.check_order()
    told = drill.problems + "".join(event.error for event in drill.of(events.AlertFailed))
    assert "ValueError: boom" in told
    assert "ExceptionGroup" not in told
    assert drill.why == "failed"
    score(drill.scenario, drill.journal.events)


@pytest.mark.parametrize("op", ["processes.status", "links.toxics"])
def test_a_look_that_crashes_during_the_undo_does_not_stop_the_others(op: str) -> None:
    def crash(runner: Runner) -> None:
        drilled = runner.stage.box
        assert isinstance(drilled, FakeSandbox)
        drilled.fail(op, times=1000, error=ValueError("boom"))

    drill = Drill(scenario(duration="10s", faults=[KILL, RESET]), actors=acting((9.9, crash)))
    outcomes = [event.outcome for event in drill.of(events.InjectionUndone)]
    assert outcomes == ["put-back"] * 2  # the targets themselves prove it
    assert drill.box.availability() == 1.0


def test_what_neither_a_look_nor_its_target_proves_is_not_put_back() -> None:
    def crash(runner: Runner) -> None:
        drilled = runner.stage.box
        assert isinstance(drilled, FakeSandbox)
        drilled.fail("processes.status", times=1000, error=ValueError("boom"))
        drilled.fail("fingerprint", times=1000, error=ValueError("boom"))

    drill = Drill(scenario(duration="10s", faults=[KILL, RESET]), actors=acting((9.9, crash)))
    outcomes = [event.outcome for event in drill.of(events.InjectionUndone)]
    assert sorted(outcomes) == ["failed", "put-back"]  # told once, though tried in three rounds
    assert drill.why == "failed"


def test_a_failing_undo_does_not_stop_the_others() -> None:
    def trouble(box: FakeSandbox) -> None:
        box.fail("RemoveToxic", times=99)

    drill = Drill(scenario(duration="8s", faults=[KILL, RESET]), trouble=trouble)
    by_target = {
        armed.injection.id: armed.injection.fault for armed in drill.of(events.InjectionArmed)
    }
    outcomes = {by_target[e.injection]: e.outcome for e in drill.of(events.InjectionUndone)}
    assert outcomes == {"net.reset": "failed", "process.kill": "put-back"}
    assert len(drill.undo.armed) == 1
    found = score(drill.scenario, drill.journal.events)
    assert found.exit_code == 5


def test_what_could_not_be_taken_back_in_time_is_tried_again_at_the_end() -> None:
    def trouble(box: FakeSandbox) -> None:
        box.fail("RemoveToxic", times=1)

    drill = Drill(scenario(duration="8s", faults=[RESET | {"lasts": "1s"}]), trouble=trouble)
    assert [e.outcome for e in drill.of(events.InjectionUndone)] == ["failed", "put-back"]
    assert not drill.undo.armed
    assert score(drill.scenario, drill.journal.events).exit_code != 5


def test_an_undo_that_came_too_early_for_its_target_is_made_once_more() -> None:
    def trouble(box: FakeSandbox) -> None:
        real, asked = box.run_step, list[Step]()

        async def early(step: Step) -> StepResult:
            asked.append(step)
            return await real(step) if len(asked) > 1 else StepResult(Outcome.NOTHING, "it runs")

        setattr(box, "run_step", early)  # noqa: B010 - a method is not assigned to

    drill = Drill(scenario(duration="8s", faults=[KILL]), trouble=trouble)
    assert [e.outcome for e in drill.of(events.InjectionUndone)] == ["put-back"]
    assert drill.box.availability() == 1.0


@settings(max_examples=60, deadline=None)
@given(
    at=st.floats(0.0, 9.0),
    op=st.sampled_from(["inject", "look", "run_step", "list_slots", "fingerprint"]),
    error=st.sampled_from([SandboxError("drawn"), ValueError("drawn"), OSError(5, "drawn")]),
    arming=st.sampled_from([0.0, 0.3]),
    cancel=st.one_of(st.just(math.inf), st.floats(0.0, 9.0)),
    lasts=st.sampled_from([None, "500ms", "2s"]),
)
def test_any_single_failure_at_any_time_ends_with_everything_put_back(
    at: float, op: str, error: Exception, arming: float, cancel: float, lasts: str | None
) -> None:
    def fail(runner: Runner) -> None:
        assert isinstance(runner.stage.box, FakeSandbox)
        runner.stage.box.fail(op, error=error)

    faults = [dict(fault) | ({"lasts": lasts} if lasts else {}) for fault in (KILL, RESET)]
    drill = Drill(
        scenario(duration="7s", faults=faults),
        actors=acting((at, fail)),
        arming=arming,
        cancel_at=cancel,
        channels=(Recorder(),),
    )
    drill.check_order()
    failed = [e for e in drill.of(events.InjectionUndone) if e.outcome == "failed"]
    if not failed:
        drill.check_put_back()
    assert {e.page for e in drill.of(events.AlertFired)} == {
        e.page for e in drill.of(events.AlertResolved)
    }
    assert not drill.runner.alerts.open


# Races


@settings(max_examples=40, deadline=None)
@given(cancel=st.floats(0.5, 6.0), arming=st.floats(0.0, 0.5))
def test_cancellation_from_outside_undoes_everything(cancel: float, arming: float) -> None:
    drill = Drill(scenario(faults=[KILL, RESET]), cancel_at=cancel, arming=arming)
    assert drill.why == ""
    drill.check_put_back()
    drill.check_order()


def test_the_end_while_an_injection_is_being_armed() -> None:
    drill = Drill(
        scenario(faults=[KILL]),
        arming=1.0,
        actors=acting((1.5, lambda runner: runner.abort("person", "enough"))),
    )
    assert drill.why == "aborted"
    assert not drill.of(events.InjectCalled)
    assert "processes.signal" not in drill.trace
    drill.check_put_back()


def test_taken_back_while_it_is_still_being_injected() -> None:
    def trouble(box: FakeSandbox) -> None:
        box.slow("links.add", 5.0)

    drill = Drill(scenario(duration="12s", faults=[RESET | {"lasts": "1s"}]), trouble=trouble)
    (undone,) = drill.of(events.InjectionUndone)
    assert undone.at == pytest.approx(drill.runner.began + 3.0, abs=0.1)
    assert not drill.of(events.Looked)
    drill.check_put_back()


def test_taken_back_before_it_was_planned() -> None:
    def trouble(box: FakeSandbox) -> None:
        box.slow("list_links", 5.0)

    drill = Drill(scenario(duration="12s", faults=[RESET | {"lasts": "1s"}]), trouble=trouble)
    assert not drill.of(events.InjectionArmed)
    assert "links.add" not in drill.trace


def test_who_resolved_before_the_next_fault_did_not_mean_that_one() -> None:
    drill = Drill(
        scenario(duration="20s", stabilise="1s", faults=[KILL | {"at": "8s"}]),
        actors=acting((1.0, say("resolve"))),
    )
    (called,) = drill.of(events.InjectCalled)
    assert called.at == pytest.approx(drill.runner.began + 8.0, abs=0.01)
    assert drill.why == "hard-stop"


def test_a_synthetic_alert_is_not_answered_beforehand() -> None:
    alarm = {"name": "Alarm", "at": "5s", "summary": "Something is odd."}
    drill = Drill(
        scenario(duration="15s", stabilise="1s", alerts=[alarm]),
        actors=acting((1.0, say("resolve")), (8.0, say("all-clear"))),
    )
    assert drill.why == "all-clear"
    ended = next(e.at for e in drill.of(events.PhaseBegan) if e.phase == "reverting")
    assert ended == pytest.approx(drill.runner.began + 8.0, abs=0.1)


def test_an_abort_before_the_start_is_not_forgotten() -> None:
    drill = Drill(
        scenario(faults=[KILL]),
        before=lambda runner: runner.abort("signal", "SIGTERM was received"),
    )
    assert drill.why == "aborted"
    assert not drill.of(events.InjectionArmed)


def test_no_abort_once_the_end_has_begun() -> None:
    drill = Drill(
        scenario(
            duration="6s", faults=[PAUSE], abort_when=["availability < 50% for 5s"], alerts=[]
        ),
        trouble=lambda box: box.slow("SignalProcess", 4.0),
    )
    assert drill.why == "hard-stop"
    assert not drill.of(events.AbortAsked)


# Looking


class Flicker(Fault):
    """Takes effect in the looks that were written down, and is in force as long as they last."""

    kind = "test.flicker"
    target: SlotTarget
    looks: list[bool]

    async def plan(self, box: Sandbox, rng: Random) -> list[Injection]:
        return [
            self.injection(aim.slot, StartSlot(aim.slot), tag=aim.tag)
            for aim in await self.aim(box, rng)
        ]

    async def inject(self, box: Sandbox, injection: Injection) -> None:
        return

    async def look(self, box: Sandbox, injection: Injection) -> Evidence:
        seen = self.looks.pop(0) if self.looks else False
        return Evidence(seen, bool(self.looks), "flickers", box.now())


@given(looks=st.lists(st.booleans(), max_size=12))
@settings(max_examples=50, deadline=None)
def test_that_a_fault_took_effect_is_never_unlearnt(looks: list[bool]) -> None:
    fault = Flicker(target=SlotTarget(slot="api-1"), looks=list(looks))
    entry = {"at": 1.0, "fault": msgspec.structs.replace(fault, looks=list(looks))}
    drill = Drill(scenario(duration="9s", faults=[entry]))
    looked = drill.of(events.Looked)
    seen = [each.took_effect for each in looked]
    assert seen == sorted(seen)
    assert any(seen) == any(looks)
    assert all(each.previous <= each.at for each in looked)
    drill.check_put_back()


def test_what_lots_bring_together_and_excludes_each_other_is_not_made() -> None:
    """By name it is refused before the drill; where targets are drawn, it may come about."""
    one = {"at": "1s", "inject": "process.pause", "target": {"service": "api", "count": 1}}
    both = one | {"inject": "process.kill", "target": {"service": "api", "count": 2}}
    drill = Drill(scenario(duration="8s", faults=[one, both]), arming=0.5)
    (failed,) = drill.of(events.InjectFailed)
    armed = {e.injection.id: e.injection for e in drill.of(events.InjectionArmed)}
    there = armed[failed.injection].target
    assert f"is in force on {there}, and both cannot be" in failed.error
    assert len(armed) == 3
    assert len(drill.of(events.InjectCalled)) == 2
    drill.check_put_back()


def test_what_could_not_be_made_excludes_nothing() -> None:
    one = {"at": "1s", "inject": "process.pause", "target": {"slot": "api-1"}}
    both = {"at": "3s", "inject": "process.kill", "target": {"service": "api", "count": 2}}
    drill = Drill(
        scenario(duration="8s", faults=[one, both]),
        trouble=lambda box: box.fail("inject", times=1),
    )
    (failed,) = drill.of(events.InjectFailed)
    assert "both cannot be" not in failed.error
    assert len(drill.of(events.InjectCalled)) == 3
    drill.check_put_back()


def test_what_somebody_took_out_of_use_is_taken_over_and_not_a_failure() -> None:
    def stop(runner: Runner) -> Awaitable[None]:
        return runner.stage.box.hands.stop("gateway-1", by="fixer")

    drill = Drill(scenario(duration="8s", faults=[KILL]), actors=acting((3.0, stop)))
    (undone,) = drill.of(events.InjectionUndone)
    assert (undone.outcome, undone.by) == ("taken-over", "fixer")


def test_a_process_that_is_gone_already_was_not_killed_by_us() -> None:
    def restart(runner: Runner) -> Awaitable[None]:
        return runner.stage.box.hands.restart("gateway-1", by="fixer")

    drill = Drill(
        scenario(duration="20s", faults=[KILL]),
        trouble=lambda box: box.slow("fingerprint", 1.0),
        actors=acting((1.5, restart)),
    )
    (failed,) = drill.of(events.InjectFailed)
    assert "no longer there" in failed.error
    assert not drill.of(events.Looked)
    found = score(drill.scenario, drill.journal.events)
    assert {each.verdict for each in found.hypotheses} == {Verdict.INCONCLUSIVE}
    assert all("take effect" in each.evidence for each in found.hypotheses)


def test_put_back_but_unhealthy_is_said() -> None:
    def litter(runner: Runner) -> Awaitable[None]:
        return runner.stage.box.disk.fill("gateway-1", "litter", leave=1 << 20)

    drill = Drill(scenario(duration="6s", faults=[PAUSE]), actors=acting((3.0, litter)))
    (checked,) = drill.of(events.TargetChecked)
    assert not checked.equal
    assert checked.detail
    assert drill.of(events.InjectionUndone)[0].outcome == "put-back"


def test_a_guard_rail_aborts() -> None:
    drill = Drill(scenario(faults=[KILL], abort_when=["availability < 50% for 2s"]))
    assert drill.why == "aborted"
    (abort,) = drill.of(events.AbortAsked)
    assert abort.by == "guard-rail"
    assert "availability" in abort.why
    drill.check_put_back()
    assert score(drill.scenario, drill.journal.events).exit_code == 4


def test_a_fault_that_lasts_is_taken_back_in_the_middle() -> None:
    drill = Drill(scenario(duration="20s", faults=[KILL | {"lasts": "4s"}]))
    (undone,) = drill.of(events.InjectionUndone)
    assert undone.called == pytest.approx(drill.runner.began + 5.0, abs=0.01)
    assert drill.why == "hard-stop"


def test_an_unhealthy_sandbox_is_not_broken_further() -> None:
    drill = Drill(scenario(faults=[KILL]), trouble=lambda box: box.crash("gateway-1"))
    assert drill.why == "unhealthy-start"
    assert not drill.of(events.InjectionArmed)


def test_asking_to_stop_shortens_the_look_afterwards() -> None:
    def trouble(box: FakeSandbox) -> None:
        box.fail("StartSlot", times=99)

    abort = acting((6.0 + VERIFY_TIMEOUT / 5, lambda runner: runner.abort("signal", "SIGINT")))
    drill = Drill(
        scenario(duration="6s", faults=[KILL]), trouble=trouble, watchers={"w": abort["actor"]}
    )
    assert drill.why == "hard-stop"
    assert drill.lasted < drill.runner.began + 6.0 + VERIFY_TIMEOUT / 2
    assert drill.runner.steady_after is False


# CPUs


def test_the_runner_keeps_off_the_cpu_that_burns_and_gets_it_back() -> None:
    burn = {"at": "1s", "inject": "cpu.burn", "target": {"slot": "api-1"}, "lasts": "3s"}
    seen: list[tuple[str, frozenset[int]]] = []
    drill = Drill(
        scenario(duration="8s", faults=[burn, RESET]),
        listeners=(lambda e: seen.append((type(e).__name__, frozenset())),),
    )
    assert drill.burnt == [frozenset({3}), frozenset()]
    drill.check_put_back()


def test_a_sandbox_that_cannot_say_what_burns_does_not_hold_up_the_drill() -> None:
    burn = {"at": "1s", "inject": "cpu.burn", "target": {"slot": "api-1"}}
    drill = Drill(
        scenario(duration="8s", faults=[burn]),
        trouble=lambda box: box.slow("cpu.burning", math.inf, times=9),
    )
    assert drill.why == "hard-stop"
    assert drill.lasted < 25
    drill.check_put_back()


# Pages


def test_a_page_is_armed_before_it_is_sent_and_resolved_at_the_end() -> None:
    channel = Recorder()
    drill = Drill(scenario(duration="10s", faults=[KILL]), channels=(channel,), arming=0.5)
    (fired,) = drill.of(events.AlertFired)
    (delivered,) = drill.of(events.AlertDelivered)
    assert drill.trace.index(f"arm {fired.page}") < drill.trace.index("AlertFired")
    assert fired.seq < delivered.seq
    assert [message.status for message in channel.taken] == ["firing", "resolved"]
    assert {message.key for message in channel.taken} == {fired.page}
    assert [event.by for event in drill.of(events.AlertResolved)] == ["gameday"]


def test_what_clears_while_its_page_is_being_armed_resolves_that_page() -> None:
    blip = {"name": "Down", "when": "availability < 99%", "summary": "It is down."}
    channel = Recorder()
    drill = Drill(
        scenario(duration="12s", faults=[KILL], alerts=[blip]),
        channels=(channel,),
        arming=3.0,
        actors=acting((4.3, lambda r: r.stage.box.hands.restart("gateway-1", by="fixer"))),
    )
    fired, resolved = drill.of(events.AlertFired), drill.of(events.AlertResolved)
    assert [event.page for event in fired] == [event.page for event in resolved]
    assert resolved[0].by == "monitoring"
    assert [message.status for message in channel.taken] == ["firing", "resolved"]


def test_an_alert_that_clears_while_we_put_back_is_resolved_once() -> None:
    drill = Drill(
        scenario(duration="8s", faults=[KILL, RESET | {"at": "2s"}]),
        trouble=lambda box: box.slow("RemoveToxic", 8.0),
        actors=acting((7.9, lambda r: r.stage.box.hands.restart("gateway-1", by="fixer"))),
        channels=(Recorder(),),
    )
    assert drill.why == "hard-stop"
    assert len(drill.of(events.AlertResolved)) == len(drill.of(events.AlertFired)) == 1


def test_a_channel_that_hangs_holds_up_neither_the_others_nor_the_end() -> None:
    alarms = [{"name": f"Alarm{n}", "at": "1s", "summary": "Odd."} for n in range(5)]
    hung, good = Recorder("hung", seconds=math.inf), Recorder("good")
    drill = Drill(scenario(duration="6s", alerts=alarms), channels=(hung, good))
    assert sorted(message.status for message in good.taken) == ["firing"] * 5 + ["resolved"] * 5
    assert drill.lasted <= drill.runner.began + 6.0 + RESOLVE_LIMIT + 0.5
    # Not resolved there: it stays outstanding, for the watchdog and for people.
    assert len(drill.undo.armed) == 5
    assert "not resolved everywhere" in drill.problems


def test_faults_are_put_back_before_anybody_waits_for_a_channel() -> None:
    drill = Drill(
        scenario(duration="8s", faults=[KILL], alerts=[{"name": "A", "at": "1s", "summary": "A."}]),
        channels=(Recorder("hung", seconds=math.inf),),
    )
    (undone,) = drill.of(events.InjectionUndone)
    assert undone.at <= drill.runner.began + 8.5


def test_a_resolution_that_failed_is_tried_again_at_the_end() -> None:
    blip = {"name": "Down", "when": "availability < 99%", "summary": "It is down."}
    channel = Recorder()

    def refuse(runner: Runner) -> None:
        channel.error = ChannelError("it answered 400", retry=False)

    def accept(runner: Runner) -> None:
        channel.error = None

    drill = Drill(
        scenario(duration="12s", faults=[KILL | {"lasts": "2s"}], alerts=[blip]),
        channels=(channel,),
        actors=acting((2.0, refuse), (9.0, accept)),
    )
    assert [message.status for message in channel.taken] == ["firing", "resolved"]
    assert not drill.undo.armed
    assert len(drill.of(events.AlertResolved)) == 1


def test_reports_reach_people_and_a_broken_channel_does_not_end_the_drill() -> None:
    report = {"at": "1s", "from": "customer", "text": "The page shows an error."}
    good, bad = Recorder("good"), Recorder("bad", error=ChannelError("refused", retry=False))
    drill = Drill(scenario(duration="4s", reports=[report]), channels=(good, bad))
    assert [message.summary for message in good.taken] == ["The page shows an error."]
    assert drill.why == "control-over"
