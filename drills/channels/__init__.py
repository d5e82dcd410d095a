"""How people are told: one file for each channel, the policy of delivery beside them.

The watchdog imports this to resolve what a dead runner left firing, so it stays
small: a channel is imported when it is used.
"""

from __future__ import annotations

import time
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec

from gameday.drills.durable import write_private
from gameday.injectors.errors import SandboxError
from gameday.injectors.reading import UNREADABLE
from gameday.injectors.undo import Armed, Outcome, ResolvePage, StepResult

if TYPE_CHECKING:
    from gameday.drills.channels.message import Channel

__all__ = ["Book", "close_book", "forget_book", "read_book", "resolve_page", "write_book"]


class Book(msgspec.Struct):
    """What it takes to resolve the drill's pages from another process (``pages.json``)."""

    drill: str
    file: str = ""
    webhook: str = ""


def write_book(folder: Path, book: Book) -> None:
    """Keep the channels of a drill until it is closed: for us alone, as a webhook may be a secret."""
    write_private(folder / "pages.json", msgspec.json.encode(book))


def read_book(folder: Path) -> Book | None:
    """The channels of a drill; None if it has not got as far."""
    try:
        return msgspec.json.decode((folder / "pages.json").read_bytes(), type=Book)
    except (OSError, *UNREADABLE):
        return None


def forget_book(folder: Path) -> None:
    """Nothing is left to resolve, so nothing has to know a webhook's secret any more. Never raises."""
    with suppress(OSError):
        (folder / "pages.json").unlink()


def close_book(folder: Path, outstanding: Iterable[Armed]) -> None:
    """Forget the channels of a drill that is over, unless a page of it is not resolved. Never raises.

    Args:
        folder: The drill's.
        outstanding: All that is left to put back.
    """
    if not any(isinstance(step, ResolvePage) for armed in outstanding for step in armed.steps):
        forget_book(folder)


def open_channels(book: Book) -> list[Channel]:
    """The channels that can be reached from any process."""
    from gameday.drills.channels.file import File

    found: list[Channel] = []
    if book.file:
        found.append(File(Path(book.file)))
    if book.webhook:
        from gameday.drills.channels.webhook import Webhook

        found.append(Webhook(book.webhook))
    return found


async def resolve_page(step: ResolvePage, folder: Path) -> StepResult:
    """Tell every channel that took a page that the exercise has ended; harmless to repeat.

    Raises:
        SandboxError: if a channel did not take it.
    """
    from gameday.drills.channels.delivery import deliver
    from gameday.drills.channels.message import Message

    book = read_book(folder)
    if book is None:
        return StepResult(Outcome.NOTHING, "no page was sent")
    message = Message(
        status="resolved",
        key=step.page,
        title=step.alert,
        drill=book.drill,
        at=time.time(),
        summary="The drill has ended.",
    )
    took: list[str] = []
    failures: list[str] = []
    channels = [channel for channel in open_channels(book) if channel.name in step.channels]
    await deliver(
        message, channels, took.append, lambda name, why: failures.append(f"{name}: {why}")
    )
    if failures:
        raise SandboxError(f"the page {step.page} is not resolved: {'; '.join(failures)}")
    return StepResult(Outcome.PUT_BACK, f"resolved on {', '.join(took) or 'no channel'}")
