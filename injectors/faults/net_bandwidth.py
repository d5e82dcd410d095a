"""``net.bandwidth``: a link gets narrow."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from gameday.injectors.fault import BitsPerSecond, within
from gameday.injectors.link_fault import LinkFault
from gameday.injectors.units import show_rate


class NetBandwidth(LinkFault, kind="net.bandwidth", toxic="bandwidth"):
    """Let only so much data cross a link each second, in each direction."""

    rate: Annotated[
        BitsPerSecond,
        within(1e3, 1e10, show_rate),
        Field(description="How much may cross, 1kbit/s to 10Gbit/s."),
    ]
