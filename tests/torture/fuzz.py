"""Fuzz whatever reads a file, a line or a text of people: no traceback, no hang, no great memory.

::

    python tests/torture/fuzz.py                     # 200,000 inputs
    python tests/torture/fuzz.py --inputs 2000 --seed 7
    python tests/torture/fuzz.py --replay FILE       # one input that failed, again

Inputs are mutations of what is shipped (`mutations`), strategies of hypothesis, and, where
atheris is installed, what its coverage-guided engine finds. Workers run them under a cap of
memory; this process watches them, and ends one that hangs.
"""

from __future__ import annotations

import argparse
import base64
import hashlib
import json
import mmap
import os
import resource
import shutil
import subprocess
import sys
import tempfile
import time
import traceback
from collections import Counter
from dataclasses import dataclass, field
from importlib.util import find_spec
from pathlib import Path
from random import Random
from types import TracebackType
from typing import Any

ROOT = Path(__file__).resolve().parents[2]
if str(ROOT) not in sys.path:
    sys.path.insert(0, str(ROOT))

SLOWEST = 1.0
"""Seconds of the CPU that one input may take."""
_STUCK = 20.0
"""Seconds by the clock: the machine may be busy, or it waits for something."""
MEMORY = 300 * 1024 * 1024
_MAP = 4 * 1024 * 1024
_HEAD = 32
_SHARES = {"mutation": 0.6, "hypothesis": 0.1, "atheris": 0.3}
_SAVED = 3
"""Inputs that are kept for one place that failed."""


# A worker


class Desk:
    """A worker's account: what it does now (for who watches it), how much it did, what failed."""

    def __init__(self, home: Path, name: str) -> None:
        self.home, self.name = home, name
        path = home / f"{name}.now"
        if not path.exists():
            path.write_bytes(bytes(_MAP))
        with path.open("r+b") as file:
            self.map = mmap.mmap(file.fileno(), _MAP)
        self.counts: Counter[str] = Counter()
        self.refused: Counter[str] = Counter()
        self.findings: dict[str, dict[str, Any]] = {}
        self.slowest = (0.0, "")
        self.number = 0

    def run(self, target: str, kind: str, data: bytes) -> None:
        """Run one input."""
        from tests.torture.targets import TARGETS

        head = f"{target} {kind} ".encode()
        self.map[_HEAD : _HEAD + len(head) + len(data)] = head + data
        self.number += 1
        self._mark(self.number, len(head) + len(data))
        begun = time.process_time()
        try:
            TARGETS[target].run(data)
        except TARGETS[target].refuses:
            self.refused[target] += 1
        except Exception as error:
            self._found(target, kind, data, _place_of(error), repr(error)[:300], _trace(error))
        took = time.process_time() - begun
        self._mark(self.number, 0)
        self.counts[f"{target} {kind}"] += 1
        if took > self.slowest[0]:
            self.slowest = (took, f"{target} {kind}")
        if took > SLOWEST:
            self._found(target, kind, data, "slow", f"it took {took:.2f} s", "")
        if self.number % 100 == 0:
            self.save()

    def _mark(self, number: int, size: int) -> None:
        self.map[0:24] = number.to_bytes(8) + size.to_bytes(8) + time.monotonic_ns().to_bytes(8)

    def _found(
        self, target: str, kind: str, data: bytes, where: str, what: str, trace: str
    ) -> None:
        key = f"{target}: {what.partition('(')[0]} at {where}"
        known = self.findings.setdefault(
            key, {"times": 0, "what": what, "trace": trace, "files": []}
        )
        known["times"] += 1
        if len(known["files"]) < _SAVED:
            known["files"].append(save_input(self.home, target, kind, data))

    def save(self) -> None:
        """Write the account, so that it outlives the worker."""
        account = {
            "counts": self.counts,
            "refused": self.refused,
            "findings": self.findings,
            "slowest": self.slowest,
            "memory": peak_memory(),
        }
        draft = self.home / f"{self.name}.draft"
        draft.write_text(json.dumps(account))
        draft.replace(self.home / f"{self.name}.json")


def save_input(home: Path, target: str, kind: str, data: bytes) -> str:
    """Keep an input that failed; the path."""
    name = f"{target}-{hashlib.sha256(data).hexdigest()[:12]}.json"
    path = home / "failed" / name
    path.parent.mkdir(exist_ok=True)
    encoded = base64.b64encode(data).decode()
    path.write_text(json.dumps({"target": target, "kind": kind, "data": encoded}))
    return str(path)


