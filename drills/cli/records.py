"""What is left of drills: list, debrief, recover."""

from __future__ import annotations

import shlex
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import click

from gameday.drills.cli import completing
from gameday.drills.printable import printable, show_text
from gameday.injectors.errors import GamedayError, Refused, UsageError
from gameday.injectors.reading import UNREADABLE

if TYPE_CHECKING:
    from gameday.drills.folder import DrillFolder
    from gameday.drills.state import OpenDrill

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
        show_text(render(found, form, names=names))
    else:
        path = folder.junit if form == "junit" else folder.debrief(form)
        show_text(path.read_text(encoding="utf-8"))
    if found.unwritten is not None:
        raise found.unwritten


@click.command()
@click.argument("drill", required=False, shell_complete=completing.drills)
@click.option(
    "--forget",
    is_flag=True,
    help="Give DRILL up: say what it left, touch nothing, and remind of it no more.",
)
def recover(drill: str | None, forget: bool) -> None:
    """Put back what an interrupted drill left: DRILL, or every one on this machine.

    Exit code: 0, or 5 if something could not be put back, or a drill's folder is away (renamed,
    not mounted): it is put back once the folder is there again.
    """
    import anyio

    from gameday.drills.state import end_stopped_watchdogs

    if forget:
        _forget(drill)
        return
    end_stopped_watchdogs()
    away = list(_away(drill))
    errors = anyio.run(_recover_all, _meant(drill, any_away=bool(away)))
    for error in (*errors, *away):
        click.echo(printable(f"gameday: {error}", "\n"), err=True)
    sys.exit(max((error.exit_code for error in (*errors, *away)), default=0))


def _meant(drill: str | None, *, any_away: bool) -> list[DrillFolder]:
    """The drills to be recovered; none, if the one that is named is away.

    Args:
        any_away: Whether one that is meant is.
    """
    from gameday.drills.folder import DrillFolder
    from gameday.drills.state import outstanding_drills

    found = [each.where for each in outstanding_drills()]
    if drill is None:
        if not found:
            click.echo(f"Nothing {'else ' if any_away else ''}is outstanding.")
        return found
    if known := [folder for folder in found if drill in folder.id]:
        return known
    try:
        return [DrillFolder.open(drill, Path.cwd())]
    except UsageError:
        if not any_away:
            raise
        return []


def _away(drill: str | None) -> Iterator[GamedayError]:
    """What there is to do about drills whose folder is not where it was."""
    from gameday.drills.recover import check_recovered
    from gameday.drills.state import away_drills

    for each in away_drills():
        if drill is None or drill in each.id:
            try:
                check_recovered(each.where)
            except GamedayError as error:
                yield error


async def _recover_all(folders: Sequence[DrillFolder]) -> list[GamedayError]:
    """Recover them side by side, as one whose pages nobody takes must not hold up the others."""
    import anyio

    errors: list[GamedayError] = []

    async def recover_one(folder: DrillFolder) -> None:
        try:
            await _recover(folder)
        except GamedayError as error:
            errors.append(error)

    async with anyio.create_task_group() as together:
        for folder in folders:
            together.start_soon(recover_one, folder)
    return errors


async def _recover(folder: DrillFolder) -> None:
    from gameday.drills import state
    from gameday.drills.recover import check_recovered, recover
    from gameday.drills.undo_log import read_undo_log
    from gameday.injectors.undo import Outcome

    note = read_undo_log(folder.undo, folder.recovery).note
    done = await recover(folder, by="recover", wait=5.0)
    if note:
        click.echo(note)
    for undone in done:
        failed = undone.outcome is Outcome.FAILED  # how it is done by hand is told once, at the end
        detail = undone.detail.partition("; by hand: ")[0] if failed else undone.detail
        text = f"{undone.id}: {undone.outcome.value} {detail}".rstrip()
        click.echo(printable(text, "\n"))
    check_recovered(folder)
    state.forget(folder.id)
    click.echo(printable(f"{folder.id}: nothing is outstanding."))


def _forget(drill: str | None) -> None:
    """Dismiss a drill from what is outstanding, and say what that gives up."""
    from gameday.drills import state
    from gameday.drills.undo_log import read_undo_log
    from gameday.injectors.sandbox.kinds import by_hand

    opened = _to_forget(drill)
    folder = opened.where
    click.echo(f"{opened.id} is given up; nothing was touched.")
    read = read_undo_log(folder.undo, folder.recovery)
    for armed in read.outstanding:
        click.echo(printable(f"Not put back: {armed.what}. By hand:"))
        for step in armed.steps:
            click.echo(printable(f"  {by_hand(step, armed.sandbox)}"))
    for problem in read.problems:
        click.echo(printable(f"Not known: {problem}"))
    place = shlex.quote(opened.folder)
    if folder.away:
        box = f" ({opened.sandbox.identity})" if opened.sandbox is not None else ""
        text = f"Not known: what it left, as {opened.folder} is away. Look at its sandbox{box}."
        click.echo(printable(text))
    else:
        click.echo(printable(f"Its record stays: `gameday recover {place}` would try once more."))
    state.forget(opened.id)


def _to_forget(drill: str | None) -> OpenDrill:
    """The open drill of that id, or part of one.

    Raises:
        UsageError: if it is not one.
        Refused: if somebody is still at it.
    """
    from gameday.drills import state

    known = state.open_drills()
    exact = [each for each in known if each.id == drill]
    found = exact or [each for each in known if drill and drill in each.id]
    if len(found) != 1:
        what = "no drill was named" if drill is None else f"{drill!r} fits {len(found)} open drills"
        ids = ", ".join(each.id for each in known)
        raise UsageError(what, hint=f"Open are: {ids}." if ids else "None is open.")
    (opened,) = found
    if opened.frozen:
        raise Refused(
            f"the drill {opened.id} is frozen, not over",
            hint=f"`gameday recover {opened.id}` ends it and puts everything back.",
        )
    if opened.runs:
        raise Refused(
            f"the drill {opened.id} still runs",
            hint=f"`gameday abort --drill {opened.id}` ends it and puts everything back.",
        )
    if opened.watched:
        raise Refused(
            f"the watchdog of the drill {opened.id} is still at it",
            hint=f"Wait for its end, or `gameday recover {opened.id}`.",
        )
    return opened
