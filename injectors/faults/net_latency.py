"""``net.latency``: a link gets slow."""

from __future__ import annotations

from typing import Annotated

from msgspec import Meta

from gameday.injectors.fault import Seconds
from gameday.injectors.link_fault import LinkFault
from gameday.injectors.models import Within


class NetLatency(LinkFault, kind="net.latency", toxic="latency"):
    """Delay whatever crosses a link, by a fixed time and a random part; connecting takes no longer."""

    delay: Annotated[
        Seconds,
        Within(0.001, 60),
        Meta(description="How much later it arrives, 1ms to 1m."),
    ]
    jitter: Annotated[
        Seconds,
        Within(0, 60),
        Meta(description="Up to this much more or less, drawn afresh each time, at most 1m."),
    ] = 0.0
