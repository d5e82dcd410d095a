"""The network interfaces in a namespace: the user's, and those that faults of ours made."""

from __future__ import annotations

import json
import re
from typing import NamedTuple

from gameday.injectors.sandbox.netns import mark
from gameday.injectors.sandbox.netns.inside import Inside
from gameday.injectors.sandbox.netns.mark import InForce

__all__ = ["Interface", "interfaces_of", "is_ours"]

_OURS = re.compile(r"gd[0-9a-f]{8}[iot]")


def is_ours(name: str) -> bool:
    """Whether an interface of that name is a fault's: for what comes in, goes out, or takes the detour."""
    return _OURS.fullmatch(name) is not None


class Interface(NamedTuple):
    """One interface; ``alias`` is what somebody called it."""

    name: str
    mtu: int
    alias: str

    @property
    def ours(self) -> bool:
        """Whether a fault of ours made it."""
        return is_ours(self.name)

    @property
    def fault(self) -> InForce | None:
        """What its alias says of the fault that made it."""
        return mark.read(self.alias.rpartition("|")[0])

    @property
    def made(self) -> frozenset[str]:
        """Interfaces whose door was made for this device."""
        return frozenset(self.alias.rpartition("|")[2].split(",")) - {""}


def interfaces_of(inside: Inside) -> list[Interface]:
    """All that there are."""
    found = json.loads(inside.run("ip", "-json", "link", "show"))
    return [Interface(one["ifname"], one["mtu"], one.get("ifalias", "")) for one in found]
