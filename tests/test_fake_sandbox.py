"""The fake sandbox: what its words mean, that it is deterministic, that it fails when told."""

from __future__ import annotations

import gc
import math
import signal
from pathlib import Path
from random import Random

import anyio
import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gameday.injectors.errors import SandboxError, SandboxGone, UsageError
from gameday.injectors.registry import fault_class
from gameday.injectors.sandbox.base import Change, Toxic
from gameday.injectors.sandbox.fake import FakeClock, FakeSandbox
from gameday.injectors.sandbox.kinds import connect
from gameday.injectors.undo import Outcome, RemoveToxic, SandboxRef, StartSlot, TearDown

pytestmark = pytest.mark.anyio


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


@pytest.fixture
def clock() -> FakeClock:
    return FakeClock(100.0)


@pytest.fixture
def box(clock: FakeClock) -> FakeSandbox:
    services = {"gateway": 1, "api": 3, "store": 1}
    return FakeSandbox(services, ["gateway->api", "api->store"], clock=clock)


async def state_of(box: FakeSandbox, slot: str) -> str:
    return next(shown.state for shown in await box.list_slots() if shown.name == slot)


async def test_slots_and_links_are_named_as_everywhere(box: FakeSandbox) -> None:
    slots = await box.list_slots()
    assert [slot.name for slot in slots] == ["gateway-1", "api-1", "api-2", "api-3", "store-1"]
    assert {(slot.state, slot.health, slot.restarts) for slot in slots} == {
        ("running", "healthy", 0)
    }
    links = [link.name for link in await box.list_links()]
    assert len(links) == 6
    assert {"gateway-1->api-2", "api-3->store-1"} < set(links)


async def test_availability_follows_what_runs(box: FakeSandbox) -> None:
    assert box.availability() == 1.0
    box.crash("api-2")
    assert box.availability() == pytest.approx(2 / 3)
    assert not box.serves("api-2")
    box.start("api-2", by="on-call")
    assert box.availability() == 1.0
    box.crash("store-1")
    assert box.availability() == 0.0
    assert box.availability("store") == 0.0
    assert box.serves("api-1"), "its own process is well"


async def test_availability_follows_the_links(box: FakeSandbox) -> None:
    await box.links.add("gateway-1->api-1", Toxic("blackhole", "t1"))
    await box.links.add("gateway-1->api-2", Toxic("latency", "t2", {"delay": 0.4}))
    assert box.availability() == pytest.approx(2 / 3)
    await box.links.add("gateway-1->api-2", Toxic("latency", "t3", {"delay": 0.2}))
    assert box.availability() == pytest.approx(1 / 3), "delays add up beyond the patience"
    await box.links.add("gateway-1->api-3", Toxic("bandwidth", "t4", {"rate": 1e3}))
    assert box.availability() == 0.0
    assert not box.serves("api-1")
    await box.hands.drain("api-1", by="on-call")
    await box.run_step(RemoveToxic("gateway-1->api-2", "t3"))
    assert box.availability() == pytest.approx(1 / 2), "a drained replica is not called"
    await box.hands.drain("api-1", by="on-call", back=True)
    assert box.availability() == pytest.approx(1 / 3)


async def test_services_that_call_each_other_have_an_availability() -> None:
    box = FakeSandbox({"a": 1, "b": 2}, ["a->b", "b->a"])
    box.crash("b-1")
    assert box.availability() == 0.5


async def test_a_crash_loop_goes_on_by_itself(box: FakeSandbox, clock: FakeClock) -> None:
    await box.holds.hold("api-1", "tag", uptime=1.0)
    seen = []
    for _ in range(40):
        clock.advance(0.25)
        seen.append(await state_of(box, "api-1"))
    assert set(seen) == {"running", "starting"}
    assert (await box.processes.status("api-1")).restarts > 4
    coming = box.next_change()
    assert coming is not None
    assert coming >= clock()
    clock.advance(coming - clock())
    assert box.history[-1].at == coming


async def test_it_heals_only_if_told(clock: FakeClock) -> None:
    stays = FakeSandbox({"a": 1}, clock=clock)
    heals = FakeSandbox({"a": 1}, clock=clock, heals_after=2.0)
    for box in (stays, heals):
        box.crash("a-1")
    clock.advance(1.9)
    assert heals.availability() == 0.0
    clock.advance(0.1)
    assert heals.availability() == 1.0
    assert heals.history[-1] == Change(clock(), "started", "a-1")
    clock.advance(1e6)
    assert stays.availability() == 0.0
    assert stays.next_change() is None


async def test_signals(box: FakeSandbox) -> None:
    process = (await box.processes.status("api-1")).process
    assert process is not None
    assert await box.processes.signal(process, signal.SIGSTOP)
    assert await state_of(box, "api-1") == "paused"
    assert await box.processes.signal(process, signal.SIGTERM)
    assert await state_of(box, "api-1") == "paused", "a stopped process hears no SIGTERM"
    assert await box.processes.signal(process, signal.SIGUSR1)
    assert await box.processes.signal(process, signal.SIGKILL)
    assert await state_of(box, "api-1") == "exited"
    assert not await box.processes.signal(process, signal.SIGCONT)


