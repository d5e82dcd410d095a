"""A small local sandbox of real processes, and what is asked of it and of its services."""

from __future__ import annotations

import contextlib
import os
import textwrap
import urllib.error
import urllib.request
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from pathlib import Path
from typing import Any

import anyio

from gameday.injectors.sandbox import process
from gameday.injectors.sandbox.base import Change
from gameday.injectors.sandbox.local import cgroups
from gameday.injectors.sandbox.local.cluster import Cluster, Health, Service
from gameday.injectors.sandbox.local.driver import LocalSandbox
from gameday.injectors.undo import Outcome, ProcessId, SandboxRef, Step, TearDown
from tests.needed import need

FREEZER = Path("/sys/fs/cgroup/freezer")

# Quick to start: no imports beyond what it needs.
SERVER = textwrap.dedent(
    """
    import os, signal, socket, sys
    held = []
    def on_reload(*_):
        with open(os.environ["GAMEDAY_DATA"] + "/reloaded", "a") as f: f.write("x")
    signal.signal(signal.SIGHUP, on_reload)
    server = socket.create_server(("127.0.0.1", int(sys.argv[1])), backlog=128)
    print("listening", flush=True)
    while True:
        client, _ = server.accept()
        try:
            path = client.recv(4096).split(b" ")[1].decode()
            status, body = 200, os.environ["GAMEDAY_SLOT"]
            try:
                if path == "/pid": body = str(os.getpid())
                elif path == "/write":
                    with open("blob", "wb") as f: f.write(b"x" * 1_000_000)
                elif path == "/allocate": held.append(bytearray(64 << 20))
                elif path == "/orphan":
                    if os.fork() == 0:
                        os.setsid()
                        if os.fork() == 0:
                            os.execv(sys.executable, [sys.executable, "-S", "-c", "import time; time.sleep(600)"])
                        os._exit(0)
                    os.wait()
                elif path == "/daemon":
                    told, tell = os.pipe()
                    if os.fork() == 0:
                        os.setsid()
                        if os.fork() == 0:
                            os.write(tell, str(os.getpid()).encode())
                            os.execve("/bin/sleep", ["sleep", "600"], {})
                        os._exit(0)
                    os.wait()
                    os.close(tell)
                    body = open(told).read()  # to its end: it has become the daemon
                elif path == "/worker":
                    if os.fork() == 0: signal.pause()
                elif path.startswith("/file"): body = open(os.environ["GAMEDAY_ENDPOINTS"]).read()
            except (OSError, MemoryError) as error:
                status, body = 507, repr(error)
            client.sendall(f"HTTP/1.0 {status} X\\r\\nContent-Length: {len(body)}\\r\\n\\r\\n{body}".encode())
        except (OSError, IndexError):
            pass
        client.close()
    """
)


def service(folder: Path, **more: Any) -> Service:
    (folder / "server.py").write_text(SERVER)
    command = ["{{ python }}", "-S", "-E", "{{ folder }}/server.py", "{{ port }}"]
    fields: dict[str, Any] = {
        "command": command,
        "health": Health(http="/", every=0.1),
        "grace": 1.0,
        "reload": "HUP",
    }
    return Service.of(fields | more)


def small(folder: Path, **more: Any) -> Cluster:
    """One front that calls two backs."""
    return Cluster(
        name="small",
        disk=4 << 20,
        services={
            "front": service(folder, links=["back"], owner="web team", tier="1"),
            "back": service(folder, replicas=2, **more),
        },
    )


_numbers = iter(range(1, 1000))


@contextlib.asynccontextmanager
async def sandbox(
    cluster: Cluster, folder: Path, *, isolate: bool = True
) -> AsyncIterator[LocalSandbox]:
    """A sandbox that is torn down, and leaves nothing."""
    ref = LocalSandbox.plan_ref(None, f"gameday-test{os.getpid()}-{next(_numbers)}")
    me = process.process_id(os.getpid())
    assert me is not None
    box = await LocalSandbox.up(
        cluster, ref, log_dir=folder / "logs", owners=[me], folder=folder, isolate=isolate
    )
    try:
        yield box
    finally:
        result = await box.run_step(TearDown(ref.options["tag"]))
        assert result.outcome in (Outcome.PUT_BACK, Outcome.NOTHING)
        assert_nothing_left(ref)


def assert_nothing_left(ref: SandboxRef) -> None:
    tag = ref.options["tag"]
    assert not process.find_by_environment("GAMEDAY_SANDBOX", tag)
    assert not Path(ref.address).exists()
    assert tag not in Path("/proc/self/mountinfo").read_text()
    found = cgroups.Groups.find(tag)
    assert found is None or not found[0].exists()


def run(test: Callable[[], Awaitable[None]]) -> None:
    anyio.run(test)


def get(address: str, path: str = "/", timeout: float = 5.0) -> tuple[int, str]:
    try:
        with urllib.request.urlopen(f"http://{address}{path}", timeout=timeout) as answer:
            return answer.status, answer.read().decode()
    except urllib.error.HTTPError as error:
        with error:
            return error.code, error.read().decode()


async def fetch(address: str, path: str = "/", timeout: float = 5.0) -> tuple[int, str]:
    return await anyio.to_thread.run_sync(get, address, path, timeout)


async def until(check: Callable[[], Awaitable[bool]], within: float = 10.0) -> None:
    with anyio.fail_after(within):
        while not await check():  # noqa: ASYNC110 - there is nothing to wait for but time
            await anyio.sleep(0.01)


async def who(box: LocalSandbox, slot: str) -> ProcessId:
    found = (await box.processes.status(slot)).process
    assert found is not None
    return found


async def do(box: LocalSandbox, step: Step) -> tuple[str, str]:
    result = await box.run_step(step)
    return result.outcome.value, result.by


@contextlib.contextmanager
def slow_to_die(victim: ProcessId) -> Iterator[Callable[[], None]]:
    """A process that meets no signal, SIGKILL included, until it is thawed: call what is yielded."""
    # Elsewhere a frozen process can be killed.
    need(FREEZER.is_dir(), "there is no freezer of control groups v1")
    group = FREEZER / f"gameday-test-{victim.pid}"
    group.mkdir()

    def thaw() -> None:
        (group / "freezer.state").write_text("THAWED")

    try:
        (group / "cgroup.procs").write_text(str(victim.pid))
        (group / "freezer.state").write_text("FROZEN")
        yield thaw
    finally:
        thaw()
        if process.is_dying(victim):
            process.wait_gone([victim], 5.0)
        with contextlib.suppress(ProcessLookupError):
            (FREEZER / "cgroup.procs").write_text(str(victim.pid))
        group.rmdir()


@contextlib.asynccontextmanager
async def watched(box: LocalSandbox) -> AsyncIterator[list[Change]]:
    seen: list[Change] = []

    async def collect() -> None:
        async for change in box.changes():
            seen.append(change)

    async with anyio.create_task_group() as group:
        group.start_soon(collect)
        await anyio.sleep(0.05)
        yield seen
        await anyio.sleep(0.05)
        group.cancel_scope.cancel()


async def is_healthy(box: LocalSandbox, slot: str) -> bool:
    return any(s.name == slot and s.health == "healthy" for s in await box.list_slots())


async def _true(value: bool) -> bool:
    return value
