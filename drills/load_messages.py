"""What the runner and the load's process say to each other, as JSON lines."""

from __future__ import annotations

import msgspec

__all__ = ["Bucket", "Order"]


class Order(msgspec.Struct, frozen=True):
    """What load to offer: the one line that the process reads.

    Attributes:
        journey: Its name, for people.
        locustfile: Path of an ordinary locustfile.
        user: Name of one of its user classes, in any case; empty: all of them.
        host: ``http://127.0.0.1:20311``.
        users: How many at once.
        spawn_rate: Users started in each second.
    """

    journey: str
    locustfile: str
    user: str
    host: str
    users: int
    spawn_rate: float


class Bucket(msgspec.Struct):
    """What one endpoint met in 100 ms from ``start`` (CLOCK_MONOTONIC, seconds).

    ``latency`` counts by upper bound in ms; ``errors`` holds the first message of each new error.
    """

    start: float
    endpoint: str
    ok: int = 0
    failed: int = 0
    latency: dict[str, int] = {}
    errors: dict[str, str] = {}
