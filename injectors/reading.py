"""What reading a damaged file can end with: somebody may have changed it, or the disk did."""

from __future__ import annotations

import msgspec

__all__ = ["UNREADABLE"]

UNREADABLE = (msgspec.DecodeError, UnicodeDecodeError, RecursionError)
"""What msgspec raises for bytes that are not what was expected; too deep a nesting is one of them."""
