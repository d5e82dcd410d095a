"""What scripted fixers do, step by step: a closed vocabulary, read from the scenario's text.

::

    ack  declare  identify  mitigate  resolve  all-clear  hand-over  hint    say it; words may follow
    note WORDS  update WORDS                                                 say these words
    restart SLOT  drain SLOT  undrain SLOT  scale SERVICE N                  the hands
    exec SLOT COMMAND …
    wait DURATION  until healthy  until quiet                                patience

Scripted fixers know what people know: ``{{ unhealthy.api }}`` stands for the
first slot of ``api`` that `gameday sandbox ps` does not show as healthy,
``{{ unhealthy }}`` for the first of any service. ``until healthy`` waits until
it shows every slot as healthy, ``until quiet`` until no alert fires.
"""

from __future__ import annotations

import re
import shlex
from collections.abc import Callable, Iterable, Iterator
from functools import lru_cache

import msgspec

from gameday.injectors.models import Misfit
from gameday.injectors.sandbox.base import Slot
from gameday.injectors.units import parse_duration
from gameday.scenarios.source import nearest

__all__ = [
    "VERBS",
    "Drain",
    "Execute",
    "Restart",
    "Say",
    "Scale",
    "Step",
    "Until",
    "Wait",
    "fill",
    "is_well",
    "parse_step",
    "unhealthy_named",
]

_SLOT = re.compile(r"[a-z][a-z0-9-]*-[0-9]+")
_SERVICE = re.compile(r"[a-z][a-z0-9-]*")
_TEMPLATE = re.compile(r"\{\{(.*?)\}\}")
_INSIDE = re.compile(r"\s*unhealthy(?:\.([a-z][a-z0-9-]*))?\s*")
_MOST = 100


class Say(msgspec.Struct, frozen=True):
    """Say something through the inbox: `Said.verb`, and words (which may hold templates)."""

    verb: str
    text: str = ""


class Restart(msgspec.Struct, frozen=True):
    """Restart a slot. ``slot`` is its name or a template."""

    slot: str


class Drain(msgspec.Struct, frozen=True):
    """Take a slot out of the links that lead to it; ``back`` puts it in again."""

    slot: str
    back: bool = False


class Scale(msgspec.Struct, frozen=True):
    """Have so many replicas of a service."""

    service: str
    replicas: int


class Execute(msgspec.Struct, frozen=True):
    """Run a command at a slot."""

    slot: str
    argv: tuple[str, ...]


class Wait(msgspec.Struct, frozen=True):
    """Wait so many seconds."""

    seconds: float


class Until(msgspec.Struct, frozen=True):
    """Wait until every slot is ``healthy``, or until no alert fires (``quiet``)."""

    what: str


Step = Say | Restart | Drain | Scale | Execute | Wait | Until


@lru_cache(512)
def parse_step(text: str) -> Step:
    """The step that a line of the script asks for.

    Raises:
        Misfit: says what was found, what was expected and the nearest known word.
    """
    _check_templates(text)
    verb, _, rest = text.strip().partition(" ")
    read = VERBS.get(verb)
    if read is None:
        near = nearest(verb, tuple(VERBS), cutoff=0.5)
        hint = f"Did you mean {near}?" if near else f"There are: {', '.join(VERBS)}."
        raise Misfit(f"{verb[:60]!r} is no step of a fixer", hint=hint)
    return read(verb, rest.strip())


def unhealthy_named(text: str) -> Iterator[str]:
    """Services that the templates in a text name."""
    for found in _TEMPLATE.finditer(text):
        inside = _INSIDE.fullmatch(found[1])
        if inside is not None and inside[1]:
            yield inside[1]


def is_well(slot: Slot) -> bool:
    """Does `sandbox ps` show nothing wrong with it?"""
    return slot.state == "running" and slot.health != "unhealthy"


