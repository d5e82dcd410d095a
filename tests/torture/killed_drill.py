"""One drill of the campaign of real kills, in namespaces of its own: what becomes of it."""

from __future__ import annotations

import json
import os
import pty
import random
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from gameday.drills.folder import DrillFolder, list_drills
from gameday.drills.undo_log import read_undo_log
from tests.little_drill import lay_out, scenario
from tests.torture.kill_jobs import BOTH, FAULTS, PROMISED, WATCHED, Job, job
from tests.torture.machine import (
    HOME,
    alive,
    build_shim,
    command,
    fill,
    kill,
    left,
    mount,
    ours,
    parent,
    processes,
    starve,
    until,
    world,
)

DAY = 86_400

FROZEN = 5.0
"""Seconds without a sign of life after which the watchdog ends the runner."""
PATIENCE = 40.0

FIXERS = 'fixers: {scripted: {reaction: 300ms, steps: [ack, "restart back-1"]}}\n'


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


def interrupted_before_us(said: str) -> bool:
    """Python itself was starting when Ctrl-C came: its words, before a line of ours was run."""
    entered = re.search(r'File ".*/gameday/(?!__main__\.py)', said)
    return said.rstrip().endswith("KeyboardInterrupt") and entered is None


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
