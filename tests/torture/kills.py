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
import pty
import random
import re
import resource
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from gameday.drills.folder import DrillFolder, list_drills
from gameday.drills.undo_log import read_undo_log
from tests.little_drill import lay_out, scenario

HERE = Path(__file__).parent
REPOSITORY = HERE.parents[1]
DAY = 86_400
PROMISED = 2.0
"""Seconds from the kill to everything undone, where the watchdog lives."""
FROZEN = 5.0
"""Seconds without a sign of life after which the watchdog ends the runner."""
PATIENCE = 40.0
HOME = Path("/mnt")
"""What the namespaces have for themselves: not /tmp, where a checkout may lie."""

FAULTS = {
    "process.kill": "target: {service: back}",
    "process.pause": "target: {service: back}",
    "process.crashloop": "target: {service: back}",
    "cpu.burn": "target: {service: front}",
    "memory.hog": "target: {service: back}",
    "disk.fill": "target: {service: back}",
    "net.latency": "target: {link: front->back}, delay: 300ms",
    "net.blackhole": "target: {link: front->back}",
    "net.reset": "target: {link: front->back}",
    "net.bandwidth": "target: {link: front->back}, rate: 8kbit/s",
}

ENDINGS = (
    "runner SIGKILL",
    "runner SIGTERM",
    "runner SIGINT",
    "runner SIGINT twice",
    "runner SIGHUP",
    "runner SIGQUIT",
    "runner out of memory",
    "runner frozen",
    "terminal closed",
    "parent killed",
    "watchdog SIGKILL",
    "watchdog frozen",
    "supervisor SIGKILL",
    "supervisor frozen, runner SIGKILL",
    "watchdog and supervisor SIGKILL",
    "runner and supervisor SIGKILL",
    "runner and watchdog SIGKILL",
    "runner, watchdog and supervisor SIGKILL",
    "recover killed too",
    "watchdog frozen, runner SIGKILL",
    "undo log removed, runner SIGKILL",
    "disk full",
    "clock jumps",
)
BOTH = {
    "runner and watchdog SIGKILL",
    "runner, watchdog and supervisor SIGKILL",
    "recover killed too",
    "watchdog frozen, runner SIGKILL",
}
"""Where nobody is left who could put anything back; judged after `gameday recover`."""
WATCHED = (
    "runner SIGKILL",
    "runner frozen",
    "runner and supervisor",
    "supervisor frozen",
)
"""Where the watchdog alone puts everything back, and has 2 s for it."""
INSTANTS = ("at any time", "while starting", "armed", "injected", "undoing")

FIXERS = 'fixers: {scripted: {reaction: 300ms, steps: [ack, "restart back-1"]}}\n'


@dataclass(frozen=True)
class Job:
    """One drill: what breaks, what dies, and when."""

    seed: int
    fault: str
    ending: str
    instant: str
    delay: float