def fill(text: str, slots: Iterable[Slot]) -> str | None:
    """The text with its templates filled in; None if nothing is unhealthy where one asks for it.

    A slot that was drained, or stopped on purpose, has been dealt with and comes last.
    """
    unwell = [slot for slot in slots if not is_well(slot)]
    unwell.sort(key=lambda slot: slot.drained or slot.state == "stopped")
    missing = False

    def name(found: re.Match[str]) -> str:
        nonlocal missing
        inside = _INSIDE.fullmatch(found[1])
        service = inside[1] if inside is not None else None
        for slot in unwell:
            if service is None or slot.service == service:
                return slot.name
        missing = True
        return ""

    filled = _TEMPLATE.sub(name, text)
    return None if missing else filled


def _check_templates(text: str) -> None:
    for found in _TEMPLATE.finditer(text):
        if _INSIDE.fullmatch(found[1]) is None:
            raise Misfit(
                f"{found[0][:60]!r} is not known in a step",
                hint="There are {{ unhealthy }} and {{ unhealthy.SERVICE }}.",
            )
    if "{{" in _TEMPLATE.sub("", text):
        raise Misfit("a '{{' lacks its '}}'", hint="Write {{ unhealthy.SERVICE }}.")


def _say(verb: str, rest: str) -> Say:
    return Say(verb, rest)


def _say_words(verb: str, rest: str) -> Say:
    if not rest:
        raise Misfit(f"{verb} lacks its words", hint=f"Write: {verb} WORDS")
    return Say(verb, rest)


def _one_slot(verb: str, rest: str) -> str:
    if _TEMPLATE.fullmatch(rest) or _SLOT.fullmatch(rest):
        return rest
    found = f"found {rest[:60]!r}" if rest else "found nothing"
    raise Misfit(
        f"{verb} needs a slot, such as api-2; {found}",
        hint=f"Write: {verb} api-2, or {verb} {{{{ unhealthy.api }}}}",
    )


def _restart(verb: str, rest: str) -> Restart:
    return Restart(_one_slot(verb, rest))


def _drain(verb: str, rest: str) -> Drain:
    return Drain(_one_slot(verb, rest), back=verb == "undrain")


def _scale(verb: str, rest: str) -> Scale:
    words = rest.split()
    if len(words) != 2 or not _SERVICE.fullmatch(words[0]) or not _is_count(words[1]):
        raise Misfit(
            f"{verb} needs a service and a number up to {_MOST}; found {rest[:60]!r}",
            hint=f"Write: {verb} api 3",
        )
    return Scale(words[0], int(words[1]))


def _is_count(text: str) -> bool:
    return text.isascii() and text.isdigit() and len(text) <= 3 and int(text) <= _MOST


def _execute(verb: str, rest: str) -> Execute:
    hint = f"Write: {verb} api-2 COMMAND"
    closing = rest.find("}}") + 2 if rest.startswith("{{") else rest.find(" ")
    slot, command = (rest[:closing], rest[closing:]) if closing > 0 else (rest, "")
    try:
        argv = tuple(shlex.split(command))
    except ValueError as error:
        raise Misfit(f"{verb}: the command cannot be read: {error}", hint=hint) from None
    name = _one_slot(verb, slot.strip())
    if not argv:
        raise Misfit(f"{verb} lacks its command", hint=hint)
    return Execute(name, argv)


def _wait(verb: str, rest: str) -> Wait:
    return Wait(parse_duration(rest))


def _until(verb: str, rest: str) -> Until:
    if rest not in ("healthy", "quiet"):
        near = nearest(rest, ("healthy", "quiet"), cutoff=0.5)
        hint = f"Did you mean {verb} {near}?" if near else f"Write: {verb} healthy"
        raise Misfit(f"{verb} knows healthy and quiet; found {rest[:60]!r}", hint=hint)
    return Until(rest)


VERBS: dict[str, Callable[[str, str], Step]] = {
    "ack": _say,
    "declare": _say,
    "identify": _say,
    "mitigate": _say,
    "resolve": _say,
    "all-clear": _say,
    "hand-over": _say,
    "hint": _say,
    "note": _say_words,
    "update": _say_words,
    "restart": _restart,
    "drain": _drain,
    "undrain": _drain,
    "scale": _scale,
    "exec": _execute,
    "wait": _wait,
    "until": _until,
}
