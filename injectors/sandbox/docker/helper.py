"""What a fault on a container needs for as long as it is in force: a process that lives beside it.

::

    python -m gameday.injectors.sandbox.docker.helper '{"order": "crash", …}'

It carries the fault's tag in its environment, is ended by that, and ends by itself once
everybody who would end it (the drill's runner and its watchdog) is gone.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path

import msgspec

from gameday.injectors.errors import SandboxError
from gameday.injectors.sandbox import process
from gameday.injectors.sandbox.docker import neighbours
from gameday.injectors.sandbox.owners import Owners
from gameday.injectors.undo import ProcessId

__all__ = ["RESTARTS", "Beat", "Burn", "Crash", "Order", "start_helper"]

RESTARTS = "GAMEDAY_RESTARTS"
"""The variable that names the slot whose container a helper ends and starts."""
_BEAT = 2.0
_SEEN_WITHIN = 2.0
_PROGRAM = "while True: pass"
_children: list[subprocess.Popen[bytes]] = []
"""Helpers that this process started; one that has ended is reaped when the next one starts."""


class _Order(msgspec.Struct, frozen=True, tag_field="order", tag=str.lower):
    pass


class Crash(_Order, frozen=True):
    """Kill a container ``uptime`` seconds after each of its starts, and start it again."""

    container: str
    uptime: float
    where: dict[str, str]


class Burn(_Order, frozen=True):
    """Keep one CPU busy with so many workers, in a control group if there is one for them."""

    cpu: int
    workers: int
    group: str = ""


class Beat(_Order, frozen=True):
    """Tell a helper container that it is needed (`netns.keeper`)."""

    container: str
    where: dict[str, str]


Order = Crash | Burn | Beat


class _Job(msgspec.Struct):
    order: Order
    owners: list[ProcessId]


def start_helper(
    order: Order, owners: Sequence[ProcessId], *, tag: str, slot: str, sandbox: str
) -> ProcessId:
    """Start a helper, and wait until it can be found by its tag.

    Raises:
        SandboxError: if it does not start.
    """
    marks = {"GAMEDAY_HELPER": tag, "GAMEDAY_SLOT": slot, "GAMEDAY_SANDBOX": sandbox}
    marks |= {RESTARTS: slot} if isinstance(order, Crash) else {}
    job = msgspec.json.encode(_Job(order, list(owners))).decode()
    child = subprocess.Popen(
        [sys.executable, "-P", "-m", __name__, job],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        env=os.environ | marks,
        start_new_session=True,
    )
    _children[:] = [other for other in _children if other.poll() is None] + [child]
    deadline = time.monotonic() + _SEEN_WITHIN
    while not process.has_environment(child.pid):
        if child.poll() is not None or time.monotonic() > deadline:
            child.kill()
            raise SandboxError(f"the helper that {slot} needs did not start")
        time.sleep(0.002)
    who = process.process_id(child.pid)
    if who is None:
        raise SandboxError(f"the helper that {slot} needs has ended")
    return who


def _crash(order: Crash, owners: Owners) -> None:
    import docker.errors

    from gameday.injectors.sandbox.docker.engine import open_client

    engine = open_client(order.where, within=10)
    while True:
        owners.wait(order.uptime)
        try:
            engine.kill(order.container, signal="KILL")
        except docker.errors.APIError:
            pass  # it does not run: somebody stopped it, or it ended by itself
        owners.wait(0.05)
        try:
            engine.start(order.container)
        except docker.errors.NotFound:
            return
        except docker.errors.APIError:
            continue


def _beat(order: Beat, owners: Owners) -> None:
    import docker.errors
    import requests.exceptions

    from gameday.injectors.sandbox.docker.engine import open_client

    engine = None
    while True:
        try:
            engine = engine or open_client(order.where, within=10)
            engine.kill(order.container, signal="USR1")
        except docker.errors.NotFound:
            return  # it has ended
        except (docker.errors.DockerException, requests.exceptions.RequestException, OSError):
            pass  # the lease outlasts several of these; one that ends takes its faults along
        owners.wait(_BEAT)


def _burn(order: Burn, owners: Owners) -> None:
    os.sched_setaffinity(0, [order.cpu])
    workers = [
        # Where there are no groups, the kernel shares among sessions: each counts as one.
        subprocess.Popen(
            [sys.executable, "-I", "-S", "-c", _PROGRAM],
            preexec_fn=_end_with_parent,
            start_new_session=True,
        )
        for _ in range(order.workers)
    ]
    if order.group:
        for worker in workers:
            neighbours.join(Path(order.group), worker.pid)
    while all(worker.poll() is None for worker in workers):
        owners.wait(0.5)


def _end_with_parent() -> None:
    import ctypes

    ctypes.CDLL(None).prctl(1, signal.SIGKILL)  # PR_SET_PDEATHSIG


def main() -> None:
    """Carry out the order of the command line."""
    job = msgspec.json.decode(sys.argv[1], type=_Job)
    owners = Owners(job.owners)
    match job.order:
        case Crash():
            _crash(job.order, owners)
        case Burn():
            _burn(job.order, owners)
        case Beat():
            _beat(job.order, owners)


if __name__ == "__main__":
    main()
