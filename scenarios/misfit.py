"""What a validator raises when it can say more than one sentence."""

from __future__ import annotations

__all__ = ["Misfit"]


class Misfit(ValueError):
    """A value does not fit.

    Args:
        message: What was found and what was expected. Where it begins with "expected", the
            loader puts what it found before it.
        hint: What to do about it.
        path: Keys that lead from the value that is validated to the one to blame.
    """

    def __init__(self, message: str, *, hint: str = "", path: tuple[str, ...] = ()) -> None:
        super().__init__(message)
        self.hint = hint
        self.path = path
