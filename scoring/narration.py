"""An event in words: what the live view prints and the debrief's timeline says, once."""

from __future__ import annotations

from collections.abc import Iterator

import msgspec

from gameday.scoring import events as ev
from gameday.scoring.instants import tell_suspend
from gameday.scoring.render.figures import count

__all__ = ["OURS", "Narrator", "Told", "changed", "spoken"]

OURS = ("", "gameday", "nobody")
"""Who did it, where no person did."""

_PHASES = {
    "starting": "Starting the sandbox, load and probes",
    "steadying": "Waiting for the steady state",
    "running": "The scenario’s clock starts",
    "reverting": "We put everything back",
    "verifying": "We look whether the steady state holds again",
    "ended": "The drill ends",
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
    "start": "started {}",
    "kill": "killed {}",
    "pause": "paused {}",
    "unpause": "let {} go on",
    "update": "changed the limits of {}",
    "destroy": "removed {}",
    "connect": "connected {} to a network",
    "disconnect": "took {} off a network",
    "started": "{} started",
    "exited": "{} exited",
    "health": "{} changed health",
}


def spoken(said: ev.Said) -> str:
    """Who said what kind of thing: ``fixer acknowledged``."""
    who = f"{said.role} ({said.name})" if said.name else said.role
    how = _SAID.get(said.verb, said.verb)
    return f"{who}{' (scripted)' if said.scripted else ''} {how}"


def changed(change: ev.SandboxChanged) -> str:
    """What changed in the sandbox, and by whom: ``fixer restarted api-2``."""
    what = _CHANGED.get(change.action, change.action + " {}").replace(
        "{}", change.slot or "the sandbox"
    )
    detail = f": {change.detail}" if change.detail else ""
    if change.action in ("started", "exited", "health"):
        by = f" (by {change.by})" if change.by else ""
        return f"{what}{by}{detail}"
    return f"{change.by or 'somebody'} {what}{detail}"


class Told(msgspec.Struct, frozen=True):
    """One thing that happened, in words.

    Attributes:
        lane: ``drill``, ``load``, ``fault``, ``alert``, ``people``, ``sandbox`` or ``sli``.
        quote: What a person or a program said, word for word.
        since: The earliest instant at which it can have happened, if not that of the event.
    """

    lane: str
    text: str
    quote: str = ""
    since: float | None = None


class Narrator:
    """Tells events in their order; it remembers what injections and pages are called."""

    def __init__(self) -> None:
        self._targets: dict[str, str] = {}
        self._pages: dict[str, str] = {}
        self._seen: set[str] = set()
        self._starting = True

    def _target(self, injection: str) -> str:
        return self._targets.get(injection, injection)

    def _page(self, page: str) -> str:
        return self._pages.get(page, page)

    def tell(self, event: ev.Event) -> Iterator[Told]:
        """What the event means to people; often nothing."""
        if isinstance(event, ev.InjectionArmed):
            name = f"{event.injection.fault} on {event.injection.target}"
            self._targets[event.injection.id] = name
        elif isinstance(event, ev.AlertFired):
            self._pages[event.page] = event.alert
        yield from self._tell(event)

    def _tell(self, event: ev.Event) -> Iterator[Told]:
        def told(lane: str, text: str, *, quote: str = "", since: float | None = None) -> Told:
            return Told(lane, text, quote, since)

        match event:
            case ev.DrillStarted():
                yield told("drill", f"Drill {event.id} of {event.scenario} starts.")
            case ev.PhaseBegan():
                self._starting = event.phase == "starting"
                yield told("drill", _phase(event))
            case ev.LoadStarted():
                yield told(
                    "load", f"Load: {count(event.users, 'user')} on the journey {event.journey}."
                )
            case ev.LoadBucket():
                for name, message in event.errors.items():
                    if (event.endpoint + name) not in self._seen:
                        self._seen.add(event.endpoint + name)
                        yield told(
                            "load", f"First error {name} at {event.endpoint}.", quote=message
                        )
            case ev.InjectionArmed():
                yield told("fault", f"Undo on disk for {self._target(event.injection.id)}.")
            case ev.InjectCalled():
                yield told("fault", f"We inject {self._target(event.injection)}.")
            case ev.InjectFailed():
                name = self._target(event.injection)
                yield told("fault", f"Injecting {name} failed: {event.error}")
            case ev.Looked():
                state = "in force" if event.in_force else "not in force"
                name = self._target(event.injection)
                yield told(
                    "fault", f"A look at {name}: {event.seen or state}", since=event.previous
                )
            case ev.InjectionUndone():
                yield told("fault", _undone(event, self._target(event.injection)))
            case ev.TargetChecked():
                name = self._target(event.injection)
                same = "is as it was before" if event.equal else "is not as it was before"
                yield told(
                    "fault", f"The target of {name} {same}.{event.detail and ' ' + event.detail}"
                )
            case ev.AlertFired():
                value = f" ({event.value})" if event.value else ""
                yield told(
                    "alert",
                    f"{event.alert} fires: {event.tier}, {event.source}{value}.",
                    quote=event.summary,
                )
            case ev.AlertDelivered():
                yield told("alert", f"{self._page(event.page)} delivered by {event.channel}.")
            case ev.AlertFailed():
                name = self._page(event.page)
                yield told("alert", f"{name} not delivered by {event.channel}: {event.error}")
            case ev.AlertResolved():
                yield told("alert", f"{self._page(event.page)} resolved by {event.by}.")
            case ev.Said():
                what = spoken(event) + (
                    f" {self._page(event.page)}" if event.page in self._pages else ""
                )
                yield told("people", what + "." if not event.text else what + ":", quote=event.text)
            case ev.Reported():
                yield told("people", f"A {event.sender} speaks up:", quote=event.text)
            case ev.SandboxChanged():
                lane = "sandbox" if event.by in OURS else "people"
                yield told(lane, changed(event) + ".")
            case ev.SliBroke():
                how = "is back inside" if event.inside else "leaves"
                yield told("sli", f"Seen live: {event.sli} {how} {event.bounds}.")
            case ev.Suspended():
                yield told("drill", tell_suspend(event))
            case ev.AbortAsked():
                yield told("drill", f"Abort, asked by {event.by}: {event.why}")
            case ev.Problem(where="sandbox") if self._starting:
                what, _, rest = event.what.partition("\n")
                text = f"The sandbox did not start: {what.rstrip('.:')}"
                yield told("drill", text + (":" if rest.strip() else "."), quote=rest.strip())
            case ev.Problem():
                yield told("drill", f"A problem of ours ({event.where}): {event.what}")
            case ev.Noted():
                if event.text:
                    yield told("drill", f"{event.kind}: {event.text}")
            case ev.DrillEnded():
                yield told("drill", f"The drill is over: {event.why}.")


def _phase(event: ev.PhaseBegan) -> str:
    if event.phase == "ended" and event.why:
        return f"{event.why}; the drill ends."
    why = f" ({event.why})" if event.why else ""
    return f"{_PHASES.get(event.phase, f'Phase: {event.phase}')}{why}."


def _undone(event: ev.InjectionUndone, name: str) -> str:
    detail = f": {event.detail}" if event.detail else ""
    match event.outcome:
        case "put-back":
            how = "is put back by us"
        case "taken-over":
            how = f"was already undone by {event.by or 'somebody else'}"
        case "failed":
            how = "could not be put back"
        case _:
            how = "needed no undo"
    return f"{name} {how}{detail}."
