"""What is asked of a namespace by whoever cannot enter it, and what is answered.

``python -m gameday.injectors.sandbox.netns.errands ERRAND`` runs where the namespace is its own:
in a helper container (`keeper`) that shares the target's network. What is done there is what
`Namespace` does everywhere.
"""

from __future__ import annotations

import sys
from pathlib import Path

import msgspec

from gameday.injectors.errors import (
    GamedayError,
    Refused,
    SandboxError,
    SandboxGone,
    Unsupported,
    UsageError,
)
from gameday.injectors.sandbox.base import Toxic
from gameday.injectors.sandbox.netns import preflight
from gameday.injectors.sandbox.netns.mark import InForce
from gameday.injectors.sandbox.netns.namespace import Namespace

__all__ = ["ADDED", "KEEPER", "Add", "Answer", "Errand", "Remove", "See", "Try"]

KEEPER = 1
"""The pid of the helper container's main process, which lives as long as the container."""
ADDED = Path("/run/gameday")
"""The folder in which a file for each fault that was made from here says its tag."""
_ERRORS = {
    kind.__name__: kind
    for kind in (GamedayError, Refused, SandboxError, SandboxGone, Unsupported, UsageError)
}


class _Errand(msgspec.Struct, frozen=True, tag_field="errand", tag=str.lower):
    pass


class Add(_Errand, frozen=True):
    """`Namespace.add`."""

    toxic: Toxic
    peers: tuple[str, ...] = ()
    direction: str = ""


class Remove(_Errand, frozen=True):
    """`Namespace.remove`."""

    tag: str


class See(_Errand, frozen=True):
    """`Namespace.toxics`."""


class Try(_Errand, frozen=True):
    """`preflight.lacks`, in a namespace that is nobody else's."""


Errand = Add | Remove | See | Try


class Answer(msgspec.Struct, frozen=True):
    """What came of an errand.

    Attributes:
        removed: Whether there was something to remove.
        in_force: The faults that are in force afterwards.
        lacking: For `Try`: what cannot be done, and why.
        error: The error that it ended with: its class, what it says, and its hint.
    """

    removed: bool = False
    in_force: tuple[InForce, ...] = ()
    lacking: dict[str, str] = {}
    error: tuple[str, str, str] | None = None

    def checked(self) -> Answer:
        """Itself.

        Raises:
            GamedayError: the one that it ended with.
        """
        if self.error is not None:
            kind, message, hint = self.error
            raise _ERRORS.get(kind, SandboxError)(message, hint=hint)
        return self


def run(errand: Errand) -> Answer:
    """Do as asked, in this process's own namespace."""
    try:
        return _run(errand)
    except GamedayError as error:
        return Answer(error=(type(error).__name__, error.message, error.hint))


def _run(errand: Errand) -> Answer:
    namespace = Namespace(KEEPER, here=True)
    removed = False
    match errand:
        case Try():
            return Answer(lacking=preflight.lacks_here(namespace))
        case Add(toxic, peers, direction):
            ADDED.mkdir(exist_ok=True)
            (ADDED / toxic.tag).touch()
            namespace.add_now(toxic, peers, direction=direction)
        case Remove(tag):
            removed = namespace.remove_now(tag)
            (ADDED / tag).unlink(missing_ok=True)
    return Answer(removed, namespace.toxics_now())


def main() -> None:
    """Run the errand of the command line, and print the answer."""
    errand = msgspec.json.decode(sys.argv[1], type=Errand)
    sys.stdout.write(msgspec.json.encode(run(errand)).decode())


if __name__ == "__main__":
    main()
