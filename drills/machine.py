"""What this machine can and cannot do, and why: found by trying, not by guessing."""

from __future__ import annotations

import functools
import importlib.util
import os
import platform
import sys
import tempfile
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import msgspec

from gameday.injectors.registry import BUILT_IN, describe
from gameday.injectors.sandbox.kinds import KINDS

__all__ = ["Fact", "docker_faults", "facts", "faults", "local_lacks"]


class Fact(msgspec.Struct, frozen=True):
    """One thing that was tried.

    Attributes:
        fine: False: something cannot be done here; ``means`` says what follows.
        found: What was found.
        needed: False for what only one kind of sandbox needs that many do without.
    """

    name: str
    fine: bool
    found: str
    means: str = ""
    needed: bool = True


def facts() -> Iterator[Fact]:
    """Everything that drills depend on."""
    version = ".".join(map(str, sys.version_info[:3]))
    yield Fact(
        "Python", sys.version_info >= (3, 11), version, "Gameday needs Python 3.11 or later."
    )
    linux = sys.platform == "linux"
    yield Fact(
        "system",
        linux,
        f"{platform.system()} {platform.release()} on {platform.machine()}",
        "" if linux else "The local sandbox needs Linux.",
    )
    if linux:
        yield _namespaces()
        yield _memory()
        yield _cpus()
        yield _pidfd()
        yield _network()
    yield _docker()
    yield _writable("this folder", Path.cwd())
    yield _state()
    yield _load()


def local_lacks() -> dict[str, str]:
    """Parts that a local sandbox would lack on this machine, each with the reason."""
    if sys.platform != "linux":
        return dict.fromkeys(("processes", "links", "cpu", "memory", "disk"), "it needs Linux")
    lacking: dict[str, str] = {}
    disk = _namespaces()
    if not disk.fine:
        lacking["disk"] = disk.found
    return lacking


def faults() -> Iterator[Fact]:
    """The kinds of fault that a local sandbox can do, and whether it can on this machine."""
    from gameday.injectors.registry import fault_class

    lacking = local_lacks()
    for kind in BUILT_IN:
        if not set(fault_class(kind).needs) <= KINDS["local"].parts:
            continue  # of another kind of sandbox
        missing = [part for part in fault_class(kind).needs if part in lacking]
        why = f"{missing[0]}: {lacking[missing[0]]}" if missing else ""
        yield Fact(kind, not missing, describe(kind), why)


def docker_faults() -> Iterator[Fact]:
    """The kinds of fault that Docker can do, and whether it can from this machine.

    Whether a helper container can make one is tried out before a drill, not here: one would have
    to be started.
    """
    from gameday.injectors.link_fault import NetworkFault
    from gameday.injectors.registry import fault_class
    from gameday.injectors.sandbox.docker.driver import DockerSandbox, why_outside
    from gameday.injectors.sandbox.docker.engine import Engine, surroundings

    without, parts, toxics = _no_engine(), dict[str, str](), dict[str, str]()
    if not without:
        parts = DockerSandbox.lacks_beforehand()
        toxics = {} if why_outside(Engine(surroundings())) else _lacking_toxics()
    for kind in BUILT_IN:
        fault = fault_class(kind)
        if not set(fault.needs) <= KINDS["docker"].parts:
            continue
        why = without or next((parts[part] for part in fault.needs if part in parts), "")
        if not why and issubclass(fault, NetworkFault):
            why = toxics.get(fault.toxic, "")
        yield Fact(kind, not why, describe(kind), why, False)


def _namespaces() -> Fact:
    from gameday.injectors.sandbox.local import namespaces

    with tempfile.TemporaryDirectory(prefix="gameday-doctor-") as folder:
        why = namespaces.try_out(Path(folder))
    return Fact(
        "namespaces",
        not why,
        why or "pid and mount namespaces, and disks of a fixed size",
        "The sandbox runs without its own disks, so disk.fill is refused. Unprivileged user "
        "namespaces would allow it (sysctl kernel.unprivileged_userns_clone, or AppArmor's "
        "restriction of them).",
    )


def _memory() -> Fact:
    from gameday.injectors.sandbox.local.cgroups import Groups

    groups = Groups.find("gameday-doctor")
    own = groups is not None and os.access(groups[0].parent, os.W_OK)
    found = (
        "control groups of our own" if own else "prlimit on the target (no writable memory group)"
    )
    return Fact("memory limits", True, found)


def _cpus() -> Fact:
    count = len(os.sched_getaffinity(0))
    return Fact(
        "CPUs",
        count > 1,
        f"{count} to run on",
        "cpu.burn takes the only CPU from the probes as well: samples will be late or void.",
    )


