"""What a drill came to, in the terminal: the findings first, then where the rest is."""

from __future__ import annotations

import os
from pathlib import Path

from rich.console import Console
from rich.table import Table
from rich.text import Text

from gameday.drills.conclusion import Conclusion
from gameday.drills.folder import DrillFolder
from gameday.injectors.errors import UndoFailed
from gameday.scoring.events import why_not_started
from gameday.scoring.render.figures import timing
from gameday.scoring.score import Incident, State, Verdict

__all__ = ["show_verdict"]

_VERDICTS = {
    Verdict.SUPPORTED: ("✓", "green"),
    Verdict.REFUTED: ("✗", "red"),
    Verdict.INCONCLUSIVE: ("?", "yellow"),
}
_TIMINGS = {
    "time_to_detect": "detect",
    "time_to_acknowledge": "acknowledge",
    "time_to_identify": "identify",
    "time_to_mitigate": "mitigate",
    "time_to_restore": "restore",
    "time_to_all_clear": "all-clear",
}
_ENDED = {
    0: "Every hypothesis is supported.",
    1: "A hypothesis is refuted.",
    3: "Inconclusive: the drill cannot say.",
    4: "The drill was aborted; everything was put back.",
    5: "Something could not be put back.",
    70: "Gameday itself failed; everything was put back.",
}


def show_verdict(found: Conclusion, folder: DrillFolder, width: int) -> None:
    """Print hypotheses, timings, and the paths of the debrief."""
    console = Console(width=width, highlight=False)
    score = found.score
    console.print()
    console.print(Text(_headline(found), style="bold"))
    table = Table.grid(padding=(0, 1))
    table.add_column(width=1)
    table.add_column(ratio=1)
    for hypothesis in score.hypotheses:
        sign, style = _VERDICTS[hypothesis.verdict]
        claim = Text(hypothesis.claim)
        claim.append(f"\n{hypothesis.verdict.value}: {hypothesis.evidence}", style="dim")
        table.add_row(Text(sign, style=f"bold {style}"), claim)
    console.print(table)
    for incident in score.incidents:
        _show_incident(console, incident, len(score.incidents))
    for undone in score.injections:
        if undone.how == "failed":
            line = f"Not put back: {undone.fault} on {undone.target}. {undone.detail}"
            console.print(Text(line, style="bold red"))
    for left in found.outstanding:
        console.print(Text(f"Not put back: {left}", style="bold red"))
    if score.exit_code == UndoFailed.exit_code:
        console.print(Text(f"`gameday recover {folder.id}` tries again.", style="bold red"))
    for note in found.notes:
        console.print(Text(note, style="dim"))
    console.print()
    console.print(Text(f"Debrief  {_short(folder.debrief('html'))}"))
    console.print(Text(f"         {_short(folder.debrief('md'))}", style="dim"))


def _headline(found: Conclusion) -> str:
    score = found.score
    if score.exit_code == 3 and why_not_started(found.events):
        return "The drill did not begin: the sandbox did not start."
    if score.ended == "died" and score.exit_code == 70:
        return "The drill's runner died; everything was put back, and the record goes as far as it got."
    if score.exit_code == 0 and not score.hypotheses:
        return "The drill is over. It had no hypothesis to judge."
    return _ENDED.get(score.exit_code, f"Ended: {score.ended}.")


def _show_incident(console: Console, incident: Incident, incidents: int) -> None:
    table = Table.grid(padding=(0, 2))
    for key, name in _TIMINGS.items():
        found = incident.timings.get(key)
        if found is not None and found.state is not State.NOT_APPLICABLE:
            source = f"by {found.source}" if found.source else ""
            table.add_row(f"  time to {name}", Text(timing(found)), Text(source, style="dim"))
    if table.row_count:
        console.print()
        if incidents > 1:
            console.print(Text(f"Incident {incident.number}"))
        console.print(table)


def _short(path: Path) -> str:
    """The path as people would type it from here."""
    relative = os.path.relpath(path)
    return relative if not relative.startswith("..") else str(path)
