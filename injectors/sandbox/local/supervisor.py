"""The process that owns a local sandbox and everything in it; it ends with its owners.

``python -m gameday.injectors.sandbox.local.supervisor RUN_FOLDER SOCKET_FD``, started
by the driver in a session of its own. One thread: threads cannot be started any
more once the pid namespace has been left, and nothing here needs one.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path

from gameday.injectors.sandbox.local import namespaces

__all__ = ["main"]


def _isolate(run: Path) -> tuple[str, int]:
    """Enter our own namespaces if we can: why not, if not; and the pid of their init."""
    # Told by the environment: nothing has been read or imported yet.
    if os.environ.get("GAMEDAY_ISOLATE") == "0":
        why = "it was brought up without namespaces"
    elif why := namespaces.try_out(run):
        why = f"this machine permits no mount and pid namespaces ({why})"
    if why:
        namespaces.become_reaper()
        return why, 0
    namespaces.enter()
    return "", namespaces.start_init()


def main(argv: list[str]) -> int:
    """Hold the sandbox until it is over."""
    run, listener = Path(argv[0]), int(argv[1])
    why, init = _isolate(run)
    # Only now: what these import would be copied into init, and none of it is needed there.
    import asyncio

    from gameday.injectors.sandbox.local.serving import serve

    return asyncio.run(serve(run, listener, no_namespaces=why, init=init))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
