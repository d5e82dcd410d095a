"""Findings: what the evidence shows that people should talk about.

Each is one plain sentence with its figures, about systems and processes. None
names a person, and declaring on suspicion is never one. A drill in which
nothing was broken and nothing happened has none.
"""

from __future__ import annotations

from gameday.scoring import detection, luck, response, validity
from gameday.scoring.evidence import Evidence
from gameday.scoring.score import Finding

__all__ = ["findings"]

_RULES = (*validity.RULES, *detection.RULES, *response.RULES, *luck.RULES)


def findings(evidence: Evidence) -> tuple[Finding, ...]:
    """All findings: first what concerns the drill itself, then in the order of an incident's course."""
    return tuple(finding for rule in _RULES for finding in rule(evidence))
