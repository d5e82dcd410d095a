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
SEND_LIMIT = 10.0
"""Seconds for one try."""


async def deliver(
    message: Message,
    channels: Sequence[Channel],
    accepted: Callable[[str], None],
    failed: Callable[[str, ChannelError], None],
) -> None:
    """Send to every channel; ``accepted(name)`` or ``failed(name, error)`` is called for each.

    A slow channel never holds up another.
    """
    async with anyio.create_task_group() as together:
        for channel in channels:
            together.start_soon(_try, message, channel, accepted, failed)


async def _try(
    message: Message,
    channel: Channel,
    accepted: Callable[[str], None],
    failed: Callable[[str, ChannelError], None],
) -> None:
    arrived = False
    for attempt in range(TRIES):
        error = await _send(message, channel)
        if error is None:
            accepted(channel.name)
            return
        arrived = error.arrived = arrived or error.arrived
        if not error.retry or attempt == TRIES - 1:
            failed(channel.name, error)
            return
        await anyio.sleep(PAUSES[attempt])


async def _send(message: Message, channel: Channel) -> ChannelError | None:
    """Try once; why it was not taken."""
    try:
        with anyio.fail_after(SEND_LIMIT):
            await channel.send(message)
    except ChannelError as error:
        return error
    except TimeoutError:
        return ChannelError(f"it did not answer within {SEND_LIMIT:g} s", retry=True)
    except Exception as error:
        # A bug of one channel must not keep the others from being told.
        return ChannelError(f"{type(error).__name__}: {error}", retry=False, bug=error)
    return None
