"""A disk of a few MiB in a mount namespace of its own, and `gameday` run on it."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.commands import PATIENCE
from tests.little_drill import lay_out, scenario


class SmallDisk:
    """What is run in the namespaces, and the files that are seen there.

    Attributes:
        root: The disk, as seen from here: where drills are run.
        state: A second disk, for the machine's state.
    """

    def __init__(self, keeper: int, root: Path, state: Path) -> None:
        self._keeper = keeper
        self._inside = {"root": root, "state": state}
        self.root = Path(f"/proc/{keeper}/root{root}")
        self.state = Path(f"/proc/{keeper}/root{state}")

    def lay_out(self, *, at: str = "500ms") -> None:
        """The little cluster, and a scenario that stops one of its processes."""
        text = scenario(
            "process.pause", name="small-disk", duration="4s", stabilise="300ms", at=at, alert=at
        )
        lay_out(self.root, text, name="s")

    def freeze(self, which: str) -> None:
        """Let nothing be opened for writing there any more; what is open stays so."""
        path = str(self._inside[which])
        for options in (["--bind", path], ["-o", "remount,bind,ro"]):
            subprocess.run([*self._enter(), "mount", *options, path], check=True)

    def thaw(self, which: str) -> None:
        """Take the freezing back."""
        subprocess.run([*self._enter(), "umount", str(self._inside[which])], check=True)

    def fill(self, which: str, name: str = "filler") -> None:
        """Write until nothing fits any more."""
        path = (self.root if which == "root" else self.state) / name
        with path.open("ab", buffering=0) as file:
            for size in (65536, 4096, 1):
                try:
                    while file.write(b"x" * size):
                        pass
                except OSError:
                    continue

    def start(self, *args: str, env: Mapping[str, str] | None = None) -> subprocess.Popen[str]:
        """Start a command in there."""
        return subprocess.Popen(
            [*self._enter(), "env", "-C", str(self._inside["root"]), *self._command(args)],
            env=self._environment(env),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    def gameday(
        self, *args: str, env: Mapping[str, str] | None = None
    ) -> subprocess.CompletedProcess[str]:
        """Run a command to its end."""
        process = self.start(*args, env=env)
        out, err = process.communicate(timeout=2 * PATIENCE)
        return subprocess.CompletedProcess(args, process.returncode, out, err)

    def _enter(self) -> list[str]:
        user = ["-U", "--preserve-credentials"] if os.getuid() else []
        return ["nsenter", "-t", str(self._keeper), *user, "-m", "--"]

    def _command(self, args: Sequence[str]) -> list[str]:
        return [sys.executable, "-m", "gameday", *args]

    def _environment(self, extra: Mapping[str, str] | None) -> dict[str, str]:
        kept = {k: v for k, v in os.environ.items() if not k.startswith(("GAMEDAY_", "PYTHON"))}
        state = {"GAMEDAY_STATE": str(self._inside["state"]), "TERM": "dumb"}
        return kept | state | {"PYTHONDONTWRITEBYTECODE": "1"} | dict(extra or {})


@contextmanager
def small_disk(
    tmp_path: Path, size: str = "size=24m", state: str = "size=1m"
) -> Iterator[SmallDisk]:
    """Two small disks, as long as the block lasts; skipped where no namespace can be made."""
    root, home = tmp_path / "disk", tmp_path / "state"
    root.mkdir()
    home.mkdir()
    shell = (
        'mount -t tmpfs -o "$1,mode=0700" none "$2" && mount -t tmpfs -o "$3,mode=0700" none "$4" '
        "&& echo ready && exec sleep 600"
    )
    own = ["-Ur"] if os.getuid() else []
    if shutil.which("unshare") is None or shutil.which("nsenter") is None:
        _cannot("there is no unshare here")
    keeper = subprocess.Popen(
        ["unshare", *own, "-m", "sh", "-c", shell, "sh", size, str(root), state, str(home)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )
    try:
        assert keeper.stdout is not None
        if keeper.stdout.readline() != b"ready\n":
            _cannot("mount namespaces are not allowed here")
        yield SmallDisk(keeper.pid, root, home)
    finally:
        keeper.kill()
        keeper.communicate()


def _cannot(why: str) -> None:
    if os.environ.get("CI") == "true":
        pytest.fail(f"in CI this must be tried: {why}")
    pytest.skip(why)
