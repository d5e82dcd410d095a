"""Checks of a scenario against the cluster that it breaks: what is aimed at exists and can be hit."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Iterator

from gameday.injectors.errors import Problem
from gameday.injectors.fault import LinkTarget, SlotTarget, exclude_each_other
from gameday.injectors.sandbox.base import label_words
from gameday.injectors.sandbox.kinds import KINDS
from gameday.injectors.units import show_duration
from gameday.scenarios.document import Node
from gameday.scenarios.draft import Draft, did_you_mean, problem_at
from gameday.scenarios.model import MOST_FAULTS, FaultEntry
from gameday.scenarios.sandboxes import PARTS
from gameday.scenarios.steps import (
    Drain,
    Execute,
    Restart,
    Scale,
    Step,
    parse_step,
    unhealthy_named,
)
from gameday.scenarios.templates import template_problems

__all__ = ["TARGET_CHECKS"]

Wrong = tuple[str, str]


def parts(draft: Draft) -> Iterator[Problem]:
    """The kind of sandbox can do what the faults need."""
    kind = draft.sandbox.value.kind if draft.sandbox is not None else ""
    able = PARTS.get(kind)
    for placed in draft.faults if able is not None else ():
        fault = placed.value.breaks
        for part in fault.needs:
            if able is not None and part not in able:
                message = f"{fault.kind} needs {part}, which a sandbox of kind {kind} lacks"
                fitting = [name for name, has in PARTS.items() if part in has]
                hint = f"A sandbox of kind {fitting[0]} has it." if fitting else ""
                yield problem_at(placed.at("inject"), message, hint)


def labelled(draft: Draft) -> Iterator[Problem]:
    """Targets by label are of sandboxes whose slots carry labels."""
    kind = draft.sandbox.value.kind if draft.sandbox is not None else ""
    if kind not in KINDS or KINDS[kind].labelled:
        return
    for placed in draft.faults:
        target = placed.value.breaks.target
        if isinstance(target, SlotTarget) and target.label is not None:
            message = f"the slots of a sandbox of kind {kind} carry no labels"
            hint = "Name a service or a slot: target: {service: web}."
            yield problem_at(placed.at("target", "label"), message, hint)


def overrides(draft: Draft) -> Iterator[Problem]:
    """``environment`` and ``replicas`` of the sandbox name its services."""
    if draft.sandbox is None or draft.cluster is None:
        return
    for section in ("environment", "replicas"):
        node = draft.sandbox.node.get(section)
        for name, _ in node.items() if node is not None else ():
            if name not in draft.services and node is not None:
                message = f"sandbox.{section}: there is no service {name!r}"
                yield Problem(message, *node.keys[name], did_you_mean(name, draft.services))
    environment = draft.sandbox.node.get("environment")
    for name, values in environment.items() if environment is not None else ():
        service = draft.cluster.services.get(name)
        for variable, text in values.items() if service is not None else ():
            links = service.links if service is not None else ()
            what = f"sandbox.environment.{name}.{variable}"
            yield from template_problems(text, what, links, draft.services)


def protected(draft: Draft) -> Iterator[Problem]:
    """``blast_radius.protected`` names what there is."""
    node = draft.root.get("blast_radius", "protected")
    if node is None or draft.cluster is None:
        return
    known = (*draft.services, *draft.slots, *sorted(draft.cluster.links))
    for entry in node.entries():
        name = entry.text()
        if name is not None and name not in known and not _is_link_of(name, draft):
            message = f"blast_radius.protected: there is no service, slot or link {name!r}"
            yield problem_at(entry, message, did_you_mean(name, known))


def _is_link_of(name: str, draft: Draft) -> bool:
    """``gateway-1->api-2``: between two slots of services that are linked."""
    source, arrow, target = name.partition("->")
    if not arrow or draft.cluster is None or source not in draft.slots or target not in draft.slots:
        return False
    return draft.slots[target] in draft.cluster.services[draft.slots[source]].links


def probes(draft: Draft) -> Iterator[Problem]:
    """Each SLI probes a service that exists."""
    if draft.cluster is None:
        return
    for name, placed in draft.slis.items():
        service = placed.value.service
        if service is not None and service not in draft.services:
            message = f"slis.{name}: there is no service {service!r}"
            yield problem_at(placed.at("service"), message, did_you_mean(service, draft.services))
        if service is None and draft.cluster.entry is None:
            message = f"slis.{name}: the sandbox declares no entry, so `service` is needed"
            yield problem_at(placed.node, message, did_you_mean("", draft.services))


def targets(draft: Draft) -> Iterator[Problem]:
    """Each fault's target matches something, and enough of it."""
    for placed in draft.faults if draft.cluster is not None else ():
        target = placed.value.breaks.target
        found = _matches(draft, target)
        if isinstance(found, tuple):
            ways = ("link", "service", "slot", "label")
            key = next(way for way in ways if getattr(target, way, None) is not None)
            yield problem_at(placed.at("target", key), *found)
        elif found is not None and (target.count or 0) > len(found):
            message = f"the target asks for {target.count}, but only {len(found)} match"
            yield problem_at(placed.at("target", "count"), message, f"They are: {_list(found)}.")


def _list(names: set[str]) -> str:
    return ", ".join(sorted(names))


