"""Hand-written journals of the usual courses, and what is asked of their scores."""

from __future__ import annotations

from gameday.scoring.score import Score, Timing, Verdict
from tests.journals import Journal, Outage, scenario

AVAILABLE = {"id": "available", "claim": "It stays up.", "expect": "availability >= 95%"}
PAGED = {"id": "paged", "claim": "On-call is paged.", "expect": "time_to_detect <= 15s"}
MITIGATED = {"id": "mitigated", "claim": "It is mitigated.", "expect": "time_to_mitigate <= 30s"}
RULE = {"name": "Burn", "when": "availability < 98% for 2s", "summary": "It burns."}


def timing(found: Score, name: str, incident: int = 1) -> Timing:
    return found.incidents[incident - 1].timings[f"time_to_{name}"]


def ids(found: Score) -> set[str]:
    return {finding.id for finding in found.findings}


def verdict(found: Score, hypothesis: str) -> Verdict:
    return next(h.verdict for h in found.hypotheses if h.id == hypothesis)


def usual(*hypotheses: dict[str, str], end: float = 40.0) -> Journal:
    """Killed at 20, paged at 23, acknowledged at 26, restarted at 40: the whole course of an incident."""
    return (
        Journal(scenario(hypotheses=list(hypotheses)))
        .frame(60, "resolved")
        .probed(62, Outage(20.05, end))
        .injected(20, end, undone=60, outcome="taken-over", by="fixer")
        .alert(23, delivered=23.2, resolved=end + 2)
        .said(26, "ack")
        .said(27, "declare")
        .said(30, "identify")
        .acted(end - 1)
        .said(end + 3, "mitigate")
        .said(end + 8, "resolve")
    )


def no_fixer() -> Journal:
    """Killed at 20, paged at 23; nobody acts, and we put it back at 100."""
    return (
        Journal(scenario(hypotheses=[MITIGATED]))
        .frame(100)
        .probed(110, Outage(20.05, 100.5))
        .injected(20, 100.5, undone=100)
        .alert(23)
    )
