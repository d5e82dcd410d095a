"""What a drill would do, shown before anything is touched."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

import msgspec
from rich.table import Table
from rich.text import Text

from gameday.drills.permission import WORDS
from gameday.drills.planned import Planned
from gameday.drills.printable import printable
from gameday.drills.printer import Printer
from gameday.drills.production import Production
from gameday.injectors.sandbox.kinds import by_hand
from gameday.injectors.undo import RestoreAffinity, RestoreLimit, SandboxRef, SignalProcess, Step
from gameday.injectors.units import show_duration

__all__ = ["plan_json", "show_plan"]

_MADE_UP = frozenset({"process", "tag", "name", "cpus", "limit", "value"})
"""Fields of undo steps that a rehearsal on the fake sandbox invents; the drill finds the real ones."""


def show_plan(
    production: Production,
    planned: Sequence[Planned],
    commands: Sequence[str],
    seed: int,
    same: str,
    width: int,
) -> None:
    """Print who would be hit, by what, when, and how it would be put back.

    Args:
        production: What would be played.
        planned: The injections that it would make.
        commands: What it would run of itself, and only if that is allowed.
        seed: Chose the targets.
        same: The command that plays exactly this.
        width: Columns.
    """
    scenario = production.scenario
    console = Printer(width=width, highlight=False)
    console.print(Text(printable(scenario.title), style="bold"))
    stop = show_duration(scenario.duration)
    console.print(f"Nothing was started. Hard stop after {stop}; seed {seed}.")
    console.print()
    table = Table(box=None, padding=(0, 2), pad_edge=False, header_style="dim")
    for title in ("at", "fault", "target", "how", "put back by"):
        table.add_column(title)
    for each in planned:
        injection = each.injection
        shown = scenario.faults[each.entry].breaks.shown()
        how = ", ".join(f"{key} {value}" for key, value in shown.items())
        ref = production.rehearsal().ref
        undo = "\n".join(_undo(step, ref) for step in injection.undo)
        at = show_duration(each.at)
        table.add_row(
            at,
            Text(printable(injection.fault), style="yellow"),
            *map(_text, (injection.target, how)),
            Text(printable(undo, "\n")),
        )
    for alert in scenario.alerts:
        if alert.at is not None:
            at, undo = show_duration(alert.at), "resolving it on every channel"
            table.add_row(at, Text("alert", style="red"), _text(alert.name), alert.tier, undo)
    for report in scenario.reports:
        table.add_row(
            show_duration(report.at), "report", _text(report.sender), _text(report.text), ""
        )
    if table.row_count:
        console.print(table)
    else:
        console.print("No fault and no alert: a control drill.")
    console.print()
    if commands:
        console.print(Text(f"Commands of its own, which run only with {WORDS}:", style="bold"))
        for command in commands:
            console.print(Text(f"  {printable(command)}"))
        console.print()
    console.print(Text(printable(f"The same drill: {same}")))


def _text(text: str) -> Text:
    """As it stands: neither markup nor what drives a terminal."""
    return Text(printable(text))


def _undo(step: Step, ref: SandboxRef) -> str:
    """The command that undoes it, with a word in capitals for what is not known before the drill."""
    command = by_hand(step, msgspec.structs.replace(ref, address=""))
    if ref.kind != "fake":
        return command
    # The rehearsal makes up pids, tags, CPUs and limits; nobody must type them.
    command = re.sub(r"gameday-plan-\w+", "TAG", command)
    match step:
        case RestoreLimit(slot):
            return f"giving PID of {slot} its limit back"
        case RestoreAffinity(slot):
            return f"taskset -a -cp CPUS PID of {slot}"
        case SignalProcess(slot, process):
            return command.removesuffix(str(process.pid)) + f"PID of {slot}"
    return command


def _known(step: Step, ref: SandboxRef) -> dict[str, Any]:
    found: dict[str, Any] = msgspec.to_builtins(step)
    if ref.kind != "fake":
        return found
    return {key: value for key, value in found.items() if key not in _MADE_UP}


def plan_json(
    production: Production, planned: Sequence[Planned], commands: Sequence[str], seed: int
) -> str:
    """The plan for machines. What is not known before the drill (pids, tags) is left out."""
    ref = production.rehearsal().ref
    found = {
        "scenario": production.scenario.name,
        "seed": seed,
        "duration": production.scenario.duration,
        "commands": commands,
        "injections": [
            {
                "at": each.at,
                "fault": each.injection.fault,
                "target": each.injection.target,
                "parameters": each.injection.parameters,
                "undo": [_known(step, ref) for step in each.injection.undo],
            }
            for each in planned
        ],
    }
    return msgspec.json.format(msgspec.json.encode(found), indent=2).decode()
