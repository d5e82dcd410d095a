"""The laws that every fault obeys, on every sandbox; public, so that your own fault can be held to them.

::

    @pytest.mark.parametrize("law", LAWS)
    def test_queue_flood(law: Law) -> None:
        box = FakeSandbox({"api": 3}, clock=(clock := FakeClock()))
        fault = QueueFlood(target=SlotTarget(service="api"))
        anyio.run(law, Trial(box, fault, sleep=clock.sleep))

A law raises AssertionError with what it saw. It leaves the sandbox as it found it.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Awaitable, Callable, Iterable, Mapping
from random import Random
from typing import NamedTuple

import anyio
import msgspec

from gameday.injectors.fault import Evidence, Fault, Injection
from gameday.injectors.sandbox.base import Sandbox
from gameday.injectors.sandbox.kinds import connect
from gameday.injectors.undo import (
    Outcome,
    RestoreAffinity,
    RestoreLimit,
    SandboxRef,
    SignalProcess,
    StartSlot,
    Step,
    StepResult,
)

__all__ = ["LAWS", "Law", "Trial"]

_LOOK_AGAIN = 0.05


class Trial(NamedTuple):
    """A fault before the law.

    Attributes:
        box: A sandbox on which it can act, at rest.
        fault: The fault.
        seed: Chooses its targets.
        sleep: How to wait: `anyio.sleep`, or a `FakeClock`'s.
        patience: Seconds within which a change must be seen.
        places: What else is compared, besides slots and links: ``api-1:/etc/hosts``.
    """

    box: Sandbox
    fault: Fault
    seed: int = 0
    sleep: Callable[[float], Awaitable[None]] = anyio.sleep
    patience: float = 15.0
    places: tuple[str, ...] = ()

    async def plan(self) -> list[Injection]:
        """The same plan each time."""
        return await self.fault.plan(self.box, Random(self.seed))

    async def inject(self) -> list[tuple[Injection, Evidence]]:
        """Plan, inject, and look until every injection has taken effect."""
        done = []
        for injection in await self.plan():
            await self.fault.inject(self.box, injection)
            seen = await self.look_until(injection, lambda evidence: evidence.took_effect)
            assert seen.took_effect, f"injected, but not seen to take effect: {seen.seen}"
            done.append((injection, seen))
        return done

    async def look_until(
        self,
        injection: Injection,
        enough: Callable[[Evidence], bool],
        earlier: Evidence | None = None,
    ) -> Evidence:
        """Look until it is enough, or patience ends; the last look, merged with the ones before."""
        for _ in range(int(self.patience / _LOOK_AGAIN)):
            evidence = (await self.fault.look(self.box, injection)).after(earlier)
            if enough(evidence):
                return evidence
            earlier = evidence
            await self.sleep(_LOOK_AGAIN)
        return evidence

    async def undo(self, injections: Iterable[Injection]) -> list[StepResult]:
        """Run every undo step, newest injection first."""
        return [
            await self.step(step)
            for injection in reversed([*injections])
            for step in injection.undo
        ]

    async def step(self, step: Step) -> StepResult:
        """Run one undo step, which must not fail."""
        result = await self.box.run_step(step)
        assert result.outcome is not Outcome.FAILED, f"{step} failed: {result.detail}"
        return result

    async def image(self) -> Mapping[str, Mapping[str, str]]:
        """The fingerprints of every slot and link, and of whatever else the fault acts on."""
        names = [slot.name for slot in await self.box.list_slots()]
        names += [link.name for link in await self.box.list_links()]
        names += self.places
        return {name: dict(await self.box.fingerprint(name)) for name in names}

    async def expect(self, image: Mapping[str, Mapping[str, str]]) -> None:
        """Wait until the sandbox looks like that again."""
        now = await self.image()
        for _ in range(int(self.patience / _LOOK_AGAIN)):
            if now == image:
                return
            await self.sleep(_LOOK_AGAIN)
            now = await self.image()
        wrong = [
            f"{name}: {image.get(name)} became {now.get(name)}"
            for name in {**image, **now}
            if image.get(name) != now.get(name)
        ]
        raise AssertionError(f"not as it was: {'; '.join(wrong)}")


Law = Callable[[Trial], Awaitable[None]]


async def plan_changes_nothing(trial: Trial) -> None:
    """Planning reads; whoever fills a slot still does, and no fault is in force."""
    image, slots = await trial.image(), await _fillers(trial.box)
    plan = await trial.plan()
    assert plan, "the plan is empty"
    assert await _fillers(trial.box) == slots, "planning replaced a process"
    for injection in plan:
        evidence = await trial.fault.look(trial.box, injection)
        assert not evidence.in_force, f"in force before it was injected: {evidence.seen}"
        assert not evidence.took_effect, f"took effect before it was injected: {evidence.seen}"
    await trial.expect(image)


async def same_seed_same_plan(trial: Trial) -> None:
    """The seed decides everything that is left to choice, tags included."""
    assert await trial.plan() == await trial.plan()


async def tags_are_its_own(trial: Trial) -> None:
    """Each injection has an id and a tag of its own, and its undo touches no other's."""
    plan = await trial.plan()
    assert len({injection.id for injection in plan}) == len(plan)
    for injection in plan:
        assert injection.fault == trial.fault.kind
        assert injection.tag.startswith("gameday-")
        assert injection.undo, "an injection without undo"
        for step in injection.undo:
            assert getattr(step, "tag", injection.tag) == injection.tag


async def parameters_survive_json(trial: Trial) -> None:
    """What the injection records is enough to build the fault again."""
    for injection in await trial.plan():
        recorded = json.loads(msgspec.json.encode(injection.parameters))
        again = type(trial.fault).of(recorded | {"target": trial.fault.target})
        assert again == trial.fault


