"""The whole timeline of a drill, from before the onset, one entry for each thing that happened."""

from __future__ import annotations

from collections.abc import Iterator

from gameday.scoring import events as ev
from gameday.scoring.case import OURS, Case
from gameday.scoring.document import Entry
from gameday.scoring.render.figures import count, single

__all__ = ["storyline"]

_PHASES = {
    "starting": "Starting the sandbox, load and probes",
    "steadying": "Waiting for the steady state",
    "running": "The scenario’s clock starts",
    "reverting": "We put everything back",
    "verifying": "We look whether the steady state holds again",
    "ended": "Everything is put back; the drill ends",
}
_SAID = {
    "ack": "acknowledged",
    "declare": "declared an incident",
    "note": "noted",
    "update": "gave an update",
    "identify": "recorded a diagnosis",
    "mitigate": "said: mitigated",
    "resolve": "said: resolved",
    "all-clear": "gave the all-clear",
    "hand-over": "handed over",
    "hint": "asked for a hint",
    "abort": "asked to abort",
}
_CHANGED = {
    "restart": "restarted {}",
    "scale": "scaled {}",
    "drain": "drained {}",
    "undrain": "took {} back into service",
    "exec": "ran a command in {}",
    "stop": "stopped {}",
    "started": "{} started",
    "exited": "{} exited",
    "health": "{} changed health",
}
_MEASURED = {
    "onset": "Onset of {}",
    "impact": "{} left the steady state",
    "mitigate": "{} was mitigated: back inside acceptable bounds",
    "restore": "{} was restored: back inside the steady state",
}


def spoken(said: ev.Said) -> str:
    """Who said what kind of thing: ``fixer acknowledged``."""
    who = f"{said.role} ({said.name})" if said.name else said.role
    how = _SAID.get(said.verb, said.verb)
    return f"{who}{' (scripted)' if said.scripted else ''} {how}"


def changed(change: ev.SandboxChanged) -> str:
    """What changed in the sandbox, and by whom: ``fixer restarted api-2``."""
    what = _CHANGED.get(change.action, change.action + " {}").format(change.slot or "the sandbox")
    detail = f": {change.detail}" if change.detail else ""
    if change.action in ("started", "exited", "health"):
        by = f" (by {change.by})" if change.by else ""
        return f"{what}{by}{detail}"
    return f"{change.by or 'somebody'} {what}{detail}"


def storyline(case: Case) -> tuple[Entry, ...]:
    """Every event that people may want to see, and every measured instant, in order of time."""
    targets = {i.id: f"{i.fault} on {i.target}" for i in case.score.injections}
    targets |= {
        event.injection.id: f"{event.injection.fault} on {event.injection.target}"
        for event in case.of(ev.InjectionArmed)
    }
    pages = {event.page: event.alert for event in case.of(ev.AlertFired)}
    seen: set[str] = set()
    entries = [
        entry for event in case.events for entry in _entries(case, event, targets, pages, seen)
    ]
    return tuple(sorted([*entries, *_measured(case)], key=lambda entry: entry.at))


