"""What a channel carries, and what a channel is."""

from __future__ import annotations

from typing import Protocol

import msgspec

__all__ = ["MARK", "Channel", "ChannelError", "Message", "plain_text"]

MARK = "EXERCISE"
"""Stands at the head of everything that leaves a drill."""


class Message(msgspec.Struct, frozen=True):
    """A page, its end, or a report.

    It says what a responder needs in the first five seconds: what broke, the
    impact, where to verify, what to try first and whom to call. It does not say
    what the drill is about.

    Attributes:
        status: ``firing``, ``resolved`` or ``report``.
        key: The page's id; the same for firing and resolved.
        at: Unix time.
        value: The measured value that fired it.
    """

    status: str
    key: str
    title: str
    drill: str
    at: float
    tier: str = ""
    severity: str = ""
    value: str = ""
    summary: str = ""
    impact: str = ""
    verify: str = ""
    first_step: str = ""
    escalate: str = ""
    runbook: str = ""


class ChannelError(Exception):
    """A channel did not take a message.

    Args:
        retry: Whether trying again may help. Whether it is tried is not the channel's business.
        arrived: Whether it may have arrived all the same, so that its end must be told, too.
        bug: What the channel raised that it should not have.
    """

    def __init__(
        self, message: str, *, retry: bool, arrived: bool = True, bug: Exception | None = None
    ) -> None:
        super().__init__(message)
        self.retry = retry
        self.arrived = arrived
        self.bug = bug


class Channel(Protocol):
    """One way to reach people. One file each; no retries, no queues, no policy."""

    name: str

    async def send(self, message: Message) -> None:
        """Return when the message was accepted.

        Raises:
            ChannelError: if it was not.
        """
        ...


def plain_text(message: Message) -> str:
    """The message as people read it in a terminal, a mail or a file."""
    match message.status:
        case "resolved":
            return f"[{MARK} ENDED] {message.title} is resolved. {message.summary}".rstrip()
        case "report":
            return f"[{MARK}] {message.title}: {message.summary}"
    head = f"[{MARK}] {message.tier.upper()} {message.title}"
    lines = [f"{head} ({message.value})" if message.value else head]
    for label, text in (
        ("What broke", message.summary),
        ("Impact", message.impact),
        ("Verify", message.verify),
        ("Try first", message.first_step),
        ("Call", message.escalate),
        ("Runbook", message.runbook),
    ):
        if text:
            lines.append(f"  {label:<10} {' '.join(text.split())}")
    return "\n".join(lines)
