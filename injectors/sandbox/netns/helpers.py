"""Starts the helpers of faults, finds them by their tag, and ends them."""

from __future__ import annotations

import os
import select
import signal
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence

import msgspec

from gameday.injectors.errors import SandboxError, Unsupported
from gameday.injectors.sandbox import process
from gameday.injectors.sandbox.base import Toxic
from gameday.injectors.sandbox.netns.inside import PATH, Inside
from gameday.injectors.sandbox.netns.order import Order
from gameday.injectors.undo import ProcessId

__all__ = ["end", "find", "start"]

_MODULE = "gameday.injectors.sandbox.netns.queue"
_READY_WITHIN, _GO_WITHIN, _KILLED_WITHIN = 15.0, 1.0, 2.0


def start(
    inside: Inside, toxic: Toxic, owners: Sequence[ProcessId], environment: Mapping[str, str]
) -> int | None:
    """Start the helper of a fault; the number of the packet queue that it serves, None if it is a proxy.

    It is nobody's child, so that it outlives whoever starts it until its owners are gone.

    Raises:
        Unsupported: if the kernel gives it neither.
        SandboxError: if it does not come up.
    """
    order = Order(toxic.kind, toxic.tag, dict(toxic.parameters), inside.who, tuple(owners))
    command = [sys.executable, "-P", "-m", _MODULE, msgspec.json.encode(order).decode()]
    with inside.opened() as fd:
        starter = subprocess.Popen(
            [*inside.entering(fd), "setsid", "--fork", *command],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            pass_fds=(fd,),
            cwd="/",
            env={**_environment(toxic.tag), **environment},
        )
    try:
        said = _first_line(starter)
    finally:
        starter.wait()
    words = said.split()
    if len(words) == 2 and words[0] == "queue":
        return int(words[1])
    if words == ["tunnel"]:
        return None
    end(toxic.tag)
    if "packet queue" in said:
        raise Unsupported(said.strip())
    raise SandboxError(f"the helper for {toxic.kind} did not come up: {said.strip() or 'no word'}")


def find(tag: str) -> tuple[ProcessId, ...]:
    """The helpers that carry this tag and run."""
    return process.find_by_environment("GAMEDAY_HELPER", tag)


def end(tag: str) -> bool:
    """End those that carry this tag: asked first, so that what they hold goes on; False if there were none.

    Raises:
        SandboxError: if one cannot be ended.
    """
    there = False
    for number, within in ((signal.SIGTERM, _GO_WITHIN), (signal.SIGKILL, _KILLED_WITHIN)):
        deadline = time.monotonic() + within
        while found := find(tag):  # one may be in the midst of being started
            there = True
            for helper in found:
                process.signal_process(helper, number)
            process.wait_gone(found, min(0.2, within))
            if time.monotonic() > deadline:
                break
        else:
            return there
    raise SandboxError(f"the helper with the tag {tag} does not end")


def _environment(tag: str) -> dict[str, str]:
    kept = {name: os.environ[name] for name in ("PYTHONPATH",) if name in os.environ}
    return kept | {"PATH": PATH, "GAMEDAY_HELPER": tag}


def _first_line(starter: subprocess.Popen[bytes]) -> str:
    """What the helper said first; all that it said, if that was no queue."""
    pipe = starter.stdout
    assert pipe is not None
    deadline, said = time.monotonic() + _READY_WITHIN, b""
    with pipe:
        while not (said.startswith((b"queue ", b"tunnel")) and said.endswith(b"\n")):
            left = deadline - time.monotonic()
            if left <= 0 or not select.select([pipe], [], [], left)[0]:
                break
            piece = os.read(pipe.fileno(), 4096)
            if not piece:
                break
            said += piece
    return said.decode(errors="replace")
