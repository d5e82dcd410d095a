"""``net.latency``: a link gets slow."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from gameday.injectors.fault import Seconds, within
from gameday.injectors.link_fault import LinkFault
from gameday.injectors.units import show_duration


class NetLatency(LinkFault, kind="net.latency", toxic="latency"):
    """Delay whatever crosses a link, by a fixed time and a random part."""

    delay: Annotated[
        Seconds,
        within(0.001, 60, show_duration),
        Field(description="How much later it arrives, 1ms to 1m."),
    ]
    jitter: Annotated[
        Seconds,
        within(0, 60, show_duration),
        Field(
            description="Up to this much more or less, drawn afresh each time, at most 1m.",
            json_schema_extra={"default": "0s"},
        ),
    ] = 0.0
