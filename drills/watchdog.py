"""The watchdog: it puts everything back if the runner dies or hangs. This is the runner's end.

::

    watchdog = Watchdog.start(folder, runner, kind="local")   # before the sandbox's first process
    await watchdog.ready()
    ...                                # wait_lost() runs beside the drill, reverting included
    left = await watchdog.done()

What the other process does is in `gameday.drills.guard`.
"""

from __future__ import annotations

import os
import subprocess
import time
from collections.abc import Iterable
from typing import Protocol

import anyio
import msgspec

from gameday.drills import guard
from gameday.drills.durable import open_append
from gameday.drills.folder import DrillFolder
from gameday.drills.standby import Standby
from gameday.drills.wire import Wire
from gameday.injectors.errors import Refused
from gameday.injectors.sandbox.kinds import KINDS
from gameday.injectors.sandbox.process import is_stopped, process_id
from gameday.injectors.undo import ProcessId

__all__ = ["LATE", "Watchdog"]

LATE = 5.0
"""Seconds without a beat after which the watchdog ends the runner."""
BEAT_EVERY = 0.25
_SILENCE = 3.0
_STALL = 1.0


class _Descriptor(Protocol):
    def fileno(self) -> int: ...


class Watchdog:
    """A watchdog that was started; made by `start`.

    Keep it: a runner that lets go of it without `done` is taken for dead.
    """

    def __init__(self, process: subprocess.Popen[bytes], wire: Wire[guard.Answer]) -> None:
        self._process = process
        self._wire = wire
        self._ready = False
        self._failure = ""
        self._ended: guard.Ended | None = None
        self._heard = time.monotonic()
        self._stopped_since = 0.0
        self.process: ProcessId | None = process_id(process.pid)

    @classmethod
    def start(
        cls,
        folder: DrillFolder,
        runner: ProcessId,
        *,
        kind: str = "local",
        also: tuple[str, ...] = (),
        late: float = LATE,
        limit: float = 86400.0,
        inherit: Iterable[_Descriptor] = (),
        pauses: tuple[float, ...] = (0.3, 1.0, 3.0, 10.0),
        standby: Standby | None = None,
    ) -> Watchdog:
        """Start the watchdog; returns at once. Await `ready` before anything is started or armed.

        Args:
            folder: The drill.
            runner: Who must beat: this process.
            kind: The sandbox's kind, whose driver the watchdog imports now.
            also: Further modules that it may need, and imports now: channels of pages.
            late: Seconds without a beat after which it ends the runner.
            limit: Seconds from now, sleep of the host included, after which it ends the
                runner anyway.
            inherit: What it holds as long as it lives: the sandbox's lock.
            pauses: Seconds before each further round over what could not be undone.
            standby: A process that was started before; by default a new one.

        Raises:
            Refused: if it cannot be started.
        """
        known = KINDS[kind]
        settings = guard.Settings(
            drill=folder.id,
            folder=str(folder.path),
            runner=runner,
            drivers=(known.module, *known.libraries, *also),
            late=late,
            limit=guard.boottime() + limit,
            pauses=pauses,
        )
        try:
            log = os.fdopen(open_append(folder.logs / "watchdog.log"), "ab")
        except OSError as error:
            raise Refused(f"the watchdog cannot be started: {error.strerror}") from None
        with log:
            process, peer = (standby or Standby.start()).take()
            wire = Wire(peer, msgspec.json.Decoder(guard.Answer))
            wire.pass_on(settings, [each.fileno() for each in (log, *inherit)])
        return cls(process, wire)

    async def ready(self, within: float = 30.0) -> None:
        """Return when the watchdog has imported all it needs and stands.

        Raises:
            Refused: if it does not; nothing was touched.
        """
        deadline = time.monotonic() + within
        self._receive()
        while not self._ready:
            if why := self._why_not(deadline):
                self._end()
                raise Refused(
                    f"the watchdog does not stand: {why}; without it nothing is broken",
                    hint="Its log is logs/watchdog.log in the drill's folder.",
                )
            await self._news(BEAT_EVERY)
            self._receive()

    def beat(self) -> None:
        """Say that we are well. `wait_lost` does so too; never waits, never raises."""
        self._wire.send(guard.Beat(time.monotonic()), droppable=True)

    def register(self, process: ProcessId) -> None:
        """A helper of ours: to be ended, with its session if it leads one, should we die."""
        self._wire.send(guard.Register(process))

    def extend(self, seconds: float) -> None:
        """Let the hard deadline be no sooner than ``seconds`` from now."""
        self._wire.send(guard.Limit(guard.boottime() + seconds))

    async def wait_lost(self) -> str:
        """Beat, and return, with the reason, once the watchdog is dead or hangs: time to abort.

        Runs beside the drill to its very end, reverting included: without beats the
        watchdog takes over.
        """
        self._heard = time.monotonic()
        while True:
            before = time.monotonic()
            self.beat()
            await anyio.sleep(BEAT_EVERY)
            self._receive()
            if self._dead():
                return "the watchdog has died"
            if time.monotonic() - before > BEAT_EVERY + _STALL:
                self._heard = time.monotonic()  # we did not run ourselves
            if time.monotonic() - self._heard > _SILENCE:
                return f"the watchdog has not answered for {_SILENCE:g} s"

    async def done(self, within: float = 120.0) -> guard.Ended:
        """Say that everything is put back; what the watchdog finds outstanding after one more try.

        Close the undo log first. A watchdog that is dead, stopped or does not answer finds nothing;
        then `gameday.drills.recover.check_recovered` tells. Never raises.
        """
        self._wire.send(guard.Done())
        with anyio.CancelScope(shield=True), anyio.move_on_after(within):
            while not self._dead() and not self._stopped():  # it ends once it has answered
                self.beat()
                await self._news(BEAT_EVERY)
                self._receive()
        self._receive()
        self._end()
        return self._ended or guard.Ended()

    async def _news(self, within: float) -> None:
        """Return when it has said something, or has ended; at the latest after so many seconds."""
        with anyio.move_on_after(within):
            await anyio.wait_readable(self._wire.fileno())

    def _end(self) -> None:
        """End the process; harmless to repeat."""
        self._process.kill()
        self._process.wait()
        self._wire.close()

    def _why_not(self, deadline: float) -> str:
        """Why it will not stand; empty while it still may."""
        if self._failure:
            return self._failure
        if self._dead():
            return "it ended"
        if self._stopped():
            return "it is stopped"
        return "it does not answer" if time.monotonic() > deadline else ""

    def _dead(self) -> bool:
        return self._wire.closed or self._process.poll() is not None

    def _stopped(self) -> bool:
        """Whether it has been stopped for `_SILENCE` seconds, at every look."""
        now = time.monotonic()
        stopped = self.process is not None and is_stopped(self.process)
        self._stopped_since = (self._stopped_since or now) if stopped else 0.0
        return stopped and now - self._stopped_since > _SILENCE

    def _receive(self) -> None:
        self._wire.flush()
        for answer in self._wire.receive():
            self._heard = time.monotonic()
            match answer:
                case guard.Ready():
                    self._ready = True
                case guard.Failed(why):
                    self._failure = why
                case guard.Ended():
                    self._ended = answer
                case guard.Beaten():
                    pass


if __name__ == "__main__":
    os._exit(guard.main())  # nothing of it is left to tidy, and the runner waits