def _place_of(error: BaseException) -> str:
    """Where in our own code it came from."""
    frames = traceback.extract_tb(error.__traceback__)
    ours = [f for f in frames if "gameday" in f.filename or "/targets.py" in f.filename]
    last = (ours or list(frames))[-1]
    return f"{Path(last.filename).name}:{last.lineno}"


def _trace(error: BaseException) -> str:
    return "".join(traceback.format_exception(error))[-3000:]


def peak_memory() -> int:
    """The most that this process ever held, in bytes."""
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith("VmHWM"):
            return int(line.split()[1]) * 1024
    return 0


def work(spec: dict[str, Any]) -> None:
    """A worker's whole life."""
    home = Path(spec["home"])
    os.nice(5)
    engine = {"mutation": _mutate, "hypothesis": _strategies, "atheris": _guided}[spec["engine"]]
    from tests.torture import targets

    try:
        engine(spec, Desk(home, spec["name"]))
    finally:
        if targets._place.cache_info().currsize:
            shutil.rmtree(targets._place(), ignore_errors=True)


def _cap() -> None:
    """More than this and whatever asks for it gets a MemoryError, which is a finding."""
    resource.setrlimit(resource.RLIMIT_DATA, (MEMORY, MEMORY))


def _mutate(spec: dict[str, Any], desk: Desk) -> None:
    from tests.torture.mutations import make
    from tests.torture.targets import TARGETS

    _cap()
    names, shares = list(TARGETS), [target.share for target in TARGETS.values()]
    for index in range(spec["first"], spec["first"] + spec["count"]):
        random = Random(f"{spec['seed']}:{index}")
        target = random.choices(names, shares)[0]
        kind, data = make(TARGETS[target].form, random)
        desk.run(target, kind, data[: _MAP - 256])
    desk.save()


def _strategies(spec: dict[str, Any], desk: Desk) -> None:
    from hypothesis import HealthCheck, Phase, given, seed, settings

    from tests.torture.strategies import inputs
    from tests.torture.targets import TARGETS

    _cap()
    total = sum(target.share for target in TARGETS.values())
    for name, target in TARGETS.items():
        how = settings(
            max_examples=max(1, round(spec["count"] * target.share / total)),
            database=None,
            deadline=None,
            phases=[Phase.generate],
            suppress_health_check=list(HealthCheck),
        )

        @given(inputs(target.form))
        def feed(data: bytes) -> None:
            desk.run(name, "strategy", data)  # noqa: B023 - called before the next begins

        seed(spec["seed"])(how(feed))()
    desk.save()


def _guided(spec: dict[str, Any], desk: Desk) -> None:
    import atheris

    from tests.torture.mutations import corpus
    from tests.torture.targets import TARGETS

    names = list(TARGETS)
    seeds = desk.home / f"{desk.name}.corpus"
    seeds.mkdir(exist_ok=True)
    for number, name in enumerate(names):
        for at, data in enumerate(corpus(TARGETS[name].form)):
            (seeds / f"{name}-{at}").write_bytes(bytes([number]) + data)
    _cap()

    def one(data: bytes) -> None:
        if data:
            desk.run(names[data[0] % len(names)], "guided", data[1:])
        if desk.number >= spec["count"]:
            desk.save()
            from tests.torture import targets

            shutil.rmtree(targets._place(), ignore_errors=True)
            os._exit(0)

    options = [f"-seed={spec['seed'] % 2**31 + 1}", "-max_len=8192", "-rss_limit_mb=0"]
    atheris.Setup([sys.argv[0], *options, "-timeout=60", "-len_control=0", str(seeds)], one)
    atheris.Fuzz()


# The watch


@dataclass
class Watched:
    """A worker that runs."""

    spec: dict[str, Any]
    process: subprocess.Popen[bytes]
    map: mmap.mmap
    seen: int = -1
    since: float = 0.0
    cpu: float = 0.0


