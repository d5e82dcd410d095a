"""What fixers may know of a running drill: alerts, SLIs, services, what was said and done.

Nothing of the breaker's: neither the scenario, nor the faults, nor the undo log.
"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING

import anyio
import msgspec

from gameday.drills.folder import DrillFolder
from gameday.drills.journal import read_journal
from gameday.drills.printable import printable
from gameday.drills.state import OpenDrill
from gameday.injectors.errors import GamedayError, UsageError
from gameday.injectors.sandbox.base import Slot
from gameday.injectors.units import show_duration
from gameday.scoring import events
from gameday.scoring.render import figures

if TYPE_CHECKING:
    from rich.table import Table

__all__ = ["Briefing", "brief", "fires", "runbook", "show"]

RUNBOOK = "runbook.md"
_WINDOW = 2.0


class Page(msgspec.Struct):
    """A page that fires."""

    page: str
    alert: str
    tier: str
    since: float
    summary: str
    value: str
    acknowledged: bool = False


class Indicator(msgspec.Struct):
    """An SLI as probed: the share of good samples in the last two seconds."""

    name: str
    good: float | None
    inside: bool | None


class Moment(msgspec.Struct):
    """Something that was said, reported or done; ``at`` on the drill's clock."""

    at: float
    who: str
    text: str


class Briefing(msgspec.Struct):
    """The whole picture. Times are seconds on the drill's clock, as in its live view and debrief.

    It is at zero when the sandbox has warmed up; before that, it counts from the start.
    """

    drill: str
    elapsed: float
    pages: list[Page]
    indicators: list[Indicator]
    slots: list[Slot]
    moments: list[Moment]
    has_runbook: bool


def brief(drill: OpenDrill) -> Briefing:
    """Put together what fixers may know right now."""
    folder = drill.where
    found = read_journal(folder.journal).events
    last = found[-1].at if found else 0.0
    begun = (e.at for e in found if isinstance(e, events.PhaseBegan) and e.phase == "running")
    zero = next(begun, 0.0)
    return Briefing(
        drill=folder.id,
        elapsed=last - zero,
        pages=_pages(found, zero),
        indicators=_indicators(found, last),
        slots=anyio.run(_slots, drill),
        moments=list(_moments(found, zero)),
        has_runbook=(folder.path / RUNBOOK).is_file(),
    )


def fires(folder: DrillFolder, page: str) -> bool:
    """Whether that page fires now; any, if ``page`` is empty."""
    return any(page in ("", one.page) for one in _pages(read_journal(folder.journal).events, 0.0))


def runbook(folder: DrillFolder) -> str:
    """The runbook's text.

    Raises:
        UsageError: if the drill has none.
    """
    path: Path = folder.path / RUNBOOK
    if not path.is_file():
        raise UsageError("this drill has no runbook", hint="`gameday hint` asks for a hint.")
    return path.read_text(encoding="utf-8")


async def _slots(drill: OpenDrill) -> list[Slot]:
    from gameday.injectors.sandbox.kinds import connect

    if drill.sandbox is None:
        return []
    try:
        box = await connect(drill.sandbox)
        slots = list(await box.list_slots())
        await box.aclose()
    except GamedayError:
        return []
    return slots


def _pages(found: Iterable[events.Event], zero: float) -> list[Page]:
    firing: dict[str, Page] = {}
    for event in found:
        match event:
            case events.AlertFired():
                since = event.at - zero
                firing[event.page] = Page(
                    event.page, event.alert, event.tier, since, event.summary, event.value
                )
            case events.AlertResolved():
                firing.pop(event.page, None)
            case events.Said(verb="ack"):
                for page in firing.values():
                    page.acknowledged |= event.page in ("", page.page)
    return list(firing.values())


