"""Checks of the whole file that need no sandbox: names that meet, bounds that make sense, times that fit."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

from gameday.injectors.errors import Problem
from gameday.injectors.units import show_duration
from gameday.scenarios.document import Node
from gameday.scenarios.draft import Draft, Placed, did_you_mean, problem_at
from gameday.scenarios.expressions import (
    Comparison,
    Condition,
    When,
    parse_bound,
    parse_when,
)
from gameday.scenarios.model import TIMINGS, AlertRule, Sli
from gameday.scenarios.source import nearest
from gameday.scenarios.steps import Wait

__all__ = ["CHECKS", "ROLES"]

ROLES = (
    "breaker",
    "fixer",
    "facilitator",
    "incident-commander",
    "operations",
    "communications",
    "scribe",
    "subject-expert",
    "observer",
)
"""Roles that we know. Others are allowed; a near miss is taken for a misspelling."""

_PAGE = {
    "summary": "what broke",
    "impact": "who feels it",
    "verify": "where to verify it",
    "first_step": "what to try first",
    "escalate": "whom to call",
}
_SCHEMES = {
    "SEV-0..5": tuple(f"SEV-{n}" for n in range(6)),
    "SEV-1..5": tuple(f"SEV-{n}" for n in range(1, 6)),
    "P1..4": tuple(f"P{n}" for n in range(1, 5)),
}
_SIDES = {"<": "under", "<=": "under", ">": "over", ">=": "over"}


def comparisons(condition: Condition) -> Iterator[Comparison]:
    """Every comparison of a condition, in order."""
    if isinstance(condition, Comparison):
        yield condition
    else:
        for part in condition.parts:
            yield from comparisons(part)


def _misses_unit(found: Comparison, expected: str) -> bool:
    if found.unit == expected or (found.unit == "number" and found.value == 0):
        return False
    return not (expected == "share" and found.unit == "number" and found.value <= 1)


def _unit(found: Comparison, expected: str) -> tuple[str, str] | None:
    if not _misses_unit(found, expected):
        return None
    example = {"share": "95%", "duration": "500ms or 10s", "number": "500"}[expected]
    return f"{found.name} is a {expected}; {found.shown} is none", f"Write it as {example}."


def _about(draft: Draft, found: Comparison) -> tuple[str, str] | None:
    """What is wrong with a comparison on an SLI; without any SLI, that alone is the problem."""
    if not draft.sli_names:
        return None
    if found.name not in draft.sli_names:
        if found.name in TIMINGS:
            return f"{found.name} is a timing; expected an SLI", did_you_mean("", draft.sli_names)
        hint = did_you_mean(found.name, draft.sli_names)
        return f"there is no SLI {found.name!r}", hint
    placed = draft.slis.get(found.name)
    if placed is None:
        return None
    return _unit(found, "share" if placed.value.quantile is None else "duration")


def bounds(draft: Draft) -> Iterator[Problem]:
    """``steady_state`` and ``acceptable`` speak of SLIs, in their units."""
    for section in ("steady_state", "acceptable"):
        for name, node, bound in _bounds(draft, section):
            wrong = _about(draft, bound)
            if wrong is not None:
                place = draft.root.closest((section,)).keys[name]
                at = node.place if bound.name in draft.sli_names else place
                yield Problem(f"{section}: {wrong[0]}", *at, wrong[1])


def looser(draft: Draft) -> Iterator[Problem]:
    """``acceptable`` is no tighter than ``steady_state``: mitigated comes before restored."""
    steady = {name: bound for name, _, bound in _bounds(draft, "steady_state")}
    for name, node, bound in _bounds(draft, "acceptable"):
        other = steady.get(name)
        side = _SIDES.get(bound.op)
        if other is None or side is None or _SIDES.get(other.op) != side:
            continue
        if bound.value < other.value if side == "under" else bound.value > other.value:
            message = f"acceptable is tighter than steady_state ({other}); expected a looser bound"
            yield problem_at(node, message)


def _bounds(draft: Draft, section: str) -> Iterator[tuple[str, Node, Comparison]]:
    node = draft.root.get(section)
    for name, value in node.items() if node is not None else ():
        try:
            yield name, value, parse_bound(value.text() or "", name)
        except ValueError:
            continue


def slis(draft: Draft) -> Iterator[Problem]:
    """Samples are judged by what they have; a window holds at least one."""
    for name, placed in draft.slis.items():
        sli, node = placed.value, placed.at("good")
        if sli.over < sli.every:
            message = (
                f"slis.{name}: the window ({show_duration(sli.over)}) is shorter than the time "
                f"between two samples ({show_duration(sli.every)})"
            )
            yield problem_at(placed.at("over"), message)
        for found in comparisons(sli.condition):
            yield from _good(name, sli, found, node)


def _good(name: str, sli: Sli, found: Comparison, node: Node) -> Iterator[Problem]:
    if sli.probe == "tcp" and found.name == "status" and node.content == sli.good:
        message = f"slis.{name}: a tcp probe has no status"
        yield problem_at(node, message, "Judge it by latency, or probe http.")
    wrong = _unit(found, "number" if found.name == "status" else "duration")
    if wrong is not None:
        yield problem_at(node, f"slis.{name}: {wrong[0]}", wrong[1])


def hypotheses(draft: Draft) -> Iterator[Problem]:
    """Each has an id of its own, and speaks of an SLI or a timing in its unit."""
    yield from _once([(one.value.id, one.at("id")) for one in draft.hypotheses], "hypothesis")
    for placed in draft.hypotheses:
        found, node = placed.value.comparison, placed.at("expect")
        if found.name in TIMINGS:
            wrong = _unit(found, "duration")
        elif found.name in draft.sli_names:
            wrong = _about(draft, found)
        elif not draft.sli_names:
            wrong = None
        else:
            known = (*draft.sli_names, *TIMINGS)
            message = f"there is no SLI or timing {found.name!r}"
            wrong = message, did_you_mean(found.name, known)
        if wrong is not None:
            yield problem_at(node, f"hypothesis {placed.value.id}: {wrong[0]}", wrong[1])


def alerts(draft: Draft) -> Iterator[Problem]:
    """Each has a name of its own and looks at SLIs; a page carries what people need."""
    yield from _once([(one.value.name, one.at("name")) for one in draft.alerts], "alert")
    for placed in draft.alerts:
        alert = placed.value
        if alert.rule is not None:
            yield from _when(draft, alert.rule, placed.at("when"), f"alert {alert.name}")
        if alert.tier == "page":
            yield from _page(placed)


def _page(placed: Placed[AlertRule]) -> Iterator[Problem]:
    """What a page does not say: at its key, where there is one."""
    hint = "A page says all five, so that whoever is woken can act; a ticket need not."
    alert = placed.value
    silent = [key for key in _PAGE if not getattr(alert, key).strip()]
    for key in silent:
        node = placed.node.get(key)
        if node is not None:
            message = f"the page {alert.name}: `{key}` is empty, expected {_PAGE[key]}"
            yield problem_at(node, message, hint)
    lacking = [key for key in silent if placed.node.get(key) is None]
    if lacking:
        said = ", ".join(f"{key} ({_PAGE[key]})" for key in lacking)
        yield problem_at(placed.node, f"the page {alert.name} lacks {said}", hint)


def guards(draft: Draft) -> Iterator[Problem]:
    """``abort_when`` looks at SLIs."""
    node = draft.root.get("abort_when")
    for entry in node.entries() if node is not None else ():
        try:
            rule = parse_when(entry.text() or "")
        except ValueError:
            continue
        yield from _when(draft, rule, entry, "abort_when")


def _when(draft: Draft, rule: When, node: Node, what: str) -> Iterator[Problem]:
    for found in comparisons(rule.condition):
        wrong = _about(draft, found)
        if wrong is not None:
            yield problem_at(node, f"{what}: {wrong[0]}", wrong[1])
    if draft.duration is not None and rule.hold >= draft.duration:
        message = (
            f"{what}: {show_duration(rule.hold)} is not shorter than the drill "
            f"({show_duration(draft.duration)}), so it can never hold long enough"
        )
        yield problem_at(node, message)


def _once(named: Sequence[tuple[str, Node]], what: str) -> Iterator[Problem]:
    first: dict[str, Node] = {}
    for name, node in named:
        if name in first:
            line = first[name].place.line
            yield problem_at(node, f"the {what} {name} is given twice; first at line {line}")
        first.setdefault(name, node)


def times(draft: Draft) -> Iterator[Problem]:
    """Nothing begins after the drill's end, and there is time to see it end."""
    if draft.duration is None:
        return
    end = show_duration(draft.duration)
    for what, parts in _timed(draft):
        for at, node in parts:
            if at >= draft.duration:
                message = f"{what} at {show_duration(at)} comes after the drill's end ({end})"
                yield problem_at(node, message, "Begin earlier, or make `duration` longer.")
    if draft.stabilise is not None and draft.stabilise >= draft.duration:
        message = (
            f"stabilise ({show_duration(draft.stabilise)}) is not shorter than the drill ({end})"
        )
        hint = "Nothing could ever count as mitigated or restored."
        yield problem_at(draft.root.closest(("stabilise",)), message, hint)
    for fault in draft.faults:
        if fault.value.lasts == 0:
            message = "lasts is 0 s, so the fault would end as it begins"
            yield problem_at(fault.at("lasts"), message, "Leave it out to break until the end.")