@dataclass
class Report:
    """What came of it all."""

    seed: int
    inputs: int = 0
    counts: Counter[str] = field(default_factory=Counter)
    refused: Counter[str] = field(default_factory=Counter)
    findings: dict[str, dict[str, Any]] = field(default_factory=dict)
    slowest: tuple[float, str] = (0.0, "")
    memory: int = 0
    guided: bool = False
    seconds: float = 0.0

    def add(self, account: dict[str, Any]) -> None:
        """Take in a worker's account."""
        self.counts.update(account["counts"])
        self.refused.update(account["refused"])
        self.inputs += sum(account["counts"].values())
        self.slowest = max(self.slowest, tuple(account["slowest"]))
        self.memory = max(self.memory, account["memory"])
        for key, found in account["findings"].items():
            known = self.findings.setdefault(key, found | {"times": 0, "files": []})
            known["times"] += found["times"]
            known["files"] = [*known["files"], *found["files"]][:_SAVED]

    def json(self) -> str:
        """For machines."""
        return json.dumps(vars(self), indent=2, default=dict)

    def show(self) -> str:
        """For people."""
        targets: dict[str, Counter[str]] = {}
        for key, count in self.counts.items():
            target, kind = key.split(" ", 1)
            targets.setdefault(target, Counter())[kind] += count
        lines = [f"{self.inputs:,} inputs in {self.seconds:.0f} s, seed {self.seed}"]
        for target, kinds in sorted(targets.items()):
            split = ", ".join(f"{kind} {count:,}" for kind, count in kinds.most_common())
            total, refused = sum(kinds.values()), self.refused[target]
            lines.append(f"  {target:<14}{total:>8,}  refused {refused:>7,}  {split}")
        where = f" ({self.slowest[1]})" if self.slowest[1] else ""
        lines.append(f"slowest: {self.slowest[0] * 1000:.0f} ms of CPU{where}")
        lines.append(f"most memory: {self.memory / 2**20:.0f} MiB in a worker")
        how = "with atheris" if self.guided else "no: atheris is not installed here"
        lines.append(f"coverage-guided: {how}")
        for key, found in sorted(self.findings.items()):
            lines += ["", f"FOUND {key}, {found['times']} times: {found['what']}", found["trace"]]
            lines += [f"  again: python tests/torture/fuzz.py --replay {f}" for f in found["files"]]
        lines.append(f"findings: {len(self.findings)}")
        return "\n".join(lines)


def fuzz(
    inputs: int, seed: int, home: Path, *, workers: int = 2, guided: bool | None = None
) -> Report:
    """Run so many inputs; what came of it. ``guided``: with atheris; by default where it is."""
    begun = time.monotonic()
    guided = find_spec("atheris") is not None if guided is None else guided
    report = Report(seed, guided=guided)
    running: list[Watched] = []
    todo = _specs(inputs, seed, home, guided, workers)
    try:
        while todo or running:
            while todo and len(running) < workers:
                running.append(_start(todo.pop(0)))
            time.sleep(0.05)
            for worker in list(running):
                more = _look_after(worker, report)
                if more is not None:
                    running.remove(worker)
                    todo[:0] = more
    finally:
        from tests.torture.targets import HOME

        for worker in running:
            worker.process.kill()
            worker.process.wait()
        for left in Path(HOME).glob(f"gameday-fuzz-{os.getpid()}-*"):
            shutil.rmtree(left, ignore_errors=True)
    for account in sorted(home.glob("*.json")):
        report.add(json.loads(account.read_text()))
    if report.memory > MEMORY:
        size = f"{report.memory / 2**20:.0f} MiB"
        report.findings["memory"] = {"times": 1, "what": size, "trace": "", "files": []}
    report.seconds = time.monotonic() - begun
    return report


