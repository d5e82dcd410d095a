"""Draw the pictures of the README again: ``python docs/pictures.py DRILL [SECONDS]``.

DRILL is the directory of a drill of api-node-failure, run on a quiet machine. The head of its
debrief is photographed in headless Chromium (Debian: ``apt install chromium``), and what its
terminal showed SECONDS after the scenario's clock started is drawn from its journal.
"""

from __future__ import annotations

import io
import re
import subprocess
import sys
from collections.abc import Iterable
from pathlib import Path

from rich.console import Console
from rich.text import Text

from gameday.drills.channels.message import Message, plain_text
from gameday.drills.journal import read_journal
from gameday.drills.live import LiveView
from gameday.scenarios.load import load_text
from gameday.scenarios.model import Scenario
from gameday.scoring.events import AlertFired, Event, Sample

IMAGES = Path(__file__).resolve().parent / "images"
_SIZE = "860,692"  # from the title to the end of the time axis
_TICK = 0.25
_FONTS = "ui-monospace, SFMono-Regular, Menlo, Consolas, 'DejaVu Sans Mono', monospace"


def photograph(page: Path, picture: Path) -> None:
    """The head of a debrief, at twice the resolution."""
    command = ["chromium", "--headless", "--no-sandbox", "--disable-gpu", "--hide-scrollbars"]
    command += ["--force-device-scale-factor=2", f"--window-size={_SIZE}"]
    command += [f"--screenshot={picture}", page.resolve().as_uri()]
    subprocess.run(command, check=True, capture_output=True, timeout=120)


def draw(drill: Path, until: float, picture: Path) -> None:
    """What the live view of a drill showed at one moment, as SVG that asks no other server."""
    text = (drill / "scenario.yaml").read_text(encoding="utf-8")
    scenario = load_text(text, "scenario.yaml").scenario
    console = Console(
        record=True,
        width=88,
        file=io.StringIO(),
        force_terminal=True,
        color_system="truecolor",
        highlight=False,
    )
    console.print(Text(f"$ gameday run {scenario.name}\n", style="bold"))
    view = LiveView(scenario, console)
    _replay(view, read_journal(drill / "journal.jsonl").events, until)
    console.print(view._draw())
    svg = console.export_svg(title=f"gameday run {scenario.name}")
    svg = re.sub(r"@font-face \{.*?\}\s*", "", svg, flags=re.DOTALL)
    picture.write_text(svg.replace("Fira Code, monospace", _FONTS), encoding="utf-8")


def _replay(view: LiveView, events: Iterable[Event], until: float) -> None:
    (sli,) = view.scenario.slis.values()
    samples: list[tuple[float, bool]] = []
    for event in events:
        if view.begun is not None and event.at - view.begun > until:
            return
        if isinstance(event, Sample):
            samples.append((event.done, event.good))
        view.observe(event)
        if isinstance(event, AlertFired):
            view.page(_page(view.scenario, event), "firing")
        while view.now <= event.at:
            view.now += _TICK
            window = [good for done, good in samples if view.now - sli.over <= done <= view.now]
            if len(window) * sli.every >= sli.over / 2:
                for series in view.series.values():
                    series.add(view.now, sum(window) / len(window))


def _page(scenario: Scenario, fired: AlertFired) -> str:
    rule = next(alert for alert in scenario.alerts if alert.name == fired.alert)
    texts = ("summary", "impact", "verify", "first_step", "escalate")
    said = {key: getattr(rule, key) for key in texts} | {"runbook": rule.runbook or ""}
    message = Message(
        "firing", fired.page, rule.name, "", 0.0, tier=rule.tier, value=fired.value, **said
    )
    return plain_text(message)


def main(arguments: list[str]) -> None:
    """Draw both pictures."""
    drill = Path(arguments[0])
    photograph(drill / "debrief.html", IMAGES / "debrief.png")
    draw(drill, float(arguments[1]) if len(arguments) > 1 else 14.9, IMAGES / "drill.svg")


if __name__ == "__main__":
    main(sys.argv[1:])