def _timed(draft: Draft) -> Iterator[tuple[str, list[tuple[float, Node]]]]:
    yield "a fault", [(one.value.at, one.at("at")) for one in draft.faults]
    yield "a report", [(one.value.at, one.at("at")) for one in draft.reports]
    yield "an alert", [_alert_time(one) for one in draft.alerts if one.value.at is not None]


def _alert_time(alert: Placed[AlertRule]) -> tuple[float, Node]:
    return alert.value.at or 0.0, alert.at("at")


def script_time(draft: Draft) -> Iterator[Problem]:
    """The scripted fixers can finish before the hard stop."""
    if draft.scripted is None or draft.duration is None:
        return
    scripted = draft.scripted.value
    waits = sum(step.seconds for step in scripted.script if isinstance(step, Wait))
    needed = scripted.reaction * len(scripted.steps) + waits
    if needed >= draft.duration:
        message = (
            f"the scripted steps take at least {show_duration(needed)}, "
            f"but the drill ends after {show_duration(draft.duration)}"
        )
        hint = "Shorten `reaction` or the waits, or make `duration` longer."
        yield problem_at(draft.scripted.at("reaction"), message, hint)


def severity(draft: Draft) -> Iterator[Problem]:
    """The severity is one of its scheme's."""
    node = draft.root.get("severity")
    scheme = draft.root.get("severity_scheme")
    if node is None or scheme is None:
        return
    known = _SCHEMES.get(str(scheme.content))
    exists = any(node.content in names for names in _SCHEMES.values())
    if known is not None and exists and node.content not in known:
        message = f"severity: {node.raw} is not in the scheme {scheme.raw}"
        yield problem_at(node, message, f"There are: {', '.join(known)}.")


def roles(draft: Draft) -> Iterator[Problem]:
    """A role that is nearly one that we know is a misspelling; any other is the team's own."""
    section = draft.root.get("roles")
    for name, _ in section.items() if section is not None else ():
        near = nearest(name, ROLES, cutoff=0.85)
        if near and name != near:
            place = draft.root.closest(("roles",)).keys[name]
            yield Problem(f"roles: there is no role `{name}`", *place, f"Did you mean {near}?")


CHECKS: tuple[Callable[[Draft], Iterator[Problem]], ...] = (
    bounds,
    looser,
    slis,
    hypotheses,
    alerts,
    guards,
    times,
    script_time,
    severity,
    roles,
)
