"""Whose a folder is: what another user could have put there is neither followed nor obeyed."""

from __future__ import annotations

import os
import stat
from pathlib import Path

from gameday.injectors.errors import Refused

__all__ = ["not_ours", "refuse_foreign"]


def not_ours(path: Path) -> str:
    """Why a folder is not ours alone, in words; empty if it is, or is not there.

    A link counts as what it leads to, and must be ours itself.
    """
    try:
        for status in (path.lstat(), path.stat()):
            if status.st_uid not in (os.geteuid(), 0):
                return f"it belongs to {_name(status.st_uid)}"
    except OSError:
        return ""
    if not stat.S_ISDIR(status.st_mode):
        return "it is no folder"
    return "others may write to it" if status.st_mode & 0o022 else ""


def refuse_foreign(path: Path) -> None:
    """Go on only if the folder is ours alone, or is not there.

    Raises:
        Refused: says whose it is; nothing in it was touched.
    """
    if why := not_ours(path):
        writable = why.startswith("others")
        raise Refused(
            f"{path} is not used: {why}",
            hint=f"`chmod go-w {path}` keeps others out, if what is in it is yours."
            if writable
            else "Work in a folder of your own, or as the user whose it is.",
        )


def _name(uid: int) -> str:
    try:
        import pwd

        return pwd.getpwuid(uid).pw_name
    except (ImportError, KeyError):
        return f"user {uid}"
