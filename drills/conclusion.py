"""From a drill's directory to its verdict: a pure function of the files, so it can be repeated."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import msgspec

from gameday.drills.durable import replace_file
from gameday.drills.folder import DrillFolder
from gameday.drills.journal import read_journal
from gameday.drills.undo_log import read_undo_log
from gameday.injectors.errors import StorageError, UndoFailed
from gameday.injectors.undo import Outcome, Undone, by_hand
from gameday.scenarios.load import load_text
from gameday.scenarios.model import Scenario
from gameday.scoring.events import Event, InjectionArmed, InjectionUndone
from gameday.scoring.score import Score
from gameday.scoring.scorer import score

__all__ = ["Conclusion", "conclude", "prepare", "read_drill", "write_debrief"]


class Conclusion(msgspec.Struct, frozen=True):
    """What a drill came to.

    Attributes:
        notes: What is to be said about the record itself: a torn line, say.
        outstanding: Beside faults, what was not put back (a page that no channel took back,
            the sandbox), and how it is done by hand.
    """

    scenario: Scenario
    events: tuple[Event, ...]
    score: Score
    notes: tuple[str, ...]
    outstanding: tuple[str, ...] = ()


def prepare() -> None:
    """Import and compile what a debrief needs: before the drill, not while people wait for it."""
    from gameday.scoring import debrief  # noqa: F401
    from gameday.scoring.render import html, json, junit, markdown  # noqa: F401

    html.template()
    markdown.template()


def read_drill(folder: DrillFolder) -> Conclusion:
    """Read a drill's files and score them.

    Raises:
        UsageError: if there is no drill, or its files cannot be read.
    """
    loaded = load_text(folder.scenario.read_text(encoding="utf-8"), str(folder.scenario))
    journal = read_journal(folder.journal)
    undo = read_undo_log(folder.undo, folder.recovery)
    events = (*journal.events, *_missed(journal.events, undo.undone))
    notes = tuple(note for note in (journal.note, *undo.problems) if note)
    found = score(loaded.scenario, events)
    outstanding = tuple(_outstanding(folder, found))
    if outstanding:
        found = msgspec.structs.replace(found, exit_code=UndoFailed.exit_code)
    return Conclusion(loaded.scenario, events, found, notes, outstanding)


def _outstanding(folder: DrillFolder, found: Score) -> Iterator[str]:
    known = {injection.id for injection in found.injections}
    for armed in read_undo_log(folder.undo, folder.recovery).outstanding:
        if armed.id not in known:
            hands = "; ".join(by_hand(step, armed.sandbox) for step in armed.steps)
            yield f"{armed.what}; by hand: {hands}"


def _missed(events: Sequence[Event], undone: Sequence[Undone]) -> list[Event]:
    """What was undone and is not in the journal, as events after its last.

    By the watchdog, by `gameday recover`, or by a runner whose journal took no more.
    """
    injections = {e.injection.id for e in events if isinstance(e, InjectionArmed)}
    ends = [e for e in events if isinstance(e, InjectionUndone)]
    known = {(e.injection, e.outcome, e.by) for e in ends}
    over = {e.injection for e in ends if e.outcome != Outcome.FAILED.value}
    last = events[-1] if events else None
    found: list[Event] = []
    for each in undone:
        told = (each.id, each.outcome.value, each.by) in known
        if each.id not in injections or each.id in over or told or last is None:
            continue
        at = max(each.at, last.at)
        found.append(
            InjectionUndone(
                seq=last.seq + len(found) + 1,
                at=at,
                wall=each.wall,
                injection=each.id,
                outcome=each.outcome.value,
                called=at,
                detail=each.detail,
                by=each.by,
            )
        )
    return found


def write_debrief(folder: DrillFolder, found: Conclusion, *, names: bool = False) -> None:
    """Write the debrief as Markdown, HTML and JSON, and the verdicts as JUnit XML.

    Raises:
        StorageError: if the folder cannot be written.
    """
    from gameday.scoring.debrief import debrief
    from gameday.scoring.render.html import to_html
    from gameday.scoring.render.json import to_json
    from gameday.scoring.render.junit import to_junit
    from gameday.scoring.render.markdown import to_markdown

    document = debrief(found.scenario, found.events, found.score, names=names)
    for path, text in (
        (folder.debrief("md"), to_markdown(document)),
        (folder.debrief("html"), to_html(document)),
        (folder.debrief("json"), to_json(document)),
        (folder.junit, to_junit(document)),
    ):
        try:
            replace_file(path, text.encode())
        except OSError as error:
            raise StorageError(f"{path} cannot be written: {error.strerror}") from None


def conclude(folder: DrillFolder, *, names: bool = False) -> Conclusion:
    """Read, score, and write the debrief."""
    found = read_drill(folder)
    write_debrief(folder, found, names=names)
    return found
