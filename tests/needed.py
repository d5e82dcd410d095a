"""What a test needs of the machine."""

from __future__ import annotations

import os

import pytest

__all__ = ["need"]


def need(there: bool, reason: str) -> None:
    """Skip where a component is missing, with the reason; in CI that is a failure."""
    if there:
        return
    if os.environ.get("CI") == "true":
        pytest.fail(f"CI must have what the tests need: {reason}")
    pytest.skip(reason)
