"""The appendix of the debrief: the whole timeline, and how everything was measured."""

from __future__ import annotations

import math
from collections.abc import Sequence

from gameday.injectors.units import show_duration
from gameday.scoring.case import Case
from gameday.scoring.document import (
    Block,
    Bullets,
    Cell,
    Entry,
    Facts,
    Quote,
    Section,
    table,
)
from gameday.scoring.events import Problem, Suspended
from gameday.scoring.instants import tell_suspend
from gameday.scoring.render import figures
from gameday.scoring.score import SliScore

__all__ = ["appendix"]


def appendix(case: Case, timeline: Sequence[Entry]) -> list[Section]:
    """The last two sections."""
    return [*([_timeline(timeline)] if timeline else []), _measured(case)]


def _timeline(timeline: Sequence[Entry]) -> Section:
    rows: list[tuple[Cell, ...]] = [
        (
            _at(entry),
            figures.utc(entry.wall) if entry.wall else "",
            entry.lane,
            entry.text,
            Quote(entry.quote) if entry.quote else "",
        )
        for entry in timeline
    ]
    shown = table(
        "The whole timeline", ("At", "UTC", "Lane", "What", "In their words"), tuple(rows)
    )
    return Section("timeline", "Appendix: the whole timeline", (shown,))


def _at(entry: Entry) -> str:
    if entry.low is None or entry.high is None or entry.high - entry.low < 0.05:
        return figures.clock(entry.at)
    low, high = math.floor(entry.low * 10) / 10, math.ceil(entry.high * 10) / 10
    return f"{figures.clock(low)}–{figures.clock(high)}"


def _measured(case: Case) -> Section:
    rows: list[tuple[str, Cell]] = [
        (
            "Clock",
            "CLOCK_MONOTONIC of the runner’s host; wall-clock times are for display and in UTC. "
            f"00:00 is the start of the scenario’s clock, {figures.single(case.zero)} after the drill’s.",
        ),
        (
            "Bounds",
            "Every instant is an interval, every duration is computed from intervals: 12.4 s (12.3–12.5) "
            "lies between 12.3 s and 12.5 s. A duration cut short by our own revert is never a number.",
        ),
    ]
    rows += [(f"SLI {sli.name}", _sli(case, sli)) for sli in case.score.slis]
    stabilise = show_duration(case.scenario.stabilise)
    rows.append(
        (
            "Settling",
            f"SLIs must stay inside their bounds for {stabilise} to count; the instant is dated back to "
            "the sample that began it, so our waiting is in no figure.",
        )
    )
    if case.score.counted is not None:
        first, last = case.score.counted
        rows.append(
            (
                "Counted",
                f"from the first inject, {case.clock(first)}, to restored or our own revert, {case.clock(last)}",
            )
        )
    rows.append(("Own share of the CPU", _own_share(case)))
    if case.started is not None:
        rows.append(("Repeat it", f"Gameday {case.started.gameday}, seed {case.started.seed}"))
    if case.started is not None and case.started.host:
        host = ", ".join(f"{key} {value}" for key, value in sorted(case.started.host.items()))
        rows.append(("Host", host))
    blocks: list[Block] = [Facts(tuple(rows))]
    void = _void(case)
    if void:
        blocks.append(Bullets(tuple(void), "What was void, or did not work"))
    return Section("measured", "Appendix: how we measured", tuple(blocks))


def _sli(case: Case, sli: SliScore) -> str:
    declared = case.scenario.slis.get(sli.name)
    every = f", one every {show_duration(declared.every)}" if declared else ""
    void = f", {figures.count(sli.void, 'void sample')}" if sli.void else ""
    return (
        f"{figures.count(sli.samples, 'sample')}{every}, {sli.good:,} good{void}; "
        f"p99 of good samples q = {show_duration(sli.q)}"
    )


def _own_share(case: Case) -> str:
    share = case.score.own_cpu_share
    if share is None:
        return "not known"
    return f"{figures.share(share)} of the CPU time that the host used; it is part of what was disturbed"


def _void(case: Case) -> list[Cell]:
    lines: list[Cell] = [finding.text for finding in case.findings("validity")]
    lines += [f"{case.clock(event.at)}  {tell_suspend(event)}" for event in case.of(Suspended)]
    lines += [
        f"{case.clock(event.at)}  {event.where}: {event.what}" for event in case.of(Problem)[:20]
    ]
    if case.score.ended == "died":
        lines.append("The journal just stops: the runner died, and what came after is not in it.")
    return lines
