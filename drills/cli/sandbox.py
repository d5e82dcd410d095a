"""``gameday sandbox``: the fixers' hands. They work during a drill, from another terminal."""

from __future__ import annotations

import signal
import sys
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click

from gameday.drills.printable import printable
from gameday.injectors.errors import UsageError

if TYPE_CHECKING:
    from gameday.injectors.sandbox.base import Sandbox
    from gameday.injectors.undo import StepResult

__all__ = ["sandbox"]

T = TypeVar("T")


def chosen(command: Callable[..., None]) -> Callable[..., None]:
    """Options of every command that acts on a sandbox."""
    for option in (
        click.option("--sandbox", "name", metavar="NAME", help="Which one, if several stand."),
        click.option("--drill", metavar="ID", help="The sandbox of this running drill."),
        click.option("--role", default="fixer", show_default=True, help="Who does it."),
    ):
        command = option(command)
    return command


def _with(options: dict[str, Any], act: Callable[[Any], Awaitable[T]]) -> T:
    """Connect to the sandbox that is meant, act, and let go of it."""
    import anyio

    from gameday.drills.sandboxes import find_sandbox
    from gameday.injectors.sandbox.kinds import connect

    ref = find_sandbox(options["name"], options["drill"])

    async def run() -> T:
        box = await connect(ref)
        try:
            return await act(box)
        finally:
            await box.aclose()

    return anyio.run(run)


@click.group()
def sandbox() -> None:
    """Look at the sandbox and repair it; every change is recorded with its time and role."""


@sandbox.command()
@click.argument("declaration", default="shop")
@click.option(
    "--kind",
    type=click.Choice(["local", "docker"]),
    default="local",
    show_default=True,
    help="Of processes, or of containers.",
)
@click.option("-d", "--detach", is_flag=True, help="Leave it standing; `sandbox down` ends it.")
@click.option("--logs", type=click.Path(file_okay=False, path_type=Path), help="Folder of logs.")
def up(declaration: str, kind: str, detach: bool, logs: Path | None) -> None:
    """Bring up DECLARATION: a YAML file, a Compose file, or a shipped application (shop)."""
    import anyio

    async def bring_up() -> Any:
        from gameday.drills.briefing import slot_table
        from gameday.drills.productions import standing

        box, log_dir = await standing.bring_up(kind, declaration, logs, detach=detach)
        _print(slot_table(await box.list_slots()))
        click.echo(printable(f"\nLogs: {log_dir}", "\n"))
        return box

    box = anyio.run(bring_up)
    if detach:
        click.echo("It stands until `gameday sandbox down`.")
        return
    click.echo("It stands until you press Ctrl-C.")
    signal.sigwait({signal.SIGINT, signal.SIGTERM, signal.SIGHUP})
    from gameday.injectors.undo import TearDown

    anyio.run(box.run_step, TearDown(box.ref.options["tag"]))


def _print(table: object) -> None:
    from gameday.drills.printer import Printer

    Printer(highlight=False, width=None if sys.stdout.isatty() else 120).print(table)


@sandbox.command()
@chosen
def down(**options: Any) -> None:
    """End a sandbox and all of its processes."""
    from gameday.drills.sandboxes import find_sandbox
    from gameday.drills.state import running_drills
    from gameday.injectors.undo import TearDown

    ref = find_sandbox(options["name"], options["drill"])
    if any(drill.sandbox == ref for drill in running_drills()):
        raise UsageError(
            "this sandbox is that of a running drill", hint="`gameday abort` ends the drill."
        )
    if ref.options.get("brought up") == "no":
        raise UsageError(
            f"{ref.address} was not brought up by `gameday sandbox up`, so it is not ours to end",
            hint=f"docker compose --project-name {ref.address} down",
        )
    _with(options, lambda box: box.run_step(TearDown(ref.options["tag"])))
    click.echo("It is down.")


