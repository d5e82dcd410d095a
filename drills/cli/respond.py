"""What those who respond to a running drill type: they see only what a fixer may see."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import click

from gameday.drills.printable import printable
from gameday.injectors.errors import UsageError

if TYPE_CHECKING:
    from gameday.drills.folder import DrillFolder
    from gameday.drills.state import OpenDrill

__all__ = [
    "abort",
    "ack",
    "all_clear",
    "declare",
    "hint",
    "identify",
    "mitigate",
    "note",
    "resolve",
    "status",
    "update",
]

_HINT_PATIENCE = 3.0

Command = Callable[..., None]


def speaker(command: Command) -> Command:
    """Options of every command by which somebody speaks."""
    for option in (
        click.option("--drill", metavar="ID", help="Which drill, if several are running."),
        click.option("--role", default="fixer", show_default=True, help="In which role you speak."),
        click.option(
            "--name", envvar="GAMEDAY_NAME", default="", help="Who you are; debriefs show roles."
        ),
    ):
        command = option(command)
    return command


def running(drill: str | None) -> OpenDrill:
    """The drill that is running, wherever it was started on this machine.

    Raises:
        UsageError: if none is, or several are and none is named.
    """
    from gameday.drills.state import running_drills

    found = running_drills()
    if drill is not None:
        found = [each for each in found if each.id == drill or drill in each.id]
    if len(found) == 1:
        return found[0]
    if not found:
        raise UsageError(
            "no drill is running" if drill is None else f"no drill {drill!r} is running",
            hint="`gameday run SCENARIO` starts one; `gameday list` shows those that have ended.",
        )
    raise UsageError(
        f"{len(found)} drills are running",
        hint="Name one: " + ", ".join(f"--drill {each.id}" for each in found),
    )


def _speak(
    verb: str, words: tuple[str, ...], options: dict[str, Any], page: str = ""
) -> DrillFolder:
    from gameday.drills.inbox import Entry, say

    folder = running(options["drill"]).where
    text = " ".join(words)
    entry = Entry(verb=verb, role=options["role"], name=options["name"], text=text, page=page)
    say(folder, entry)
    return folder


def _verb(verb: str, summary: str, done: str, *, needs_words: bool = False) -> click.Command:
    @speaker
    def command(words: tuple[str, ...], **options: Any) -> None:
        _speak(verb, words, options)
        click.echo(done)

    command.__doc__ = summary
    words = click.argument("words", nargs=-1, required=needs_words)
    return click.command(verb)(words(command))


@click.command()
@click.argument("page", required=False, default="")
@speaker
def ack(page: str, **options: Any) -> None:
    """Acknowledge a page: PAGE as it is shown by `status`, or all that fire."""
    from gameday.drills import briefing

    there = briefing.fires(running(options["drill"]).where, page)
    _speak("ack", (), options, page=page)
    which = f"The page {page} does not fire" if page else "No page fires"
    click.echo(
        "Acknowledged." if there else printable(f"{which} now; that you said so is recorded.")
    )


declare = _verb(
    "declare",
    "Declare an incident. Suspicion suffices; a false alarm is never held against anybody.",
    "Declared.",
)
identify = _verb("identify", "Record the diagnosis, as far as it goes.", "Recorded.")
mitigate = _verb(
    "mitigate", "Say that the impact is cut; what was measured stands beside it.", "Recorded."
)
resolve = _verb(
    "resolve",
    "Say that it is fixed. The drill ends once the SLIs agree.",
    "Recorded; the drill ends once the SLIs agree.",
)
all_clear = _verb(
    "all-clear",
    "Say that all is well, also after a false alarm.",
    "Recorded; the drill ends once the SLIs agree.",
)
note = _verb(
    "note", "Record a fact, a guess or a decision, in your WORDS.", "Noted.", needs_words=True
)
update = _verb(
    "update",
    "Record a status update to stakeholders, in your WORDS.",
    "Recorded.",
    needs_words=True,
)


@click.command()
@speaker
def hint(**options: Any) -> None:
    """Ask for a hint. It is recorded that one was asked for, and when."""
    from gameday.drills.journal import read_journal
    from gameday.scoring import events

    folder = running(options["drill"]).where
    asked = sum(
        isinstance(e, events.Noted) and e.kind == "hint"
        for e in read_journal(folder.journal).events
    )
    _speak("hint", (), options)
    deadline = time.monotonic() + _HINT_PATIENCE
    while time.monotonic() < deadline:
        time.sleep(0.1)  # a person waits; nothing else runs here
        given = [
            event.text
            for event in read_journal(folder.journal).events
            if isinstance(event, events.Noted) and event.kind == "hint"
        ]
        if len(given) > asked:
            click.echo(printable(given[-1], "\n"))
            return
    raise UsageError(
        "the drill did not answer", hint="`gameday status` says whether it still runs."
    )


@click.command()
@click.argument("why", nargs=-1)
@speaker
def abort(why: tuple[str, ...], **options: Any) -> None:
    """Stop the running drill. Everything is put back; the record and a debrief remain."""
    _speak("abort", why, options)
    click.echo("The drill stops and puts everything back.")


@click.command()
@click.option("--drill", metavar="ID", help="Which drill, if several are running.")
@click.option("--runbook", is_flag=True, help="Print the runbook, if the drill has one.")
@click.option("--json", "as_json", is_flag=True, help="For machines.")
def status(drill: str | None, runbook: bool, as_json: bool) -> None:
    """What is known of the running drill: alerts, SLIs, services, what was said and done."""
    from gameday.drills import briefing

    opened = running(drill)
    if runbook:
        click.echo(printable(briefing.runbook(opened.where), "\n\t"))
        return
    found = briefing.brief(opened)
    if as_json:
        import msgspec

        click.echo(msgspec.json.format(msgspec.json.encode(found), indent=2).decode())
        return
    briefing.show(found, width=_width())


def _width() -> int:
    try:
        return min(os.get_terminal_size().columns, 120)
    except OSError:
        return 100
