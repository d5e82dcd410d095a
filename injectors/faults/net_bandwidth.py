"""``net.bandwidth``: a link gets narrow."""

from __future__ import annotations

from typing import Annotated

from msgspec import Meta

from gameday.injectors.fault import BitsPerSecond
from gameday.injectors.link_fault import LinkFault
from gameday.injectors.models import Within


class NetBandwidth(LinkFault, kind="net.bandwidth", toxic="bandwidth"):
    """Let only so much data cross a link each second, in each direction."""

    rate: Annotated[
        BitsPerSecond,
        Within(1e3, 1e10),
        Meta(description="How much may cross, 1kbit/s to 10Gbit/s."),
    ]
