"""The programs that a cluster's services start: are they on this machine?"""

from __future__ import annotations

import os
import re
import shutil
import sys
from collections.abc import Iterator
from pathlib import Path

from gameday.injectors.errors import Unsupported
from gameday.injectors.sandbox.local.cluster import Cluster, Service

__all__ = ["check_programs"]

_TEMPLATE = re.compile(r"\{\{-?\s*(python|folder)\s*-?\}\}")


def check_programs(cluster: Cluster, folder: Path) -> None:
    """Look for the program of each service before anything is started.

    Only programs that are known by now are looked for: by an absolute path, or by a name
    that is looked up on PATH.

    Args:
        folder: Where the declaration lies.

    Raises:
        Unsupported: names every service whose program is not there, and the program.
    """
    missing = list(_missing(cluster, folder.absolute()))
    if missing:
        raise Unsupported(
            "; ".join(missing),
            hint="Install it, or mend the service's `command` in the sandbox's declaration.",
        )


def _missing(cluster: Cluster, folder: Path) -> Iterator[str]:
    for name, service in cluster.services.items():
        program, path = _program(service, folder), service.environment.get("PATH")
        if "{" in program or (path is not None and "{" in path):
            continue  # known once the sandbox fills it in
        if "/" in program and not program.startswith("/"):
            continue  # found from the slot's folder, which is not there yet
        if shutil.which(program, path=path) is None:
            yield f"service {name}: {_what_is_wrong(program)}"


def _program(service: Service, folder: Path) -> str:
    known = {"python": sys.executable, "folder": str(folder)}
    return _TEMPLATE.sub(lambda found: known[found[1]], service.command[0])


def _what_is_wrong(program: str) -> str:
    if "/" not in program:
        return f"the program {program!r} is not found on PATH"
    if os.path.isfile(program):  # noqa: PTH113 - a path of theirs, that may hold anything
        return f"{program} may not be executed"
    return f"there is no program {program}"
