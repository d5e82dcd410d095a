"""The load's own process: Locust, and what it met in buckets of 100 ms on stdout.

Locust patches the standard library (gevent), so it never shares an interpreter
with those who measure. The process ends when its stdin closes, which is when its
runner ends, however that happens.
"""

from __future__ import annotations

import os
import signal
import sys
import time
from io import TextIOWrapper
from typing import Any, BinaryIO

# Locust first: it patches what the modules after it use.
import locust  # noqa: F401  isort: skip
import gevent
import msgspec
from gevent.os import make_nonblocking, nb_read
from locust.env import Environment
from locust.util.load_locustfile import load_locustfile

from gameday.drills.load_messages import Bucket, Order

__all__ = ["BOUNDS", "main"]

WIDTH = 0.1
BOUNDS = (1, 2, 5, 10, 20, 50, 100, 200, 500, 1000, 2000, 5000)
"""Upper bounds of the latency histogram, in ms; beyond the last: ``inf``."""


class _Tally:
    """Counts requests into buckets and writes those that are over."""

    def __init__(self, out: BinaryIO) -> None:
        self.out = out
        self.open: dict[tuple[int, str], Bucket] = {}
        self.seen: set[tuple[str, str]] = set()

    def count(
        self,
        request_type: str,
        name: str,
        response_time: float,
        exception: BaseException | None,
        **_: Any,
    ) -> None:
        number = int(time.monotonic() / WIDTH)
        endpoint = f"{request_type} {name}"
        bucket = self.open.setdefault((number, endpoint), Bucket(number * WIDTH, endpoint))
        if exception is None:
            bucket.ok += 1
        else:
            bucket.failed += 1
            self._remember(bucket, exception)
        bound = next((str(bound) for bound in BOUNDS if response_time <= bound), "inf")
        bucket.latency[bound] = bucket.latency.get(bound, 0) + 1

    def _remember(self, bucket: Bucket, exception: BaseException) -> None:
        kind = type(exception).__name__
        if (bucket.endpoint, kind) not in self.seen:
            self.seen.add((bucket.endpoint, kind))
            bucket.errors[kind] = str(exception)[:300]

    def write(self, *, everything: bool = False) -> None:
        current = int(time.monotonic() / WIDTH)
        done = [key for key in sorted(self.open) if everything or key[0] < current]
        lines = b"".join(msgspec.json.encode(self.open.pop(key)) + b"\n" for key in done)
        if lines:
            self.out.write(lines)
            self.out.flush()


def main() -> None:
    """Offer load until stdin closes."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the runner is told, and tells us
    out = _take_stdout()
    order = msgspec.json.decode(sys.stdin.buffer.readline(), type=Order)
    # The classes are the dict among what it returns, whose place changed between versions.
    parts = load_locustfile(order.locustfile)
    found = next(part for part in parts if isinstance(part, dict))
    chosen = [cls for name, cls in found.items() if order.user.lower() in ("", name.lower())]
    if not chosen:
        names = ", ".join(sorted(found)) or "none"
        raise SystemExit(f"{order.locustfile} has no user class {order.user!r}; it has: {names}")
    environment = Environment(user_classes=chosen, host=order.host, catch_exceptions=True)
    tally = _Tally(out)
    environment.events.request.add_listener(tally.count)
    runner = environment.create_local_runner()
    runner.start(order.users, spawn_rate=order.spawn_rate)
    writer = gevent.spawn(_write_on, tally)
    make_nonblocking(0)
    while nb_read(0, 4096):
        pass
    writer.kill()
    runner.quit()
    tally.write(everything=True)


def _take_stdout() -> BinaryIO:
    """Where the buckets go; what a locustfile prints goes to the log, not among them."""
    out = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)
    if isinstance(
        sys.stdout, TextIOWrapper
    ):  # it was a pipe: what is printed would wait in its buffer
        sys.stdout.reconfigure(line_buffering=True)
    return out


def _write_on(tally: _Tally) -> None:
    while True:
        gevent.sleep(WIDTH)
        tally.write()


if __name__ == "__main__":
    main()