def _specs(inputs: int, seed: int, home: Path, guided: bool, workers: int) -> list[dict[str, Any]]:
    shares = dict(_SHARES)
    if not guided:
        shares["mutation"] += shares.pop("atheris")
    found = []
    for engine, share in shares.items():
        count = -(-round(inputs * share) // workers)
        for part in range(workers):
            found.append(
                {
                    "name": f"{engine}-{part}",
                    "engine": engine,
                    "first": part * count,
                    "count": count,
                    "seed": seed if engine == "mutation" else seed + part,
                    "home": str(home),
                }
            )
    return found


def _start(spec: dict[str, Any]) -> Watched:
    home = Path(spec["home"])
    now = home / f"{spec['name']}.now"
    now.write_bytes(bytes(_MAP))
    with now.open("r+b") as file:
        shared = mmap.mmap(file.fileno(), _MAP)
    command = [sys.executable, str(Path(__file__).resolve()), "--worker", json.dumps(spec)]
    with (home / f"{spec['name']}.log").open("wb") as log:
        process = subprocess.Popen(
            command, stdin=subprocess.DEVNULL, stdout=log, stderr=log, cwd=home
        )
    return Watched(spec, process, shared, since=time.monotonic())


def _look_after(worker: Watched, report: Report) -> list[dict[str, Any]] | None:
    """None while it runs; else what is to be started in its place."""
    number, size, _ = (int.from_bytes(worker.map[at : at + 8]) for at in (0, 8, 16))
    code = worker.process.poll()
    if code == 0:
        return []
    now, cpu = time.monotonic(), _cpu(worker.process.pid) if code is None else 0.0
    if code is None and (number != worker.seen or not size):
        worker.seen, worker.since, worker.cpu = number, now, cpu
        return None
    if code is None and cpu - worker.cpu <= 2 * SLOWEST and now - worker.since <= _STUCK:
        return None
    worker.process.kill()
    worker.process.wait()
    what = "it hangs" if code is None else f"the worker died with {code}"
    log = Path(worker.spec["home"]) / f"{worker.spec['name']}.log"
    target, kind, data = "?", "?", b""
    if size:
        target, kind, data = _now(worker.map[_HEAD : _HEAD + size])
    key = f"{target}: {what}"
    found = report.findings.setdefault(
        key,
        {"times": 0, "what": what, "trace": log.read_text("utf-8", "replace")[-3000:], "files": []},
    )
    found["times"] += 1
    if data:
        found["files"].append(save_input(Path(worker.spec["home"]), target, kind, data))
    number += not size  # it died before it began with the next one
    rest = worker.spec["count"] - number
    if worker.spec["engine"] == "hypothesis" or rest <= 0 or not number:
        return []
    again = {"first": worker.spec["first"] + number, "count": rest}
    if worker.spec["engine"] == "atheris":
        again["seed"] = worker.spec["seed"] + 1000
    return [worker.spec | again | {"name": worker.spec["name"] + "x"}]


def _now(data: bytes) -> tuple[str, str, bytes]:
    target, kind, rest = data.split(b" ", 2)
    return target.decode(), kind.decode(), rest


def _cpu(pid: int) -> float:
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return 0.0
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def replay(path: Path) -> int:
    """Run one saved input, with its traceback."""
    from tests.torture.targets import TARGETS

    saved = json.loads(path.read_text())
    target, data = TARGETS[saved["target"]], base64.b64decode(saved["data"])
    print(f"{saved['target']} ({saved['kind']}), {len(data)} bytes: {data[:2000]!r}")
    _cap()
    begun = time.process_time()
    try:
        target.run(data)
    except target.refuses as error:
        print(f"refused, as it should be: {error}")
    took = time.process_time() - begun
    print(f"{took * 1000:.1f} ms, {peak_memory() / 2**20:.0f} MiB")
    return int(took > SLOWEST)


class _Home:
    """A folder for all that is written; kept where something failed."""

    def __enter__(self) -> Path:
        self.path = Path(tempfile.mkdtemp(prefix="gameday-fuzz-"))
        return self.path

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        tb: TracebackType | None,
    ) -> None:
        if not (self.path / "failed").is_dir():
            shutil.rmtree(self.path, ignore_errors=True)


def main() -> int:
    """The command line; the exit code is 1 if something was found."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--inputs", type=int, default=200_000)
    parser.add_argument("--seed", type=int, help="default: a new one")
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--json", action="store_true", help="print the figures for machines")
    parser.add_argument("--replay", type=Path, metavar="FILE", help="run one input that failed")
    parser.add_argument("--worker", type=json.loads, help=argparse.SUPPRESS)
    asked = parser.parse_args()
    if asked.worker:
        if asked.worker["engine"] == "atheris":
            import atheris

            with atheris.instrument_imports(include=["gameday", "yaml"]):
                import tests.torture.targets  # noqa: F401 - instrumented as it is imported
        work(asked.worker)
        return 0
    if asked.replay:
        return replay(asked.replay)
    seed = asked.seed if asked.seed is not None else int.from_bytes(os.urandom(4))
    with _Home() as home:
        report = fuzz(asked.inputs, seed, home, workers=asked.workers)
    print(report.json() if asked.json else report.show())
    return int(bool(report.findings))


if __name__ == "__main__":
    sys.exit(main())
