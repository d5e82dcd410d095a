"""Bringing a sandbox up that stands outside any drill: `gameday sandbox up`."""

from __future__ import annotations

import os
import secrets
from importlib import import_module
from pathlib import Path
from typing import Protocol

from gameday.injectors.sandbox.base import Sandbox
from gameday.injectors.sandbox.process import process_id
from gameday.injectors.undo import ProcessId
from gameday.scenarios.sandboxes import APPS, app_declaration

__all__ = ["bring_up", "name_it"]


class _BringUp(Protocol):
    """What each module beside this one does for its kind of sandbox."""

    async def __call__(
        self, path: Path, logs: Path | None, owners: list[ProcessId]
    ) -> tuple[Sandbox, Path]: ...


async def bring_up(
    kind: str, declaration: str, logs: Path | None, *, detach: bool
) -> tuple[Sandbox, Path]:
    """A sandbox of that kind, well and ready, and the folder of its logs.

    Args:
        declaration: A file, or the name of a shipped application.
        logs: Where its logs go; None for a folder of its own under ``.gameday``.
        detach: Whether it stands longer than this process.

    Raises:
        GamedayError: if it does not come up; nothing is left of it then.
    """
    me = process_id(os.getpid())
    owners = [] if detach or me is None else [me]
    path = app_declaration(declaration, kind) if declaration in APPS else Path(declaration)
    make: _BringUp = import_module(f"gameday.drills.productions.{kind}").bring_up_standing
    return await make(path, logs, owners)


def name_it(name: str, logs: Path | None) -> tuple[str, Path]:
    """What everything of it carries, and the folder of its logs, which is made."""
    plain = "".join(letter for letter in name.lower() if letter.isalnum() or letter == "-")
    tag = f"{plain or 'sandbox'}-{secrets.token_hex(3)}"
    log_dir = (logs or Path(".gameday") / "sandboxes" / tag).absolute()
    log_dir.mkdir(parents=True, exist_ok=True, mode=0o700)
    return tag, log_dir
