"""``gameday completion``."""

from __future__ import annotations

import click
from click.shell_completion import get_completion_class

from gameday.injectors.errors import UsageError

__all__ = ["completion"]


@click.command()
@click.argument("shell", type=click.Choice(["bash", "zsh", "fish"]))
def completion(shell: str) -> None:
    """Print the completion script for SHELL.

    For bash: gameday completion bash > ~/.local/share/bash-completion/completions/gameday
    """
    from gameday.drills.cli import cli

    found = get_completion_class(shell)
    if found is None:
        raise UsageError(f"there is no completion for {shell}")
    click.echo(found(cli, {}, "gameday", "_GAMEDAY_COMPLETE").source())
