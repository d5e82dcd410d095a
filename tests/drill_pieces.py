"""What a drill written by hand is made of: its scenario, the events that every drill has, its figures."""

from __future__ import annotations

import math
from dataclasses import dataclass

import msgspec

from gameday.scenarios.model import Scenario
from gameday.scoring import events as ev
from gameday.scoring.score import Score, State, Timing

WALL = 1_795_366_046.0  # 2026-11-22 16:47:26 UTC
ZERO = 6.0


@dataclass(frozen=True)
class Example:
    """What `debrief` takes."""

    scenario: Scenario
    events: tuple[ev.Event, ...]
    score: Score


def scenario(**changes: object) -> Scenario:
    """The scenario ``api-node-failure``, with changes at its top level."""
    file: dict[str, object] = {
        "apiVersion": "gameday/v1",
        "name": "api-node-failure",
        "title": "One API node dies under load",
        "severity": "SEV-2",
        "severity_scheme": "SEV-0..5",
        "objectives": [
            "Does the shop stay usable with one node gone?",
            "Is on-call told, and can they act?",
        ],
        "duration": "3m",
        "sandbox": {"kind": "local", "app": "shop"},
        "roles": {"breaker": "automated", "fixer": "shop-oncall"},
        "load": {"journey": "browse", "users": 20, "spawn_rate": 20},
        "slis": {
            "availability": {
                "probe": "http",
                "path": "/products",
                "every": "50ms",
                "good": "status < 500 and latency < 500ms",
                "over": "2s",
            }
        },
        "steady_state": {"availability": ">= 99%"},
        "acceptable": {"availability": ">= 97%"},
        "hypotheses": [
            {
                "id": "stays-available",
                "claim": "If a single API node fails, the shop stays available.",
                "expect": "availability >= 95%",
            },
            {
                "id": "paged-in-time",
                "claim": "On-call is paged within 15 s.",
                "expect": "time_to_detect <= 15s",
            },
            {
                "id": "mitigated-in-time",
                "claim": "On-call mitigates within 60 s.",
                "expect": "time_to_mitigate <= 60s",
            },
        ],
        "alerts": [
            {
                "name": "ShopErrorBudgetBurn",
                "tier": "page",
                "when": "availability < 98% for 2s",
                "summary": "The shop answers with errors.",
                "impact": "Customers see errors on the product page.",
                "verify": "gameday sandbox ps",
                "first_step": "Restart what is not healthy.",
                "runbook": "runbooks/api-node-down.md",
            },
            {
                "name": "ShopDown",
                "tier": "page",
                "when": "availability < 10% for 5s",
                "summary": "The shop is down.",
            },
        ],
        "faults": [
            {"at": "10s", "inject": "process.kill", "target": {"service": "api", "count": 1}}
        ],
        "reports": [{"at": "18s", "from": "customer", "text": "The product page shows an error."}],
        "fixers": {"scripted": {"reaction": "3s", "steps": ["ack", "resolve"]}},
        "debrief": {
            "questions": [
                "Which of the three replicas could you lose today without anybody noticing?"
            ]
        },
    }
    file.update(changes)
    return Scenario.of(file)


def journal(*happened: ev.Event) -> tuple[ev.Event, ...]:
    """Events in order of time, numbered, with wall-clock times."""
    ordered = sorted(happened, key=lambda event: event.at)
    return tuple(
        msgspec.structs.replace(event, seq=number, wall=WALL + event.at)
        for number, event in enumerate(ordered, start=1)
    )


def begin(**changes: object) -> list[ev.Event]:
    """The events before the first fault."""
    return [
        ev.DrillStarted(
            at=0.0,
            id="20261122-164726-api-node-failure-7f3a",
            scenario="api-node-failure",
            gameday="0.1.0",
            seed=4711,
            host={"kernel": "6.1.0", "cpus": "2"},
            **changes,  # type: ignore[arg-type]
        ),
        ev.Noted(
            at=0.1,
            kind="services",
            data={
                "gateway": {"owner": "team-edge", "tier": "1"},
                "api": {"owner": "team-shop", "tier": "1"},
                "store": {"owner": "team-data", "tier": "2"},
            },
        ),
        ev.PhaseBegan(at=0.1, phase="starting"),
        ev.PhaseBegan(at=2.4, phase="steadying"),
        ev.LoadStarted(at=2.5, journey="browse", users=20),
        ev.PhaseBegan(at=ZERO, phase="running"),
    ]


def finish(end: float, why: str, *, revert: float | None = None) -> list[ev.Event]:
    """The events after the last word."""
    started = end - 3.0 if revert is None else revert
    return [
        ev.PhaseBegan(at=started, phase="reverting", why=why),
        ev.PhaseBegan(at=end - 1.2, phase="verifying"),
        ev.PhaseBegan(at=end - 0.02, phase="ended"),
        ev.DrillEnded(at=end, why=why, own_cpu=4.1, host_cpu=61.0, steady_after=True),
    ]


def series(
    end: float, outside: list[tuple[float, float]], worst: float = 0.66, *, every: float = 0.05
) -> tuple[tuple[float, float | None], ...]:
    """An SLI that falls to ``worst`` over two seconds, wavers, and returns."""
    points: list[tuple[float, float | None]] = []
    for number in range(int((end - 2.6) / every)):
        at = round(2.6 + number * every, 4)
        value = 1.0
        for left, back in outside:
            if left <= at < left + 2:
                value = 1 - (1 - worst) * (at - left) / 2
            elif left + 2 <= at < back:
                value = worst + 0.03 * math.sin(at * 5)
            elif back <= at < back + 2:
                value = worst + (1 - worst) * (at - back) / 2
        points.append((at, round(value, 3)))
    return tuple(points)


def _measured(low: float, high: float, source: str = "") -> Timing:
    return Timing(State.MEASURED, (low + high) / 2, low, high, source)


def _said(at: float, verb: str, text: str = "", **more: object) -> ev.Said:
    return ev.Said(at=at, verb=verb, role="fixer", text=text, **more)  # type: ignore[arg-type]
