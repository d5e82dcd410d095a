"""Probes: samples of each SLI at a fixed rate, whatever the answers take.

Open loop: each sample has its place in a schedule that was fixed beforehand, and
is sent then, whether or not the ones before it were answered. A slow service
cannot slow down those who measure it.
"""

from __future__ import annotations

from collections.abc import Callable
from itertools import count

import anyio

from gameday.drills.http import HttpFailure, request, short_error
from gameday.injectors.errors import UsageError
from gameday.injectors.sandbox.base import Sandbox
from gameday.scenarios.model import Sli
from gameday.scoring.events import Sample

__all__ = ["Addresses", "Probe"]

_FORGOTTEN = 1.0
"""Seconds of lateness after which a sample is not sent any more."""


class Addresses:
    """Where services are reached: the first slot of each that is not drained.

    Args:
        box: The sandbox.
        entry: The service that users reach; the first that listens, if it is empty.
    """

    def __init__(self, box: Sandbox, entry: str) -> None:
        self.box = box
        self.entry = entry
        self._found: dict[str, tuple[str, int]] = {}

    async def refresh(self) -> None:
        """Look again where the services are. A slot keeps its address over restarts."""
        for slot in reversed(await self.box.list_slots()):
            if slot.address and not (slot.drained and slot.service in self._found):
                self._found[slot.service] = _split(slot.address)

    def of(self, service: str | None) -> tuple[str, int]:
        """Host and port of a service; of the entry, if None.

        Raises:
            UsageError: if the service listens nowhere.
        """
        name = service or self.entry or next(iter(self._found), "")
        if name not in self._found:
            raise UsageError(
                f"the service {name!r} listens nowhere, so it cannot be probed",
                hint=f"Probe one of: {', '.join(sorted(self._found))}."
                if self._found
                else "Nothing in the sandbox has an address; name one: `address: 127.0.0.1:8080`.",
            )
        return self._found[name]


def _split(address: str) -> tuple[str, int]:
    host, _, port = address.rpartition(":")
    if not 0 < int(port) < 65536:
        raise UsageError(
            f"{address!r} is no address: its port is not between 1 and 65535",
            hint="Write it as host:port.",
        )
    return host.strip("[]"), int(port)


class Probe:
    """Takes the samples of one SLI.

    Args:
        name: The SLI's name.
        sli: What to do, how often, and what counts as good.
        addresses: Where the services are.
        now: Seconds since the drill's start.

    Raises:
        UsageError: if the service listens nowhere, or the address is none.
    """

    def __init__(self, name: str, sli: Sli, addresses: Addresses, now: Callable[[], float]) -> None:
        self.name = name
        self.sli = sli
        self.now = now
        self._host, self._port = (
            addresses.of(sli.service) if sli.address is None else _split(sli.address)
        )

    async def run(self, emit: Callable[[Sample], None], *, samples: int | None = None) -> None:
        """Sample on schedule until cancelled, or until ``samples`` were taken and answered."""
        start = self.now()
        async with anyio.create_task_group() as flights:
            for number in count() if samples is None else range(samples):
                due = start + number * self.sli.every
                await anyio.sleep(max(0.0, due - self.now()))
                if self.now() - due > max(_FORGOTTEN, self.sli.every):
                    self._pass_over(due, emit)
                else:
                    flights.start_soon(self._take, due, emit)

    def _pass_over(self, due: float, emit: Callable[[Sample], None]) -> None:
        """A sample so late that it is void (this host slept): asking now would only be a flood."""
        now = self.now()
        emit(
            Sample(at=now, sli=self.name, due=due, sent=now, done=now, good=False, error="not-sent")
        )

    async def _take(self, due: float, emit: Callable[[Sample], None]) -> None:
        sent = self.now()
        status, error, since = 0, "", 0.0
        try:
            status, at = await self._ask()
            since = anyio.current_time() - at
        except HttpFailure as failure:
            error = failure.kind
        done = max(sent, self.now() - since)
        values = {"latency": done - sent} | ({"status": float(status)} if status else {})
        good = not error and self.sli.condition.evaluate(values)
        emit(
            Sample(
                at=done,
                sli=self.name,
                due=due,
                sent=sent,
                done=done,
                good=good,
                status=status,
                error=error,
            )
        )

    async def _ask(self) -> tuple[int, float]:
        """The answer's status, and when it had come."""
        host, port = self._host, self._port
        if self.sli.probe == "http":
            answer = await request("GET", host, port, self.sli.path, timeout=self.sli.timeout)
            return answer.status, answer.at
        try:
            with anyio.fail_after(self.sli.timeout):
                async with await anyio.connect_tcp(host, port):
                    return 200, anyio.current_time()
        except (OSError, TimeoutError) as error:
            raise HttpFailure(short_error(error), str(error)) from error
