"""Listening to the inbox: what people say becomes part of the drill's history, and is heeded."""

from __future__ import annotations

from collections.abc import Sequence

from gameday.drills.folder import DrillFolder
from gameday.drills.inbox import Garbled, tail
from gameday.drills.runner import Runner
from gameday.scoring import events

__all__ = ["listen"]


async def listen(folder: DrillFolder, hints: Sequence[str], runner: Runner) -> None:
    """Journal what is said in that drill's inbox, give hints in their order, heed an abort."""
    hints_left = iter(hints)
    async for heard in tail(folder):
        if isinstance(heard, Garbled):
            runner.emit(events.Problem(at=runner.now(), where="inbox", what=heard.what))
            continue
        entry = heard.entry
        runner.emit(
            events.Said(
                at=heard.clock - runner.zero,
                verb=entry.verb,
                role=entry.role,
                name=entry.name,
                text=entry.text,
                page=entry.page,
                scripted=entry.scripted,
            )
        )
        if entry.verb == "abort":
            runner.abort("person", entry.text or f"{entry.role} asked to stop")
        elif entry.verb == "hint":
            text = next(hints_left, "There is no further hint.")
            runner.emit(events.Noted(at=runner.now(), kind="hint", text=text))
