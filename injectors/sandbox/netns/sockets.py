"""Open TCP connections in a namespace, and how they are reset."""

from __future__ import annotations

from collections.abc import Sequence

from gameday.injectors.errors import SandboxError
from gameday.injectors.sandbox.netns.inside import Inside

__all__ = ["destroy"]


def destroy(inside: Inside, peers: Sequence[str]) -> None:
    """Reset the open TCP connections with these peers; no peers: all but those on loopback.

    Where the kernel cannot do that, each is reset by its next packet, as new ones are.
    """
    if peers:
        which = " or ".join(f"dst {_written(peer)}" for peer in peers)
    else:
        which = "not dst 127.0.0.0/8 and not dst [::1]"
    try:
        inside.run("ss", "--kill", "--tcp", "--numeric", "state", "connected", f"( {which} )")
    except SandboxError:
        pass


def _written(peer: str) -> str:
    if ":" not in peer:
        return peer
    address, slash, length = peer.partition("/")
    return f"[{address}]{slash}{length}"
