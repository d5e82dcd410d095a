"""A scenario that is fine with the files that it names, and the problems of one that is not."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from gameday.injectors.errors import ScenarioError
from gameday.scenarios.load import load_scenario

CLUSTER = """\
name: own
entry: web
services:
  web: {command: [serve], links: [api]}
  api: {command: [serve], replicas: 3, links: [db], environment: {MODE: quick, LEVEL: info}}
  db: {command: [serve]}
"""

GOOD = """\
apiVersion: gameday/v1
name: good
title: A scenario that is fine
severity: SEV-2
objectives: ["Does it hold?"]
duration: 2m
sandbox: {file: sandbox.yaml}
roles: {breaker: automated, fixer: on-call}
load: {journey: visit.py, users: 20, spawn_rate: 2.5}
slis:
  availability: {path: /products, every: 50ms, good: "status < 500 and latency < 500ms", over: 2s}
  slow: {quantile: 99%}
steady_state: {availability: ">= 99%", slow: "< 300ms"}
acceptable: {availability: ">= 97%"}
hypotheses:
  - {id: stays, claim: It stays., expect: "availability >= 95%"}
  - {id: told, claim: We are told., expect: "time_to_detect <= 15s"}
alerts:
  - name: Burn
    when: availability < 98% for 2s
    summary: It fails.
    impact: Customers see it.
    verify: The figures.
    first_step: Look.
    escalate: The team.
    runbook: runbooks/a.md
  - {name: Fyi, tier: fyi, at: 5s, summary: By the way.}
faults:
  - {at: 10s, inject: process.kill, target: {service: api, count: 1}}
  - {at: 20s, lasts: 10s, inject: net.latency, target: {link: api->db}, delay: 200ms, jitter: 50ms}
reports:
  - {at: 40s, from: customer, text: It hangs.}
fixers:
  scripted: {reaction: 3s, steps: [ack, identify, "restart {{ unhealthy.api }}", mitigate, resolve]}
hints: [Look at the nodes.]
abort_when: [availability < 10% for 20s]
debrief: {questions: ["What now?"]}
"""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "runbooks").mkdir()
    (tmp_path / "runbooks" / "a.md").write_text("# Runbook\n")
    (tmp_path / "sandbox.yaml").write_text(CLUSTER)
    (tmp_path / "visit.py").write_text("")
    (tmp_path / "good.yaml").write_text(GOOD)
    return tmp_path


def problems(path: Path, load: Callable[[Path], object] = load_scenario) -> list[str]:
    """``line:column message | hint`` of each problem."""
    with pytest.raises(ScenarioError) as caught:
        load(path)
    assert caught.value.exit_code == 2
    return _shown(caught.value)


def _shown(error: ScenarioError) -> list[str]:
    return [
        f"{one.line}:{one.column} {one.message}" + (f" | {one.hint}" if one.hint else "")
        for one in error.problems
    ]


def changed(folder: Path, old: str, new: str) -> list[str]:
    """The problems of the good scenario with one change."""
    assert GOOD.count(old) == 1, old
    path = folder / "changed.yaml"
    path.write_text(GOOD.replace(old, new))
    return problems(path)
