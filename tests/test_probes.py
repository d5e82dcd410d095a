"""Probes: on schedule whatever the answers take, on virtual time and on real sockets."""

from __future__ import annotations

from functools import partial

import anyio
import anyio.abc
import pytest
import trio.testing

from gameday.drills.probes import Addresses, Probe
from gameday.injectors.errors import UsageError
from gameday.injectors.sandbox.fake import FakeSandbox
from gameday.scenarios.model import Sli
from gameday.scoring.events import Sample
from gameday.scoring.samples import is_void
from tests.test_http import OK, Talk, answers, deaf, resetting, serve, silent

BEHAVIOURS: dict[str, Talk] = {
    "answers": answers(OK),
    "slow": answers(OK[:10], OK[10:], pause=0.15),
    "failing": answers(b"HTTP/1.1 500 No\r\nContent-Length: 0\r\n\r\n"),
    "silent": silent,
    "deaf": deaf,
    "resets": resetting,
    "garbage": answers(b"\x00\x01\x02\r\n\r\n"),
}


def make(address: str | None, **changes: object) -> tuple[Probe, list[Sample]]:
    sli = Sli.of({"every": "100ms", "timeout": "300ms", "address": address} | changes)
    found = Addresses(FakeSandbox({"web": 1}), "web")
    start = anyio.current_time()
    return Probe("availability", sli, found, lambda: anyio.current_time() - start), []


class Timed(Probe):
    """Answers take as long as they take; nothing is sent, so that virtual time holds."""

    took: float = 0.0

    async def _ask(self) -> tuple[int, float]:
        await anyio.sleep(self.took)
        return 200, anyio.current_time()


@pytest.mark.parametrize("took", [0.0, 0.03, 0.1, 1.7, 45.0])
def test_three_hundred_samples_in_thirty_seconds_and_no_drift(took: float) -> None:
    async def run() -> list[Sample]:
        probe, taken = make("127.0.0.1:1")
        timed = Timed(
            "availability", probe.sli, Addresses(FakeSandbox({"web": 1}), "web"), probe.now
        )
        timed.took = took
        await timed.run(taken.append, samples=300)
        return taken

    clock = trio.testing.MockClock(autojump_threshold=0)
    taken = sorted(
        anyio.run(run, backend="trio", backend_options={"clock": clock}), key=lambda s: s.sent
    )
    assert len(taken) == 300
    for number, sample in enumerate(taken):
        assert sample.due == pytest.approx(number * 0.1, abs=1e-6)
        assert sample.sent == pytest.approx(sample.due, abs=1e-6)
        assert sample.done == pytest.approx(sample.sent + took, abs=1e-6)
    assert taken[-1].due == pytest.approx(29.9, abs=1e-6)


@pytest.mark.parametrize("behaviour", BEHAVIOURS)
def test_on_schedule_against_a_real_server_that(behaviour: str) -> None:
    async def run() -> tuple[Probe, list[Sample]]:
        async with serve(BEHAVIOURS[behaviour]) as port:
            probe, taken = make(f"127.0.0.1:{port}", every="50ms")
            await probe.run(taken.append, samples=12)
        return probe, taken

    probe, taken = anyio.run(run)
    taken.sort(key=lambda s: s.due)
    assert len(taken) == 12
    # The place in the schedule is exact; how late we got to it is the machine's, and recorded.
    for number, sample in enumerate(taken):
        assert sample.due - taken[0].due == pytest.approx(number * 0.05, abs=1e-6)
        assert sample.due <= sample.sent <= sample.done == sample.at
        assert sample.done - sample.sent < 3
    good = {s.good for s in taken if not is_void(s, probe.sli)}
    errors = {s.error for s in taken}
    named = {
        "silent": {"timeout"},
        "deaf": {"closed", "reset"},
        "resets": {"reset"},
        "garbage": {"protocol"},
    }
    assert errors <= named.get(behaviour, {""}) | {"timeout"}
    assert good <= ({True, False} if behaviour in ("answers", "slow") else {False})
    if behaviour == "failing":
        assert {s.status for s in taken} <= {500, 0}


def test_nobody_listens_is_refused_at_once() -> None:
    async def run() -> list[Sample]:
        async with serve(silent) as port:
            pass
        probe, taken = make(f"127.0.0.1:{port}")
        await probe.run(taken.append, samples=3)
        return taken

    assert [(s.good, s.error, s.status) for s in anyio.run(run)] == [(False, "refused", 0)] * 3


def test_a_tcp_probe_only_connects() -> None:
    async def run() -> list[Sample]:
        async with serve(silent) as port:
            probe, taken = make(f"127.0.0.1:{port}", probe="tcp", timeout="5s")
            await probe.run(taken.append, samples=3)
        await probe.run(taken.append, samples=1)
        return taken

    *up, down = anyio.run(run)
    assert all(s.good and s.status == 200 for s in up)
    assert (down.good, down.error) == (False, "refused")


def test_latency_can_be_what_makes_a_sample_bad() -> None:
    async def run() -> list[Sample]:
        async with serve(answers(b"", OK, pause=0.2)) as port:
            probe, taken = make(
                f"127.0.0.1:{port}", good="status < 500 and latency < 100ms", timeout="5s"
            )
            await probe.run(taken.append, samples=2)
        return taken

    assert [(s.good, s.status) for s in anyio.run(run)] == [(False, 200)] * 2


def test_a_loop_that_stood_still_sends_no_flood() -> None:
    """After a suspend of the host what was missed is void, and is not asked any more."""

    async def run() -> list[Sample]:
        probe, taken = make("127.0.0.1:1")
        asked: list[float] = []
        timed = Timed("availability", probe.sli, probe_addresses(), probe.now)
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(partial(timed.run, taken.append, samples=300))
            await anyio.sleep(1.05)
            clock.jump(20.0)
        return taken + [s for s in taken if s.sent in asked]

    def probe_addresses() -> Addresses:
        return Addresses(FakeSandbox({"web": 1}), "web")

    clock = trio.testing.MockClock(autojump_threshold=0)
    taken = anyio.run(run, backend="trio", backend_options={"clock": clock})
    assert len(taken) == 300
    void = [s for s in taken if s.error == "not-sent"]
    assert 180 < len(void) < 200
    assert all(s.sent - s.due > 1.0 for s in void)


def test_addresses_are_those_of_the_first_slot_that_is_not_drained() -> None:
    async def run() -> None:
        box = FakeSandbox({"web": 2})
        found = Addresses(box, "web")
        await found.refresh()
        with pytest.raises(UsageError, match="listens nowhere"):
            found.of("web")  # the fake's slots have no address
        with pytest.raises(UsageError, match="listens nowhere"):
            Probe("x", Sli.of({"service": "web"}), found, anyio.current_time)

    anyio.run(run)


@pytest.mark.parametrize("address", ["localhost:0", "localhost:99999"])
def test_an_impossible_port_is_refused(address: str) -> None:
    with pytest.raises(UsageError, match="no address"):
        Probe(
            "x",
            Sli.of({"address": address}),
            Addresses(FakeSandbox({"w": 1}), "w"),
            float,
        )
