"""One drill written by hand: a node fails; with a fixer, with nobody, and with a runner that dies.

The figures are plausible, not measured.
"""

from __future__ import annotations

import msgspec

from gameday.injectors.fault import Injection
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
from tests.drill_pieces import (
    ZERO,
    Example,
    _measured,
    _said,
    begin,
    finish,
    journal,
    scenario,
    series,
)

NOTHING = Timing(State.NOT_APPLICABLE)
KILL = Injection(id="inj-1", fault="process.kill", target="api-2", tag="gd-7f3a-1", undo=())


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
