"""What the engine acts through: the real ones make a drill, the fake ones a simulation of one."""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

from gameday.injectors.sandbox.base import Sandbox
from gameday.injectors.undo import Armed, Undone
from gameday.scenarios.model import AlertRule
from gameday.scoring import events

__all__ = ["Emit", "Journal", "Pages", "UndoBook"]

Emit = Callable[[events.Event], None]


class Journal(Protocol):
    """Where events go."""

    def append(self, event: events.Event) -> events.Event:
        """Number and stamp the event, and write it (soon)."""
        ...

    async def sync(self) -> None:
        """Return when everything so far is on disk."""
        ...


class UndoBook(Protocol):
    """Where undo steps are armed before anything is changed."""

    async def arm(self, record: Armed) -> None:
        """Return when the record is on disk; raise if it cannot be written."""
        ...

    async def undone(self, record: Undone) -> None:
        """Note that an armed change was undone."""
        ...

    async def undo(self, record: Armed, box: Sandbox) -> Undone:
        """Run the record's steps, with a time limit and retries; never raises for a failed step."""
        ...


class Pages(Protocol):
    """What tells people."""

    @property
    def channels(self) -> tuple[str, ...]:
        """Names of the channels that a page goes to."""
        ...

    async def fire(self, page: str, rule: AlertRule, value: str, emit: Emit) -> None:
        """Deliver the page on every channel, emitting what became of it."""
        ...

    async def resolve(self, page: str, rule: AlertRule, why: str) -> Undone:
        """Tell every channel that took the page that it is over. Never raises for a channel."""
        ...

    async def report(self, report: events.Reported) -> None:
        """Pass on a customer's report or a stakeholder's question."""
        ...
