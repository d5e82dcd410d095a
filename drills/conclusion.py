"""From a drill's directory to its verdict: a pure function of the files, so it can be repeated."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

import msgspec

from gameday.drills.durable import replace_file, storage_hint, sync_directory
from gameday.drills.folder import DrillFolder
from gameday.drills.journal import read_journal
from gameday.drills.undo_log import SANDBOX, read_undo_log
from gameday.injectors.errors import StorageError, UndoFailed, UsageError
from gameday.injectors.sandbox.kinds import by_hand
from gameday.injectors.undo import Compared, Outcome, ResolvePage, Undone
from gameday.scenarios.load import load_text
from gameday.scenarios.model import Scenario
from gameday.scoring.events import Event, InjectionArmed, InjectionUndone, TargetChecked
from gameday.scoring.score import Score
from gameday.scoring.scorer import score

__all__ = [
    "FORMS",
    "Conclusion",
    "conclude",
    "missed",
    "prepare",
    "read_drill",
    "render",
    "write_debrief",
]

FORMS = ("md", "html", "json", "junit")
"""The forms of a debrief; ``junit`` holds the verdicts alone."""


class Conclusion(msgspec.Struct, frozen=True):
    """What a drill came to.

    Attributes:
        notes: What is to be said about the record itself: a torn line, say.
        unwritten: Why the debrief could not be written; the verdict stands all the same.
        outstanding: Beside faults, what was not put back (a page that no channel took back,
            the sandbox), and how it is done by hand.
    """

    scenario: Scenario
    events: tuple[Event, ...]
    score: Score
    notes: tuple[str, ...]
    outstanding: tuple[str, ...] = ()
    unwritten: StorageError | None = None


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
    loaded = load_text(_scenario(folder), str(folder.scenario))
    journal = read_journal(folder.journal, damaged=True)
    undo = read_undo_log(folder.undo, folder.recovery)
    events = (*journal.events, *missed(journal.events, undo.undone, undo.compared))
    notes = tuple(note for note in (journal.note, undo.note, *undo.problems) if note)
    found = score(loaded.scenario, events)
    outstanding = tuple(_outstanding(folder, found))
    if outstanding:
        found = msgspec.structs.replace(found, exit_code=UndoFailed.exit_code)
    return Conclusion(loaded.scenario, events, found, notes, outstanding)


def _scenario(folder: DrillFolder) -> str:
    try:
        return folder.scenario.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        why = getattr(error, "strerror", None) or "it is no UTF-8 text"
        raise UsageError(
            f"{folder.scenario} cannot be read: {why}",
            hint="Without the scenario nothing can be judged; journal.jsonl says what happened.",
        ) from None


def _outstanding(folder: DrillFolder, found: Score) -> Iterator[str]:
    known = {injection.id for injection in found.injections}
    for armed in read_undo_log(folder.undo, folder.recovery).outstanding:
        if armed.id not in known:
            hands = "; ".join(by_hand(step, armed.sandbox) for step in armed.steps)
            if any(isinstance(step, ResolvePage) for step in armed.steps):
                hands += f", then `gameday recover --forget {folder.id}`"
            yield f"{armed.what}; by hand: {hands}"


def missed(
    events: Sequence[Event], undone: Sequence[Undone], compared: Sequence[Compared] = ()
) -> list[Event]:
    """What was put back, and compared with before, and is not in the journal: events after its last.

    By the watchdog, by `gameday recover`, or by a runner whose journal took no more.
    """
    if not events:
        return []
    last = events[-1]
    injections = {e.injection.id for e in events if isinstance(e, InjectionArmed)}
    ends = [e for e in events if isinstance(e, InjectionUndone)]
    known = {(e.injection, e.outcome, e.by) for e in ends}
    failed = {e.injection for e in ends if e.outcome == Outcome.FAILED.value}
    torn_down = any(each.id == SANDBOX for each in undone)
    over = {e.injection for e in ends if e.outcome != Outcome.FAILED.value}
    checked = {e.injection: e.equal for e in events if isinstance(e, TargetChecked)}
    found: list[Event] = []
    for each in undone:
        told = (each.id, each.outcome.value, each.by) in known
        if each.id not in injections or each.id in over or told:
            continue
        if each.id in failed and torn_down and each.outcome is Outcome.NOTHING:
            continue  # that its sandbox was taken down does not make a failed undo good
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
    for look in {each.id: each for each in compared}.values():  # the last one counts
        if look.id in injections and checked.get(look.id) is not look.equal:
            found.append(
                TargetChecked(
                    seq=last.seq + len(found) + 1,
                    at=max(look.at, last.at),
                    wall=look.wall,
                    injection=look.id,
                    equal=look.equal,
                    detail=look.detail,
                )
            )
    return found


def render(found: Conclusion, form: str, *, names: bool = False) -> str:
    """The debrief in one of `FORMS`."""
    return dict(_render(found, (form,), names))[form]


def _render(found: Conclusion, forms: Sequence[str], names: bool) -> Iterator[tuple[str, str]]:
    from gameday.scoring.debrief import debrief
    from gameday.scoring.render.html import to_html
    from gameday.scoring.render.json import to_json
    from gameday.scoring.render.junit import to_junit
    from gameday.scoring.render.markdown import to_markdown

    document = debrief(found.scenario, found.events, found.score, names=names)
    write = {"md": to_markdown, "html": to_html, "json": to_json, "junit": to_junit}
    for form in forms:
        yield form, write[form](document)


def write_debrief(folder: DrillFolder, found: Conclusion, *, names: bool = False) -> None:
    """Write the debrief as Markdown, HTML and JSON, and the verdicts as JUnit XML.

    What does not fit does not keep the rest from being written.

    Raises:
        StorageError: if the folder cannot be written.
    """
    files = {
        folder.junit if form == "junit" else folder.debrief(form): text
        for form, text in _render(found, FORMS, names)
    }
    failed: list[tuple[Path, OSError]] = []
    for path, text in files.items():
        try:
            replace_file(path, text.encode(), sync=False)
        except OSError as error:
            failed.append((path, error))
    try:
        sync_directory(folder.path)
    except OSError as error:
        failed.append((folder.path, error))
    if failed:
        path, first = failed[0]
        raise StorageError(
            f"the debrief {path} cannot be written: {first.strerror}",
            hint=f"{storage_hint(first).split(',')[0]}; "
            f"`gameday debrief {folder.id}` then writes it.",
        )


def conclude(folder: DrillFolder, *, names: bool = False) -> Conclusion:
    """Read, score, and write the debrief; where it cannot be written, ``unwritten`` says why."""
    found = read_drill(folder)
    try:
        write_debrief(folder, found, names=names)
    except StorageError as error:
        return msgspec.structs.replace(found, unwritten=error)
    return found
