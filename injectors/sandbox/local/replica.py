"""One slot: the place, the process that fills it, its health, and what keeps it from staying up."""

from __future__ import annotations

import asyncio
import os
import signal
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from jinja2 import TemplateError

from gameday.injectors.errors import SandboxError
from gameday.injectors.sandbox import ports, process
from gameday.injectors.sandbox.base import ProcessStatus, Slot, labels_of
from gameday.injectors.sandbox.local import health, templates
from gameday.injectors.sandbox.local.cgroups import Group
from gameday.injectors.sandbox.local.child import Child
from gameday.injectors.sandbox.local.orders import ServiceSpec
from gameday.injectors.undo import ProcessId

__all__ = ["Replica"]

_FIRST_PAUSE, _LONGEST_PAUSE = 0.5, 5.0
_STARTING = 0.02
_TRIES = 5

Publish = Callable[..., None]


class Replica:
    """Replica ``number`` of a service.

    Attributes:
        wanted: False once somebody stopped it on purpose.
        by: Who started the process that runs, or stopped it: a role, ``gameday``,
            ``sandbox`` (its restart policy), or empty for the first start.
        links: What its templates see: the near ends of the links to what it calls.
    """

    def __init__(
        self,
        service: ServiceSpec,
        number: int,
        *,
        tag: str,
        port: int,
        data: Path,
        endpoints: Path,
        folder: str,
        log: Path,
        group: Group | None,
        publish: Publish,
    ) -> None:
        self.service, self.number = service, number
        self.name = f"{service.name}-{number}"
        self.port, self.data, self.endpoints, self.log = port, data, endpoints, log
        self.drained, self.wanted, self.by = False, True, ""
        self.child: Child | None = None
        self.starts, self.since = 0, 0.0
        self.health = "unknown"
        self.holds: dict[str, float] = {}
        self.links: dict[str, list[dict[str, Any]]] = {}
        self.group = group
        self.lock = asyncio.Lock()
        self._tag, self._folder, self._publish = tag, folder, publish
        self._settled = asyncio.Event()
        self._established = False
        self._pause = _FIRST_PAUSE
        self._tasks: dict[str, asyncio.Task[None]] = {}

    # What it is

    @property
    def address(self) -> str:
        return f"{templates.HOST}:{self.port}"

    @property
    def running(self) -> bool:
        return self.child is not None and self.child.running

    def _process(self) -> ProcessId | None:
        """Who fills the slot; nobody from the moment of death on, even before we are told."""
        if self.child is None or self.child.code is not None:
            return None
        return self.child.identity if process.is_alive(self.child.identity) else None

    def status(self) -> ProcessStatus:
        """What a look at the slot's process shows now."""
        who = self._process()
        state = "gone" if who is None else "paused" if process.is_stopped(who) else "running"
        return ProcessStatus(who, state, tuple(self.holds), max(0, self.starts - 1))

    def slot(self) -> Slot:
        """The slot as people see it."""
        status = self.status()
        state = status.state
        if state == "gone":
            state = "exited" if self.wanted else "stopped"
        elif state == "running" and not self._settled.is_set():
            state = "starting"
        return Slot(
            name=self.name,
            service=self.service.name,
            state=state,
            health=self.health,
            process=status.process,
            address=self.address,
            drained=self.drained,
            restarts=status.restarts,
            since=self.since,
            owner=self.service.owner,
            tier=self.service.tier,
            labels=labels_of({}, owner=self.service.owner, tier=self.service.tier),
        )

    # What its processes see

    def _values(self) -> dict[str, Any]:
        return templates.variables(
            slot=self.name,
            service=self.service.name,
            number=self.number,
            port=self.port,
            data=str(self.data),
            endpoints=str(self.endpoints),
            folder=self._folder,
            links=self.links,
        )

    def render(self, text: str) -> str:
        """A template of this slot's, filled in.

        Raises:
            SandboxError: if it cannot be.
        """
        try:
            return templates.render(text, self._values())
        except (
            TemplateError,
            TypeError,
            ValueError,
            ArithmeticError,
            LookupError,
            AttributeError,
        ) as error:
            raise SandboxError(f"a template of {self.name} cannot be filled in: {error}") from error

    def environment(self) -> dict[str, str]:
        """The environment of every process in the slot."""
        ours = {k: v for k, v in os.environ.items() if not k.startswith("GAMEDAY_")}
        ours.setdefault("PYTHONUNBUFFERED", "1")
        ours |= {name: self.render(text) for name, text in self.service.environment.items()}
        return ours | {
            "GAMEDAY_SANDBOX": self._tag,
            "GAMEDAY_SLOT": self.name,
            "GAMEDAY_SERVICE": self.service.name,
            "GAMEDAY_HOST": templates.HOST,
            "GAMEDAY_PORT": str(self.port),
            "GAMEDAY_DATA": str(self.data),
            "GAMEDAY_ENDPOINTS": str(self.endpoints),
        }

    def write_files(self) -> bool:
        """Fill in the service's files; True if one differs from what was there.

        Raises:
            SandboxError: if one cannot be written, as on a full disk.
        """
        changed = False
        for name, template in self.service.files.items():
            path, content = self.data / name, self.render(template).encode()
            try:
                if path.is_file() and path.read_bytes() == content:
                    continue
                path.parent.mkdir(parents=True, exist_ok=True)
                fresh = path.with_name(f"{path.name}.new")
                fresh.write_bytes(content)
                fresh.replace(path)
            except OSError as error:
                raise SandboxError(
                    f"{name} of {self.name} cannot be written: {error.strerror}"
                ) from error
            changed = True
        return changed

    # Starting and stopping

    def start(self, by: str) -> None:
        """Start the slot's process now.

        Raises:
            SandboxError: if the program cannot be started.
        """
        self.write_files()
        argv = [self.render(part) for part in self.service.command]
        try:
            null = os.open(os.devnull, os.O_RDONLY)
            log = os.open(self.log, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
            try:
                self.child = Child(
                    argv,
                    environment=self.environment(),
                    folder=str(self.data),
                    stdio=(null, log, log),
                    group=self.group,
                    on_exit=self._exited,
                )
            finally:
                os.close(null)
                os.close(log)
        except OSError as error:
            raise SandboxError(
                f"{self.name} cannot be started: {argv[0]}: {error.strerror}",
                hint=f"The command of {self.service.name} names a program that has to be installed and executable.",
            ) from error
        self._cancel("again")
        self.starts, self.since, self.by, self.wanted = (
            self.starts + 1,
            self.child.started,
            by,
            True,
        )
        self.health = "unknown"
        self._settled.clear()
        self._publish("started", self.name, by, f"pid {self.child.pid}", at=self.child.started)
        self._spawn("health", self._watch_health(self.child))
        if self.holds:
            self._spawn("crash", self._crash(self.child))

    async def settled(self) -> bool:
        """Wait until the process that was started is healthy, or has ended; whether it is healthy."""
        child = self.child
        if child is None:
            return False
        await self._settled.wait()  # an end settles it too
        return child.code is None and self.health != "unhealthy"

    async def start_first(self, taken: set[int], by: str = "") -> None:
        """Start, and wait until healthy; on another port if this one was taken meanwhile.

        Raises:
            SandboxError: if it does not become healthy; ends with the tail of its log.
        """
        for _ in range(_TRIES):
            self.start(by)
            if await self.settled():
                self._established = True
                return
            died = not self.running
            if not (died and ports.is_taken(self.port)):
                break
            self.port = ports.free_port(taken)
            taken.add(self.port)
            self.starts = 0
        raise SandboxError(self._why_not_up(), hint=self._tail())

    def _why_not_up(self) -> str:
        code = self.child.code if self.child is not None else None
        if code is None:
            within = self.service.health.start_within if self.service.health else 0.0
            return f"{self.name} did not become healthy within {within:g} s"
        how = f"was killed by {signal.Signals(-code).name}" if code < 0 else f"exited with {code}"
        return f"{self.name} did not start: it {how}"

    def _tail(self, lines: int = 15) -> str:
        try:
            text = self.log.read_bytes()[-8192:].decode("utf-8", "replace")
        except OSError:
            text = ""
        last = text.splitlines()[-lines:]
        return "\n  ".join([f"The end of {self.log}:", *last] if last else ["It wrote nothing."])

    async def stop(self, by: str, *, wanted: bool = False, grace: float | None = None) -> None:
        """Stop the slot's process, if one runs, and leave it stopped unless ``wanted``."""
        self.wanted, self.by = wanted, by
        self._cancel("again", "crash")
        child = self.child
        if child is not None and child.code is None:
            await child.end(self.service.stop, self.service.grace if grace is None else grace)

    def reload(self) -> None:
        """Tell the process to read its files again, where its service declares how."""
        if self.running and self.child is not None and self.service.reload is not None:
            self.child.signal(self.service.reload)

    def kill(self) -> None:
        """End it at once and for good."""
        self.wanted = False
        self._cancel(*self._tasks)
        if self.child is not None:
            self.child.signal_group(signal.SIGKILL)

    # Crash loops and restarts

    def hold(self, tag: str, uptime: float) -> None:
        """From now on crash each process ``uptime`` seconds after its start."""
        self.holds[tag] = uptime
        self._pause = _FIRST_PAUSE
        if self.child is not None and self.running:
            self._spawn("crash", self._crash(self.child))
        elif self.wanted:
            self._again()

    def unhold(self, tag: str) -> bool:
        """Lift a hold; False if there was none of that tag."""
        if self.holds.pop(tag, None) is None:
            return False
        if not self.holds:
            self._cancel("crash")
            if not self.service.restart:
                self._cancel("again")
        return True

    async def _crash(self, child: Child) -> None:
        await asyncio.sleep(child.started + min(self.holds.values()) - time.monotonic())
        child.signal_group(signal.SIGKILL)

    def _again(self) -> None:
        self._spawn("again", self._start_again(self._pause))
        self._pause = min(self._pause * 2, _LONGEST_PAUSE)

    async def _start_again(self, pause: float) -> None:
        await asyncio.sleep(pause)
        async with self.lock:
            if self.wanted and not self.running:
                try:
                    self.start("gameday" if self.holds else "sandbox")
                except SandboxError as error:
                    self._publish("exited", self.name, detail=error.message)
                    self._again()

    def _exited(self, child: Child) -> None:
        if child is not self.child or child.code is None:
            return
        self._cancel("health", "crash")
        self.health = "unhealthy" if self.service.health else "unknown"
        how = signal.Signals(-child.code).name if child.code < 0 else f"code {child.code}"
        self._publish("exited", self.name, detail=f"pid {child.pid}, {how}")
        if time.monotonic() - child.started > 2 * _LONGEST_PAUSE:
            self._pause = _FIRST_PAUSE
        if self.wanted and (self.holds or (self.service.restart and self._established)):
            self._again()
        self._settled.set()

    # Health

    async def _check(self) -> bool:
        spec = self.service.health
        if spec is None:
            return True
        if spec.http is not None:
            return await health.check_http(self.port, spec.http, spec.timeout)
        if spec.tcp:
            return await health.check_tcp(self.port, spec.timeout)
        argv = [self.render(part) for part in spec.command or ()]
        return await health.check_command(argv, self.environment(), str(self.data), spec.timeout)

    async def _watch_health(self, child: Child) -> None:
        spec = self.service.health
        if spec is None:
            self._settled.set()
            return
        while True:
            began = time.monotonic()
            healthy = await self._check()
            if not child.running:
                return
            late = time.monotonic() > child.started + spec.start_within
            if healthy or late or self._settled.is_set():
                self._set_health("healthy" if healthy else "unhealthy")
                self._settled.set()
            pause = spec.every if self._settled.is_set() else _STARTING
            await asyncio.sleep(max(0.0, began + pause - time.monotonic()))

    def _set_health(self, now: str) -> None:
        if now != self.health:
            self.health = now
            self._publish("health", self.name, detail=now)

    # Tasks

    def _spawn(self, name: str, work: Any) -> None:
        self._cancel(name)
        self._tasks[name] = asyncio.get_running_loop().create_task(work)

    def _cancel(self, *names: str) -> None:
        for name in names:
            task = self._tasks.pop(name, None)
            if task is not None and task is not asyncio.current_task():
                task.cancel()