async def test_hands_are_recorded_with_their_role(box: FakeSandbox, clock: FakeClock) -> None:
    hands = box.hands
    await hands.restart("api-1", by="on-call")
    await hands.stop("api-2", by="on-call")
    await hands.scale("api", 5, by="lead")
    await hands.drain("api-5", by="lead")
    code = await hands.execute("api-1", ["ls", "-l"], by="lead", stdio=(0, 1, 2))
    assert code == 0
    assert box.commands == (("ls", "-l"),)
    said = [data async for data in hands.logs("api-1", lines=20, follow=False)]
    assert b"".join(said) == b""
    did = [(change.action, change.slot, change.by) for change in box.history]
    for one in [
        ("restart", "api-1", "on-call"),
        ("stop", "api-2", "on-call"),
        ("scale", "api", "lead"),
        ("drain", "api-5", "lead"),
        ("exec", "api-1", "lead"),
    ]:
        assert one in did
    assert [slot.name for slot in await box.list_slots() if slot.service == "api"] == [
        f"api-{number}" for number in range(1, 6)
    ]
    assert "gateway-1->api-5" in [link.name for link in await box.list_links()]
    await hands.scale("api", 1, by="lead")
    assert await state_of(box, "api-5") == "stopped"
    assert box.availability() == 1.0


async def test_who_took_over_is_named(box: FakeSandbox) -> None:
    box.crash("api-1")
    await box.hands.restart("api-1", by="on-call")
    result = await box.run_step(StartSlot("api-1"))
    assert (result.outcome, result.by) == (Outcome.TAKEN_OVER, "on-call")
    await box.hands.stop("api-2", by="lead")
    result = await box.run_step(StartSlot("api-2"))
    assert (result.outcome, result.by) == (Outcome.TAKEN_OVER, "lead")
    assert await state_of(box, "api-2") == "stopped", "stopped on purpose stays stopped"


async def test_tear_down_leaves_nothing(box: FakeSandbox) -> None:
    await box.cpu.burn("api-1", "tag", workers=3)
    await box.links.add("gateway-1->api-1", Toxic("reset", "tag"))
    assert (await box.run_step(TearDown("drill"))).outcome is Outcome.PUT_BACK
    assert {slot.state for slot in await box.list_slots()} == {"stopped"}
    assert await box.cpu.helpers("tag") == ()
    assert await box.links.toxics("gateway-1->api-1") == ()
    assert (await box.run_step(TearDown("drill"))).outcome is Outcome.NOTHING


async def test_changes_arrive_as_they_happen(box: FakeSandbox) -> None:
    box.crash("api-1")
    seen: list[Change] = []

    async def watch() -> None:
        async for change in changes:
            seen.append(change)
            if change.action == "restart":
                return

    changes = box.changes()
    box.crash("api-2")
    with anyio.fail_after(5):
        async with anyio.create_task_group() as group:
            group.start_soon(watch)
            await anyio.sleep(0.01)
            await box.hands.restart("api-3", by="on-call")
    assert [(change.action, change.slot) for change in seen] == [
        ("exited", "api-2"),
        ("restart", "api-3"),
    ]


async def test_changes_that_time_brings_arrive_too() -> None:
    box = FakeSandbox({"a": 1}, heals_after=0.02)
    changes = box.changes()
    box.crash("a-1")
    with anyio.fail_after(5):
        assert (await anext(changes)).action == "exited"
        assert (await anext(changes)).action == "started"


@pytest.mark.parametrize(
    "op", ["links.add", "links", "add", "inject"], ids=["full", "part", "call", "group"]
)
async def test_it_fails_when_told(box: FakeSandbox, op: str) -> None:
    toxic = Toxic("reset", "tag")
    box.fail(op, times=2)
    for _ in range(2):
        with pytest.raises(SandboxError, match="told to fail"):
            await box.links.add("gateway-1->api-1", toxic)
    assert await box.links.toxics("gateway-1->api-1") == ()
    await box.links.add("gateway-1->api-1", toxic)
    assert await box.links.toxics("gateway-1->api-1") == (toxic,)


async def test_it_fails_after_the_deed_when_told(box: FakeSandbox) -> None:
    toxic = Toxic("reset", "tag")
    box.fail("inject", error=SandboxGone("cut off"), after=True)
    with pytest.raises(SandboxGone, match="cut off"):
        await box.links.add("gateway-1->api-1", toxic)
    assert await box.links.toxics("gateway-1->api-1") == (toxic,)
    box.fail("RemoveToxic")
    with pytest.raises(SandboxError):
        await box.run_step(RemoveToxic("gateway-1->api-1", "tag"))
    box.fail("look")
    with pytest.raises(SandboxError):
        await box.list_slots()
    assert (await box.run_step(RemoveToxic("gateway-1->api-1", "tag"))).outcome is Outcome.PUT_BACK


async def test_it_hangs_when_told(box: FakeSandbox) -> None:
    box.slow("run_step", math.inf)
    with anyio.move_on_after(0.05) as scope:
        await box.run_step(StartSlot("api-1"))
    assert scope.cancelled_caught
    box.slow("list_slots", 0.01)
    await box.list_slots()


