"""``gameday run``."""

from __future__ import annotations

import gc
import os
import shlex
import sys
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

import click

from gameday.drills.cli import completing, tell_own_fault, tell_unwritten
from gameday.drills.printable import printable, show_text
from gameday.injectors.errors import StorageError, UsageError

if TYPE_CHECKING:
    from gameday.drills.conclusion import Conclusion
    from gameday.drills.folder import DrillFolder
    from gameday.drills.planned import Planned
    from gameday.drills.production import Production
    from gameday.drills.stage import Options
    from gameday.drills.standby import Standby
    from gameday.drills.view import View

__all__ = ["run"]

_GARBAGE = 50_000
"""Objects between two collections during a drill: so few that none delays a sample."""


def _pairs(option: str, given: Sequence[str]) -> dict[str, str]:
    found = {}
    for text in given:
        name, equals, value = text.partition("=")
        if not equals or not name or not value:
            raise UsageError(f"{option} {text!r} was found", hint=f"Write it as {option} NAME=…")
        found[name] = value
    return found


def _given(option: str, values: Sequence[str]) -> list[str]:
    return [word for value in values for word in (option, value)]


@click.command()
@click.argument("scenario", shell_complete=completing.scenarios)
@click.option("--dry-run", is_flag=True, help="Show who would be hit, by what, and each undo step.")
@click.option("--seed", type=click.IntRange(0), help="Chooses the targets; default: a new one.")
@click.option(
    "--fixers",
    type=click.Choice(["scripted", "people"]),
    help="Who responds; default: scripted where the scenario has a script. People can always join.",
)
@click.option(
    "--blind/--open",
    default=None,
    help="Hide here what is broken and why, for those who respond; default: with --fixers people.",
)
@click.option(
    "--webhook",
    metavar="URL",
    help="Post pages there too, as Alertmanager would. A secret URL is given by @FILE or in "
    "GAMEDAY_WEBHOOK, as others can see a command's arguments.",
)
@click.option(
    "--sandbox",
    type=click.Choice(["local", "docker"]),
    help="Another kind of sandbox than the scenario's, for an application that ships with both.",
)
@click.option(
    "--attach",
    multiple=True,
    metavar="NAME=PROCESS",
    help="Attach to a process: a pid, a program's name or a pattern (sandbox kind attached).",
)
@click.option(
    "--restart", multiple=True, metavar="NAME=COMMAND", help="How an attached process is started."
)
@click.option(
    "--allow-exec",
    is_flag=True,
    help="Let the drill run the commands of its own that --dry-run shows.",
)
@click.option(
    "--stop-file",
    metavar="PATH",
    help="Refuse or end the drill while this file is there: a real incident is going on. Also "
    "GAMEDAY_STOP_FILE.",
)
@click.option(
    "--stop-url",
    metavar="URL",
    help="The same while this URL answers 200 with anything but an empty text, list or object, null, "
    "false or 0, such as Alertmanager's /api/v2/alerts. Also GAMEDAY_STOP_URL.",
)
@click.option("--names", is_flag=True, help="Show people's names in the debrief, not roles.")
@click.option("--json", "as_json", is_flag=True, help="Print the debrief as JSON, nothing else.")
@click.option("-q", "--quiet", is_flag=True, help="Print the verdicts only.")
def run(
    scenario: str,
    dry_run: bool,
    seed: int | None,
    fixers: str | None,
    blind: bool | None,
    webhook: str | None,
    sandbox: str | None,
    attach: tuple[str, ...],
    restart: tuple[str, ...],
    allow_exec: bool,
    stop_file: str | None,
    stop_url: str | None,
    names: bool,
    as_json: bool,
    quiet: bool,
) -> None:
    """Run a drill of SCENARIO: a file, or the name of a shipped one (`gameday catalog`).

    Breaks the sandbox, pages, times what is done, puts everything back, writes the
    debrief. Exit code: 0 every hypothesis supported, 1 one refuted, 2 bad usage or
    scenario, 3 inconclusive, 4 aborted, 5 something could not be put back, 6 refused by
    a safety check, 70 a fault of Gameday's own.
    """
    from gameday.drills.permission import check_permission, commands_of

    webhook = _webhook(webhook)
    processes, restarts = _pairs("--attach", attach), _pairs("--restart", restart)
    seed = int.from_bytes(os.urandom(4), "little") if seed is None else seed
    people = fixers == "people"
    if dry_run:
        production, planned = _plan(scenario, sandbox, processes, restarts, seed)
        options = [*_given("--attach", attach), *_given("--restart", restart)]
        options += _given("--sandbox", [sandbox] if sandbox else [])
        options += ["--allow-exec"] * allow_exec
        same = shlex.join(["gameday", "run", scenario, *options, "--seed", str(seed)])
        commands = commands_of(production.scenario, planned, scripted=not people)
        _show_plan(production, planned, commands, seed, same, as_json=as_json)
        return
    from gameday.drills.standby import Standby

    with Standby.start() as standby:  # first, so that it imports while we do
        production, planned = _plan(scenario, sandbox, processes, restarts, seed)
        commands = commands_of(production.scenario, planned, scripted=not people)
        check_permission(commands, allowed=allow_exec)
        from gameday.drills.stage import Options
        from gameday.drills.stop_signals import StopSignals

        how = Options(
            root=Path.cwd(),
            seed=seed,
            scripted=not people,
            webhook=webhook,
            allow_exec=allow_exec,
            planned=tuple(planned),
            stop=StopSignals.given(stop_file, stop_url, os.environ),
        )
        hidden = people if blind is None else blind
        folder, found, lost = _play(
            production, how, standby, quiet=quiet or as_json, blind=hidden, names=names
        )
    lost = _tell(found, folder, as_json=as_json, names=names) or lost
    code = found.score.exit_code
    if lost is not None:  # the verdict stands all the same, unless a program was to read it
        _say_lost(lost, folder)
        code = code or (StorageError.exit_code if as_json else 0)
    sys.exit(code)


