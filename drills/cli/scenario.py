"""Scenario files: validate, catalog, init, schema."""

from __future__ import annotations

import shlex
import sys
from pathlib import Path

import click

from gameday.drills.cli import completing
from gameday.drills.printable import printable, show_text
from gameday.injectors.errors import ScenarioError

__all__ = ["catalog", "init", "schema", "validate"]


@click.command()
@click.argument("files", nargs=-1, required=True, shell_complete=completing.scenarios)
@click.option("-q", "--quiet", is_flag=True, help="Say nothing of files that are fine.")
def validate(files: tuple[str, ...], quiet: bool) -> None:
    """Check scenario FILES (or shipped scenarios, by name); nothing is started."""
    from gameday.scenarios.catalog import find_scenario
    from gameday.scenarios.load import load_scenario

    failed = False
    for name in files:
        try:
            loaded = load_scenario(find_scenario(name, Path.cwd()))
        except ScenarioError as error:
            click.echo(printable(str(error), "\n"), err=True)
            failed = True
        else:
            if not quiet:
                scenario = loaded.scenario
                found = (
                    f"{name}: fine ({_count(len(scenario.hypotheses), 'hypothesis', 'hypotheses')}, "
                    f"{_count(len(scenario.faults), 'fault')}, "
                    f"{_count(len(scenario.alerts), 'alert')})"
                )
                click.echo(printable(found))
    if failed:
        sys.exit(2)


def _count(number: int, one: str, many: str = "") -> str:
    return f"{number} {one if number == 1 else many or one + 's'}"


@click.command()
@click.argument("name", required=False, shell_complete=completing.scenarios)
@click.option("--source", is_flag=True, help="Print the scenario file itself.")
@click.option("--json", "as_json", is_flag=True, help="For machines.")
def catalog(name: str | None, source: bool, as_json: bool) -> None:
    """List the shipped scenarios, or show the one called NAME."""
    from gameday.scenarios.catalog import catalogue, find_scenario

    if name is None:
        entries = catalogue()
        if as_json:
            import msgspec

            rows = [
                {
                    "name": e.name,
                    "title": e.title,
                    "severity": e.severity,
                    "objectives": list(e.objectives),
                }
                for e in entries
            ]
            click.echo(msgspec.json.format(msgspec.json.encode(rows), indent=2).decode())
            return
        width = max(len(entry.name) for entry in entries)
        for entry in entries:
            click.echo(printable(f"{entry.name:<{width}}  {entry.severity}  {entry.title}"))
        click.echo("\ngameday catalog NAME shows one; gameday run NAME runs it.")
        return
    path = find_scenario(name, Path.cwd())
    if source:
        show_text(path.read_text(encoding="utf-8"))
        return
    from gameday.drills.showing import show_scenario
    from gameday.scenarios.load import load_scenario

    show_scenario(load_scenario(path))


@click.command()
@click.argument("folder", default=".", type=click.Path(file_okay=False, path_type=Path))
@click.option("--name", default="first", show_default=True, help="The scenario's name.")
def init(folder: Path, name: str) -> None:
    """Write a first scenario, with a sandbox of your own, into FOLDER."""
    from gameday.scenarios.first import write_first_scenario

    written = write_first_scenario(folder, name)
    for path in written:
        click.echo(printable(f"wrote {path}"))
    click.echo(printable(f"\nNext: gameday run {shlex.quote(str(written[0]))}", "\n"))


@click.command()
def schema() -> None:
    """Print the JSON Schema of the scenario file, for editors."""
    import json

    from gameday.scenarios.schema import scenario_schema

    click.echo(json.dumps(scenario_schema(), indent=2, ensure_ascii=False))
