"""Ports for slots: chosen at random outside the range that the kernel itself gives out."""

from __future__ import annotations

import errno
import random
import socket
from collections.abc import Collection
from pathlib import Path

from gameday.injectors.errors import SandboxError

__all__ = ["free_port", "is_taken"]

_HOST = "127.0.0.1"
_LOWEST, _HIGHEST = 10_000, 65_535


def _choices() -> range:
    """Below the kernel's ephemeral ports, else above; a port there could go to any outgoing connection."""
    try:
        text = Path("/proc/sys/net/ipv4/ip_local_port_range").read_text()
        low, high = (int(word) for word in text.split())
    except OSError:
        low, high = 32_768, 60_999
    below, above = range(_LOWEST, low), range(high + 1, _HIGHEST + 1)
    return max(below, above, range(20_000, 20_000 + 500), key=len)


def is_taken(port: int) -> bool:
    """Whether somebody else is bound to the port."""
    with socket.socket() as probe:
        try:
            probe.bind((_HOST, port))
        except OSError as error:
            return error.errno == errno.EADDRINUSE
    return False


def free_port(taken: Collection[int]) -> int:
    """A port that nobody is bound to now, and that is not among ``taken``.

    Raises:
        SandboxError: if a hundred tries find none.
    """
    choices = _choices()
    for _ in range(100):
        port = random.choice(choices)  # not the drill's seed: a port is no part of a plan
        if port not in taken and not is_taken(port):
            return port
    raise SandboxError(
        "no free port was found for a replica", hint="See what listens with: ss -ltn"
    )
