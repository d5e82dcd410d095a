"""Ending a runner and its helpers, so that nothing can break anything any more.

SIGKILL by pidfd: it cannot hit another process, and it reaches a stopped one.
"""

from __future__ import annotations

import os
import signal as signals
import time
from collections.abc import Callable, Collection

from gameday.injectors.sandbox.process import (
    find_by_environment,
    find_by_session,
    is_alive,
    process_id,
    read_stat,
    signal_process,
    wait_gone,
)
from gameday.injectors.undo import ProcessId

__all__ = ["end_runner"]

_WITHIN = 3.0


def end_runner(
    runner: ProcessId,
    drill_id: str,
    helpers: Collection[ProcessId] = (),
    session: int | None = None,
    *,
    log: Callable[[str], None] = lambda text: None,
) -> bool:
    """End the runner first, then its helpers, until none is left; False if one does not end.

    Args:
        runner: Who may still inject.
        drill_id: Helpers in the runner's session that carry ``GAMEDAY_DRILL=<id>`` end too.
        helpers: Processes to end with it, and the sessions that they lead.
        session: The runner's session, if it was noted while it lived.
        log: Told what happens, for people.
    """
    if session is None:
        stat = read_stat(runner.pid)
        session = stat.session if stat is not None and is_alive(runner) else -1
    deadline = time.monotonic() + _WITHIN
    found = {runner} if is_alive(runner) else _left(drill_id, helpers, session)
    while found and time.monotonic() < deadline:
        for process in found:
            _kill(process, log)
        wait_gone(found, max(0.0, deadline - time.monotonic()))
        found = _left(drill_id, helpers, session)
    for process in found:
        log(f"process {process.pid} does not end")
    return not found


def _left(drill_id: str, helpers: Collection[ProcessId], session: int) -> set[ProcessId]:
    found = {*helpers, *find_by_session(helpers)}
    for process in find_by_environment("GAMEDAY_DRILL", drill_id):
        stat = read_stat(process.pid)
        if stat is not None and stat.session == session:
            found.add(process)
    ourselves = process_id(os.getpid())
    return {process for process in found if is_alive(process) and process != ourselves}


def _kill(process: ProcessId, log: Callable[[str], None]) -> None:
    try:
        if signal_process(process, signals.SIGKILL):
            log(f"ended process {process.pid}")
    except OSError as error:
        log(f"process {process.pid} cannot be ended: {error.strerror}")
