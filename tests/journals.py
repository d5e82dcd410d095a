"""Hand-written journals for tests of scoring: a list of events in, a verdict out.

`Journal` writes events in any order and puts them in the order of time. `probe`
answers as an ideal service would that is broken in known intervals.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from random import Random
from typing import Any

import msgspec

from gameday.injectors.fault import Injection
from gameday.scenarios.model import Scenario
from gameday.scoring.events import (
    AbortAsked,
    AlertDelivered,
    AlertFired,
    AlertResolved,
    DrillEnded,
    DrillStarted,
    Event,
    InjectCalled,
    InjectionArmed,
    InjectionUndone,
    LoadBucket,
    Looked,
    PhaseBegan,
    Reported,
    Said,
    Sample,
    SandboxChanged,
    Suspended,
)
from gameday.scoring.score import Score
from gameday.scoring.scorer import score

__all__ = ["BEGUN", "Journal", "Outage", "probe", "scenario"]

BEGUN = 10.0
"""When the scenario's clock starts in these journals."""

_KILL = {"at": "10s", "inject": "process.kill", "target": {"service": "api", "count": 1}}


def scenario(*, faults: int = 1, **changes: Any) -> Scenario:
    """A small scenario: one SLI at 20 Hz, >= 99 % over 2 s, stabilise 5 s; ``faults`` kills."""
    document: dict[str, Any] = {
        "apiVersion": "gameday/v1",
        "name": "test",
        "title": "A test",
        "stabilise": "5s",
        "sandbox": {"app": "shop"},
        "slis": {"availability": {"path": "/", "every": "50ms", "good": "status < 500"}},
        "steady_state": {"availability": ">= 99%"},
        "faults": [_KILL] * faults,
    }
    return Scenario.of(document | changes)


@dataclass(frozen=True, slots=True)
class Outage:
    """The service is broken in ``[begin, end)``.

    Attributes:
        how: ``down`` (refused at once), ``hung`` (answers when it is over), ``lost`` (no answer
            ever, up to the deadline), ``slow`` (half as long again as is good) or ``some``
            (each third request is refused).
    """

    begin: float
    end: float
    how: str = "down"


def probe(
    begin: float,
    end: float,
    outages: Sequence[Outage] = (),
    *,
    sli: str = "availability",
    every: float = 0.05,
    latency: float = 0.004,
    patience: float = 0.5,
    timeout: float = 2.0,
    rng: Random | None = None,
) -> list[Sample]:
    """What an open-loop probe would have seen; samples in the order of their answers.

    Args:
        patience: An answer that takes longer is bad.
        rng: If given, latencies and lateness vary a little.
    """
    samples = []
    for number in range(int((end - begin) / every)):
        due = begin + number * every
        sent = due + (rng.uniform(0, every * 0.1) if rng else 0.0)
        normal = latency * (rng.uniform(0.3, 1.0) if rng else 1.0)
        samples.append(_answer(sli, due, sent, normal, number, outages, patience, timeout))
    return sorted(samples, key=lambda s: s.done)


def _answer(
    sli: str,
    due: float,
    sent: float,
    normal: float,
    number: int,
    outages: Sequence[Outage],
    patience: float,
    timeout: float,
) -> Sample:
    done, error = sent + normal, ""
    for outage in outages:
        # A request is served at the end of its way: what is in flight is hit as well.
        if not (outage.begin - normal < sent < outage.end):
            continue
        if outage.how == "down":
            done, error = max(sent, outage.begin) + normal / 2, "refused"
        elif outage.how == "hung":
            done = outage.end + normal
        elif outage.how == "lost":
            done = sent + timeout * 2
        elif outage.how == "slow":
            done = sent + patience * 1.5
        elif number % 3 == 0:
            error = "refused"
    if done - sent > timeout:
        done, error = sent + timeout, "timeout"
    good = not error and done - sent < patience
    return Sample(
        at=done, sli=sli, due=due, sent=sent, done=done, good=good,
        status=0 if error else 200, error=error,
    )  # fmt: skip