def _entries(
    case: Case, event: ev.Event, targets: dict[str, str], pages: dict[str, str], seen: set[str]
) -> Iterator[Entry]:
    def entry(lane: str, text: str, *, quote: str = "", low: float | None = None) -> Entry:
        return Entry(
            at=event.at - case.zero,
            wall=event.wall,
            lane=lane,
            kind=type(event).__name__,
            text=text,
            quote=quote,
            low=None if low is None else low - case.zero,
            high=None if low is None else event.at - case.zero,
        )

    match event:
        case ev.DrillStarted():
            yield entry("drill", f"Drill {event.id} of {event.scenario} starts.")
        case ev.PhaseBegan():
            why = f" ({event.why})" if event.why else ""
            yield entry("drill", f"{_PHASES.get(event.phase, f'Phase: {event.phase}')}{why}.")
        case ev.LoadStarted():
            yield entry(
                "load", f"Load: {count(event.users, 'user')} on the journey {event.journey}."
            )
        case ev.LoadBucket():
            for name, message in event.errors.items():
                if (event.endpoint + name) not in seen:
                    seen.add(event.endpoint + name)
                    yield entry("load", f"First error {name} at {event.endpoint}.", quote=message)
        case ev.InjectionArmed():
            yield entry("fault", f"Undo on disk for {targets[event.injection.id]}.")
        case ev.InjectCalled():
            yield entry("fault", f"We inject {targets.get(event.injection, event.injection)}.")
        case ev.InjectFailed():
            name = targets.get(event.injection, event.injection)
            yield entry("fault", f"Injecting {name} failed: {event.error}")
        case ev.Looked():
            state = "in force" if event.in_force else "not in force"
            name = targets.get(event.injection, event.injection)
            yield entry("fault", f"A look at {name}: {event.seen or state}", low=event.previous)
        case ev.InjectionUndone():
            yield entry("fault", _undone(event, targets.get(event.injection, event.injection)))
        case ev.TargetChecked():
            name = targets.get(event.injection, event.injection)
            same = "is as it was before" if event.equal else "is not as it was before"
            yield entry(
                "fault", f"The target of {name} {same}.{event.detail and ' ' + event.detail}"
            )
        case ev.AlertFired():
            value = f" ({event.value})" if event.value else ""
            yield entry(
                "alert",
                f"{event.alert} fires: {event.tier}, {event.source}{value}.",
                quote=event.summary,
            )
        case ev.AlertDelivered():
            yield entry(
                "alert", f"{pages.get(event.page, event.page)} delivered by {event.channel}."
            )
        case ev.AlertFailed():
            name = pages.get(event.page, event.page)
            yield entry("alert", f"{name} not delivered by {event.channel}: {event.error}")
        case ev.AlertResolved():
            yield entry("alert", f"{pages.get(event.page, event.page)} resolved by {event.by}.")
        case ev.Said():
            what = spoken(event) + (f" {pages[event.page]}" if event.page in pages else "")
            yield entry("people", what + "." if not event.text else what + ":", quote=event.text)
        case ev.Reported():
            yield entry("people", f"A {event.sender} speaks up:", quote=event.text)
        case ev.SandboxChanged():
            lane = "sandbox" if event.by in OURS else "people"
            yield entry(lane, changed(event) + ".")
        case ev.SliBroke():
            how = "is back inside" if event.inside else "leaves"
            yield entry("sli", f"Seen live: {event.sli} {how} {event.bounds}.")
        case ev.Suspended():
            yield entry(
                "drill",
                f"The host slept for {single(event.seconds)}; durations across it are void.",
            )
        case ev.AbortAsked():
            yield entry("drill", f"Abort, asked by {event.by}: {event.why}")
        case ev.Problem():
            yield entry("drill", f"A problem of ours ({event.where}): {event.what}")
        case ev.Noted():
            if event.text:
                yield entry("drill", f"{event.kind}: {event.text}")
        case ev.DrillEnded():
            yield entry("drill", f"The drill is over: {event.why}.")


def _undone(event: ev.InjectionUndone, name: str) -> str:
    detail = f" {event.detail}" if event.detail else ""
    match event.outcome:
        case "put-back":
            how = "is put back by us"
        case "taken-over":
            how = f"was already undone by {event.by or 'somebody else'}"
        case "failed":
            how = "could not be put back"
        case _:
            how = "needed no undo"
    return f"{name} {how}.{detail}"


def _measured(case: Case) -> Iterator[Entry]:
    for incident in case.score.incidents:
        name = f"incident {incident.number}"
        for kind, text in _MEASURED.items():
            when = incident.instants.get(kind)
            if when is None:
                continue
            middle = (when.low + when.high) / 2
            source = f" ({when.source})" if when.source else ""
            words = text.format(name)
            yield Entry(
                at=middle - case.zero,
                wall=case.wall(middle),
                lane="sli",
                kind=kind,
                text=f"Measured: {words[0].lower()}{words[1:]}{source}.",
                low=when.low - case.zero,
                high=when.high - case.zero,
            )
