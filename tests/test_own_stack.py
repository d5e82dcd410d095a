"""A cluster that is not ours: HAProxy, a Go binary and Redis, declared in YAML and drilled."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

STACK = Path(__file__).parent / "stack"


def require(program: str) -> None:
    if shutil.which(program) is None:
        if os.environ.get("CI") == "true":
            pytest.fail(f"{program} is not installed, and CI must test with it")
        pytest.skip(f"{program} is not installed")


@pytest.mark.sandbox
@pytest.mark.acceptance
def test_a_drill_on_haproxy_go_and_redis(tmp_path: Path) -> None:
    for program in ("haproxy", "redis-server", "go"):
        require(program)
    for name in ("sandbox.yaml", "scenario.yaml", "main.go"):
        shutil.copy(STACK / name, tmp_path)
    build = ["go", "build", "-o", "counter", "main.go"]
    subprocess.run(build, cwd=tmp_path, check=True, env=os.environ | {"CGO_ENABLED": "0"})
    command = [sys.executable, "-m", "gameday", "run", "scenario.yaml", "--json"]
    environment = os.environ | {"GAMEDAY_STATE": str(tmp_path / "state")}
    ended = subprocess.run(
        command, cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=90
    )
    assert ended.returncode in (0, 1), ended.stderr
    debrief = json.loads(ended.stdout)
    (injection,) = debrief["injections"]
    assert injection["target"].startswith("counter-")
    assert injection["how"] == "taken-over"
    (incident, *_) = debrief["incidents"]
    assert incident["timings"]["time_to_restore"]["state"] == "measured"
    left = subprocess.run(["pgrep", "-f", str(tmp_path)], capture_output=True, text=True)
    assert not left.stdout
