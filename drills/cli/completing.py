"""What the shell offers for an argument; imports little, as it runs at every press of Tab."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

import click
from click.shell_completion import CompletionItem

__all__ = ["drills", "scenarios"]


def scenarios(ctx: click.Context, param: click.Parameter, word: str) -> list[CompletionItem]:
    """Names of shipped scenarios and of the folder's own; files where none fits."""
    import gameday.scenarios as package

    shipped = Path(next(iter(package.__path__))) / "catalogue"
    folders = (shipped, Path("scenarios"))
    return _offer(word, (path.stem for folder in folders for path in folder.glob("*.yaml")))


def drills(ctx: click.Context, param: click.Parameter, word: str) -> list[CompletionItem]:
    """Ids of the drills that were run here; folders where none fits."""
    from gameday.drills.folder import find_root, list_drills

    return _offer(word, ["latest", *(drill.id for drill in list_drills(find_root(Path.cwd())))])


def _offer(word: str, known: Iterable[str]) -> list[CompletionItem]:
    fitting = sorted({name for name in known if name.startswith(word)})
    return [CompletionItem(name) for name in fitting] or [CompletionItem(word, type="file")]
