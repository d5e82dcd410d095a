"""A scenario, shown to whoever chooses one (`gameday catalog NAME`): not to those who respond."""

from __future__ import annotations

from collections.abc import Iterable

import msgspec
from rich.console import Console
from rich.table import Table
from rich.text import Text

from gameday.drills.printable import printable
from gameday.drills.printer import Printer
from gameday.injectors.models import Model, field_types, show_value
from gameday.injectors.units import show_duration
from gameday.scenarios.load import LoadedScenario

__all__ = ["show_scenario"]

_WIDTH = 88


def show_scenario(loaded: LoadedScenario) -> None:
    """Print what a scenario believes, breaks and asks."""
    scenario = loaded.scenario
    console = Printer(highlight=False, width=_WIDTH)
    console.print(Text(printable(scenario.title), style="bold"))
    kind = scenario.incident_type.replace("-", " ")
    stop = show_duration(scenario.duration)
    console.print(Text(f"{scenario.name} · {scenario.severity} · {kind} · hard stop after {stop}"))
    if scenario.description:
        console.print(Text(printable(f"\n{scenario.description.strip()}", "\n")))
    _list(console, "Objectives", scenario.objectives)
    table = Table.grid(padding=(0, 2))
    for hypothesis in scenario.hypotheses:
        table.add_row(
            Text(printable(f"  {hypothesis.expect}"), style="cyan"),
            Text(printable(hypothesis.claim)),
        )
    if scenario.hypotheses:
        console.print("\n[bold]We believe[/]")
        console.print(table)
    _list(console, "What is broken", _faults(loaded))
    _list(console, "Alerts", _alerts(loaded))
    scripted = scenario.fixers.scripted
    if scripted is not None:
        _list(console, "The scripted fixer", scripted.steps)
    _list(console, "Questions for the debrief", scenario.debrief.questions)
    console.print(f"\ngameday run {scenario.name}    gameday catalog {scenario.name} --source")


def _faults(loaded: LoadedScenario) -> list[str]:
    found = []
    for entry in loaded.scenario.faults:
        fault = entry.breaks
        aim: Model = fault.target
        aimed = msgspec.structs.asdict(aim)
        target = " ".join(
            show_value(aimed[field.attribute], field)
            for field in field_types(type(aim)).values()
            if aimed[field.attribute] is not None
        )
        how = ", ".join(f"{key} {value}" for key, value in fault.shown().items())
        found.append(f"{show_duration(entry.at)}: {fault.kind} on {target}{how and f' ({how})'}")
    return found or ["nothing"]


def _alerts(loaded: LoadedScenario) -> list[str]:
    return [
        f"{alert.name} ({alert.tier}): "
        + (str(alert.rule) if alert.rule else f"synthetic, at {show_duration(alert.at or 0.0)}")
        for alert in loaded.scenario.alerts
    ]


def _list(console: Console, title: str, items: Iterable[str]) -> None:
    lines = list(items)
    if not lines:
        return
    console.print(f"\n[bold]{title}[/]")
    table = Table.grid(padding=(0, 1))
    for line in lines:
        table.add_row("  •", Text(printable(line, "\n")))
    console.print(table)
