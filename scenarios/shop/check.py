"""A container's health check: does the service beside it answer well?

python -m gameday.scenarios.shop.check /readyz

It runs in every container every other second, and what it costs is missing elsewhere: importing
an HTTP client costs about as much CPU as all the rest of it.
"""

from __future__ import annotations

import os
import socket
import sys

__all__ = ["main"]


def main() -> int:
    """0 if it does."""
    try:
        with socket.create_connection(("127.0.0.1", int(os.environ["PORT"])), timeout=1) as peer:
            peer.sendall(f"GET {sys.argv[1]} HTTP/1.0\r\n\r\n".encode())
            _, status, *_ = peer.makefile("rb").readline().split()
            return int(int(status) >= 400)
    except (OSError, ValueError):
        return 1


if __name__ == "__main__":
    sys.exit(main())
