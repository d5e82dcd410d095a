"""A supervisor on a machine that permits no namespaces, though it may have control groups."""

from __future__ import annotations

import sys
from pathlib import Path

from gameday.injectors.sandbox.local import namespaces, supervisor


def _refuse(folder: Path) -> str:
    return "for a test"


if __name__ == "__main__":
    namespaces.try_out = _refuse
    sys.exit(supervisor.main(sys.argv[1:]))
