"""Drills written by hand, for the debrief and its renderers: scenario, journal, score.

The figures are plausible, not measured. The ugly ones are what a debrief must survive.
"""

from __future__ import annotations

import msgspec

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
from tests.node_failure_examples import died, nobody, node_failure

__all__ = ["EXAMPLES", "Example", "journal", "nobody", "node_failure", "scenario"]


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
