"""What is left of drills: list, debrief, recover."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING

import click

from gameday.drills.cli import completing
from gameday.drills.printable import printable
from gameday.injectors.errors import GamedayError, UsageError
from gameday.injectors.reading import UNREADABLE

if TYPE_CHECKING:
    from gameday.drills.folder import DrillFolder

__all__ = ["debrief", "list_", "recover"]


@click.command("list")
@click.option("--json", "as_json", is_flag=True, help="For machines.")
def list_(as_json: bool) -> None:
    """List the drills that were run here, newest first."""
    from gameday.drills.folder import find_root, list_drills
    from gameday.drills.state import running_drills

    running = {drill.id for drill in running_drills()}
    rows = [_row(folder, folder.id in running) for folder in list_drills(find_root(Path.cwd()))]
    if as_json:
        import msgspec

        click.echo(msgspec.json.format(msgspec.json.encode(rows), indent=2).decode())
        return
    if not rows:
        click.echo("No drill was run here. `gameday run api-node-failure` runs one.")
    for row in rows:
        click.echo(printable(f"{row['id']}  {row['outcome']:<12}  {row['scenario']}"))


def _row(folder: DrillFolder, runs: bool) -> dict[str, str]:
    """A running drill is not named: fixers see the list."""
    if runs:
        return {"id": folder.id, "outcome": "running", "scenario": ""}
    import msgspec

    try:
        found = msgspec.json.decode(folder.debrief("json").read_bytes())["drill"]
    except (OSError, *UNREADABLE, KeyError, TypeError):
        return {"id": folder.id, "outcome": "no debrief", "scenario": ""}
    return {
        "id": folder.id,
        "outcome": f"exit {found.get('exit_code', '?')}",
        "scenario": str(found.get("scenario", "")),
    }


@click.command()
@click.argument("drill", default="latest", shell_complete=completing.drills)
@click.option(
    "--format",
    "form",
    type=click.Choice(["md", "html", "json", "junit"]),
    help="Print it in this form instead of naming the files.",
)
@click.option("--names", is_flag=True, help="Show people's names, not roles.")
def debrief(drill: str, form: str | None, names: bool) -> None:
    """Write the debrief of DRILL again, from its files: an id, a part of one, or `latest`."""
    from gameday.drills.conclusion import conclude, render
    from gameday.drills.folder import DrillFolder
    from gameday.drills.state import running_drills

    folder = DrillFolder.open(drill, Path.cwd())
    if any(each.id == folder.id for each in running_drills()):
        raise UsageError(
            f"the drill {folder.id} is still running",
            hint="Its debrief comes with its end; `gameday status` shows what is known.",
        )
    found = conclude(folder, names=names)
    if form is None:
        from gameday.drills.verdict import show_verdict

        show_verdict(found, folder, 100)
    elif found.unwritten is not None:
        click.echo(render(found, form, names=names), nl=False)
    else:
        path = folder.junit if form == "junit" else folder.debrief(form)
        click.echo(path.read_text(encoding="utf-8"), nl=False)
    if found.unwritten is not None:
        raise found.unwritten


@click.command()
@click.argument("drill", required=False, shell_complete=completing.drills)
def recover(drill: str | None) -> None:
    """Put back what an interrupted drill left: DRILL, or every one on this machine."""
    import anyio

    from gameday.drills.folder import DrillFolder
    from gameday.drills.state import end_stopped_watchdogs, outstanding_drills, without_record
    from gameday.injectors.errors import UndoFailed

    end_stopped_watchdogs()
    lost = list(without_record())
    for line in lost:
        click.echo(printable(f"gameday: {line}"), err=True)
    found = [each.where for each in outstanding_drills()]
    if drill is not None:
        known = [folder for folder in found if drill in folder.id]
        found = known or [DrillFolder.open(drill, Path.cwd())]
    if not found:
        click.echo("Nothing else is outstanding." if lost else "Nothing is outstanding.")
    code = UndoFailed.exit_code if lost else 0
    for folder in found:
        try:
            anyio.run(_recover, folder)
        except GamedayError as error:
            click.echo(printable(f"gameday: {error}", "\n"), err=True)
            code = max(code, error.exit_code)
    sys.exit(code)


async def _recover(folder: DrillFolder) -> None:
    from gameday.drills import state
    from gameday.drills.channels import forget_book
    from gameday.drills.recover import check_recovered, recover
    from gameday.drills.undo_log import read_undo_log

    if note := read_undo_log(folder.undo, folder.recovery).note:
        click.echo(note)
    done = await recover(folder, by="recover", wait=5.0)
    for undone in done:
        text = f"{undone.id}: {undone.outcome.value} {undone.detail}".rstrip()
        click.echo(printable(text, "\n"))
    check_recovered(folder)
    state.forget(folder.id)
    forget_book(folder.path)
    click.echo(f"{folder.id}: nothing is outstanding.")