def _matches(draft: Draft, target: object) -> set[str] | Wrong | None:
    """What a target can hit; what is wrong with it; None if it is of a kind of its own."""
    if isinstance(target, LinkTarget):
        return _matching_links(draft, target)
    if not isinstance(target, SlotTarget):
        return None
    if target.service is not None:
        if target.service not in draft.services:
            hint = did_you_mean(target.service, draft.services)
            return f"the target matches nothing: there is no service {target.service!r}", hint
    elif target.slot is not None and target.slot not in draft.slots:
        hint = did_you_mean(target.slot, draft.slots)
        return f"the target matches nothing: {_no_slot(draft, target.slot)}", hint
    labels = draft.cluster.labels if draft.cluster is not None else {}
    found = {
        slot
        for slot, service in draft.slots.items()
        if target.matches(slot, service, labels.get(service, {}))
    }
    if not found and target.label is not None:
        hint = did_you_mean(target.label, label_words(labels.values(), target.label))
        return f"the target matches nothing: no slot has the label {target.label!r}", hint
    return found


def _no_slot(draft: Draft, slot: str) -> str:
    service, _, number = slot.rpartition("-")
    if service in draft.services and number.isdigit():
        count = sum(1 for other in draft.slots.values() if other == service)
        return f"there is no slot {slot!r}; {service} has {count}"
    return f"there is no slot {slot!r}"


def _matching_links(draft: Draft, link: LinkTarget) -> set[str] | Wrong:
    sources, ends = link.ends()
    for end in (*sources, *ends):
        if end not in draft.services and end not in draft.slots:
            known = (*draft.services, *draft.slots)
            hint = did_you_mean(end, known)
            return f"the target matches nothing: there is no service or slot {end!r}", hint
    services = draft.cluster.services if draft.cluster is not None else {}
    found = {
        f"{one}->{other}"
        for source in sources
        for end in ends
        if draft.slots.get(end, end) in services[draft.slots.get(source, source)].links
        for one in _slots_of(draft, source)
        for other in _slots_of(draft, end)
    }
    if found:
        return found
    ways = draft.cluster.links if draft.cluster is not None else ()
    return f"the target matches nothing: there is no link {link.link}", did_you_mean("", ways)


def _slots_of(draft: Draft, name: str) -> list[str]:
    return [slot for slot, service in draft.slots.items() if name in (slot, service)]


def overlaps(draft: Draft) -> Iterator[Problem]:
    """No two faults that exclude each other can be in force on one target at one time."""
    if draft.cluster is None:
        return
    for first, second in itertools.combinations(draft.faults[:MOST_FAULTS], 2):
        one, other = first.value.breaks, second.value.breaks
        if not exclude_each_other(type(one), type(other)) or not _meet(first.value, second.value):
            continue
        hit, also = _matches(draft, one.target), _matches(draft, other.target)
        shared = hit & also if isinstance(hit, set) and isinstance(also, set) else set()
        if shared:
            message = (
                f"{other.kind} ({_span(second.value)}) and the {one.kind} of line "
                f"{first.node.place.line} ({_span(first.value)}) exclude each other, and both "
                f"can be in force at {sorted(shared)[0]}"
            )
            hint = "Name different slots, or end the first with `lasts` before the second begins."
            yield problem_at(second.node, message, hint)


def _end(entry: FaultEntry) -> float:
    return math.inf if entry.lasts is None else entry.at + entry.lasts


def _meet(one: FaultEntry, other: FaultEntry) -> bool:
    return one.at < _end(other) and other.at < _end(one)


def _span(entry: FaultEntry) -> str:
    end = _end(entry)
    until = "the end" if end == math.inf else show_duration(end)
    return f"{show_duration(entry.at)} to {until}"


def script(draft: Draft) -> Iterator[Problem]:
    """The scripted steps name services and slots that exist."""
    if draft.cluster is None:
        return
    steps = list(_steps(draft))
    scaled = {step.service: step.replicas for _, step in steps if isinstance(step, Scale)}
    for node, step in steps:
        for service in _services_named(step, node.raw):
            if service not in draft.services:
                hint = did_you_mean(service, draft.services)
                yield problem_at(node, f"there is no service {service!r}", hint)
        if isinstance(step, Restart | Drain | Execute) and not step.slot.startswith("{{"):
            yield from _slot_of_step(draft, step.slot, node, scaled)


def _steps(draft: Draft) -> Iterator[tuple[Node, Step]]:
    """Each step that is one, whatever is wrong with the others."""
    node = draft.root.get("fixers", "scripted", "steps")
    for entry in node.entries() if node is not None else ():
        try:
            yield entry, parse_step(entry.text() or "")
        except ValueError:
            continue


def _services_named(step: Step, text: str) -> Iterator[str]:
    yield from unhealthy_named(text)
    if isinstance(step, Scale):
        yield step.service


def _slot_of_step(draft: Draft, slot: str, node: Node, scaled: dict[str, int]) -> Iterator[Problem]:
    service, _, number = slot.rpartition("-")
    if slot not in draft.slots and int(number) > scaled.get(service, 0):
        yield problem_at(node, _no_slot(draft, slot), did_you_mean(slot, draft.slots))


def journey(draft: Draft) -> Iterator[Problem]:
    """The load's journey is the application's, or a locustfile."""
    if draft.load is None or draft.sandbox is None:
        return
    name = draft.load.value.journey
    if name.endswith(".py") or name in draft.journeys:
        return
    if draft.sandbox.value.app is not None:
        if not draft.journeys:
            return
        message = f"load: {draft.sandbox.value.app} has no journey {name!r}"
        hint = did_you_mean(name, draft.journeys)
    else:
        message = f"load: found the journey {name!r}, expected a locustfile beside the scenario"
        hint = "Write it as `journey: visit.py`; journeys without .py are those of shipped apps."
    yield problem_at(draft.load.at("journey"), message, hint)


TARGET_CHECKS: tuple[Callable[[Draft], Iterator[Problem]], ...] = (
    parts,
    labelled,
    overrides,
    protected,
    probes,
    targets,
    overlaps,
    script,
    journey,
)