def _pidfd() -> Fact:
    try:
        os.close(os.pidfd_open(os.getpid()))
    except (AttributeError, OSError) as error:
        return Fact("pidfd", False, str(error), "The watchdog needs Linux 5.3 or later.")
    return Fact("pidfd", True, "processes are signalled without mistaking one for another")


def _network() -> Fact:
    from gameday.injectors.sandbox.netns import preflight

    if (helped := _by_helper()) is not None:
        return helped
    lacking = _lacking_toxics()
    why = "; ".join(dict.fromkeys(lacking.values()))
    which = "Network faults" if len(lacking) > 1 else f"Faults of the kind {', '.join(lacking)}"
    found = why or f"network faults in containers' own networks, {preflight.LATENCY}"
    return Fact("packets", not lacking, found, f"{which} on Docker are refused.", False)


@functools.cache
def _lacking_toxics() -> dict[str, str]:
    """What of the network faults cannot be made here; trying that out takes a second."""
    from gameday.injectors.sandbox.netns import preflight

    return preflight.lacks()


def _by_helper() -> Fact | None:
    """Where a helper container has to make network faults: whether its image is there."""
    import anyio

    from gameday.injectors.errors import GamedayError
    from gameday.injectors.sandbox.docker import image
    from gameday.injectors.sandbox.docker.driver import why_outside
    from gameday.injectors.sandbox.docker.engine import Engine, surroundings

    try:
        engine = Engine(surroundings())
        why = why_outside(engine)
        with closing(engine):
            there = bool(why) and anyio.run(image.is_there, engine)
    except GamedayError:
        return None  # the line about Docker tells
    if not why:
        return None
    state = "is there" if there else "will be built by the first drill that needs it"
    return Fact(
        "packets", True, f"by a helper container, as {why}; its image {image.name()} {state}"
    )


def _no_engine() -> str:
    """Why there is no Docker engine to be used; without Compose, there still are containers that run."""
    import anyio

    from gameday.injectors.errors import GamedayError
    from gameday.injectors.sandbox.docker.engine import Engine, surroundings

    try:
        engine = Engine(surroundings())
        with closing(engine):
            anyio.run(engine.call, "version")
    except GamedayError as error:
        return error.message
    return ""


def _docker() -> Fact:
    import anyio

    from gameday.injectors.errors import GamedayError
    from gameday.injectors.sandbox.docker.compose import Compose
    from gameday.injectors.sandbox.docker.engine import Engine, surroundings

    try:
        engine = Engine(surroundings())
    except GamedayError as error:
        return Fact("Docker", False, error.message, "Scenarios on Docker are refused.", False)
    try:
        info = anyio.run(engine.call, "info")
        Compose.command()
    except GamedayError as error:
        return Fact("Docker", False, error.message, "Scenarios on Docker are refused.", False)
    finally:
        engine.close()
    where = "" if engine.near else f" at {engine.address}"
    rootless = ""
    if "name=rootless" in (info.get("SecurityOptions") or ()):
        rootless = ", rootless"
        if info.get("CgroupDriver") == "none":
            rootless += " and without control groups (nothing to pause, or to limit)"
    found = f"Engine {info['ServerVersion']}{where}{rootless}, and Docker Compose"
    return Fact("Docker", True, found)


def _writable(name: str, path: Path) -> Fact:
    why = _unwritable(path)
    found = f"{path} cannot be written: {why}" if why else f"{path} can be written"
    means = "Drills are kept in .gameday/ here; change to another folder."
    return Fact(name, not why, found, means)


def _unwritable(path: Path) -> str:
    """Why no file can be made in a folder; empty if one can."""
    try:
        with tempfile.TemporaryFile(dir=path):
            return ""
    except OSError as error:
        return error.strerror or str(error)


def _state() -> Fact:
    from gameday.drills.state import blocked, state_folder

    stop = blocked()
    if stop is not None:
        why = f"stopped by {stop.by or 'somebody'}: {stop.why}"
        return Fact("drills allowed", False, why, "`gameday unblock` allows them again.")
    path = state_folder()
    existing = next(folder for folder in (path, *path.parents) if folder.exists())
    return (
        _writable("machine's state", existing)
        if existing != path
        else Fact(
            "machine's state",
            not _unwritable(path),
            str(path),
            "Set GAMEDAY_STATE to another folder.",
        )
    )


def _load() -> Fact:
    fine = importlib.util.find_spec("locust") is not None
    found = "Locust is installed" if fine else "Locust is not installed"
    return Fact(
        "load", fine, found, "Scenarios with load are refused; install gameday-drills anew."
    )
