"""The command ``gameday``.

Every command is a module of its own that is imported when it is called: `gameday
--help` and `gameday --version` import nothing but Click.
"""

from __future__ import annotations

import errno
import gc
import os
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from io import StringIO, TextIOWrapper
from typing import Any, NoReturn

import click

from gameday._version import __version__
from gameday.drills.places import any_open_drill
from gameday.injectors.errors import GamedayError, StorageError

__all__ = ["main", "tell_own_fault", "tell_unwritten"]

REPORT_TO = "https://github.com/gameday-drills/gameday/issues"

_GARBAGE = 500_000
"""Objects between two collections: importing makes many, and none of them is garbage."""

_NOBODY_READS = 141
"""What a shell says of a program that SIGPIPE ended."""

COMMANDS: dict[str, dict[str, tuple[str, str]]] = {
    "Drills": {
        "run": ("run:run", "Run a drill: break, page, time, put back, debrief."),
        "validate": ("scenario:validate", "Check scenario files; says what is wrong and where."),
        "catalog": ("scenario:catalog", "List the shipped scenarios, or show one."),
        "init": ("scenario:init", "Write a first scenario of your own."),
        "schema": ("scenario:schema", "Print the JSON Schema of the scenario file."),
        "doctor": ("doctor:doctor", "Say what this machine can and cannot do, and why."),
    },
    "Afterwards": {
        "list": ("records:list_", "List the drills that were run here."),
        "debrief": ("records:debrief", "Write or print the debrief of a drill again."),
        "recover": ("records:recover", "Put back what an interrupted drill left."),
        "stop-all": ("stop:stop_all", "End every drill on this machine, and block new ones."),
        "unblock": ("stop:unblock", "Let drills run again after `stop-all --block`."),
    },
    "For those who respond to a running drill": {
        "status": ("respond:status", "What is known: alerts, SLIs, what was said and done."),
        "ack": ("respond:ack", "Acknowledge a page."),
        "declare": ("respond:declare", "Declare an incident; suspicion suffices."),
        "identify": ("respond:identify", "Record the diagnosis."),
        "mitigate": ("respond:mitigate", "Say that the impact is cut."),
        "resolve": ("respond:resolve", "Say that it is fixed."),
        "all-clear": ("respond:all_clear", "Say that all is well; also ends a false alarm."),
        "note": ("respond:note", "Record a fact, a guess or a decision."),
        "update": ("respond:update", "Record a status update to stakeholders."),
        "hint": ("respond:hint", "Ask for a hint; it is recorded."),
        "sandbox": ("sandbox:sandbox", "Look at the sandbox and repair it: ps, logs, restart, …"),
        "abort": ("respond:abort", "Stop the drill; everything is put back."),
    },
    "Shell": {
        "completion": ("completion:completion", "Print the shell's completion script."),
    },
}


@contextmanager
def _no_verdict() -> Iterator[None]:
    """End with 141 where nobody reads: click would exit with 1, which says "refuted"."""
    try:
        yield
    except BrokenPipeError:
        raise click.exceptions.Exit(_NOBODY_READS) from None


class _Commands(click.Group):
    """Knows every command's name and summary, and imports a command when it is called."""

    def make_context(
        self,
        info_name: str | None,
        args: list[str],
        parent: click.Context | None = None,
        **extra: Any,
    ) -> click.Context:
        with _no_verdict():
            return super().make_context(info_name, args, parent, **extra)

    def invoke(self, ctx: click.Context) -> Any:
        with _no_verdict():
            return super().invoke(ctx)

    def list_commands(self, ctx: click.Context) -> list[str]:
        return [name for section in COMMANDS.values() for name in section]

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        for section in COMMANDS.values():
            if cmd_name in section:
                _say_what_is_outstanding(cmd_name)
                module, _, attribute = section[cmd_name][0].partition(":")
                found = __import__(f"{__name__}.{module}", fromlist=[attribute])
                command: click.Command = getattr(found, attribute)
                return command
        return None

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        try:
            return super().resolve_command(ctx, args)
        except click.UsageError as error:
            import difflib

            near = difflib.get_close_matches(args[0], self.list_commands(ctx), 1)
            if not near:
                raise
            message = f"{error.message} Did you mean {near[0]!r}?"
            raise click.UsageError(message, ctx) from None

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        if not ctx.resilient_parsing and (
            not args or args[0].startswith("-")
        ):  # help, or the version
            _say_what_is_outstanding("")
        return super().parse_args(ctx, args)

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        for title, section in COMMANDS.items():
            with formatter.section(title):
                formatter.write_dl([(name, summary) for name, (_, summary) in section.items()])


