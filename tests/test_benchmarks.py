"""What benchmarks run of ours still runs: they are not played by the tests."""

from __future__ import annotations

import subprocess
import sys

import pytest

from tests.benchmarks import bench_probes


@pytest.mark.slow
def test_the_probe_that_is_measured_takes_its_samples() -> None:
    service = bench_probes.Service()
    done = subprocess.run(
        [sys.executable, "-c", bench_probes.OURS, str(service.port), "3"],
        capture_output=True,
        text=True,
    )
    assert done.stdout.split()[:1] == ["3"], done.stderr
    assert len(service.at) == 3
