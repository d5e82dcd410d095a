"""The machine-wide stop: a real incident is going on."""

from __future__ import annotations

import getpass
import signal
import time

import click

from gameday.injectors.errors import GamedayError, SandboxError

__all__ = ["stop_all", "unblock"]

_PATIENCE = 30.0


@click.command("stop-all")
@click.argument("why", nargs=-1)
@click.option("--block", is_flag=True, help="Start no new drill until `gameday unblock`.")
def stop_all(why: tuple[str, ...], block: bool) -> None:
    """End every drill of yours on this machine; each puts everything back first. WHY is recorded."""
    from gameday.drills import state
    from gameday.drills.inbox import Entry, say
    from gameday.injectors.sandbox.process import signal_process

    reason = " ".join(why) or "all drills were stopped"
    if block:
        state.stop(reason, getpass.getuser())
    drills = state.running_drills()
    for drill in drills:
        try:
            say(drill.where, Entry(verb="abort", role="facilitator", text=reason))
        except GamedayError:  # nobody can be heard there: its folder is not what it was
            signal_process(drill.runner, signal.SIGTERM)
    deadline = time.monotonic() + _PATIENCE
    while any(drill.runs for drill in drills) and time.monotonic() < deadline:
        time.sleep(0.05)
    left = [drill.id for drill in drills if drill.runs]
    if left:
        raise SandboxError(
            f"still running after {_PATIENCE:g} s: {', '.join(left)}",
            hint="Their watchdogs end them; `gameday recover` says what is outstanding.",
        )
    click.echo(
        f"{len(drills)} drills were stopped." if len(drills) != 1 else "1 drill was stopped."
    )
    if block:
        click.echo("New drills are refused until `gameday unblock`.")


@click.command()
def unblock() -> None:
    """Let drills run again after `stop-all --block`."""
    from gameday.drills import state

    click.echo("Drills may run again." if state.allow() else "Nothing stopped them.")
