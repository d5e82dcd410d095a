"""A drill of a few seconds on a little cluster of two light processes, for tests that play many."""

from __future__ import annotations

import shutil
from pathlib import Path

__all__ = ["CLUSTER", "lay_out", "scenario"]

CLUSTER = """\
name: little
entry: front
disk: 2MiB
services:
  front:
    command: ["{{ python }}", "-S", "{{ folder }}/service.py", "{{ port }}", "{{ data }}"]
    links: [back]
    health: {tcp: true, every: 200ms, timeout: 5s}
  back:
    command: ["{{ python }}", "-S", "{{ folder }}/service.py", "{{ port }}", "{{ data }}"]
    health: {tcp: true, every: 200ms, timeout: 5s}
"""
_SCENARIO = """\
apiVersion: gameday/v1
name: {name}
title: Something breaks, and something goes wrong
duration: {duration}
stabilise: {stabilise}
sandbox: {{kind: local, file: cluster.yaml}}
slis:
  available: {{every: 50ms, over: 200ms, good: "status == 200"}}
steady_state: {{available: ">= 50%"}}
hypotheses:
  - {{id: stays-up, claim: It stays up., expect: "available >= 50%"}}
alerts:
  - {{name: Drill, tier: page, at: {alert}, summary: A drill., impact: None., verify: Nowhere.,
     first_step: Nothing., escalate: Nobody.}}
faults:
  - {{at: {at}, inject: {fault}, {parameters}}}
"""


def scenario(
    fault: str = "process.kill",
    parameters: str = "target: {service: back}",
    *,
    name: str = "little",
    duration: str = "1500ms",
    stabilise: str = "100ms",
    at: str = "200ms",
    alert: str = "100ms",
) -> str:
    """One fault, one page, and nobody who responds. Further keys may be appended."""
    return _SCENARIO.format(**locals())


def lay_out(folder: Path, text: str, *, cluster: str = CLUSTER, name: str = "little") -> Path:
    """Write scenario and cluster, with the cluster's program beside them; the scenario's path."""
    folder.mkdir(exist_ok=True)
    shutil.copy(Path(__file__).parent / "little" / "service.py", folder)
    (folder / "cluster.yaml").write_text(cluster)
    path = folder / f"{name}.yaml"
    path.write_text(text)
    return path