def _say_what_is_outstanding(command: str) -> None:
    """Whatever was asked: a drill that died and is not put back yet comes first."""
    if command == "recover" or not any_open_drill():
        return
    from gameday.drills.state import outstanding_message

    if message := outstanding_message():
        _complain(message)


@click.group(
    cls=_Commands,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 88},
)
@click.version_option(__version__, "-V", "--version", prog_name="gameday")
def cli() -> None:
    """Run game days and chaos drills, and learn from them honestly.

    Gameday breaks a sandbox, pages people, times what they do, puts everything
    back, and writes a blameless debrief. Start with `gameday run api-node-failure`.
    """


def main(argv: Sequence[str] | None = None) -> None:
    """Run the command line and exit with a code of DESIGN §7; users never see a traceback."""
    _stand_on_firm_ground()
    if argv is not None:
        sys.exit(_run(list(argv)))
    gc.set_threshold(_GARBAGE)
    try:
        code = _run(sys.argv[1:])
    except SystemExit as asked:
        code = asked.code if isinstance(asked.code, int) else int(asked.code is not None)
    _leave(code)


def _stand_on_firm_ground() -> None:
    """Have all three standard streams: a closed one would be the journal's, or the sandbox's.

    What is written to an output that was closed fails, as it does for other programs. A
    character that the terminal's encoding lacks is replaced; it is no reason to fail.
    """
    for number, mode in enumerate((os.O_RDONLY, os.O_RDONLY, os.O_RDWR)):
        fd = os.open(os.devnull, mode)
        if fd != number:  # which is open, then
            os.close(fd)
    sys.stdout = sys.stdout or open(1, "w", closefd=False)  # noqa: SIM115 - until the end
    sys.stderr = sys.stderr or open(os.devnull, "w")  # noqa: PTH123, SIM115
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, TextIOWrapper) and stream.errors == "strict":
            stream.reconfigure(errors="replace")


def _leave(code: int) -> NoReturn:
    """End at once: everything is on disk, and taking the interpreter apart takes longer than --help."""
    for stream in (sys.stdout, sys.stderr):
        try:
            stream.flush()
        except OSError:  # its reader is gone, or the disk is full: there is nobody to tell
            code = code or _NOBODY_READS
    os._exit(code)


def _run(argv: list[str]) -> int:
    try:
        code = cli.main(args=argv, prog_name="gameday", standalone_mode=False)
        sys.stdout.flush()
        return code if isinstance(code, int) else 0
    except click.ClickException as error:
        _show(error)
        return 2
    except GamedayError as error:
        _complain(str(error))
        return error.exit_code
    except (click.Abort, KeyboardInterrupt):
        click.echo("gameday: interrupted", err=True)
        return 130
    except BrokenPipeError:
        # The reader of our output is gone; nothing is left to say, and nobody to say it to.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return _NOBODY_READS
    except OSError as error:
        closed = error.errno == errno.EBADF and sys.__stdout__ is None
        if error.errno != errno.ENOSPC and not closed:
            return _own_fault(error)
        tell_unwritten(error)
        return StorageError.exit_code
    except Exception as error:
        return _own_fault(error)


def _show(error: click.ClickException) -> None:
    """As Click does, but what was typed does not drive the terminal."""
    from gameday.drills.printable import printable

    said = StringIO()
    error.show(said)
    click.echo(printable(said.getvalue(), "\n"), nl=False, err=True)


def _complain(text: str) -> None:
    """Say what is wrong; what files and people put into it does not drive the terminal."""
    from gameday.drills.printable import printable

    click.echo(printable(f"gameday: {text}", "\n"), err=True)


def _own_fault(error: Exception) -> int:
    if os.environ.get("GAMEDAY_DEBUG"):
        raise error
    while isinstance(error, ExceptionGroup):
        error = error.exceptions[0]
    tell_own_fault(f"{type(error).__name__}: {error}")
    return 70


def tell_unwritten(error: OSError, rest: str = "") -> None:
    """Say in one line that nobody gets what was to be printed."""
    click.echo(f"gameday: the output cannot be written: {error.strerror}{rest}", err=True)


def tell_own_fault(what: str) -> None:
    """Say that it is ours, and where to report it."""
    line = " ".join(what.split())  # what it raised may have many
    _complain(
        f"a fault of Gameday's own: {line}\n"
        f"  Please report it at {REPORT_TO}; GAMEDAY_DEBUG=1 shows where it happened."
    )
