"""Which replica gets the next attempt: rotation, health checks and the retry budget."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import Collection
from dataclasses import dataclass
from typing import NoReturn

from gameday.scenarios.shop.endpoints import Endpoint, Finds
from gameday.scenarios.shop.logs import Log
from gameday.scenarios.shop.metrics import Metrics
from gameday.scenarios.shop.upstream import Client

__all__ = ["Balancer", "HealthPolicy", "Replica", "RetryBudget"]


@dataclass(frozen=True, slots=True)
class HealthPolicy:
    """How replicas are checked, and whether it matters.

    Attributes:
        every: Seconds from one check to the next.
        timeout: Seconds that a check may take.
        fall: Failed checks in a row after which a replica counts as down.
        rise: Passed checks in a row after which it counts as up again.
        eject: Take replicas that are down out of rotation; else only report them.
    """

    every: float
    timeout: float
    fall: int
    rise: int
    eject: bool


@dataclass(slots=True)
class Replica:
    """One replica as the gateway sees it. A new one counts as up until checks say otherwise."""

    endpoint: Endpoint
    up: bool = True
    streak: int = 0  # checks in a row that contradict `up`
    problem: str = ""

    def record(self, problem: str, policy: HealthPolicy) -> bool:
        """Take in the result of a check; True if ``up`` changed."""
        self.problem = problem
        passed = not problem
        if passed == self.up:
            self.streak = 0
            return False
        self.streak += 1
        if self.streak < (policy.rise if passed else policy.fall):
            return False
        self.up, self.streak = passed, 0
        return True


class Balancer:
    """Round robin over the replicas of one service."""

    def __init__(
        self, endpoints: Finds, service: str, policy: HealthPolicy, metrics: Metrics, log: Log
    ) -> None:
        self._endpoints = endpoints
        self._service = service
        self._policy = policy
        self._metrics = metrics
        self._log = log
        self._turns = itertools.count()
        self._retry_turns = itertools.count()
        self._replicas: dict[Endpoint, Replica] = {}

    def replicas(self) -> list[Replica]:
        """All replicas that are linked now, whatever their health."""
        current = self._endpoints.of(self._service)
        if current != tuple(self._replicas):
            gone = {one.slot for one in self._replicas} - {one.slot for one in current}
            self._replicas = {one: self._replicas.get(one) or Replica(one) for one in current}
            for slot in gone:
                self._metrics.upstream_up.remove(slot)
                self._metrics.upstream_in_rotation.remove(slot)
            self._publish()
        return list(self._replicas.values())

    def rotation(self) -> list[Replica]:
        """The replicas that get requests. If all of them are down, all do: a check may be wrong."""
        replicas = self.replicas()
        if not self._policy.eject:
            return replicas
        return [one for one in replicas if one.up] or replicas

    def pick(self) -> Replica | None:
        """Whose turn it is; None if there is no replica."""
        rotation = self.rotation()
        return rotation[next(self._turns) % len(rotation)] if rotation else None

    def pick_other(self, tried: Collection[Endpoint]) -> Replica | None:
        """A replica that was not tried yet, for a retry; None if there is none."""
        # Turns of their own: a retry must not make the rotation skip whoever is next.
        others = [one for one in self.rotation() if one.endpoint not in tried]
        return others[next(self._retry_turns) % len(others)] if others else None

    async def watch(self, client: Client) -> NoReturn:
        """Check every replica, for ever."""
        loop = asyncio.get_running_loop()
        due = loop.time()
        while True:
            await asyncio.gather(*(self._check(client, one) for one in self.replicas()))
            due = max(due + self._policy.every, loop.time())
            await asyncio.sleep(due - loop.time())

    async def _check(self, client: Client, replica: Replica) -> None:
        problem = await client.check(replica.endpoint, timeout=self._policy.timeout)
        if replica.record(problem, self._policy):
            self._publish()
            self._report(replica)

    def _report(self, replica: Replica) -> None:
        slot = replica.endpoint.slot
        if replica.up:
            self._log.info("replica is up", upstream=slot)
        else:
            self._log.warning(
                "replica is down",
                upstream=slot,
                problem=replica.problem,
                in_rotation=replica in self.rotation(),
            )

    def _publish(self) -> None:
        rotation = self.rotation()
        for one in self._replicas.values():
            slot = one.endpoint.slot
            self._metrics.upstream_up.labels(slot).set(one.up)
            self._metrics.upstream_in_rotation.labels(slot).set(one in rotation)


class RetryBudget:
    """How many retries may be made, so that they cannot multiply an overload.

    Every request adds ``share`` of a retry, every second adds ``floor`` retries;
    what is not used is kept for ten seconds' worth of the floor.
    """

    def __init__(self, share: float, floor: float, now: float) -> None:
        self._share = share
        self._floor = floor
        self._most = max(10 * floor, 1.0)
        self._left = self._most
        self._at = now

    def request(self, now: float) -> None:
        """A request came in."""
        self._add(self._share + (now - self._at) * self._floor)
        self._at = now

    def take(self) -> bool:
        """Whether a retry may be made now; if so it is paid for."""
        if self._left < 1.0:
            return False
        self._left -= 1.0
        return True

    def _add(self, amount: float) -> None:
        self._left = min(self._left + amount, self._most)
