"""Every error that Gameday raises on purpose.

::

    GamedayError
    ├── UsageError            2   the command line asks for something impossible
    │   └── ScenarioError     2   a file has problems; carries all of them, with their places
    ├── Refused               6   a safety check says no; nothing was touched
    │   └── Unsupported       6   this machine or sandbox cannot do it, and why
    ├── SandboxError          3   the sandbox did not do what it was told, or did not start
    │   └── SandboxGone       3   the sandbox no longer answers
    ├── UndoFailed            5   something could not be put back; carries the command to do it by hand
    └── StorageError          4   the disk does not take the drill's record; the drill is aborted

Each carries ``hint``: what the user should do. The number is the exit code
(DESIGN §7). Anything else that reaches the top is a fault of Gameday's own and
ends with exit code 70.
"""

from __future__ import annotations

from typing import ClassVar, NamedTuple

__all__ = [
    "GamedayError",
    "Problem",
    "Refused",
    "SandboxError",
    "SandboxGone",
    "ScenarioError",
    "StorageError",
    "UndoFailed",
    "Unsupported",
    "UsageError",
]


class GamedayError(Exception):
    """The root of the tree.

    Args:
        message: One sentence: where, what was found, what was expected.
        hint: What the user should do about it; may be empty.
    """

    exit_code: ClassVar[int] = 70

    def __init__(self, message: str, *, hint: str = "") -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint

    def __str__(self) -> str:
        return f"{self.message}\n  {self.hint}" if self.hint else self.message


class UsageError(GamedayError):
    """The command line, or what it names, cannot be used."""

    exit_code = 2


class Problem(NamedTuple):
    """One thing that is wrong at one place of a file. Lines and columns count from 1."""

    message: str
    line: int | None = None
    column: int | None = None
    hint: str = ""

    def show(self, path: str) -> str:
        """The problem as ``file:line:column: message``, with the hint on a line of its own."""
        place = ":".join(str(part) for part in (path, self.line, self.column) if part is not None)
        text = f"{place}: {self.message}"
        return f"{text}\n    {self.hint}" if self.hint else text


class ScenarioError(UsageError):
    """A file has one or more problems; all of them are reported at once."""

    def __init__(self, path: str, problems: list[Problem]) -> None:
        self.path = path
        self.problems = problems
        super().__init__("\n".join(problem.show(path) for problem in problems))


class Refused(GamedayError):
    """A safety check refuses. Nothing was touched."""

    exit_code = 6


class Unsupported(Refused):
    """This machine or this sandbox cannot do what was asked."""


class SandboxError(GamedayError):
    """The sandbox did not do what it was told, or did not start; nothing of it is left broken."""

    exit_code = 3


class SandboxGone(SandboxError):
    """The sandbox no longer answers, or is not there."""


class UndoFailed(GamedayError):
    """Something could not be put back; ``hint`` is the command that does it by hand."""

    exit_code = 5


class StorageError(GamedayError):
    """The disk does not take the drill's record, so the drill is aborted (or never begins)."""

    exit_code = 4
