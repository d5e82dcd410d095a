"""What a link has carried."""

from __future__ import annotations

from dataclasses import dataclass

__all__ = ["Stats"]


@dataclass(frozen=True, slots=True)
class Stats:
    """Counts of one link since it started.

    Attributes:
        open: Connections that are open now.
        total: Connections that were accepted.
        refused: Connections whose server could not be reached; each was reset.
        resets: Connections that ended with a reset, the refused ones included.
        bytes_up: Bytes handed to the server.
        bytes_down: Bytes handed to the client.
    """

    open: int = 0
    total: int = 0
    refused: int = 0
    resets: int = 0
    bytes_up: int = 0
    bytes_down: int = 0
