"""The command `gameday` as people use it: in processes of its own, from several terminals."""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

import pytest

from gameday.drills.folder import DrillFolder, list_drills
from gameday.drills.journal import read_journal
from gameday.scenarios.catalog import CATALOGUE
from gameday.scoring import events

E = TypeVar("E", bound=events.Event)

PATIENCE = 60.0
"""Seconds to wait for what should come at once: the machine may be busy."""


@dataclass
class Terminal:
    """A folder to type in, with a machine state of its own."""

    cwd: Path
    state: Path
    running: list[Run] = field(default_factory=list)

    def environment(self, extra: Mapping[str, str] | None = None) -> dict[str, str]:
        """Ours without what would change the outcome: no terminal, no names, no other state."""
        kept = {k: v for k, v in os.environ.items() if not k.startswith(("GAMEDAY_", "PYTHON"))}
        for name in ("COLUMNS", "LINES", "FORCE_COLOR", "CLICOLOR_FORCE", "TTY_COMPATIBLE"):
            kept.pop(name, None)
        return kept | {"GAMEDAY_STATE": str(self.state), "TERM": "dumb"} | dict(extra or {})

    def gameday(
        self,
        *args: str | Path,
        timeout: float = PATIENCE,
        cwd: Path | None = None,
        env: Mapping[str, str] | None = None,
        stdin: str = "",
    ) -> subprocess.CompletedProcess[str]:
        """Run a command to its end."""
        return subprocess.run(
            [sys.executable, "-m", "gameday", *map(str, args)],
            cwd=cwd or self.cwd,
            env=self.environment(env),
            input=stdin,
            capture_output=True,
            text=True,
            timeout=timeout,
        )

    def say(self, *args: str | Path, **options: Any) -> str:
        """Run a command that must succeed; what it printed."""
        done = self.gameday(*args, **options)
        assert done.returncode == 0, f"{args}: {done.returncode}\n{done.stdout}\n{done.stderr}"
        return done.stdout

    def start(self, *args: str | Path, env: Mapping[str, str] | None = None) -> Run:
        """Start a drill, and return once its journal is there."""
        before = {folder.id for folder in list_drills(self.cwd)}
        number = len(self.running) + 1
        out, err = self.cwd / f"run-{number}.out", self.cwd / f"run-{number}.err"
        with out.open("wb") as stdout, err.open("wb") as stderr:
            process = subprocess.Popen(
                [sys.executable, "-m", "gameday", "run", *map(str, args)],
                cwd=self.cwd,
                env=self.environment(env),
                stdin=subprocess.DEVNULL,
                stdout=stdout,
                stderr=stderr,
            )
        run = Run(process, out, err)
        self.running.append(run)

        def begun() -> bool:
            new = [folder for folder in list_drills(self.cwd) if folder.id not in before]
            if process.poll() is not None and not new:
                pytest.fail(f"the drill did not begin: {out.read_text()}{err.read_text()}")
            if new and new[0].journal.is_file() and run.events():
                run.folder = new[0]
                return True
            if new:
                run.folder = new[0]
            return False

        wait_until(begun, "the drill begins")
        return run

    def open_drills(self) -> list[str]:
        """Ids of the drills that this machine's state holds as open."""
        return sorted(path.stem for path in (self.state / "drills").glob("[!.]*.json"))


@dataclass
class Run:
    """A `gameday run` that goes on in a process of its own."""

    process: subprocess.Popen[bytes]
    out: Path
    err: Path
    folder: DrillFolder | None = None

    @property
    def id(self) -> str:
        """The drill's id."""
        assert self.folder is not None
        return self.folder.id

    def events(self) -> tuple[events.Event, ...]:
        """The journal so far."""
        if self.folder is None or not self.folder.journal.is_file():
            return ()
        return read_journal(self.folder.journal).events

    def of(self, kind: type[E]) -> list[E]:
        """The events of one kind so far."""
        return [event for event in self.events() if isinstance(event, kind)]

    def until(
        self, condition: Callable[[], object], what: str, *, within: float = PATIENCE
    ) -> None:
        """Wait for something that comes while the drill runs."""

        def met() -> bool:
            if condition():
                return True
            if self.process.poll() is not None and not condition():
                pytest.fail(f"the drill ended before {what}\n{self.said()}")
            return False

        wait_until(met, what, within=within)

    def until_phase(self, phase: str, *, within: float = PATIENCE) -> None:
        """Wait until a phase has begun."""
        self.until(
            lambda: any(event.phase == phase for event in self.of(events.PhaseBegan)),
            f"the phase {phase} began",
            within=within,
        )

    def wait(self, *, within: float = 2 * PATIENCE) -> int:
        """Wait for its end; its exit code."""
        return self.process.wait(within)

    def said(self) -> str:
        """All that it printed."""
        return self.out.read_text() + self.err.read_text()

    def debrief(self) -> dict[str, Any]:
        """Its debrief as data."""
        assert self.folder is not None
        found: dict[str, Any] = json.loads(self.folder.debrief("json").read_text())
        return found

    def end(self) -> None:
        """End it, whatever it does; what it left is the watchdog's."""
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)
            try:
                self.process.wait(30)
            except subprocess.TimeoutExpired:
                self.process.kill()
                self.process.wait()


