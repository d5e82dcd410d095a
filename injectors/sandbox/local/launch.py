"""Starting a supervisor: its run folder, its socket, its specification, its process."""

from __future__ import annotations

import os
import signal as signals
import socket
import stat
import sys
from collections.abc import Sequence
from hashlib import blake2s
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec

from gameday.injectors.errors import SandboxError, UsageError
from gameday.injectors.sandbox.local import orders
from gameday.injectors.undo import ProcessId, SandboxRef

if TYPE_CHECKING:
    from gameday.injectors.sandbox.local.cluster import Cluster, Service

__all__ = ["LOG", "how_it_ended", "launch", "plan_ref", "tail"]

LOG = "supervisor.log"

_LONGEST_SOCKET_PATH = 107
_MODULE = "gameday.injectors.sandbox.local.supervisor"


def plan_ref(run_dir: Path | None, tag: str) -> SandboxRef:
    """Where a sandbox with this tag will be found."""
    if not tag or "/" in tag or "\0" in tag:
        raise UsageError(f"{tag!r} cannot be the tag of a sandbox")
    folder = _place(run_dir, tag)
    return SandboxRef(
        kind="local", identity=f"local:{folder}", address=str(folder), options={"tag": tag}
    )


def _place(run_dir: Path | None, tag: str) -> Path:
    short = blake2s(tag.encode(), digest_size=8).hexdigest()
    runtime = os.environ.get("XDG_RUNTIME_DIR", "")
    homes = [run_dir.absolute()] if run_dir is not None else []
    homes += [Path(runtime)] if _is_ours(runtime) else []
    homes += [Path(os.environ.get("TMPDIR") or "/tmp"), Path("/tmp")]
    names = [f"gameday-{os.geteuid()}-{name.removeprefix('gameday-')}" for name in (tag, short)]
    for home in homes:
        for name in names:
            if len(os.fsencode(home / name / orders.SOCKET)) <= _LONGEST_SOCKET_PATH:
                return home / name
    raise SandboxError("there is no folder whose path is short enough for a socket")


def _is_ours(folder: str) -> bool:
    """Ours, and to be written to: in another's, ours could be put in another's place."""
    try:
        ours = bool(folder) and Path(folder).stat().st_uid == os.geteuid()
        return ours and os.access(folder, os.W_OK | os.X_OK)
    except OSError:
        return False


def _make_folder(folder: Path) -> None:
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        folder.mkdir(mode=0o700)
    except FileExistsError:
        raise SandboxError(
            f"{folder} exists already: a sandbox runs there, or one was not cleared away",
            hint="`gameday sandbox down` ends it, `gameday recover` clears it away.",
        ) from None
    except OSError as error:
        raise SandboxError(f"{folder} cannot be made: {error.strerror}") from error
    status = folder.lstat()
    if not stat.S_ISDIR(status.st_mode) or status.st_uid != os.geteuid():
        raise SandboxError(f"{folder} is not ours")


def _service(name: str, service: Service) -> orders.ServiceSpec:
    health = service.health
    return orders.ServiceSpec(
        name=name,
        command=tuple(service.command),
        replicas=service.replicas,
        environment=dict(service.environment),
        files=dict(service.files),
        links=tuple(service.links),
        health=None
        if health is None
        else orders.HealthSpec(
            http=health.http,
            tcp=bool(health.tcp),
            command=None if health.command is None else tuple(health.command),
            every=health.every,
            timeout=health.timeout,
            start_within=health.start_within,
        ),
        reload=None if service.reload is None else signals.Signals[service.reload],
        stop=signals.Signals[service.stop],
        grace=service.grace,
        restart=service.restart == "always",
        owner=service.owner,
        tier=service.tier,
    )


async def launch(
    cluster: Cluster,
    ref: SandboxRef,
    *,
    log_dir: Path,
    owners: Sequence[ProcessId],
    folder: Path,
    isolate: bool,
) -> int:
    """Start the supervisor; it takes orders at once, and starts the services when told to.

    Returns:
        The supervisor's pid; it is our child.
    """
    from gameday.injectors.sandbox.local import templates  # a template engine: only here

    spec = orders.Spec(
        tag=ref.options["tag"],
        name=cluster.name,
        disk=cluster.disk,
        folder=str(folder.absolute()),
        log_dir=str(log_dir.absolute()),
        owners=tuple(owners),
        services=tuple(_service(name, service) for name, service in cluster.services.items()),
    )
    templates.check(spec.services, spec.folder)
    run = Path(ref.address)
    _make_folder(run)
    log_dir.mkdir(parents=True, exist_ok=True)
    (run / orders.SPEC).touch(0o600)  # environments may hold what is secret
    (run / orders.SPEC).write_bytes(msgspec.json.encode(spec))
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(run / orders.SOCKET))
        (run / orders.SOCKET).chmod(0o600)
        listener.listen(64)
        return _spawn(ref, listener.fileno(), log_dir / LOG, isolate)


def _spawn(ref: SandboxRef, listener: int, log: Path, isolate: bool) -> int:
    """The listener is handed over open: whoever connects waits until the supervisor can answer."""
    inherited = 3 if listener != 3 else 4
    environment = {k: v for k, v in os.environ.items() if not k.startswith("GAMEDAY_")}
    environment |= {
        "GAMEDAY_SANDBOX": ref.options["tag"],
        orders.SUPERVISES: ref.address,
        "GAMEDAY_ISOLATE": str(int(isolate)),
    }
    flags = os.O_WRONLY | os.O_CREAT | os.O_APPEND
    return os.posix_spawn(
        sys.executable,
        [sys.executable, "-m", _MODULE, ref.address, str(inherited)],
        environment,
        file_actions=[
            (os.POSIX_SPAWN_DUP2, listener, inherited),
            (os.POSIX_SPAWN_OPEN, 0, os.devnull, os.O_RDONLY, 0),
            (os.POSIX_SPAWN_OPEN, 1, str(log), flags, 0o600),
            (os.POSIX_SPAWN_DUP2, 1, 2),
        ],
        setsid=True,
        setsigmask=[],
        setsigdef=[
            signals.SIGINT,
            signals.SIGTERM,
            signals.SIGHUP,
            signals.SIGCHLD,
            signals.SIGPIPE,
        ],
    )


def how_it_ended(pid: int) -> str:
    """How our child ended, and forget it; empty if it still runs, or another has forgotten it."""
    try:
        ended, status = os.waitpid(pid, os.WNOHANG)
    except ChildProcessError:
        return ""
    if not ended:
        return ""
    code = os.waitstatus_to_exitcode(status)
    return f"killed by {signals.Signals(-code).name}" if code < 0 else f"with exit code {code}"


def tail(log: Path, lines: int = 15) -> str:
    """The end of a log file, for a hint."""
    try:
        text = log.read_bytes()[-8192:].decode("utf-8", "replace").splitlines()[-lines:]
    except OSError:
        text = []
    return "\n  ".join([f"The end of {log}:", *text]) if text else f"{log} is empty."
