"""The machine-wide stop: a real incident is going on."""

from __future__ import annotations

import getpass
import signal
import time
from collections.abc import Sequence
from typing import TYPE_CHECKING

import click

from gameday.injectors.errors import GamedayError, SandboxError

if TYPE_CHECKING:
    from gameday.drills.state import OpenDrill

__all__ = ["stop_all", "unblock"]

_PATIENCE = 30.0
_HEEDED_WITHIN = 2.0
"""A drill that runs on for so long gets a signal, too: perhaps it does not hear what is said."""


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
    for drill in _still_running(drills, _HEEDED_WITHIN):
        signal_process(drill.runner, signal.SIGTERM)
    if left := _still_running(drills, _PATIENCE - _HEEDED_WITHIN):
        raise SandboxError(
            f"still running after {_PATIENCE:g} s: {', '.join(drill.id for drill in left)}",
            hint="They were told, and sent SIGTERM. `kill -9 "
            f"{' '.join(str(drill.runner.pid) for drill in left)}` leaves the rest to their "
            "watchdogs; `gameday recover` says what is outstanding.",
        )
    click.echo(
        f"{len(drills)} drills were stopped." if len(drills) != 1 else "1 drill was stopped."
    )
    if block:
        click.echo("New drills are refused until `gameday unblock`.")


def _still_running(drills: Sequence[OpenDrill], seconds: float) -> list[OpenDrill]:
    """Those that have not ended after so long; at once if all have."""
    deadline = time.monotonic() + seconds
    while (left := [drill for drill in drills if drill.runs]) and time.monotonic() < deadline:
        time.sleep(0.05)
    return left


@click.command()
def unblock() -> None:
    """Let drills run again after `stop-all --block`."""
    from gameday.drills import state

    click.echo("Drills may run again." if state.allow() else "Nothing stopped them.")
