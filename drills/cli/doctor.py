"""``gameday doctor``."""

from __future__ import annotations

import sys
from collections.abc import Iterable

import click

from gameday.drills.machine import Fact
from gameday.drills.printable import printable

__all__ = ["doctor"]


@click.command()
@click.option("--json", "as_json", is_flag=True, help="For machines.")
def doctor(as_json: bool) -> None:
    """Say what this machine can and cannot do, and why. Nothing is changed.

    Exit code: 0, or 3 if the local sandbox lacks something here; Docker may be missing.
    """
    from gameday.drills import machine

    found, kinds = list(machine.facts()), list(machine.faults())
    docker = list(machine.docker_faults())
    if as_json:
        import msgspec

        document = {"machine": found, "faults": kinds, "docker": docker}
        click.echo(msgspec.json.format(msgspec.json.encode(document), indent=2).decode())
    else:
        click.echo("This machine")
        _show(found)
        click.echo("\nFaults on a local sandbox")
        _show(kinds)
        click.echo("\nFaults on Docker")
        _show_in_short(docker)
        missing = sum(not fact.fine for fact in (*found, *kinds))
        if any(fact.fine for fact in docker):  # else it is Docker itself that is missing
            missing += sum(not fact.fine for fact in docker)
        click.echo(
            f"\n{'Everything works here.' if not missing else f'{missing} cannot be done here.'}"
        )
    if any(not fact.fine and fact.needed for fact in found):
        sys.exit(3)


def _show(facts: Iterable[Fact]) -> None:
    for fact in facts:
        mark = (
            click.style("yes", fg="green") if fact.fine else click.style("no ", fg="red", bold=True)
        )
        click.echo(f"  {mark}  {fact.name:<18} {printable(fact.found)}")
        if not fact.fine and fact.means:
            click.echo(f"{'':<25} {printable(fact.means)}")


def _show_in_short(facts: Iterable[Fact]) -> None:
    """One line if all is the same, else one for each reason, with what cannot be done for it."""
    able, unable = [], dict[str, list[str]]()
    for fact in facts:
        if fact.fine:
            able.append(fact.name)
        else:
            unable.setdefault(fact.means, []).append(fact.name)
    lines = [Fact(_count(names), False, why, ", ".join(names)) for why, names in unable.items()]
    if not able:
        lines = [Fact("none", False, why) for why in unable]
    elif unable:
        lines.append(Fact(_count(able), True, "all the others"))
    else:
        lines.append(Fact(_count(able), True, "all of them, also those of a local sandbox"))
    _show(lines)


def _count(names: list[str]) -> str:
    return f"{len(names)} kind{'' if len(names) == 1 else 's'}"