@sandbox.command()
@click.option("--json", "as_json", is_flag=True, help="For machines.")
@chosen
def ps(as_json: bool, **options: Any) -> None:
    """Show every slot: who fills it, its health, its address."""
    slots = _with(options, lambda box: box.list_slots())
    if as_json:
        import msgspec

        click.echo(msgspec.json.format(msgspec.json.encode(slots), indent=2).decode())
        return
    from gameday.drills.briefing import slot_table

    _print(slot_table(slots))


@sandbox.command()
@click.argument("slot")
@click.option(
    "-n",
    "--lines",
    type=click.IntRange(0),
    default=20,
    show_default=True,
    help="How many of the last lines.",
)
@click.option("-f", "--follow", is_flag=True, help="Go on as lines come in.")
@chosen
def logs(slot: str, lines: int, follow: bool, **options: Any) -> None:
    """Print what SLOT's processes wrote."""

    async def act(box: Any) -> None:
        async for data in box.hands.logs(slot, lines=lines, follow=follow):
            _write(data)

    _with(options, act)


def _write(data: bytes) -> None:
    """As it is into a file or a pipe; what drives a terminal is left out for one."""
    if sys.stdout.isatty():
        data = printable(data.decode("utf-8", "replace"), "\n\t").encode()
    sys.stdout.buffer.write(data)
    sys.stdout.buffer.flush()


@sandbox.command()
@click.argument("slots", nargs=-1, required=True)
@chosen
def restart(slots: tuple[str, ...], **options: Any) -> None:
    """Stop the processes of SLOTS and start new ones."""

    async def act(box: Any) -> None:
        for slot in slots:
            await box.hands.restart(slot, by=options["role"])
            click.echo(printable(f"{slot} was restarted."))

    _with(options, act)


@sandbox.command()
@click.argument("slot")
@chosen
def stop(slot: str, **options: Any) -> None:
    """Stop SLOT's process and leave it stopped."""
    _with(options, lambda box: box.hands.stop(slot, by=options["role"]))
    click.echo(printable(f"{slot} is stopped."))


@sandbox.command()
@click.argument("service")
@click.argument("replicas", type=click.IntRange(0, 100))
@chosen
def scale(service: str, replicas: int, **options: Any) -> None:
    """Have REPLICAS of SERVICE."""
    _with(options, lambda box: box.hands.scale(service, replicas, by=options["role"]))
    click.echo(printable(f"{service} has {replicas} replicas."))


@sandbox.command()
@click.argument("slot")
@click.option("--back", is_flag=True, help="Put it in again.")
@chosen
def drain(slot: str, back: bool, **options: Any) -> None:
    """Take SLOT out of every link that leads to it; it goes on running."""
    _with(options, lambda box: box.hands.drain(slot, by=options["role"], back=back))
    click.echo(printable(f"{slot} is {'back in' if back else 'drained'}."))


@sandbox.command("exec", context_settings={"ignore_unknown_options": True})
@click.argument("slot")
@click.argument("command", nargs=-1, required=True, type=click.UNPROCESSED)
@chosen
def execute(slot: str, command: tuple[str, ...], **options: Any) -> None:
    """Run COMMAND with SLOT's environment and folder: exec api-2 -- curl -s http://…"""
    stdio = (0, 1, 2)
    code = _with(
        options,
        lambda box: box.hands.execute(slot, command, by=options["role"], stdio=stdio),
    )
    sys.exit(code)


async def _clear(box: Sandbox, target: str, tag: str) -> StepResult:
    from gameday.injectors.undo import ClearHold, Outcome, RemoveToxic

    if "->" in target or "packets" in box.parts:
        result = await box.run_step(RemoveToxic(target, tag))
        if "->" in target or result.outcome is not Outcome.NOTHING:
            return result
    return await box.run_step(ClearHold(target, tag))


@sandbox.command()
@click.argument("target")
@click.argument("tag")
@chosen
def clear(target: str, tag: str, **options: Any) -> None:
    """Take the fault TAG off a link or a slot, by hand: what the undo of a drill does by itself."""
    result = _with(options, lambda box: _clear(box, target, tag))
    click.echo(printable(f"{target}: {result.outcome.value} {result.detail}".rstrip()))
