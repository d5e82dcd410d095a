"""Whether a target is as it was, and how it is told that it is not."""

from __future__ import annotations

from random import Random

import anyio

from gameday.drills.fingerprint import difference
from gameday.injectors.fault import Injection, SlotTarget
from gameday.injectors.faults.container_remove import ContainerRemove
from gameday.injectors.sandbox.fake import FakeSandbox


def test_of_a_container_that_is_gone_nothing_else_is_told() -> None:
    async def told() -> str:
        box = FakeSandbox({"api": 2})
        before = await box.fingerprint("api-1")
        assert len(before) > 1
        fault = ContainerRemove(target=SlotTarget(slot="api-1"))
        plan: list[Injection] = await fault.plan(box, Random(1))
        await fault.inject(box, plan[0])
        return await difference(box, "api-1", before, lambda: 0.0)

    assert anyio.run(told) == "the container is gone"


def test_what_differs_is_told_by_its_name() -> None:
    async def told(**other: str) -> str:
        box = FakeSandbox({"api": 2})
        before = dict(await box.fingerprint("api-1"))
        return await difference(box, "api-1", before | other, lambda: 0.0)

    assert anyio.run(told) == ""

    async def paused() -> str:
        return await told(state="paused")

    assert anyio.run(paused) == "state was paused, is running"
