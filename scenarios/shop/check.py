"""A container's health check: does the service beside it answer well?

python -m gameday.scenarios.shop.check /readyz
"""

from __future__ import annotations

import http.client
import os
import sys

__all__ = ["main"]


def main() -> int:
    """0 if it does."""
    connection = http.client.HTTPConnection("127.0.0.1", int(os.environ["PORT"]), timeout=1)
    try:
        connection.request("GET", sys.argv[1])
        return int(connection.getresponse().status >= 400)
    except OSError:
        return 1


if __name__ == "__main__":
    sys.exit(main())
