"""What the comparisons with Chaos Toolkit share: environments, and interleaved timing.

Both tools are installed in environments of their own under ``~/.cache/gameday-bench``,
ours from a wheel that is built now, with all bytecode compiled. Nothing is resident:
each run is a process from its start to its end.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

CACHE = Path.home() / ".cache" / "gameday-bench"
REPOSITORY = Path(__file__).resolve().parents[2]
CHAOSTOOLKIT = "1.19.0"
ROUNDS = 15


@dataclass(frozen=True)
class Peers:
    """Where the two commands are, and their versions."""

    gameday: Path
    chaos: Path
    versions: Mapping[str, str]

    @property
    def python(self) -> Path:
        """The interpreter of our environment."""
        return self.gameday.parent / "python"


def install() -> Peers:
    """Both environments; installs what is missing, and always our own wheel anew.

    Raises:
        SystemExit: if that is not possible here; says why.
    """
    try:
        return Peers(_ours(), _theirs(), _versions())
    except subprocess.CalledProcessError as error:
        said = f"{error.stdout or ''}{error.stderr or ''}".strip().splitlines()
        raise SystemExit(
            f"cannot be measured: {error.cmd[0]} failed: {said[-1:] or '?'}"
        ) from error


def _call(*argv: object, **options: Any) -> str:
    command = [str(word) for word in argv]
    done = subprocess.run(command, check=True, capture_output=True, text=True, **options)
    return done.stdout


def _environment(name: str) -> Path:
    folder = CACHE / name
    if not (folder / "bin" / "python").exists():
        _call(sys.executable, "-m", "venv", folder)
    return folder


def _pip(folder: Path, *words: object) -> None:
    _call(folder / "bin" / "python", "-m", "pip", "-q", "--disable-pip-version-check", *words)


def _compiled(folder: Path) -> None:
    subprocess.run(
        [folder / "bin" / "python", "-m", "compileall", "-q", "-j", "0", folder / "lib"],
        stdout=subprocess.DEVNULL,  # some packages ship files for other Pythons
        check=False,
    )


def _ours() -> Path:
    folder = _environment("gameday")
    with tempfile.TemporaryDirectory(prefix="gameday-wheel-") as built:
        _call(sys.executable, "-m", "build", "--wheel", "--outdir", built, REPOSITORY)
        wheel = next(Path(built).glob("*.whl"))
        _pip(folder, "install", wheel)
        _pip(folder, "install", "--force-reinstall", "--no-deps", wheel)
    _compiled(folder)
    return folder / "bin" / "gameday"


def _theirs() -> Path:
    folder = _environment("chaostoolkit")
    command = folder / "bin" / "chaos"
    if not command.exists():
        _pip(folder, "install", f"chaostoolkit=={CHAOSTOOLKIT}")
        _compiled(folder)
    return command


def _versions() -> dict[str, str]:
    found = {"python": ".".join(map(str, sys.version_info[:3]))}
    for environment in ("gameday", "chaostoolkit"):
        listed = _call(
            CACHE / environment / "bin" / "python",
            *("-m", "pip", "list", "--format", "json", "--disable-pip-version-check"),
        )
        wanted = ("gameday-drills", "chaostoolkit", "chaostoolkit-lib")
        found |= {
            each["name"]: each["version"] for each in json.loads(listed) if each["name"] in wanted
        }
    return found


# --- timing ---------------------------------------------------------------------------------


@dataclass
class Way:
    """One way to do the work; ``run`` does it once and returns its seconds."""

    name: str
    run: Callable[[], float]
    seconds: list[float] = field(default_factory=list)

    @property
    def median(self) -> float:
        """Over the rounds."""
        return statistics.median(self.seconds)


def interleave(ways: Sequence[Way], rounds: int) -> None:
    """Each way once a round, each round beginning with another; the first does not count."""
    for number in range(-1, rounds):
        turn = number % len(ways)
        for way in [*ways[turn:], *ways[:turn]]:
            seconds = way.run()
            if number >= 0:
                way.seconds.append(seconds)


def timed(argv: Sequence[object], folder: Path, *, codes: tuple[int, ...] = (0,)) -> float:
    """Wall time of a process from its start to its end, in seconds.

    Raises:
        SystemExit: if it ended with another code than expected; says what it said.
    """
    environment = {
        "PATH": os.environ.get("PATH", "/usr/bin:/bin"),
        "HOME": str(folder),
        "XDG_STATE_HOME": str(folder / "state"),
        "LANG": "C.UTF-8",
    }
    command = [str(word) for word in argv]
    with (folder / "said.txt").open("w+b") as said:
        begun = time.perf_counter()
        code = subprocess.call(
            command, cwd=folder, env=environment, stdout=said, stderr=said, stdin=subprocess.DEVNULL
        )
        seconds = time.perf_counter() - begun
        if code not in codes:
            said.seek(0)
            text = said.read().decode(errors="replace")
            raise SystemExit(f"{' '.join(command)} ended with {code}:\n{text}")
    return seconds


@dataclass(frozen=True)
class Promise:
    """``ours`` takes at most ``bound`` times as long as ``other``."""

    what: str
    ours: Way
    other: Way
    bound: float = math.inf

    @property
    def ratio(self) -> float:
        """The median of the ratios, round by round: what disturbs a round disturbs both."""
        pairs = zip(self.ours.seconds, self.other.seconds, strict=True)
        return statistics.median(ours / other for ours, other in pairs)

    @property
    def of_medians(self) -> float:
        """The ratio of the medians: what is promised."""
        return self.ours.median / self.other.median

    def plain(self) -> dict[str, Any]:
        """As data, in milliseconds."""
        return {
            "what": self.what,
            "ours": self.ours.name,
            "ours_ms": round(self.ours.median * 1e3, 1),
            "other": self.other.name,
            "other_ms": round(self.other.median * 1e3, 1),
            "ratio": round(self.of_medians, 3),
            "ratio_by_rounds": round(self.ratio, 3),
            "bound": self.bound if self.bound < math.inf else None,
            "verdict": "pass" if self.of_medians <= self.bound else "short",
        }


def result(name: str, promises: Sequence[Promise], peers: Peers, rounds: int) -> dict[str, Any]:
    """The figures of one benchmark as plain data."""
    return {
        "benchmark": name,
        "versions": dict(peers.versions),
        "rounds": rounds,
        "promises": [promise.plain() for promise in promises],
        "load_average": round(os.getloadavg()[0], 1),
    }


def show(found: Mapping[str, Any]) -> str:
    """The same for people."""
    versions = ", ".join(f"{name} {version}" for name, version in found["versions"].items())
    lines = [
        f"{found['benchmark']}: medians of {found['rounds']} runs each, interleaved",
        f"  {versions}",
        "",
        f"  {'':<22}{'ours':>10}{'other':>11}  {'':<22}{'ratio':>8}{'(rounds)':>10}{'promised':>10}",
    ]
    for each in found["promises"]:
        bound = "" if each["bound"] is None else f"≤ {each['bound']:g}×"
        verdict = "" if each["bound"] is None else f"  {each['verdict']}"
        ratios = f"{each['ratio']:>7.2f}×{each['ratio_by_rounds']:>9.2f}×"
        lines.append(
            f"  {each['what']:<22}{each['ours_ms']:>7.0f} ms{each['other_ms']:>8.0f} ms"
            f"  {each['other']:<22}{ratios}{bound:>10}{verdict}"
        )
    lines.append(f"  Load average of this machine, ourselves included: {found['load_average']}")
    return "\n".join(lines)


def arguments(doc: str | None, argv: list[str] | None) -> argparse.Namespace:
    """What every comparison takes on its command line."""
    parser = argparse.ArgumentParser(description=(doc or "").splitlines()[0])
    parser.add_argument("--json", action="store_true", help="print the figures as JSON")
    parser.add_argument("--rounds", type=int, default=ROUNDS)
    return parser.parse_args(argv)
