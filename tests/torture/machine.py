"""What there is in the namespaces of a drill, and what can be done to it: processes, memory, disk, clock."""

from __future__ import annotations

import os
import re
import resource
import subprocess
import time
from collections.abc import Callable
from pathlib import Path

HERE = Path(__file__).parent

HOME = Path("/mnt")
"""What the namespaces have for themselves: not /tmp, where a checkout may lie."""


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


def ours(missing: str) -> bool:
    """Whether what is missing was the drill's to lose.

    A mount that came with the namespace goes from it, too, when somebody outside removes the
    folder on which it is mounted; in /tmp, where no drill of the campaign is, it may be there again.
    """
    kind, _, name = missing.partition(": ")
    path = Path(name)
    return kind != "mount" or (path.exists() and Path("/tmp") not in path.parents)


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
