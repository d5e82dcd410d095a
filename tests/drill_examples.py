"""Drills written by hand, for the debrief and its renderers: scenario, journal, score.

The figures are plausible, not measured. The ugly ones are what a debrief must survive.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import msgspec

from gameday.injectors.fault import Injection
from gameday.scenarios.model import Scenario
from gameday.scoring import events as ev
from gameday.scoring.score import (
    AlertScore,
    Claim,
    Finding,
    HypothesisScore,
    Impact,
    Incident,
    InjectionScore,
    Instant,
    Score,
    SliScore,
    State,
    Timing,
    Verdict,
)

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


NOTHING = Timing(State.NOT_APPLICABLE)
KILL = Injection(id="inj-1", fault="process.kill", target="api-2", tag="gd-7f3a-1", undo=())


def _said(at: float, verb: str, text: str = "", **more: object) -> ev.Said:
    return ev.Said(at=at, verb=verb, role="fixer", text=text, **more)  # type: ignore[arg-type]


def node_failure() -> Example:
    """One node is killed; the scripted fixer restarts it; one belief does not hold."""
    end = 52.0
    happened: list[ev.Event] = [
        *begin(),
        ev.InjectionArmed(at=15.98, injection=KILL),
        ev.InjectCalled(at=16.0, injection="inj-1"),
        ev.SandboxChanged(at=16.01, action="exited", slot="api-2", detail="signal 9"),
        ev.Looked(
            at=16.05,
            injection="inj-1",
            took_effect=True,
            in_force=True,
            seen="api-2’s process 4242 is gone; nobody fills the slot",
            previous=16.0,
        ),
        *(
            ev.LoadBucket(
                at=16.2 + tick / 10,
                start=16.1 + tick / 10,
                endpoint="GET /products",
                ok=9,
                failed=3 if tick % 2 else 2,
                latency={"50": 9},
                errors={"502": "Bad Gateway: upstream api-2 refused the connection"}
                if tick == 0
                else {},
            )
            for tick in range(128)
        ),
        ev.SliBroke(at=16.3, sli="availability", bounds="steady state", inside=False, value=0.98),
        ev.AlertFired(
            at=18.62,
            page="p1",
            alert="ShopErrorBudgetBurn",
            tier="page",
            source="monitoring",
            summary="The shop answers with errors.",
            since=18.55,
            value="availability 71 %",
        ),
        ev.AlertDelivered(at=18.66, page="p1", channel="terminal"),
        _said(21.7, "ack", page="p1", scripted=True),
        ev.Reported(at=24.0, sender="customer", text="The product page shows an error."),
        _said(
            24.8,
            "identify",
            "api-2 is not running; the gateway still sends it a third of all requests",
            scripted=True,
        ),
        _said(
            25.4,
            "note",
            "Two nodes carry the load well enough; drain would do as well",
            name="Ada Lovelace",
        ),
        ev.SandboxChanged(at=27.9, action="restart", slot="api-2", by="fixer"),
        ev.SandboxChanged(at=28.5, action="started", slot="api-2"),
        _said(31.2, "mitigate", scripted=True),
        _said(
            36.4,
            "update",
            "Errors have stopped. Watching for two more minutes; next update at 16:50.",
            scripted=True,
        ),
        ev.SliBroke(at=31.0, sli="availability", bounds="steady state", inside=True, value=0.99),
        ev.AlertResolved(at=33.1, page="p1", by="monitoring"),
        _said(45.3, "resolve", scripted=True),
        ev.InjectionUndone(
            at=49.2,
            injection="inj-1",
            outcome="taken-over",
            called=49.1,
            by="fixer",
            detail="restarted at 00:21.9",
        ),
        ev.TargetChecked(at=49.4, injection="inj-1", equal=True),
        *finish(end, "resolved"),
    ]
    instants = {
        "onset": Instant(16.0, 16.05),
        "impact": Instant(16.05, 16.18),
        "alert": Instant(18.55, 18.62, "monitoring"),
        "delivered": Instant(18.66, 18.66),
        "detect": Instant(18.55, 18.62, "monitoring"),
        "ack": Instant(21.7, 21.7, "fixers"),
        "identify": Instant(24.8, 24.8, "fixers"),
        "mitigate": Instant(28.81, 28.97, "fixers"),
        "restore": Instant(28.81, 28.97, "fixers"),
        "resolve": Instant(45.3, 45.3, "fixers"),
    }
    timings = {
        "time_to_detect": _measured(2.5, 2.62, "monitoring"),
        "time_to_detect_from_impact": _measured(2.37, 2.57, "monitoring"),
        "time_to_acknowledge": _measured(3.08, 3.15, "fixers"),
        "time_to_identify": _measured(6.18, 6.25, "fixers"),
        "time_to_mitigate": _measured(10.19, 10.42, "fixers"),
        "time_to_restore": _measured(10.19, 10.42, "fixers"),
        "time_to_all_clear": NOTHING,
    }
    hypotheses = (
        HypothesisScore(
            "stays-available",
            "If a single API node fails, the shop stays available.",
            "availability >= 95 %",
            Verdict.REFUTED,
            "Availability fell to 66 %, and was below 95 % from 00:10.4 to 00:24.6.",
            (Instant(16.4, 16.5),),
        ),
        HypothesisScore(
            "paged-in-time",
            "On-call is paged within 15 s.",
            "time_to_detect <= 15 s",
            Verdict.SUPPORTED,
            "Detected by monitoring after 2.56 s (2.50–2.62).",
        ),
        HypothesisScore(
            "mitigated-in-time",
            "On-call mitigates within 60 s.",
            "time_to_mitigate <= 60 s",
            Verdict.SUPPORTED,
            "Mitigated by the fixers after 10.3 s (10.1–10.5).",
        ),
    )
    alert = AlertScore(
        "p1",
        "ShopErrorBudgetBurn",
        "page",
        "monitoring",
        Instant(18.55, 18.62),
        1,
        18.66,
        21.7,
        33.1,
        _measured(3.08, 3.15),
        _measured(3.04, 3.04),
    )
    score = Score(
        exit_code=1,
        ended="resolved",
        begun=ZERO,
        counted=(16.0, 28.9),
        end=end,
        incidents=(Incident(1, "impact", instants, timings, ("inj-1",)),),
        hypotheses=hypotheses,
        injections=(
            InjectionScore(
                "inj-1",
                "process.kill",
                "api-2",
                16.0,
                Instant(16.0, 16.05),
                Instant(27.9, 28.5),
                "taken-over",
                "fixer",
                "api-2’s process 4242 is gone; nobody fills the slot",
            ),
        ),
        alerts=(alert,),
        claims=(
            Claim(
                "mitigate",
                31.2,
                "fixer",
                True,
                "availability 99.2 %, inside acceptable (≥ 97 %)",
                1,
            ),
            Claim(
                "resolve",
                45.3,
                "fixer",
                True,
                "every SLI inside its steady state, no alert firing",
                1,
            ),
        ),
        slis=(
            SliScore(
                "availability",
                (">= 99 %",),
                series(end, [(16.1, 28.9)]),
                ((Instant(16.05, 16.18), Instant(28.81, 28.97)),),
                988,
                905,
                2,
                0.021,
                0.66,
            ),
        ),
        impact=Impact(
            1472,
            320,
            (12.63, 12.92),
            {"availability": 8.4},
            {"GET /products: 502": 311, "GET /products: timeout": 9},
        ),
        findings=(
            Finding(
                "detected-first",
                "well",
                "Monitoring told on-call 5.4 s before the first customer did.",
                18.6,
                1,
            ),
            Finding("mitigated", "well", "The first mitigation held.", 28.9, 1),
            Finding(
                "sli-refuted",
                "poorly",
                "With one of three nodes gone, a third of all requests failed until it was back.",
                16.1,
                1,
            ),
            Finding(
                "spare",
                "lucky",
                "The two nodes that remained had room for the load of 20 users.",
                None,
                1,
            ),
            Finding(
                "health-check",
                "surprise",
                "The gateway went on sending requests to api-2 for 12 s after it had gone.",
                16.1,
                1,
            ),
        ),
        own_cpu_share=0.067,
    )
    return Example(scenario(), journal(*happened), score)


def nobody() -> Example:
    """The same fault and no fixer: everything is censored by our revert."""
    base = node_failure()
    keep = (
        ev.Said,
        ev.DrillEnded,
        ev.PhaseBegan,
        ev.AlertResolved,
        ev.InjectionUndone,
        ev.SliBroke,
    )
    happened = [
        e for e in base.events if not isinstance(e, keep) and getattr(e, "by", "") != "fixer"
    ]
    end = 192.0
    events = journal(
        *(e for e in happened if not (isinstance(e, ev.SandboxChanged) and e.at > 20)),
        *(e for e in begin() if isinstance(e, ev.PhaseBegan)),
        ev.InjectionUndone(at=187.0, injection="inj-1", outcome="put-back", called=186.1),
        *finish(end, "hard-stop", revert=186.0),
    )
    incident = base.score.incidents[0]
    kept = ("onset", "impact", "alert", "delivered", "detect")
    late = Timing(State.CENSORED, 167.4, 167.38, None)
    instants = {name: when for name, when in incident.instants.items() if name in kept}
    timings = {
        "time_to_detect": incident.timings["time_to_detect"],
        "time_to_acknowledge": late,
        "time_to_identify": late,
        "time_to_mitigate": late,
        "time_to_restore": late,
        "time_to_all_clear": NOTHING,
    }
    replace = msgspec.structs.replace
    alert = replace(
        base.score.alerts[0],
        acknowledged=None,
        resolved=187.9,
        to_acknowledge=late,
        to_acknowledge_delivered=late,
    )
    refuted = replace(
        base.score.hypotheses[2],
        verdict=Verdict.REFUTED,
        evidence="Not mitigated within 167 s: our own revert ended it.",
    )
    sli = replace(
        base.score.slis[0],
        series=series(end, [(16.1, 187.2)]),
        outside=((Instant(16.05, 16.18), None),),
        samples=3800,
        good=2550,
    )
    injection = replace(
        base.score.injections[0], how="put-back", by="", ended=Instant(186.1, 187.0)
    )
    score = replace(
        base.score,
        ended="hard-stop",
        end=end,
        counted=(16.0, 186.0),
        incidents=(replace(incident, instants=instants, timings=timings),),
        hypotheses=(*base.score.hypotheses[:2], refuted),
        injections=(injection,),
        alerts=(alert,),
        claims=(),
        slis=(sli,),
        impact=replace(
            base.score.impact,
            requests=18_210,
            failed=6_033,
            outside=(169.8, 169.95),
            error_budget={"availability": 34.2},
        ),
        findings=tuple(f for f in base.score.findings if f.kind in ("poorly",)),
    )
    return Example(scenario(fixers={}), events, score)


def false_alarm() -> Example:
    """A synthetic alert, and nothing broken."""
    end = 74.0
    scene = scenario(
        name="false-alarm",
        title="A page without a fault",
        severity="SEV-4",
        objectives=["Do people notice that nothing is broken?"],
        faults=[],
        reports=[],
        hypotheses=[
            {
                "id": "cleared",
                "claim": "On-call sees within 60 s that nothing is broken.",
                "expect": "time_to_all_clear <= 60s",
            }
        ],
        alerts=[{"name": "StoreReplicaLag", "at": "8s", "summary": "Replication is 40 s behind."}],
    )
    happened = [
        *begin(),
        ev.AlertFired(
            at=14.0,
            page="p1",
            alert="StoreReplicaLag",
            tier="page",
            source="synthetic",
            summary="Replication is 40 s behind.",
            since=14.0,
        ),
        ev.AlertFailed(at=14.9, page="p1", channel="webhook", error="connection refused"),
        ev.AlertDelivered(at=14.1, page="p1", channel="terminal"),
        _said(19.0, "ack", page="p1", name="Grace"),
        _said(26.0, "declare", "Store may be behind, checking", name="Grace"),
        _said(41.0, "note", "ps shows everything healthy, SLIs are flat"),
        _said(66.0, "all-clear", "Nothing is behind: the shop has one store and no replica"),
        *finish(end, "all-clear"),
    ]
    timings = {
        "time_to_detect": _measured(5.0, 5.0, "ack"),
        "time_to_acknowledge": _measured(5.0, 5.0, "fixers"),
        "time_to_identify": Timing(State.NOT_APPLICABLE),
        "time_to_mitigate": Timing(State.NOT_APPLICABLE, note="nothing to mitigate"),
        "time_to_restore": Timing(State.NOT_APPLICABLE),
        "time_to_all_clear": _measured(52.0, 52.0, "fixers"),
    }
    instants = {
        "onset": Instant(14.0, 14.0),
        "alert": Instant(14.0, 14.0, "synthetic"),
        "delivered": Instant(14.1, 14.1),
        "detect": Instant(19.0, 19.0, "ack"),
        "ack": Instant(19.0, 19.0, "fixers"),
        "all_clear": Instant(66.0, 66.0, "fixers"),
    }
    score = Score(
        exit_code=0,
        ended="all-clear",
        begun=ZERO,
        counted=None,
        end=end,
        incidents=(Incident(1, "false-alarm", instants, timings),),
        hypotheses=(
            HypothesisScore(
                "cleared",
                "On-call sees within 60 s that nothing is broken.",
                "time_to_all_clear <= 60 s",
                Verdict.SUPPORTED,
                "All-clear after 52.0 s.",
            ),
        ),
        injections=(),
        alerts=(
            AlertScore(
                "p1",
                "StoreReplicaLag",
                "page",
                "synthetic",
                Instant(14.0, 14.0),
                1,
                14.1,
                19.0,
                66.0,
                _measured(5.0, 5.0),
                _measured(4.9, 4.9),
                failed_channels=("webhook",),
            ),
        ),
        claims=(Claim("all-clear", 66.0, "fixer", True, "every SLI inside its steady state", 1),),
        slis=(
            SliScore("availability", (">= 99 %",), series(end, []), (), 1420, 1420, 0, 0.018, 1.0),
        ),
        impact=Impact(7_412, 0, (0.0, 0.0), {"availability": 0.0}),
        findings=(
            Finding("all-clear-held", "well", "The all-clear agreed with every SLI.", 66.0, 1),
        ),
        own_cpu_share=0.05,
    )
    return Example(scene, journal(*happened), score)


def died() -> Example:
    """The runner died in the middle; the journal just stops."""
    base = node_failure()
    events = tuple(event for event in base.events if event.at < 22.0)
    replace = msgspec.structs.replace
    incident = base.score.incidents[0]
    kept = {n: w for n, w in incident.instants.items() if w.high < 22.0}
    unknown = Timing(State.UNKNOWN, note="the journal stops")
    timings = {
        name: unknown if name not in ("time_to_detect", "time_to_acknowledge") else t
        for name, t in incident.timings.items()
    }
    score = replace(
        base.score,
        exit_code=5,
        ended="died",
        end=21.7,
        counted=(16.0, 21.7),
        incidents=(replace(incident, instants=kept, timings=timings),),
        hypotheses=tuple(
            replace(h, verdict=Verdict.INCONCLUSIVE, evidence="The journal stops at 00:15.7.")
            for h in base.score.hypotheses
        ),
        injections=(
            replace(
                base.score.injections[0],
                how="failed",
                by="",
                ended=None,
                healthy=False,
                detail="By hand: gameday sandbox restart api-2",
            ),
        ),
        claims=(),
        slis=(
            replace(
                base.score.slis[0],
                series=series(21.7, [(16.1, 99.0)]),
                outside=((Instant(16.05, 16.18), None),),
            ),
        ),
        impact=replace(base.score.impact, requests=410, failed=110, outside=(5.5, 5.7)),
        findings=(
            Finding(
                "died",
                "validity",
                "The runner died at 00:15.7; the watchdog put nothing back that it could prove.",
            ),
        ),
        own_cpu_share=None,
    )
    return Example(base.scenario, events, score)


def three_incidents() -> Example:
    """Three incidents, with a relapse, a self-healed one and one that is not ours; resolved too early once."""
    base = node_failure()
    replace = msgspec.structs.replace
    end = 330.0
    first = base.score.incidents[0]

    def moved(incident: Incident, number: int, by: float) -> Incident:
        return replace(
            incident,
            number=number,
            instants={
                n: Instant(w.low + by, w.high + by, w.source) for n, w in incident.instants.items()
            },
        )

    second = moved(first, 2, 90.0)
    healed = Instant(239.0, 241.0, "fixers")
    second = replace(
        second,
        instants=second.instants | {"mitigate": healed, "restore": healed},
        relapses=1,
        timings=first.timings
        | {
            "time_to_mitigate": _measured(131.0, 133.2, "fixers"),
            "time_to_identify": Timing(State.UNKNOWN, note="no diagnosis was recorded"),
        },
    )
    third = replace(
        moved(first, 3, 260.0),
        injections=(),
        timings=first.timings
        | {
            "time_to_detect": Timing(State.MEASURED, -0.4, -0.5, -0.3, "customer"),
            "time_to_mitigate": Timing(State.NOT_APPLICABLE, note="healed before anybody acted"),
            "time_to_acknowledge": Timing(State.UNKNOWN, note="noticed before any alert"),
        },
    )
    score = replace(
        base.score,
        end=end,
        incidents=(first, second, third),
        injections=(
            base.score.injections[0],
            InjectionScore(
                "inj-2",
                "net.latency",
                "api-1->store",
                106.0,
                Instant(106.0, 106.1),
                Instant(240.0, 240.4),
                "put-back",
            ),
        ),
        claims=(
            *base.score.claims,
            Claim(
                "resolve",
                130.0,
                "fixer",
                False,
                "availability 71 %, outside the steady state (≥ 99 %)",
                2,
            ),
        ),
        slis=(
            replace(
                base.score.slis[0],
                series=series(end, [(16.1, 28.9), (106.1, 240.0), (276.1, 288.9)]),
                outside=(
                    (Instant(16.05, 16.18), Instant(28.81, 28.97)),
                    (Instant(106.05, 106.18), Instant(239.0, 241.0)),
                    (Instant(276.05, 276.18), Instant(288.81, 288.97)),
                ),
            ),
            SliScore(
                "checkout_latency",
                ("<= 300ms",),
                tuple(
                    (2.6 + n * 0.1, 0.08 + (0.4 if 106 < 2.6 + n * 0.1 < 240 else 0))
                    for n in range(3270)
                ),
                ((Instant(106.1, 106.3), Instant(239.8, 240.1)),),
                3270,
                1900,
                14,
                0.09,
                0.48,
            ),
        ),
        impact=replace(base.score.impact, outside=(158.2, 160.9)),
    )
    slis = {
        "availability": {"path": "/products", "every": "50ms", "over": "2s"},
        "checkout_latency": {"path": "/checkout", "every": "100ms", "quantile": "99%"},
    }
    bounds = {"availability": ">= 99%", "checkout_latency": "<= 300ms"}
    scene = scenario(slis=slis, steady_state=bounds, acceptable={})
    happened = [e for e in base.events if e.at < 46]
    events = journal(
        *happened,
        _said(120.0, "hint"),
        _said(130.0, "resolve", "Looks fine from here"),
        ev.Suspended(at=200.0, seconds=3.2),
        ev.Problem(at=210.0, where="probe", what="4 samples were sent late"),
        *finish(end, "hard-stop", revert=310.0),
    )
    return Example(scene, events, score)


def hundred_notes() -> Example:
    """People typed a lot, and not all of it was harmless."""
    base = node_failure()
    unkind = [
        "<script>alert(1)</script>",
        "\x1b[31mred\x1b[0m and a \x07 bell, and \u202eleft to right",
        "X" * 80,
        "| a | table | of ``` backticks ``` |\n# not a heading\n- not a list",
        "Obviously Grace's fault, she should have checked the replica",
        "$(rm -rf /) && ${HOME} `id` https://example.com/?a=1&b=2 *bold* _it_ [link](javascript:alert(1))",
        "日本語のメモ、絵文字 🙂 and عربى",
        "]]> --> \"quotes\" & 'more' \x00 \ud800",
    ]
    notes = [
        _said(
            16.5 + number * 0.25,
            "note",
            unkind[number % len(unkind)] if number % 3 == 0 else f"note {number}",
            name="Grace" if number % 2 else "Ada Lovelace",
        )
        for number in range(100)
    ]
    return Example(base.scenario, journal(*base.events, *notes), base.score)


def unhealthy_start() -> Example:
    """The steady state never held; nothing was injected."""
    base = node_failure()
    end = 33.0
    replace = msgspec.structs.replace
    score = Score(
        exit_code=3,
        ended="unhealthy-start",
        begun=None,
        counted=None,
        end=end,
        incidents=(),
        hypotheses=tuple(
            replace(h, verdict=Verdict.INCONCLUSIVE, evidence="Nothing was injected.")
            for h in base.score.hypotheses
        ),
        injections=(),
        alerts=(),
        claims=(),
        slis=(),
        impact=Impact(0, 0, (0.0, 0.0), {}),
        findings=(
            Finding(
                "unhealthy-start",
                "validity",
                "The steady state did not hold within 30 s: availability 0 %, needed ≥ 99 %.",
            ),
        ),
    )
    events = journal(*[e for e in begin() if e.at < ZERO], *finish(end, "unhealthy-start"))
    return Example(base.scenario, events, score)


def control() -> Example:
    """Load and no fault: no incident, no alert."""
    end = 40.0
    base = unhealthy_start()
    scene = scenario(faults=[], hypotheses=[], alerts=[], reports=[], fixers={})
    score = msgspec.structs.replace(
        base.score,
        exit_code=0,
        ended="control-over",
        begun=ZERO,
        end=end,
        hypotheses=(),
        slis=(
            SliScore("availability", (">= 99 %",), series(end, []), (), 740, 740, 0, 0.018, 1.0),
        ),
        impact=Impact(4_000, 0, (0.0, 0.0), {"availability": 0.0}),
        findings=(),
    )
    return Example(scene, journal(*begin(control=True), *finish(end, "control-over")), score)


def empty() -> Example:
    """A journal without a single event."""
    score = msgspec.structs.replace(unhealthy_start().score, ended="died", end=0.0, findings=())
    return Example(scenario(), (), score)


EXAMPLES = {
    example.__name__.replace("_", "-"): example
    for example in (
        node_failure,
        nobody,
        false_alarm,
        died,
        three_incidents,
        hundred_notes,
        unhealthy_start,
        control,
        empty,
    )
}
