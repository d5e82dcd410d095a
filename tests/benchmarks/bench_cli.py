"""The commands that do no drill, beside Chaos Toolkit's: --version, --help, validate.

    python tests/benchmarks/bench_cli.py [--rounds N] [--json]

``validate`` reads files of the same content: one HTTP check, one process killed, one
way back. Prints what falls short and ends with 0 also then.
"""

from __future__ import annotations

import json
import sys
import tempfile
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parent))

import peers
from peers import Promise, Way

SCENARIO = """\
apiVersion: gameday/v1
name: smallest
title: One process dies
duration: 2s
stabilise: 100ms
sandbox: {kind: attached}
slis:
  available: {address: "127.0.0.1:8080", path: /, good: "status == 200"}
steady_state: {available: ">= 99%"}
hypotheses:
  - {id: comes-back, claim: It is back at once., expect: "time_to_restore <= 2s"}
faults:
  - {at: 0s, inject: process.kill, target: {service: web}}
"""

EXPERIMENT: dict[str, Any] = {
    "version": "1.0.0",
    "title": "One process dies",
    "description": "It is back at once.",
    "tags": [],
    "steady-state-hypothesis": {
        "title": "The service answers",
        "probes": [
            {
                "type": "probe",
                "name": "available",
                "tolerance": 200,
                "provider": {"type": "http", "url": "http://127.0.0.1:8080/", "timeout": 2},
            }
        ],
    },
    "method": [
        {
            "type": "action",
            "name": "kill",
            "provider": {"type": "process", "path": "pkill", "arguments": "-9 web"},
        }
    ],
    "rollbacks": [
        {
            "type": "action",
            "name": "restart",
            "provider": {"type": "process", "path": "systemctl", "arguments": "start web"},
        }
    ],
}


def measure(both: peers.Peers, folder: Path, rounds: int) -> list[Promise]:
    """The three pairs, interleaved."""
    (folder / "smallest.yaml").write_text(SCENARIO)
    (folder / "smallest.json").write_text(json.dumps(EXPERIMENT, indent=2))
    gameday, chaos = both.gameday, both.chaos
    pairs = [
        ("--version", [gameday, "--version"], [chaos, "--version"], 0.35),
        ("--help", [gameday, "--help"], [chaos, "--help"], 0.35),
        (
            "validate",
            [gameday, "validate", "smallest.yaml"],
            [chaos, "--no-version-check", "validate", "smallest.json"],
            0.9,
        ),
    ]
    promises = [
        Promise(
            what,
            Way("gameday", lambda argv=ours: peers.timed(argv, folder)),  # type: ignore[misc]
            Way("chaos", lambda argv=theirs: peers.timed(argv, folder)),  # type: ignore[misc]
            bound,
        )
        for what, ours, theirs, bound in pairs
    ]
    peers.interleave([way for each in promises for way in (each.ours, each.other)], rounds)
    return promises


def main(argv: list[str] | None = None) -> int:
    """Measure and tell; 0 whatever came out."""
    given = peers.arguments(__doc__, argv)
    both = peers.install()
    with tempfile.TemporaryDirectory(prefix="gameday-bench-") as folder:
        promises = measure(both, Path(folder), given.rounds)
    found = peers.result("Command line", promises, both, given.rounds)
    print(json.dumps(found, indent=2) if given.json else peers.show(found))
    return 0


if __name__ == "__main__":
    sys.exit(main())
