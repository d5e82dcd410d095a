"""Gameday: run game days and chaos drills, and learn from them honestly."""

from gameday._version import __version__

__all__ = ["__version__"]
