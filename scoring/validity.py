"""Findings about the drill itself: what makes its figures weaker than they look."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import groupby

from gameday.injectors.units import show_share
from gameday.scoring.checks import VOID_LIMIT
from gameday.scoring.evidence import Evidence, seconds, validity
from gameday.scoring.instants import tell_suspend
from gameday.scoring.score import Finding

__all__ = ["RULES"]

OWN_CPU_LIMIT = 0.10
"""Share of the CPU time used above which our own is a finding."""


def _start(e: Evidence) -> Iterator[Finding]:
    facts = e.facts
    if facts.ended == "unhealthy-start" and facts.not_started:
        why = _first_line(facts.not_started)
        yield validity("not-started", f"The sandbox did not start, so nothing was injected: {why}.")
    elif facts.ended == "unhealthy-start":
        yield validity(
            "unhealthy-start",
            "The steady state did not hold at the start, so nothing was injected.",
        )
    elif facts.ended == "died":
        yield validity(
            "died",
            f"The journal just stops at {seconds(facts.end)}: the runner did not end this drill itself.",
            facts.end,
        )
    elif facts.ended == "refused":
        yield validity("refused", "The drill was refused before anything was started.", facts.end)
    elif facts.ended == "failed":
        yield validity("failed", "The drill ended by a fault of Gameday's own.", facts.end)
    elif facts.ended == "aborted" and facts.aborts:
        abort = facts.aborts[0]
        yield validity(
            "aborted", f"The drill was aborted ({abort.by}): {_first_line(abort.why)}.", abort.at
        )


def _measuring(e: Evidence) -> Iterator[Finding]:
    for suspend in e.facts.suspends:
        yield validity("suspended", tell_suspend(suspend), suspend.at)
    for sli in e.slis:
        if sli.samples and sli.void / sli.samples > VOID_LIMIT:
            yield validity(
                "void-samples",
                f"{sli.void} of {sli.samples} samples of {sli.name} were sent too late to count.",
            )
    if e.own_cpu_share is not None and e.own_cpu_share > OWN_CPU_LIMIT:
        yield validity(
            "own-cpu",
            f"Gameday itself used {show_share(round(e.own_cpu_share, 3))} of the CPU time that was used; it is part of what was disturbed.",
        )
    for said in e.ambiguous:
        yield validity(
            "ambiguous-action",
            f"More than one incident was open when “{said.verb}” was said, so it counts for none.",
            said.at,
        )
    ours = (p for p in e.facts.problems if p.what != e.facts.not_started)
    problems = sorted(ours, key=lambda p: p.where)
    for where, group in groupby(problems, key=lambda p: p.where):
        known = list(group)
        times = "" if len(known) == 1 else f" ({len(known)} times; the first is shown)"
        yield validity(
            "own-problem",
            f"Something of Gameday's own did not work, in {where}{times}: {_first_line(known[0].what)}.",
            known[0].at,
        )


def _injecting(e: Evidence) -> Iterator[Finding]:
    for known in e.facts.called:
        name = f"{known.injection.fault} on {known.injection.target}"
        if known.took_effect is None:
            why = f": {known.failed.rstrip('.')}" if known.failed else ""
            yield validity("no-effect", f"{name} was never seen to take effect{why}.", known.called)
        if known.undone is not None and known.undone.outcome == "failed":
            yield validity(
                "not-put-back",
                f"{name} could not be put back: {(known.undone.detail or 'no reason is known').rstrip('.')}.",
                known.undone.at,
            )
        if known.checked is not None and not known.checked.equal:
            yield validity(
                "put-back-unhealthy",
                f"{name} was put back, but the target is not as it was: {(known.checked.detail or 'it differs').rstrip('.')}.",
                known.checked.at,
            )
    if e.facts.drill is not None and e.facts.drill.steady_after is False:
        yield validity(
            "unsteady-after",
            "Everything was put back, but the steady state did not hold again.",
            e.facts.drill.at,
        )
    for alert in e.alerts:
        if alert.pre_existing:
            yield validity(
                "pre-existing-alert",
                f"{alert.alert} fired before the first fault; it is not counted as detection.",
                alert.fired.high,
            )


def _first_line(text: str) -> str:
    return text.strip().partition("\n")[0].rstrip(".")


RULES = (_start, _measuring, _injecting)