def _webhook(given: str | None) -> str:
    """The URL; no process that we start inherits the variable that may hold it."""
    variable = os.environ.pop("GAMEDAY_WEBHOOK", "")
    if not (given or variable):
        return ""
    from gameday.drills.channels.webhook import read_webhook

    return read_webhook(given or variable)


def _plan(
    scenario: str,
    sandbox: str | None,
    processes: Mapping[str, str],
    restarts: Mapping[str, str],
    seed: int,
) -> tuple[Production, list[Planned]]:
    import anyio

    from gameday.drills.production import plan_drill, produce
    from gameday.scenarios.catalog import find_scenario
    from gameday.scenarios.load import load_scenario

    loaded = load_scenario(find_scenario(scenario, Path.cwd()), sandbox)
    production = produce(loaded, processes, restarts)
    return production, anyio.run(plan_drill, production, seed)


def _play(
    production: Production,
    options: Options,
    standby: Standby,
    *,
    quiet: bool,
    blind: bool,
    names: bool,
) -> tuple[DrillFolder, Conclusion, OSError | None]:
    """Play the drill and write its debrief; only then wait for whoever reads along.

    Comes with why nobody could read along, if so.
    """
    import anyio

    from gameday.drills.conclusion import conclude, prepare
    from gameday.drills.stage import run_drill

    prepare()
    gc.freeze()  # what was imported is no garbage: nothing looks at it again while we measure
    gc.set_threshold(_GARBAGE)
    with _open_view(production, quiet=quiet, blind=blind) as view:
        folder = anyio.run(run_drill, production, options, view, standby)
        found = conclude(folder, names=names)
    return folder, found, view.lost


def _open_view(production: Production, *, quiet: bool, blind: bool) -> View:
    if quiet:
        from gameday.drills.view import View

        return View()
    from gameday.drills.live import open_view

    return open_view(production.scenario, blind=blind)


def _tell(found: Conclusion, folder: DrillFolder, *, as_json: bool, names: bool) -> OSError | None:
    """Print what it came to; why that could not be written, if so."""
    with suppress(OSError):  # then there is nobody to tell what went wrong
        _tell_problems(found, listed=as_json)
    try:
        _tell_result(found, folder, as_json=as_json, names=names)
        sys.stdout.flush()
    except OSError as error:
        return error
    return None


def _tell_problems(found: Conclusion, *, listed: bool) -> None:
    from gameday.scoring.events import Problem, why_not_started

    if why := why_not_started(found.events):
        click.echo(printable(f"gameday: the sandbox did not start: {why}", "\n"), err=True)
    if found.score.ended == "failed":
        problems = [event.what for event in found.events if isinstance(event, Problem)]
        tell_own_fault(problems[0] if problems else "the drill's record does not say what")
    if found.unwritten is not None:
        click.echo(printable(f"gameday: {found.unwritten}", "\n"), err=True)
    for left in found.outstanding if listed else ():
        click.echo(printable(f"Not put back: {left}", "\n"), err=True)


def _tell_result(found: Conclusion, folder: DrillFolder, *, as_json: bool, names: bool) -> None:
    from gameday.drills.conclusion import render
    from gameday.drills.verdict import show_verdict

    if not as_json:
        show_verdict(found, folder, _width())
        return
    if found.unwritten is None:
        show_text(folder.debrief("json").read_text(encoding="utf-8"))
    else:
        show_text(render(found, "json", names=names))


def _say_lost(error: OSError, folder: DrillFolder) -> None:
    """One line, unless the reader went away, as it may; what is still in the buffer goes nowhere."""
    nowhere = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, sys.stdout.fileno())
    os.close(nowhere)
    if not isinstance(error, BrokenPipeError):
        with suppress(OSError):
            tell_unwritten(error, f"; `gameday debrief {folder.id}` shows the result again")


def _show_plan(
    production: Production,
    planned: Sequence[Planned],
    commands: Sequence[str],
    seed: int,
    same: str,
    *,
    as_json: bool,
) -> None:
    from gameday.drills.plan import plan_json, show_plan

    if as_json:
        click.echo(plan_json(production, planned, commands, seed))
    else:
        show_plan(production, planned, commands, seed, same, _width())


def _width() -> int:
    try:
        return min(os.get_terminal_size(sys.stdout.fileno()).columns, 100)
    except (OSError, ValueError):
        return 100
