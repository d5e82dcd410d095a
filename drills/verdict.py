"""What a drill came to, in the terminal: the findings first, then where the rest is."""

from __future__ import annotations

import os
from pathlib import Path

from gameday.drills.conclusion import Conclusion
from gameday.drills.folder import DrillFolder
from gameday.drills.paper import Paper
from gameday.drills.printable import printable
from gameday.drills.undo_log import read_undo_log
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
    6: "The drill was refused; nothing was started.",
    70: "Gameday itself failed; everything was put back.",
}


def show_verdict(found: Conclusion, folder: DrillFolder, width: int) -> None:
    """Print hypotheses, timings, and the paths of the debrief."""
    paper = Paper(width)
    score = found.score
    paper.write()
    paper.write(_headline(found), "bold")
    for hypothesis in score.hypotheses:
        sign, style = _VERDICTS[hypothesis.verdict]
        sign = paper.style(sign, f"bold {style}") + " "
        paper.write(hypothesis.claim, indent=2, sign=sign)
        paper.write(f"{hypothesis.verdict.value}: {hypothesis.evidence}", "dim", indent=2)
    for incident in score.incidents:
        _show_incident(paper, incident, len(score.incidents))
    for undone in score.injections:
        if undone.how == "failed":
            line = f"Not put back: {undone.fault} on {undone.target}. {undone.detail}"
            paper.write(line, "bold red")
    for left in found.outstanding:
        paper.write(f"Not put back: {left}", "bold red")
    if score.exit_code == UndoFailed.exit_code:
        again = read_undo_log(folder.undo, folder.recovery).outstanding
        tries = f"`gameday recover {folder.id}` tries again."
        gone = (
            "Its sandbox was taken down, and what was broken with it: nothing is left to put back."
        )
        paper.write(tries if again else gone, "bold red")
    for note in found.notes:
        paper.write(note, "dim")
    if found.unwritten is not None:
        return  # whoever calls says why there is none
    paper.write()
    paper.write(_short(folder.debrief("html")), indent=9, sign="Debrief  ")
    paper.write(_short(folder.debrief("md")), "dim", indent=9)


def _headline(found: Conclusion) -> str:
    score = found.score
    if score.exit_code == 3 and why_not_started(found.events):
        return "The drill did not begin: the sandbox did not start."
    if score.ended == "died" and score.exit_code == 70:
        return "The drill's runner died; everything was put back, and the record goes as far as it got."
    if score.exit_code == 0 and not score.hypotheses:
        return "The drill is over. It had no hypothesis to judge."
    return _ENDED.get(score.exit_code, f"Ended: {score.ended}.")


def _show_incident(paper: Paper, incident: Incident, incidents: int) -> None:
    rows = []
    for key, name in _TIMINGS.items():
        found = incident.timings.get(key)
        if found is not None and found.state is not State.NOT_APPLICABLE:
            source = printable(f"by {found.source}") if found.source else ""
            rows.append((f"time to {name}", timing(found), source))
    if not rows:
        return
    paper.write()
    if incidents > 1:
        paper.write(f"Incident {incident.number}")
    names, figures = (max(len(row[column]) for row in rows) for column in (0, 1))
    for name, figure, source in rows:
        line = f"  {name:<{names}}  {figure:<{figures}}  {paper.style(source, 'dim')}"
        print(line.rstrip())


def _short(path: Path) -> str:
    """The path as people would type it from here."""
    relative = os.path.relpath(path)
    return relative if not relative.startswith("..") else str(path)