def job(seed: int) -> Job:
    """The drill of that seed. Consecutive seeds go through every fault and every ending, and in
    the end through every pair of them."""
    rng = random.Random(seed)
    instant = rng.choice(INSTANTS)
    delay = {"at any time": rng.uniform(0.0, 4.0), "while starting": rng.uniform(0.0, 1.2)}.get(
        instant, rng.choice((0.0, rng.uniform(0, 0.01), rng.uniform(0, 0.2)))
    )
    return Job(
        seed=seed,
        fault=list(FAULTS)[(seed + seed // len(ENDINGS)) % len(FAULTS)],
        ending=ENDINGS[seed % len(ENDINGS)],
        instant=instant,
        delay=delay,
    )


# --- inside the namespaces: this process is their init --------------------------------------


@dataclass
class Found:
    """What became of one drill."""

    wrong: list[str] = field(default_factory=list)
    undone_after: float | None = None
    gone_after: float | None = None
    outstanding: int = 0
    hit: str = ""
    exit_code: int | None = None
    recovered: int = 0


class Inside:
    """The drill, and its end. Everything that it sees belongs to it."""

    def __init__(self, given: Job, folder: Path) -> None:
        self.job = given
        self.root = folder / "root"
        self.elsewhere = folder / "elsewhere"
        self.found = Found()
        self.environment = {
            "PATH": os.environ["PATH"],
            "HOME": str(folder / "home"),
            "TMPDIR": str(HOME / "tmp"),
            "GAMEDAY_STATE": str(folder / "state"),
            "LANG": "C.UTF-8",
            "TERM": "dumb",
        }
        self.clock = folder / "clock"
        self.master = -1

    def play(self) -> Found:
        self._lay_out()
        before = world(self.root)
        runner = self._start()
        self._wait_for_instant(runner)
        struck = self._strike(runner)
        self._await_end(runner, struck)
        if self.job.ending in BOTH:
            self._recover()
        self._await_quiet()
        after = world(self.root)
        self.found.wrong += [f"left over: {each}" for each in sorted(after - before)]
        self.found.wrong += [f"missing: {each}" for each in sorted(before - after) if ours(each)]
        self.found.wrong += [f"left over: control group {each}" for each in self._groups()]
        self.found.wrong += [f"left over: {each}" for each in self._elsewhere()]
        self._judge_record()
        return self.found

    def _lay_out(self) -> None:
        for path in (self.root, self.elsewhere, Path(self.environment["HOME"])):
            path.mkdir()
        if self.job.ending == "disk full":
            mount("tmpfs", self.root, "size=12m")
        text = scenario(self.job.fault, FAULTS[self.job.fault], name="torture") + FIXERS
        lay_out(self.root, text, name="torture")
        if self.job.ending == "clock jumps":
            self.clock.write_text("0")
            shim = build_shim(self.clock.with_suffix(".so"))
            self.environment |= {"LD_PRELOAD": str(shim), "WALL_CLOCK": str(self.clock)}

    def _command(self, *words: str) -> list[str]:
        return [sys.executable, "-P", "-m", "gameday", *words]

    def _start(self) -> int:
        """Start the runner; its pid."""
        argv = self._command("run", "torture.yaml", "--seed", str(self.job.seed))
        if self.job.ending == "parent killed":
            argv = ["/bin/sh", "-c", '"$@"; exit $?', "sh", *argv]
        with (self.root.parent / "said.txt").open("wb") as said:
            if self.job.ending != "terminal closed":
                child = subprocess.Popen(
                    argv,
                    cwd=self.root,
                    env=self.environment,
                    stdin=subprocess.DEVNULL,
                    stdout=said,
                    stderr=said,
                    start_new_session=True,
                )
                return child.pid
        pid, self.master = pty.fork()
        if pid == 0:
            os.chdir(self.root)
            os.execve(argv[0], argv, self.environment)
        return pid

    def _folder(self) -> DrillFolder | None:
        drills = list_drills(self.root)
        return drills[0] if drills else None

    def _journal(self) -> bytes:
        folder = self._folder()
        try:
            return folder.journal.read_bytes() if folder is not None else b""
        except OSError:
            return b""

    def _wait_for_instant(self, runner: int) -> None:
        waits: dict[str, Callable[[], bool]] = {
            "armed": lambda: b'"InjectionArmed"' in self._journal(),
            "injected": lambda: b'"InjectCalled"' in self._journal(),
            "undoing": lambda: b'"phase":"reverting"' in self._journal(),
        }
        condition = waits.get(self.job.instant)
        until(lambda: condition is None or condition() or not alive(runner), PATIENCE, 0.002)
        time.sleep(self.job.delay)

    def _strike(self, runner: int) -> float:
        """Let it happen; when it did."""
        ending = self.job.ending
        folder = self._folder()
        if folder is not None:
            read = read_undo_log(folder.undo, folder.recovery)
            self.found.outstanding = len(read.outstanding)
        target = runner
        if ending == "parent killed":
            children = [p for p in processes() if parent(p) == runner]
            self.found.hit = "parent"
            kill(runner, signal.SIGKILL)
            target = children[0] if children else runner
        self.found.hit = self.found.hit or ("runner" if alive(target) else "nobody")
        struck = time.monotonic()
        if ending.startswith("runner SIG"):
            name, *twice = ending.removeprefix("runner ").split()
            kill(target, getattr(signal, name))
            if twice:
                time.sleep(0.05)
                kill(target, getattr(signal, name))
        elif ending == "runner out of memory":
            starve(target)
        elif ending == "runner frozen":
            kill(target, signal.SIGSTOP)
        elif ending == "terminal closed":
            os.close(self.master)
        elif ending == "disk full":
            fill(self.root / "filler")
        elif ending == "clock jumps":
            self.clock.write_text(str(random.Random(self.job.seed).choice((DAY, -DAY))))
        elif ending.startswith("watchdog frozen"):
            self._freeze_watchdog(target)
        elif ending.startswith("supervisor frozen"):
            for victim in self._victims("supervisor", target):
                kill(victim, signal.SIGSTOP)
            struck = time.monotonic()
            kill(target, signal.SIGKILL)
        else:
            if ending.startswith("undo log removed") and folder is not None:
                folder.undo.unlink(missing_ok=True)
            victims = self._victims(ending, target)
            struck = time.monotonic()
            for victim in victims:
                kill(victim, signal.SIGKILL)
        return struck

    def _freeze_watchdog(self, runner: int) -> None:
        """One that guards no drill yet is its user's to continue."""
        watchdogs = [pid for pid in processes() if b"gameday.drills.watchdog" in command(pid)]
        for pid in watchdogs:
            kill(pid, signal.SIGSTOP)
        if "runner" in self.job.ending:
            kill(runner, signal.SIGKILL)
            self.found.hit = "2 processes"
            until(lambda: reap(self.found, runner) or not alive(runner), PATIENCE, 0.01)
            if not self._guards():
                for pid in watchdogs:
                    kill(pid, signal.SIGCONT)

    def _guards(self) -> bool:
        """Whether the state knows of a drill with its watchdog."""
        drills = (Path(self.environment["GAMEDAY_STATE"]) / "drills").glob("[!.]*.json")
        return any(b'"watchdog":{' in path.read_bytes() for path in drills)

    def _victims(self, ending: str, runner: int) -> list[int]:
        wanted: dict[str, Callable[[int], bool]] = {
            "watchdog": lambda pid: b"gameday.drills.watchdog" in command(pid),
            "supervisor": lambda pid: b"sandbox.local.supervisor" in command(pid),
        }
        victims = [
            pid
            for name, fits in wanted.items()
            if name in ending or (ending == "recover killed too" and name == "watchdog")
            for pid in processes()
            if fits(pid)
        ]
        if "runner" in ending or ending == "recover killed too":
            victims.insert(0, runner)
        if len(victims) > 1:
            random.Random(self.job.seed).shuffle(victims)
            self.found.hit = f"{len(victims)} processes"
        return victims

    def _await_end(self, runner: int, struck: float) -> None:
        """The runner ends; meanwhile, when was everything undone?"""
        patient = self.job.ending == "runner frozen"

        def over() -> bool:
            # Nothing had begun, or all was over: then it is its user's to continue.
            if patient and alive(runner) and not self._open() and not self._watchdog_acted():
                kill(runner, signal.SIGCONT)
            reap(self.found, runner)
            if self.found.undone_after is None and self._is_undone():
                self.found.undone_after = time.monotonic() - struck
            return not alive(runner) and (
                self.found.undone_after is not None or self.job.ending in BOTH
            )

        # Without memory no probe succeeds: the steady state is waited for, for a minute.
        starved = self.job.ending == "runner out of memory"
        if not until(over, PATIENCE + 60 * starved, 0.01):
            self.found.wrong.append("it does not come to an end: " + "; ".join(left()))
        # Its first thread is dead; it can be reaped once the others are.
        until(lambda: reap(self.found, runner) or self.found.exit_code is not None, 5.0, 0.005)
        if self.found.undone_after is None:
            return
        if patient:
            self.found.undone_after -= FROZEN
        watched = self.job.ending.startswith(WATCHED)
        if watched and self.found.undone_after > PROMISED:
            self.found.wrong.append(f"undone only after {self.found.undone_after:.2f} s")

    def _open(self) -> bool:
        """Whether there is a drill to guard."""
        return any((Path(self.environment["GAMEDAY_STATE"]) / "drills").glob("*.json"))

    def _watchdog_acted(self) -> bool:
        folder = self._folder()
        return (
            folder is not None and folder.recovery.exists() and folder.recovery.stat().st_size > 0
        )

    def _is_undone(self) -> bool:
        folder = self._folder()
        if folder is None or not folder.undo.exists():
            return True
        if self.job.ending == "clock jumps" and folder.undo.stat().st_size == 0:
            return False
        return not read_undo_log(folder.undo, folder.recovery).outstanding

    def _recover(self) -> None:
        """Nobody is left: the next command says so, and `recover` puts it back."""
        folder = self._folder()
        lost = folder is not None and not self._is_undone()
        said = self._gameday("catalog")
        if lost and "gameday recover" not in said.stderr:
            self.found.wrong.append(f"the next command does not say it: {said.stderr!r}")
        if not lost and said.stderr:
            self.found.wrong.append(f"the next command says {said.stderr!r}")
        if self.job.ending == "recover killed too":
            first = subprocess.Popen(
                self._command("recover"),
                cwd=self.elsewhere,
                env=self.environment,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
            )
            time.sleep(random.Random(self.job.seed).uniform(0.05, 0.8))
            first.kill()
            first.wait()
        for _ in range(2):
            done = self._gameday("recover")
            if done.returncode != 0:
                self.found.wrong.append(f"recover ended with {done.returncode}: {done.stderr}")
            self.found.recovered += done.stdout.count(": put-back")
        if "Nothing is outstanding" not in done.stdout:
            self.found.wrong.append(f"recover twice: {done.stdout!r}")
        if not self._is_undone():
            self.found.wrong.append("recover left something")

    def _await_quiet(self) -> None:
        begun = time.monotonic()
        if not until(lambda: not reap(self.found) and not left(), 10.0, 0.02):
            self.found.wrong += [f"still runs: {each}" for each in left()]
        self.found.gone_after = time.monotonic() - begun

    def _judge_record(self) -> None:
        if self.job.ending == "disk full":
            (self.root / "filler").unlink(missing_ok=True)
        said = (self.root.parent / "said.txt").read_text(errors="replace")
        if self.found.exit_code in (2, 6) and "watchdog" not in self.job.ending:
            self.found.wrong.append(f"the drill was refused: {said}")
        if self.job.ending == "clock jumps" and self.found.exit_code not in (0, 1, 3):
            self.found.wrong.append(f"it ended with {self.found.exit_code}: {said}")
        folder = self._folder()
        if folder is None:
            if self.job.ending != "runner out of memory":  # Python itself may not have come up
                self._no_traceback(said)
            return
        if folder.undo.exists():
            read = read_undo_log(folder.undo, folder.recovery)
            self.found.wrong += [f"not undone: {each.what}" for each in read.outstanding]
            self.found.wrong += list(read.problems)
        if folder.journal.exists() and self._journal():
            done = self._gameday("debrief", folder.id, cwd=self.root)
            said += done.stdout + done.stderr
            if done.returncode != 0:
                self.found.wrong.append(f"debrief ended with {done.returncode}: {done.stderr}")
            elif not folder.debrief("html").exists():
                self.found.wrong.append("there is no debrief")
        state = Path(self.environment["GAMEDAY_STATE"]) / "drills"
        self.found.wrong += [f"the state holds {path.name}" for path in state.glob("*.json")]
        self._no_traceback(said)

    def _elsewhere(self) -> list[str]:
        """In the folder for temporary files that all share."""
        folder = self._folder()
        return [str(path) for path in Path("/tmp").glob(f"*{folder.id}*")] if folder else []

    def _groups(self) -> list[str]:
        """Control groups have no namespace here: those of others are not looked at."""
        folder = self._folder()
        walk = os.walk("/sys/fs/cgroup") if folder is not None else ()
        return [f"{at}/{n}" for at, names, _ in walk for n in names if folder and folder.id in n]

    def _no_traceback(self, said: str) -> None:
        if interrupted_before_us(said):
            return
        for mark in ("Traceback", 'File "', "Exception ignored"):
            if mark in said:
                self.found.wrong.append(f"it said: {said[-1500:]}")
                return

    def _gameday(self, *words: str, cwd: Path | None = None) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            self._command(*words),
            cwd=cwd or self.elsewhere,
            env=self.environment,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=60,
        )


def world(root: Path) -> set[str]:
    """All that a drill could leave in these namespaces, outside its own folder and state."""
    found = {f"process: {each}" for each in left()}
    found |= {f"mount: {line.split()[1]}" for line in read("/proc/self/mounts").splitlines()}
    for table in ("tcp", "tcp6", "udp", "unix"):
        for line in read(f"/proc/net/{table}").splitlines()[1:]:
            fields = line.split()
            if table != "unix" and fields[9] == "0":
                continue  # nobody's: the kernel's memory of a connection that is over
            found.add(f"{table}: {fields[-1] if table == 'unix' else fields[1]}")
    for folder, names, files in os.walk(HOME):
        if root in (Path(folder), *Path(folder).parents):
            names.clear()
            continue
        found |= {f"file: {folder}/{name}" for name in (*names, *files)}
    allowed = re.compile(
        rf"file: {root.parent}(/(root|elsewhere|home|state|clock(\.so)?|said\.txt)\b.*)?$"
    )
    found |= {f"shared memory: {name}" for name in os.listdir("/dev/shm")}  # noqa: PTH208
    return {each for each in found if not allowed.match(each)}


def interrupted_before_us(said: str) -> bool:
    """Python itself was starting when Ctrl-C came: its words, before a line of ours was run."""
    entered = re.search(r'File ".*/gameday/(?!__main__\.py)', said)
    return said.rstrip().endswith("KeyboardInterrupt") and entered is None


def ours(missing: str) -> bool:
    """Whether what is missing was the drill's to lose.

    A mount that came with the namespace goes from it, too, when somebody outside removes the
    folder on which it is mounted.
    """
    kind, _, path = missing.partition(": ")
    return kind != "mount" or Path(path).exists()


def read(path: str) -> str:
    try:
        return Path(path).read_text()
    except OSError:
        return ""


def processes() -> list[int]:
    """Everybody but ourselves."""
    return [int(n) for n in os.listdir("/proc") if n.isdigit() and int(n) != os.getpid()]  # noqa: PTH208


def command(pid: int) -> bytes:
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes()
    except OSError:
        return b""


def stat(pid: int) -> list[str]:
    text = read(f"/proc/{pid}/stat")
    return text.rpartition(")")[2].split() if text else []


def parent(pid: int) -> int:
    fields = stat(pid)
    return int(fields[1]) if fields else 0


def alive(pid: int) -> bool:
    fields = stat(pid)
    return bool(fields) and fields[0] not in "ZX"


def left() -> list[str]:
    """Who lives, a zombie apart: stopped ones, too. Anybody may end while we look."""
    states = ((pid, stat(pid)[:1]) for pid in processes())
    return [
        f"{state[0]} {command(pid).replace(bytes(1), b' ').decode(errors='replace')[:160]}"
        for pid, state in states
        if state and state[0] not in "ZX"
    ]


def reap(found: Found, runner: int = 0) -> bool:
    """Reap who has ended, as an init does; False."""
    while True:
        try:
            pid, status = os.waitpid(-1, os.WNOHANG)
        except ChildProcessError:
            return False
        if pid == 0:
            return False
        if pid == runner:
            found.exit_code = os.waitstatus_to_exitcode(status)


def kill(pid: int, number: int) -> None:
    try:
        os.kill(pid, number)
    except ProcessLookupError:
        pass


def starve(pid: int) -> None:
    """Let every further allocation of address space fail."""
    try:
        size = int(read(f"/proc/{pid}/statm").split()[0]) * resource.getpagesize()
        resource.prlimit(pid, resource.RLIMIT_AS, (size, size))
    except (IndexError, ProcessLookupError):
        pass


def fill(path: Path) -> None:
    with path.open("wb", buffering=0) as file:
        for size in (1 << 20, 4096, 1):
            try:
                while True:
                    file.write(bytes(size))
            except OSError:
                continue


def build_shim(target: Path) -> Path:
    """The library that shifts the wall clock."""
    source = HERE / "wall_clock.c"
    subprocess.run(["cc", "-shared", "-fPIC", "-O2", "-o", target, source], check=True)
    return target


def mount(kind: str, place: Path, options: str) -> None:
    subprocess.run(["mount", "-t", kind, "-o", options, kind, place], check=True)


def until(condition: Callable[[], bool], within: float, every: float) -> bool:
    deadline = time.monotonic() + within
    while not condition():
        if time.monotonic() > deadline:
            return False
        time.sleep(every)
    return True


def inside(seed: int, answer: Path) -> None:
    """The whole of one drill; this process is the init of its namespaces."""
    subprocess.run(["ip", "link", "set", "lo", "up"], check=True)
    for place in (HOME, Path("/dev/shm")):
        mount("tmpfs", place, "size=512m")
    folder = HOME / "torture"
    for path in (folder, HOME / "tmp"):
        path.mkdir()
    found = Inside(job(seed), folder).play()
    kept = ""
    if found.wrong:
        kept = str(answer.with_suffix(".kept"))
        shutil.copytree(folder, kept, symlinks=True, ignore=shutil.ignore_patterns(".reserve"))
    answer.write_text(json.dumps(vars(found) | {"kept": kept}))


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