def wait_until(condition: Callable[[], object], what: str, *, within: float = PATIENCE) -> float:
    """Wait for something that happens in other processes; how long it took."""
    start = time.monotonic()
    while not condition():
        if time.monotonic() - start > within:
            pytest.fail(f"not within {within:.0f} s: {what}")
        time.sleep(0.05)
    return time.monotonic() - start


def copy_scenario(
    folder: Path, name: str, *edits: tuple[str, str], called: str | None = None
) -> Path:
    """A shipped scenario, with its runbooks, in ``folder``; each edit must find its text."""
    text = (CATALOGUE / f"{name}.yaml").read_text(encoding="utf-8")
    for old, new in edits:
        assert old in text, f"{name}.yaml has no {old!r}"
        text = text.replace(old, new)
    folder.mkdir(parents=True, exist_ok=True)
    shutil.copytree(CATALOGUE / "runbooks", folder / "runbooks", dirs_exist_ok=True)
    path = folder / f"{called or name}.yaml"
    path.write_text(text, encoding="utf-8")
    return path


def without(text: str, *sections: str) -> str:
    """A scenario's text without whole top-level sections."""
    for section in sections:
        text, found = re.subn(rf"(?m)^{section}:.*\n(?:[ #-].*\n|\n(?=[ #-]))*", "", text)
        assert found == 1, section
    return text


def leftovers(drill: str) -> list[str]:
    """What a drill left on this machine: processes, mounts, run folders, control groups."""
    return [*_processes(drill), *_mounts(drill), *_folders(drill), *_cgroups(drill)]


def assert_nothing_left(terminal: Terminal, drill: str, *, within: float = 10.0) -> None:
    """Nothing of the drill lives on; processes that were just killed may take a moment."""
    deadline = time.monotonic() + within
    while found := [*leftovers(drill), *(f"state: {i}" for i in terminal.open_drills())]:
        assert time.monotonic() < deadline, found
        time.sleep(0.1)


def _processes(drill: str) -> Iterator[str]:
    marks = [f"{name}={drill}".encode() for name in ("GAMEDAY_SANDBOX", "GAMEDAY_DRILL")]
    for entry in Path("/proc").iterdir():
        if not entry.name.isdigit() or int(entry.name) == os.getpid():
            continue
        try:
            line = (entry / "cmdline").read_bytes()
            environment = (entry / "environ").read_bytes().split(b"\0")
            output = (entry / "fd" / "1").readlink()  # the watchdog's is its log
        except OSError:
            continue
        named = drill.encode() in line or drill in str(output)
        if named or any(mark in environment for mark in marks):
            shown = line.replace(b"\0", b" ").decode("utf-8", "replace")[:200]
            yield f"process {entry.name}: {shown}"


def _mounts(drill: str) -> Iterator[str]:
    for line in Path("/proc/mounts").read_text().splitlines():
        if drill in line:
            yield f"mount: {line}"


def _folders(drill: str) -> Iterator[str]:
    homes = {os.environ.get("XDG_RUNTIME_DIR") or "/tmp", tempfile.gettempdir(), "/tmp"}
    for home in sorted(homes):
        for path in Path(home).glob(f"*{drill}*"):
            yield f"folder: {path}"


def _cgroups(drill: str) -> Iterator[str]:
    for path, names, _ in os.walk("/sys/fs/cgroup"):
        for name in names:
            if drill in name:
                yield f"control group: {path}/{name}"


def no_traceback(*texts: str) -> None:
    """Users never see one, nor warnings of Python's or a library's."""
    for text in texts:
        for mark in ("Traceback", 'File "', "Warning:", "Exception ignored"):
            assert mark not in text, text


def one_line(argv: Sequence[object]) -> str:
    """A command for a message."""
    return " ".join(map(str, argv))
