"""Real kills: drills on the local sandbox, of which something dies at a random instant.

    python -m tests.torture.kills [--drills 300] [--first SEED] [--jobs 2] [--json]

Each drill breaks a little cluster with one of the ten faults while its runner, watchdog,
supervisor, or several of them are killed, frozen, starved of memory, or robbed of their
disk or their clock. It has PID, mount and network namespaces of its own: what is left of
it is whatever is still there, and nothing else can be hit. Checked of each:

- no process, mount, listening socket, control group, or file outside the drill's folder and the
  machine's state is left, and the state knows of no open drill;
- whatever was armed is undone: by the runner, by the watchdog within 2 s, or, where both
  were killed, by `gameday recover`, after the next command said that it is needed;
- `gameday debrief` works on what there is, and no command shows a traceback.

A drill that is wrong is printed with the command that plays it again. Needs Linux and root.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from tests.torture.kill_jobs import ENDINGS, FAULTS, PROMISED, WATCHED, job
from tests.torture.killed_drill import Found, inside
from tests.torture.machine import HERE, world

__all__ = ["FAULTS", "PROMISED", "lacks", "main", "result", "run_all", "show", "world"]

REPOSITORY = HERE.parents[1]


# --- the campaign ---------------------------------------------------------------------------


def play(seed: int, answers: Path) -> dict[str, Any]:
    """One drill in namespaces of its own; what became of it."""
    answer = answers / f"{seed}.json"
    argv = ["unshare", "--mount", "--pid", "--net", "--ipc", "--fork", "--kill-child"]
    argv += ["--mount-proc", "--propagation", "private"]
    argv += [sys.executable, "-m", "tests.torture.kills", "--inside", str(seed), str(answer)]
    try:
        done = subprocess.run(
            argv, cwd=REPOSITORY, capture_output=True, text=True, timeout=180, check=False
        )
        said = done.stderr[-2000:]
    except subprocess.TimeoutExpired:
        said = "it took longer than 180 s"
    try:
        found: dict[str, Any] = json.loads(answer.read_text())
    except (OSError, json.JSONDecodeError):
        found = vars(Found(wrong=[f"the campaign itself failed: {said}"])) | {"kept": ""}
    return vars(job(seed)) | found


def lacks() -> str:
    """Why the campaign cannot run here; empty if it can."""
    if sys.platform != "linux" or os.geteuid() != 0:
        return "killing in namespaces of its own needs Linux and root"
    missing = [name for name in ("unshare", "ip", "mount", "cc") if shutil.which(name) is None]
    return f"not installed: {', '.join(missing)}" if missing else ""


def run_all(seeds: Sequence[int], jobs: int) -> list[dict[str, Any]]:
    """Every drill, several side by side."""
    home = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    answers = Path(tempfile.mkdtemp(prefix="torture-", dir=made(home / "gameday-torture")))
    with ThreadPoolExecutor(jobs) as pool:
        found = list(pool.map(lambda seed: play(seed, answers), seeds))
    if not any(each["wrong"] for each in found):
        shutil.rmtree(answers)
    return found


def made(folder: Path) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    return folder


def result(found: Sequence[Mapping[str, Any]], seconds: float) -> dict[str, Any]:
    """The campaign's figures as plain data."""
    undone = sorted(
        each["undone_after"]
        for each in found
        if each["undone_after"] is not None
        and each["outstanding"]
        and each["ending"].startswith(WATCHED)
    )
    return {
        "drills": len(found),
        "seconds": round(seconds, 1),
        "faults": dict(sorted(Counter(each["fault"] for each in found).items())),
        "endings": {
            ending: {
                "drills": sum(each["ending"] == ending for each in found),
                "outstanding": sum(
                    each["ending"] == ending and each["outstanding"] > 0 for each in found
                ),
                "wrong": sum(each["ending"] == ending and bool(each["wrong"]) for each in found),
            }
            for ending in ENDINGS
        },
        "instants": dict(sorted(Counter(each["instant"] for each in found).items())),
        "undone_by_watchdog": {
            "drills": len(undone),
            "median": round(undone[len(undone) // 2], 2) if undone else None,
            "p99": round(undone[int(len(undone) * 0.99)], 2) if undone else None,
            "most": round(undone[-1], 2) if undone else None,
        },
        "differences": sum(bool(each["wrong"]) for each in found),
        "wrong": [
            {
                "what": each["wrong"],
                "drill": f"{each['fault']}, {each['ending']} {each['instant']} +{each['delay']:.3f} s",
                "kept": each["kept"],
                "again": f"python -m tests.torture.kills --first {each['seed']} --drills 1",
            }
            for each in found
            if each["wrong"]
        ],
    }


def show(found: Mapping[str, Any]) -> str:
    """The same for people."""
    watched = found["undone_by_watchdog"]
    lines = [
        f"Kills: {found['drills']} drills in {found['seconds'] / 60:.1f} min",
        "",
        f"  {'':<42}{'drills':>8}{'with something armed':>22}{'wrong':>7}",
    ]
    for ending, each in found["endings"].items():
        lines.append(
            f"  {ending:<42}{each['drills']:>8}{each['outstanding']:>22}{each['wrong']:>7}"
        )
    lines += ["", "  " + ", ".join(f"{k} {v}" for k, v in found["faults"].items())]
    lines += ["  " + ", ".join(f"{k} {v}" for k, v in found["instants"].items())]
    lines += [
        "",
        f"  undone by the watchdog: {watched['drills']} drills, median {watched['median']} s, "
        f"p99 {watched['p99']} s, at most {watched['most']} s (promised: {PROMISED:g} s)",
        f"  drills after which the machine was not as before: {found['differences']}",
    ]
    lines += list(_told(found["wrong"]))
    return "\n".join(lines)


def _told(wrong: Sequence[Mapping[str, Any]]) -> Iterator[str]:
    for each in wrong:
        yield f"\n  {each['drill']}"
        yield from (f"    {what}" for what in each["what"])
        yield f"    kept: {each['kept']}"
        yield f"    again: {each['again']}"


def main(argv: list[str] | None = None) -> int:
    """Play and tell; 1 if something was left."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--drills", type=int, default=300)
    parser.add_argument("--first", type=int, default=0, help="the first seed")
    parser.add_argument("--jobs", type=int, default=2)
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--inside", nargs=2, metavar=("SEED", "ANSWER"), help=argparse.SUPPRESS)
    given = parser.parse_args(argv)
    if given.inside:
        inside(int(given.inside[0]), Path(given.inside[1]))
        return 0
    if why := lacks():
        parser.error(why)
    begun = time.monotonic()
    seeds = range(given.first, given.first + given.drills)
    found = result(run_all(seeds, given.jobs), time.monotonic() - begun)
    print(json.dumps(found, indent=2) if given.json else show(found))
    return 1 if found["wrong"] else 0


if __name__ == "__main__":
    sys.exit(main())