def _indicators(found: tuple[events.Event, ...], now: float) -> list[Indicator]:
    names = dict.fromkeys(event.sli for event in found if isinstance(event, events.Sample))
    inside: dict[str, bool] = {}
    for event in found:
        if isinstance(event, events.SliBroke) and event.bounds == "steady":
            inside[event.sli] = event.inside
    shown = []
    for name in names:
        good = [
            event.good
            for event in found
            if isinstance(event, events.Sample) and event.sli == name and event.done > now - _WINDOW
        ]
        share = sum(good) / len(good) if good else None
        shown.append(Indicator(name, share, inside.get(name)))
    return shown


def _moments(found: Iterable[events.Event], zero: float) -> Iterable[Moment]:
    for event in found:
        match event:
            case events.Said():
                yield Moment(event.at - zero, event.role, f"{event.verb} {event.text}".strip())
            case events.Reported():
                yield Moment(event.at - zero, event.sender, event.text)
            case events.SandboxChanged() if event.by not in ("", "gameday"):
                text = f"{event.action} {event.slot} {event.detail}"
                yield Moment(event.at - zero, event.by, text.strip())


def show(found: Briefing, *, width: int) -> None:
    """Print the briefing."""
    from rich.table import Table
    from rich.text import Text

    from gameday.drills.printer import Printer

    console = Printer(width=width, highlight=False)
    line = Text("EXERCISE ", style="bold yellow")
    line.append(f"drill {found.drill}, {figures.clock(found.elapsed, tenths=False)}")
    console.print(line)
    console.print()
    for page in found.pages:
        state = "acknowledged" if page.acknowledged else "not acknowledged"
        head = Text(printable(f"! {page.alert}"), style="bold red")
        head.append(
            f"  {page.tier}, fires for {show_duration(round(found.elapsed - page.since))}, {state}",
            style="",
        )
        console.print(head)
        console.print(Text(f"  {printable(page.summary)}"))
        if page.value:
            console.print(Text(printable(f"  {page.value} when it fired"), style="dim"))
        console.print(Text(printable(f"  gameday ack {page.page}"), style="dim"))
    if not found.pages:
        console.print("No alert fires.")
    console.print()
    for indicator in found.indicators:
        good = "unknown" if indicator.good is None else f"{figures.share(indicator.good)} good"
        where = {None: "", True: "inside the steady state", False: "outside the steady state"}
        console.print(Text(f"  {indicator.name:<16} {good:>12}  {where[indicator.inside]}"))
    if found.slots:
        console.print()
        console.print(slot_table(found.slots))
    if found.moments:
        console.print()
        table = Table.grid(padding=(0, 2))
        for moment in found.moments[-12:]:
            table.add_row(
                f"  {figures.clock(moment.at)}",
                Text(printable(moment.who)),
                Text(printable(moment.text)),
            )
        console.print(table)
    console.print()
    if found.has_runbook:
        console.print(Text("Runbook: gameday status --runbook", style="dim"))
    console.print(
        Text("Hands: gameday sandbox ps | logs | restart | scale | drain | exec", style="dim")
    )


def slot_table(slots: Iterable[Slot]) -> Table:
    """The slots as a table, as `gameday sandbox ps` shows them."""
    from rich.table import Table
    from rich.text import Text

    table = Table(box=None, padding=(0, 2), pad_edge=False, header_style="dim")
    for title in ("slot", "state", "health", "address", "restarts", "owner", "tier"):
        table.add_column(title, justify="right" if title == "restarts" else "left")
    for slot in slots:
        unwell = slot.state != "running" or slot.health == "unhealthy"
        state = slot.state + (", drained" if slot.drained else "")
        table.add_row(
            Text(printable(slot.name), style="bold red" if unwell else ""),
            Text(state, style="red" if slot.state != "running" else ""),
            Text(slot.health, style="red" if slot.health == "unhealthy" else ""),
            Text(printable(slot.address)),
            str(slot.restarts),
            Text(printable(slot.owner)),
            Text(printable(slot.tier)),
        )
    return table
