"""Delivery: to every channel at once, tried again where that may help.

Channels only say what failed; the policy is here, once.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import anyio

from gameday.drills.channels.message import Channel, ChannelError, Message

__all__ = ["deliver"]

TRIES = 3
PAUSES = (0.5, 2.0)


async def deliver(
    message: Message,
    channels: Sequence[Channel],
    accepted: Callable[[str], None],
    failed: Callable[[str, str], None],
) -> None:
    """Send to every channel; ``accepted(name)`` or ``failed(name, why)`` is called for each.

    A slow channel never holds up another.
    """
    async with anyio.create_task_group() as together:
        for channel in channels:
            together.start_soon(_try, message, channel, accepted, failed)


async def _try(
    message: Message,
    channel: Channel,
    accepted: Callable[[str], None],
    failed: Callable[[str, str], None],
) -> None:
    for attempt in range(TRIES):
        try:
            await channel.send(message)
        except ChannelError as error:
            if not error.retry or attempt == TRIES - 1:
                failed(channel.name, str(error))
                return
            await anyio.sleep(PAUSES[attempt])
        else:
            accepted(channel.name)
            return
