"""Every benchmark, one after the other, and what falls short of what was promised.

    python tests/benchmarks/run.py [--json] [--only NAME ...]

Runs each ``bench_*.py`` and ``truth.py`` beside this file. Prints what each found and, at
the end, a summary. Ends with 0 also where something falls short, with 1 where a
benchmark could not run.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import time
from collections.abc import Iterator
from importlib import import_module
from pathlib import Path
from typing import Any

FOLDER = Path(__file__).parent
LIMIT = 900.0  # seconds for one of them

Found = dict[str, Any]
Row = tuple[str, str, str, str]


def scripts() -> list[Path]:
    """In the order in which they are run."""
    return [*sorted(FOLDER.glob("bench_*.py")), FOLDER / "truth.py"]


def measure(script: Path) -> Found:
    """Run one; what it found, or ``failed`` with what it said."""
    begun = time.monotonic()
    try:
        done = subprocess.run(
            [sys.executable, script, "--json"], capture_output=True, text=True, timeout=LIMIT
        )
        found: Found = json.loads(done.stdout)
        if done.returncode:
            found["failed"] = found.get("failed") or [f"it ended with {done.returncode}"]
    except subprocess.TimeoutExpired:
        found = {"failed": [f"it took longer than {LIMIT:.0f} s"]}
    except json.JSONDecodeError:
        said = f"{done.stdout}{done.stderr}".strip().splitlines()
        found = {"failed": said[-3:] or [f"it ended with {done.returncode}"]}
    found["seconds"] = round(time.monotonic() - begun, 1)
    return found


def shown(script: Path, found: Found) -> str:
    """What a benchmark found, in its own words."""
    if "benchmark" not in found:
        return f"{script.stem} could not run: " + "\n  ".join(found["failed"])
    sys.path.insert(0, str(FOLDER))
    module = import_module(script.stem)
    show = getattr(module, "show", None) or import_module("peers").show
    text: str = show(found)
    return text


def rows(found: Found) -> Iterator[Row]:
    """Each promise: what, measured, promised, verdict."""
    name = found.get("benchmark", "")
    for promise in found.get("promises", ()):
        if promise["bound"] is not None:
            what = f"{name}: {promise['what']}"
            yield what, f"{promise['ratio']:.2f}×", f"≤ {promise['bound']:g}×", promise["verdict"]
    if promise := found.get("promise"):
        measured, bound = f"{promise['measured_us']:.0f} µs", f"≤ {promise['bound_us']} µs"
        yield f"{name}: {promise['what']}", measured, bound, promise["verdict"]
    for check in found.get("checks", ()):
        yield f"{name}: {check['what']}", check["measured"], check["bound"], check["verdict"]
    for end, each in found.get("ends", {}).items():
        inside, narrow = each["share"] >= found["promised_share"], not each["too_wide"]
        share = f"≥ {found['promised_share']:.0%}"
        yield f"{name}: {end} inside", f"{each['share']:.1%}", share, _verdict(inside)
        widest = f"{each['of_bound']:.2f} × bound"
        yield f"{name}: {end} width", widest, "≤ 1 × bound", _verdict(narrow)


def _verdict(met: bool) -> str:
    return "pass" if met else "short"


def summary(all_found: dict[str, Found]) -> str:
    """Everything promised, and what could not be measured."""
    table = [row for found in all_found.values() for row in rows(found)]
    lines = ["", "Summary", ""]
    lines += [
        f"  {what:<44}{measured:>14}{bound:>15}  {verdict}"
        for what, measured, bound, verdict in table
    ]
    short = sum(verdict == "short" for *_, verdict in table)
    lines += ["", f"  {short} of {len(table)} fall short." if short else "  Nothing falls short."]
    for name, found in all_found.items():
        lines += [f"  {name}: {why}" for why in found.get("failed") or ()]
    total = sum(found["seconds"] for found in all_found.values())
    lines.append(f"  It took {total / 60:.1f} min.")
    return "\n".join(lines)


def main(argv: list[str] | None = None) -> int:
    """Run and tell."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--json", action="store_true", help="print the figures as JSON")
    parser.add_argument("--only", nargs="+", metavar="NAME", help="such as bench_cli or truth")
    given = parser.parse_args(argv)
    all_found: dict[str, Found] = {}
    for script in scripts():
        if given.only and script.stem not in given.only:
            continue
        found = all_found[script.stem] = measure(script)
        if not given.json:
            print(shown(script, found), end="\n\n", flush=True)
    print(json.dumps(all_found, indent=2) if given.json else summary(all_found))
    return 1 if any(found.get("failed") for found in all_found.values()) else 0


if __name__ == "__main__":
    sys.exit(main())
