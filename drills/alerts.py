"""The alerts of a drill: each page is armed, sent, and resolved when it is over or at the end.

A page is a side effect too: its undo (resolve it, everywhere) is on disk before
anybody is told.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import anyio
import msgspec

from gameday.drills.errands import Errands
from gameday.drills.ports import Emit, Pages, UndoBook
from gameday.injectors.undo import Armed, Outcome, ResolvePage, SandboxRef, Undone
from gameday.scenarios.model import AlertRule
from gameday.scoring import events

__all__ = ["RESOLVE_LIMIT", "Alerts"]

RESOLVE_LIMIT = 12.0
"""Seconds for telling every channel that a page is over; after that it stays outstanding."""


class _Page(msgspec.Struct):
    """A page that fires. ``fired``: it is armed and journalled, or never will be."""

    rule: AlertRule
    armed: bool = False
    told: bool = False
    fired: anyio.Event = msgspec.field(default_factory=anyio.Event)


class Alerts:
    """Fires alerts, and knows which pages are open.

    Args:
        pages: What tells people.
        undo: Where each page's undo is armed.
        sandbox: What the pages are about.
        emit: Takes what happens.
        now: Seconds since the drill's start.
        errands: Where it is done, beside the rest.
    """

    def __init__(
        self,
        pages: Pages,
        undo: UndoBook,
        sandbox: SandboxRef,
        *,
        emit: Emit,
        now: Callable[[], float],
        errands: Errands,
    ) -> None:
        self._pages = pages
        self._undo = undo
        self._sandbox = sandbox
        self._emit = emit
        self._now = now
        self._errands = errands
        self._open: dict[str, _Page] = {}
        self._count = 0

    @property
    def open(self) -> tuple[str, ...]:
        """The pages that may have been sent and are not resolved, oldest first."""
        return tuple(self._open)

    def fire(self, rule: AlertRule, source: str, since: float, value: str) -> None:
        """Page for ``rule``, beside the rest. The arguments are those of `AlertFired`."""
        if not self._errands.open:
            return
        self._count += 1
        page = f"{rule.name}-{self._count}"
        # Known at once: what clears while the page is being armed resolves this very page.
        self._open[page] = _Page(rule)
        fired = events.AlertFired(
            at=self._now(),
            page=page,
            alert=rule.name,
            tier=rule.tier,
            source=source,
            summary=rule.summary,
            since=since,
            value=value,
        )
        self._errands.start("alert", self._fire, fired)

    def clear(self, rule: AlertRule) -> None:
        """Monitoring sees that it is over: resolve the pages of ``rule``, beside the rest."""
        for page, entry in list(self._open.items()):
            if entry.rule is rule and not entry.told:
                self._errands.start("alert", self._resolve, page, "monitoring")

    async def resolve_all(self) -> None:
        """Resolve every page that is open. Never raises."""
        async with anyio.create_task_group() as together:
            for page in reversed(self.open):
                resolve = partial(self._resolve, page, "gameday")
                together.start_soon(self._errands.carry, "alert", resolve)
        self._open.clear()  # what is not resolved by now is in the undo log

    async def _fire(self, fired: events.AlertFired) -> None:
        entry = self._open[fired.page]
        try:
            await self._arm(fired, entry)
        finally:
            if not entry.armed:
                self._open.pop(fired.page, None)
            entry.fired.set()
        await self._pages.fire(fired.page, entry.rule, fired.value, self._emit)

    async def _arm(self, fired: events.AlertFired, entry: _Page) -> None:
        step = ResolvePage(page=fired.page, alert=fired.alert, channels=self._pages.channels)
        record = Armed(
            id=fired.page,
            what=f"the alert {fired.alert}",
            sandbox=self._sandbox,
            steps=(step,),
        )
        with anyio.CancelScope(shield=True):
            await self._undo.arm(record)
            if not self._errands.open:
                await self._undo.undone(Undone(fired.page, Outcome.NOTHING, "never sent"))
                return
            entry.armed = True
            self._emit(fired)

    async def _resolve(self, page: str, by: str) -> None:
        """Tell every channel that it is over; what did not take it is told again at the end."""
        entry = self._open.get(page)
        if entry is None:
            return
        await entry.fired.wait()
        if not entry.armed:
            return
        if not entry.told:
            entry.told = True
            self._emit(events.AlertResolved(at=self._now(), page=page, by=by))
        result = Undone(page, Outcome.FAILED, f"not resolved within {RESOLVE_LIMIT:g} s")
        with anyio.move_on_after(RESOLVE_LIMIT):
            result = await self._pages.resolve(page, entry.rule, by)
        if result.outcome is Outcome.FAILED:
            what = f"{entry.rule.name} is not resolved everywhere: {result.detail}"
            self._emit(events.Problem(at=self._now(), where="channel", what=what))
        else:
            self._open.pop(page, None)
        with anyio.CancelScope(shield=True):
            await self._undo.undone(result)