async def undo_restores(trial: Trial) -> None:
    """Inject, then undo: everything is as it was, identity apart."""
    image = await trial.image()
    done = await trial.inject()
    assert await trial.image() != image, "took effect, but no fingerprint shows it"
    await trial.undo(injection for injection, _ in done)
    await trial.expect(image)


async def looks_tell_the_truth(trial: Trial) -> None:
    """In force after the injection; not after the undo; that it took effect is never unlearnt."""
    done = await trial.inject()
    for injection, evidence in done:
        seen = await trial.look_until(injection, lambda e: e.in_force, evidence)
        assert seen.in_force, f"took effect, but is not in force: {seen.seen}"
        assert len(seen.seen) > 10, "says nothing to a person"
    await trial.undo(injection for injection, _ in done)
    for injection, evidence in done:
        seen = await trial.look_until(injection, lambda e: not e.in_force, evidence)
        assert not seen.in_force, f"undone, but still in force: {seen.seen}"
        assert seen.took_effect


async def undo_twice_is_harmless(trial: Trial) -> None:
    """The second undo finds nothing to do, and replaces no process."""
    image = await trial.image()
    injections = [injection for injection, _ in await trial.inject()]
    await trial.undo(injections)
    await trial.expect(image)
    slots = await _fillers(trial.box)
    for result in await trial.undo(injections):
        assert result.outcome is not Outcome.PUT_BACK, f"put back twice: {result.detail}"
    assert await _fillers(trial.box) == slots, "the second undo replaced a process"
    await trial.expect(image)


async def undo_without_inject_is_harmless(trial: Trial) -> None:
    """Armed, but never injected: the undo changes nothing."""
    image, slots = await trial.image(), await _fillers(trial.box)
    await trial.undo(await trial.plan())
    assert await _fillers(trial.box) == slots, "the undo of nothing replaced a process"
    await trial.expect(image)


async def an_interrupted_undo_can_be_run_again(trial: Trial) -> None:
    """The undo ends after any of its steps; somebody else runs all of it again."""
    image = await trial.image()
    for stop in range(max(len(injection.undo) for injection in await trial.plan())):
        injections = [injection for injection, _ in await trial.inject()]
        for injection in injections:
            for step in injection.undo[:stop]:
                await trial.step(step)
        await trial.undo(injections)
        await trial.expect(image)


async def undo_needs_only_json(trial: Trial) -> None:
    """Another process, with nothing but the JSON of the reference and the steps, puts it back.

    A sandbox in this process's memory is found again here instead.
    """
    image = await trial.image()
    injections = [injection for injection, _ in await trial.inject()]
    text = msgspec.json.encode(injections)
    assert msgspec.json.decode(text, type=list[Injection]) == injections
    steps = [step for injection in reversed(injections) for step in injection.undo]
    errand = msgspec.json.encode(_Errand(trial.box.ref, steps))
    if trial.box.ref.address.startswith("memory:"):
        results = await _carry_out(errand)
    else:
        command = [sys.executable, "-m", __name__]
        results = (await anyio.run_process(command, input=errand, stderr=None)).stdout
    outcomes = [result.outcome for result in msgspec.json.decode(results, type=list[StepResult])]
    assert Outcome.FAILED not in outcomes
    assert Outcome.PUT_BACK in outcomes
    await trial.expect(image)


async def a_restart_by_a_fixer_is_no_conflict(trial: Trial) -> None:
    """A fixer restarts what was hit: what belonged to the old process is taken over, and nothing fails."""
    if "hands" not in trial.box.parts:
        return
    image = await trial.image()
    done = await trial.inject()
    ends = {link.name: link.target for link in await trial.box.list_links()}
    hit = [ends.get(injection.target, injection.target) for injection, _ in done]
    for slot in await trial.box.list_slots():  # what was removed cannot be restarted
        if slot.name in hit:
            await trial.box.hands.restart(slot.name, by="fixer")
    for injection, evidence in reversed(done):
        for step in injection.undo:
            result = await trial.step(step)
            if _belongs_to_the_process(step):
                assert result.outcome is Outcome.TAKEN_OVER, f"{step} after a restart: {result}"
        seen = await trial.look_until(injection, lambda e: not e.in_force, evidence)
        assert not seen.in_force, f"restarted and undone, but in force: {seen.seen}"
    await trial.expect(image)


LAWS: tuple[Law, ...] = (
    plan_changes_nothing,
    same_seed_same_plan,
    tags_are_its_own,
    parameters_survive_json,
    undo_restores,
    looks_tell_the_truth,
    undo_twice_is_harmless,
    undo_without_inject_is_harmless,
    an_interrupted_undo_can_be_run_again,
    undo_needs_only_json,
    a_restart_by_a_fixer_is_no_conflict,
)


def _belongs_to_the_process(step: Step) -> bool:
    """A control group's limit does not: it stays with the slot."""
    if isinstance(step, RestoreLimit):
        return step.limit == "as"
    return isinstance(step, StartSlot | SignalProcess | RestoreAffinity)


async def _fillers(box: Sandbox) -> list[tuple[str, object]]:
    return [(slot.name, slot.process) for slot in await box.list_slots()]


class _Errand(msgspec.Struct):
    ref: SandboxRef
    steps: list[Step]


async def _carry_out(errand: bytes) -> bytes:
    order = msgspec.json.decode(errand, type=_Errand)
    box = await connect(order.ref)
    results = [await box.run_step(step) for step in order.steps]
    await box.aclose()
    return msgspec.json.encode(results)


if __name__ == "__main__":
    sys.stdout.buffer.write(anyio.run(_carry_out, sys.stdin.buffer.read()))
