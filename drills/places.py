"""Where Gameday keeps the machine's own state. Imports nothing: every command asks."""

from __future__ import annotations

import os
from pathlib import Path

__all__ = ["any_open_drill", "state_folder"]


def state_folder() -> Path:
    """Where the state is. It is not made by asking."""
    if override := os.environ.get("GAMEDAY_STATE"):
        return Path(override).absolute()
    if base := os.environ.get("XDG_STATE_HOME"):
        return Path(base).absolute() / "gameday"
    if os.getuid() == 0:
        return Path("/var/lib/gameday")
    return Path.home() / ".local" / "state" / "gameday"


def any_open_drill() -> bool:
    """Is a drill noted as open? Cheap; what it is worth, `gameday.drills.state` finds out."""
    try:
        return any(name.endswith(".json") for name in os.listdir(state_folder() / "drills"))  # noqa: PTH208
    except OSError:
        return False