@dataclass(slots=True)
class Journal:
    """Events, added in any order."""

    scenario: Scenario
    events: list[Event] = field(default_factory=list)

    def add(self, *events: Event) -> Journal:
        """Add events as they are."""
        self.events += events
        return self

    def frame(
        self, reverting: float, why: str = "hard-stop", *, begun: float | None = BEGUN, **end: Any
    ) -> Journal:
        """The phases of a drill that puts things back at ``reverting``."""
        self.add(DrillStarted(at=0, id="d", scenario="test", gameday="0", seed=1))
        self.add(PhaseBegan(at=0, phase="starting"), PhaseBegan(at=1, phase="steadying"))
        if begun is not None:
            self.add(PhaseBegan(at=begun, phase="running"))
        self.add(PhaseBegan(at=reverting, phase="reverting"))
        self.add(PhaseBegan(at=reverting + 1, phase="verifying"))
        if why == "aborted":
            self.add(AbortAsked(at=reverting, by="person", why="asked"))
        return self.add(DrillEnded(at=reverting + 2, why=why, **end))

    def probed(self, end: float, *outages: Outage, **options: Any) -> Journal:
        """Samples from the start to ``end``."""
        return self.add(*probe(0, end, outages, **options))

    def injected(
        self,
        called: float,
        ended: float | None = None,
        *,
        id: str = "i1",  # noqa: A002
        entry: int = 0,
        effect: bool = True,
        outcome: str = "put-back",
        undone: float | None = None,
        by: str = "",
    ) -> Journal:
        """An injection, seen 0.1 s after the call; out of force at ``ended``; undone at ``undone``."""
        injection = Injection(id, "process.kill", f"api-{entry + 1}", f"tag-{id}", ())
        self.add(InjectionArmed(at=called - 0.01, injection=injection, entry=entry))
        self.add(InjectCalled(at=called, injection=id))
        if effect:
            self._look(called + 0.1, id, called, True)
        if ended is not None:
            self._look(ended, id, ended - 0.1, False)
        if undone is not None:
            self.add(
                InjectionUndone(
                    at=undone + 0.1, injection=id, outcome=outcome, called=undone, by=by
                )
            )
        return self

    def _look(self, at: float, injection: str, previous: float, in_force: bool) -> None:
        self.add(
            Looked(
                at=at, injection=injection, took_effect=True, in_force=in_force, seen="", previous=previous
            )
        )  # fmt: skip

    def alert(
        self,
        at: float,
        *,
        page: str = "p1",
        name: str = "Burn",
        source: str = "monitoring",
        tier: str = "page",
        delivered: float | None = None,
        resolved: float | None = None,
    ) -> Journal:
        """An alert fires; its deciding sample was sent 10 ms before."""
        since = at - 0.01 if source == "monitoring" else 0.0
        self.add(AlertFired(at=at, page=page, alert=name, tier=tier, source=source, since=since))
        if delivered is not None:
            self.add(AlertDelivered(at=delivered, page=page, channel="file"))
        if resolved is not None:
            self.add(AlertResolved(at=resolved, page=page, by="monitoring"))
        return self

    def said(
        self, at: float, verb: str, text: str = "", *, role: str = "fixer", page: str = ""
    ) -> Journal:
        """A fixer says something."""
        return self.add(Said(at=at, verb=verb, role=role, name="Ada", text=text, page=page))

    def acted(
        self, at: float, action: str = "restart", slot: str = "api-1", by: str = "fixer"
    ) -> Journal:
        """Somebody does something to the sandbox."""
        return self.add(SandboxChanged(at=at, action=action, slot=slot, by=by))

    def reported(self, at: float, sender: str = "customer") -> Journal:
        """Somebody reports."""
        return self.add(Reported(at=at, sender=sender, text="It is broken."))

    def slept(self, at: float, seconds: float = 60.0, who: str = "host") -> Journal:
        """The host was suspended, or the runner stopped."""
        return self.add(Suspended(at=at, seconds=seconds, who=who))

    def load(
        self, begin: float, end: float, *, ok: int = 10, failed: int = 0, endpoint: str = "GET /"
    ) -> Journal:
        """Buckets of 100 ms."""
        for number in range(round((end - begin) * 10)):
            start = begin + number / 10
            errors = {"refused": "connection refused"} if failed else {}
            self.add(
                LoadBucket(at=start + 0.1, start=start, endpoint=endpoint, ok=ok, failed=failed, errors=errors)
            )  # fmt: skip
        return self

    def ordered(self) -> list[Event]:
        """The journal as it would have been written."""
        ordered = sorted(self.events, key=lambda event: event.at)
        return [msgspec.structs.replace(e, seq=n) for n, e in enumerate(ordered, start=1)]

    def score(self) -> Score:
        """Score it."""
        return score(self.scenario, self.ordered())
