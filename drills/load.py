"""Load: synthetic users by Locust, in a process of its own."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import anyio
import anyio.abc
import msgspec
from anyio.streams.buffered import BufferedByteReceiveStream

from gameday.drills.durable import open_append
from gameday.drills.load_messages import Bucket, Order
from gameday.injectors.errors import SandboxError
from gameday.scoring.events import LoadBucket, LoadStarted

__all__ = ["run_load"]


async def run_load(
    order: Order,
    log: Path,
    emit: Callable[[LoadStarted | LoadBucket], None],
    now: Callable[[], float],
    zero: float,
    started: Callable[[int], None],
) -> None:
    """Offer load until cancelled.

    Args:
        log: Where Locust's own messages go.
        zero: CLOCK_MONOTONIC at the start of the drill's axis.
        started: Told the pid of the process, so that the watchdog can end it.

    Raises:
        SandboxError: if the load's process ends by itself, or says what it should not.
    """
    command = [sys.executable, "-m", "gameday.drills.load_worker"]
    with os.fdopen(open_append(log), "ab") as sink:
        process = await anyio.open_process(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=sink
        )
    started(process.pid)
    try:
        await _talk(process, order, emit, now, zero)
    finally:
        if process.returncode is None:
            process.kill()
        with anyio.CancelScope(shield=True):
            await process.aclose()
    raise SandboxError(
        f"the load ended by itself: {_last_line(log)}", hint=f"Its messages are in {log}."
    )


async def _talk(
    process: anyio.abc.Process,
    order: Order,
    emit: Callable[[LoadStarted | LoadBucket], None],
    now: Callable[[], float],
    zero: float,
) -> None:
    assert process.stdin is not None
    assert process.stdout is not None
    try:
        await process.stdin.send(msgspec.json.encode(order) + b"\n")
    except anyio.BrokenResourceError:
        return  # it has ended already; its log says why
    lines = BufferedByteReceiveStream(process.stdout)
    decoder = msgspec.json.Decoder(Bucket)
    first = True
    while True:
        try:
            line = await lines.receive_until(b"\n", 1_000_000)
            bucket = decoder.decode(line)
        except (anyio.EndOfStream, anyio.IncompleteRead):
            return
        except (anyio.DelimiterNotFound, msgspec.DecodeError) as error:
            raise SandboxError(f"the load's process cannot be understood: {error}") from error
        if first:
            emit(LoadStarted(at=now(), journey=order.journey, users=order.users))
            first = False
        emit(
            LoadBucket(
                at=now(),
                start=bucket.start - zero,
                endpoint=bucket.endpoint,
                ok=bucket.ok,
                failed=bucket.failed,
                latency=bucket.latency,
                errors=bucket.errors,
            )
        )


def _last_line(log: Path) -> str:
    lines = log.read_text(errors="replace").strip().splitlines()
    return lines[-1] if lines else "it left no message"
