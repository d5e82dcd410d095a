"""Pages of a running drill: delivered on its channels, and always resolved at the end."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence

import anyio
import msgspec

from gameday.drills.channels.delivery import deliver
from gameday.drills.channels.message import Channel, ChannelError, Message
from gameday.injectors.undo import Outcome, Undone
from gameday.scenarios.model import AlertRule
from gameday.scoring import events

__all__ = ["DrillPages"]

_MOMENT = 3.0
"""Seconds that a page has to go out once it is over already."""


class _Sent(msgspec.Struct):
    """A page that goes out. ``over``: nothing of it is under way any more."""

    taken: set[str]
    scope: anyio.CancelScope = msgspec.field(default_factory=anyio.CancelScope)
    over: anyio.Event = msgspec.field(default_factory=anyio.Event)


class DrillPages:
    """What the runner pages through.

    Args:
        drill: The drill's id, a label on everything that is sent.
        severity: The scenario's.
        channels: Where to send.
        now: Seconds since the drill's start.
        own_fault: Told what a channel raised that it should not have.
    """

    def __init__(
        self,
        drill: str,
        severity: str,
        channels: Sequence[Channel],
        now: Callable[[], float],
        own_fault: Callable[[Exception], None] = lambda error: None,
    ) -> None:
        self.drill = drill
        self.severity = severity
        self._channels = list(channels)
        self._now = now
        self._own_fault = own_fault
        self._sent: dict[str, _Sent] = {}

    @property
    def channels(self) -> tuple[str, ...]:
        """Names of the channels that a page goes to."""
        return tuple(channel.name for channel in self._channels)

    def _message(self, status: str, page: str, rule: AlertRule, value: str = "") -> Message:
        return Message(
            status=status,
            key=page,
            title=rule.name,
            drill=self.drill,
            at=time.time(),
            tier=rule.tier,
            severity=self.severity,
            value=value,
            summary=rule.summary,
            impact=rule.impact,
            verify=rule.verify,
            first_step=rule.first_step,
            escalate=rule.escalate,
            runbook=rule.runbook or "",
        )

    async def fire(
        self, page: str, rule: AlertRule, value: str, emit: Callable[[events.Event], None]
    ) -> None:
        """Deliver the page on every channel, emitting what became of it."""

        def accepted(channel: str) -> None:
            emit(events.AlertDelivered(at=self._now(), page=page, channel=channel))

        def failed(channel: str, error: ChannelError) -> None:
            why = str(error)
            emit(events.AlertFailed(at=self._now(), page=page, channel=channel, error=why))
            self._report_bug(error)
            if not error.arrived:  # whom no page reached, no end needs to be told
                sent.taken.discard(channel)

        # Before the first await: a delivery that is cancelled may have arrived.
        sent = self._sent[page] = _Sent(set(self.channels))
        message = self._message("firing", page, rule, value)
        try:
            with sent.scope:
                await deliver(message, self._channels, accepted, failed)
        finally:
            sent.over.set()

    async def resolve(self, page: str, rule: AlertRule, why: str) -> Undone:
        """Tell every channel that may have taken the page that it is over.

        What is still under way has a moment more, and is given up then: it must not
        arrive after its own end. After a failure it can be called again, and tells those that were not told.
        """
        sent = self._sent.get(page)
        if sent is None:
            return Undone(id=page, outcome=Outcome.NOTHING, detail="no page was sent", by=why)
        with anyio.move_on_after(_MOMENT):
            await sent.over.wait()
        sent.scope.cancel()
        await sent.over.wait()
        failures: list[str] = []

        def failed(channel: str, error: ChannelError) -> None:
            self._report_bug(error)
            failures.append(f"{channel}: {error}")

        await deliver(
            self._message("resolved", page, rule),
            [channel for channel in self._channels if channel.name in sent.taken],
            sent.taken.discard,
            failed,
        )
        outcome = Outcome.FAILED if failures else Outcome.PUT_BACK
        return Undone(id=page, outcome=outcome, detail="; ".join(failures), by=why)

    async def report(self, report: events.Reported) -> None:
        """Pass on what a customer or a stakeholder says."""
        message = Message(
            status="report",
            key=f"report-{report.at:.3f}",
            title=f"A {report.sender} says",
            drill=self.drill,
            at=time.time(),
            summary=report.text,
        )
        await deliver(
            message, self._channels, lambda name: None, lambda name, error: self._report_bug(error)
        )

    def _report_bug(self, error: ChannelError) -> None:
        if error.bug is not None:
            self._own_fault(error.bug)