async def test_another_handle_in_memory_is_the_same_sandbox(clock: FakeClock) -> None:
    box = FakeSandbox({"a": 1}, clock=clock, name="one")
    assert box.ref == SandboxRef("fake", "fake-one", "memory:one")
    assert await connect(box.ref) is box
    ref = box.ref
    del box
    gc.collect()
    with pytest.raises(SandboxGone, match="fake-one"):
        await connect(ref)


async def test_a_sandbox_in_a_file_is_shared(tmp_path: Path) -> None:
    one = FakeSandbox({"a": 2}, path=tmp_path / "box.json", heals_after=None)
    changes = one.changes()
    other = await FakeSandbox.connect(one.ref)
    other.crash("a-2")
    assert one.availability() == 0.5
    assert (await one.list_slots()) == (await other.list_slots())
    with anyio.fail_after(5):
        assert (await anext(changes)).slot == "a-2"
    (tmp_path / "box.json").unlink()
    with pytest.raises(SandboxGone, match="cannot be read"):
        await FakeSandbox.connect(one.ref)
    with pytest.raises(SandboxGone):
        await one.list_slots()


async def test_what_does_not_exist_is_named_with_what_does(box: FakeSandbox) -> None:
    with pytest.raises(UsageError, match=r"no slot 'api-9'\n.*api-1, api-2"):
        await box.processes.status("api-9")
    with pytest.raises(UsageError, match="no link 'x->y'"):
        await box.links.toxics("x->y")
    with pytest.raises(UsageError, match="no service 'web'"):
        await box.hands.scale("web", 2, by="lead")
    with pytest.raises(UsageError, match="api-store"):
        FakeSandbox({"api": 1, "store": 1}, ["api-store"])
    box.crash("api-1")
    with pytest.raises(SandboxError, match="nobody fills api-1"):
        await box.cpu.burn("api-1", "tag", workers=1)
    assert (await box.run_step(StartSlot("api-9"))).outcome is Outcome.NOTHING


DEEDS = st.lists(
    st.tuples(
        st.sampled_from(["crash", "start", "restart", "stop", "hold", "latency", "burn", "wait"]),
        st.integers(1, 3),
    ),
    max_size=20,
)


async def do(box: FakeSandbox, clock: FakeClock, deeds: list[tuple[str, int]]) -> None:
    for deed, number in deeds:
        slot = f"api-{number}"
        match deed:
            case "crash":
                box.crash(slot)
            case "start":
                box.start(slot)
            case "restart":
                await box.hands.restart(slot, by="on-call")
            case "stop":
                await box.hands.stop(slot, by="on-call")
            case "hold":
                await box.holds.hold(slot, "tag", uptime=0.5)
            case "latency":
                toxic = Toxic("latency", f"tag-{number}", {"delay": 1.0})
                await box.links.add(f"gateway-1->{slot}", toxic)
            case "burn" if (await box.processes.status(slot)).process is not None:
                await box.cpu.burn(slot, f"burn-{number}", workers=2)
        clock.advance(number / 3)


@settings(max_examples=50, deadline=None)
@given(deeds=DEEDS)
async def test_the_same_deeds_have_the_same_history(deeds: list[tuple[str, int]]) -> None:
    """Deterministic; the whole cluster survives JSON; its history is in order."""
    states = []
    for _ in range(2):
        box = FakeSandbox(
            {"gateway": 1, "api": 3}, ["gateway->api"], clock=(clock := FakeClock(5.0))
        )
        await do(box, clock, deeds)
        states.append(msgspec.json.encode(box.state))
        assert 0.0 <= box.availability() <= 1.0
        healthy = [slot.health == "healthy" for slot in await box.list_slots()]
        assert healthy == [box.serves(slot.name) for slot in await box.list_slots()]
        at = [change.at for change in box.history]
        assert at == sorted(at)
    assert states[0] == states[1]
    assert msgspec.json.encode(msgspec.json.decode(states[0], type=type(box.state))) == states[0]


@settings(max_examples=50, deadline=None)
@given(deeds=DEEDS)
async def test_a_pause_survives_whatever_happens_meanwhile(deeds: list[tuple[str, int]]) -> None:
    """Whatever people and accidents do between inject and undo, no undo fails."""
    box = FakeSandbox({"gateway": 1, "api": 3}, ["gateway->api"], clock=(clock := FakeClock(5.0)))
    for kind in ("process.pause", "cpu.burn", "memory.hog", "disk.fill"):
        fault = fault_class(kind).of({"target": {"slot": "api-2"}})
        box.start("api-2")
        (injection,) = await fault.plan(box, Random(7))
        await fault.inject(box, injection)
        await do(box, clock, deeds)
        for step in injection.undo:
            assert (await box.run_step(step)).outcome is not Outcome.FAILED
        assert not (await fault.look(box, injection)).in_force
        await box.run_step(RemoveToxic("gateway-1->api-2", "tag-2"))
        for slot in await box.list_slots():
            box.state.slots[slot.name].holds.clear()
