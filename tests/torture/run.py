"""The whole campaign, and the page that tells of it: docs/reliability.md.

    python -m tests.torture.run [--short] [--page FILE]

Simulation, real kills, kills on Docker where there can be an engine, fuzzing, one after the other. ``--short`` plays a tenth of each, and
leaves the page alone. Ends with 1 if anything did not hold.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import subprocess
import sys
from collections import Counter
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from tests import engine
from tests.torture import docker_kills, kills, simulate

HERE = Path(__file__).parent
REPOSITORY = HERE.parents[1]
PAGE = REPOSITORY / "docs" / "reliability.md"
SIMULATED, LONG, KILLED, ON_DOCKER, FUZZED = 20_000, 200, 300, 60, 200_000

Figures = Mapping[str, Any]


def measure(*words: str) -> Figures:
    """One part of the campaign; its figures."""
    argv = [sys.executable, *words, "--json"]
    print("$", " ".join(argv[1:]), file=sys.stderr, flush=True)
    done = subprocess.run(argv, cwd=REPOSITORY, stdout=subprocess.PIPE, text=True, check=False)
    try:
        found: Figures = json.loads(done.stdout)
    except json.JSONDecodeError:
        raise SystemExit(f"{' '.join(argv)} ended with {done.returncode}") from None
    return found


def page(simulated: Figures, killed: Figures, docker: Figures | None, fuzzed: Figures) -> str:
    """The page, in Markdown."""
    return "\n".join(
        [
            "# Reliability: what was tried, and what came of it",
            "",
            "<!-- Generated: do not edit. `make torture` plays the campaign and writes this page. -->",
            "",
            "The promise: whatever dies, everything is put back, and the record survives. This page is what the last",
            "campaign found; `make torture` repeats it (half an hour on two cores, as root), and `make test` plays a",
            "short form each time.",
            "",
            f"Played on {datetime.now(UTC):%d %B %Y}: {platform.system()} {platform.release().split('-')[0]}, "
            f"Python {platform.python_version()}, {os.cpu_count()} cores.",
            "",
            *_simulation(simulated),
            *_kills(killed),
            *_docker(docker),
            *_fuzzing(fuzzed),
            "## What the campaign found, and what became of it",
            "",
            (HERE / "found.md").read_text(encoding="utf-8").rstrip(),
            "",
        ]
    )


def _simulation(found: Figures) -> list[str]:
    sizes = found["events"]
    where: Counter[str] = Counter()
    for name, count in found["failures"].items():
        where[name.partition(":")[0]] += count
    return [
        "## Simulation",
        "",
        f"{found['drills']:,} drills on virtual time in {found['seconds'] / 60:.1f} min, {found['long']} of them as long as "
        "the shipped scenarios: the real director, runner and scoring on the fake sandbox. In each a fault is injected, an "
        f"operation fails, and a fixer acts, by lot; each has {sizes['fewest']:,} to {sizes['most']:,} events "
        f"({sizes['all']:,} in all).",
        "",
        "Checked of each: whatever was armed is undone, or said to have failed and then recovered; the sandbox is as before; "
        "nothing is injected that was not armed, nor after somebody asked to stop; each verdict and each interval is true to "
        "the constructed truth; the journal read back scores and directs as the live drill did.",
        "",
        f"**Did not hold: {len(found['wrong'])}.**",
        "",
        *_table(("what failed", "drills"), where.most_common()),
        *_table(("how drills ended", "drills"), Counter(found["ended"]).most_common()),
    ]


def _kills(found: Figures) -> list[str]:
    watched = found["undone_by_watchdog"]
    rows = [
        (ending, each["drills"], each["outstanding"], each["wrong"])
        for ending, each in found["endings"].items()
    ]
    return [
        "## Real kills",
        "",
        f"{found['drills']} drills on the local sandbox in {found['seconds'] / 60:.1f} min, each in PID, mount and network "
        "namespaces of its own, with each of the ten faults ("
        + ", ".join(f"{kind} {count}" for kind, count in found["faults"].items())
        + "). Something dies at a random instant: "
        + ", ".join(f"{name} {count}" for name, count in found["instants"].items())
        + ". Afterwards processes, stopped processes, mounts, sockets, files, control groups and the machine's state are "
        "compared with before; where runner and watchdog were both killed, after `gameday recover`.",
        "",
        f"**Drills after which something was different: {found['differences']}.**",
        "",
        f"Where the watchdog stepped in and something was in force ({watched['drills']} drills), all was undone "
        f"{watched['median']} s after the kill in the median, {watched['p99']} s at p99, {watched['most']} s at most "
        f"(promised: {kills.PROMISED:g} s; a frozen runner counts from when it is given up).",
        "",
        *_table(("what died", "drills", "something armed then", "different afterwards"), rows),
        "Out of memory means here that every further allocation of the runner fails; the wall clock jumps by a day either way.",
        "",
    ]


def _docker(found: Figures | None) -> list[str]:
    if found is None:
        return ["## Kills on Docker", "", "Not played: there was no Docker Engine.", ""]
    watched = found["undone_by_watchdog"]
    return [
        "## Kills on Docker",
        "",
        f"{found['drills']} drills on containers of a real engine in {found['seconds'] / 60:.1f} min, with each of the faults "
        "that Docker can do ("
        + ", ".join(f"{kind} {n}" for kind, n in found["faults"].items())
        + "). Something dies at a "
        "random instant: "
        + ", ".join(f"{name} {n}" for name, n in found["instants"].items())
        + ". Afterwards what the "
        "engine says of every container, the rules and queueing disciplines in their networks, and the processes are compared "
        "with before.",
        "",
        f"**Drills after which something was different: {len(found['wrong'])}.**",
        "",
        f"Where the watchdog stepped in ({watched['drills']} drills), all was undone {watched['median']} s after the kill in "
        f"the median, {watched['most']} s at most (promised: {docker_kills.PROMISED:g} s).",
        "",
        *_table(("what died", "drills"), found["endings"].items()),
    ]


def _fuzzing(found: Figures) -> list[str]:
    targets: Counter[str] = Counter()
    for key, count in found["counts"].items():
        targets[key.partition(" ")[0]] += count
    guided = "some of them guided by coverage (atheris)" if found["guided"] else "without atheris"
    return [
        "## Fuzzing",
        "",
        f"{found['inputs']:,} inputs in {found['seconds'] / 60:.1f} min to whatever reads a file, a line or a text of people, "
        f"{guided}. The slowest took {found['slowest'][0] * 1e3:.0f} ms of CPU (allowed: 1 s), the most memory "
        f"in a worker was {found['memory'] / 2**20:.0f} MiB (allowed: 300).",
        "",
        f"**Tracebacks, hangs, too much memory: {len(found['findings'])}.**",
        "",
        *_table(("what read it", "inputs"), targets.most_common()),
    ]


def _table(head: tuple[str, ...], rows: Any) -> list[str]:
    lines = ["| " + " | ".join(head) + " |", "| --- |" + " ---: |" * (len(head) - 1)]
    lines += [
        "| " + " | ".join(f"{x:,}" if isinstance(x, int) else str(x) for x in row) + " |"
        for row in rows
    ]
    return [*lines, ""]


def main(argv: list[str] | None = None) -> int:
    """Play all, write the page, tell."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--short", action="store_true")
    parser.add_argument("--page", type=Path, default=PAGE)
    given = parser.parse_args(argv)
    part = 10 if given.short else 1
    sizes = ("--drills", str(SIMULATED // part), "--long", str(LONG // part))
    simulated = measure("-m", "tests.torture.simulate", *sizes)
    killed = measure("-m", "tests.torture.kills", "--drills", str(KILLED // part))
    why = engine.why_not()
    on_docker = ("tests.torture.docker_kills", "--drills", str(ON_DOCKER // part))
    docker = None if why else measure("-m", *on_docker)
    fuzzed = measure("tests/torture/fuzz.py", "--inputs", str(FUZZED // part))
    print(simulate.show(dict(simulated)), kills.show(killed), sep="\n\n")
    print(f"\n{docker_kills.show(docker) if docker else f'No kills on Docker: {why}'}")
    print(f"\nFuzzing: {fuzzed['inputs']:,} inputs, findings: {len(fuzzed['findings'])}")
    for key, each in sorted(fuzzed["findings"].items()):
        print(f"  {key}: {each['what']}\n{each['trace']}\n  {' '.join(each['files'])}")
    if not given.short:
        given.page.write_text(page(simulated, killed, docker, fuzzed), encoding="utf-8")
        print(f"\nwrote {given.page}")
    wrong = (simulated["wrong"], killed["wrong"], docker and docker["wrong"], fuzzed["findings"])
    return int(any(wrong))


if __name__ == "__main__":
    sys.exit(main())
