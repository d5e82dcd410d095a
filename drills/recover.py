"""Put back what a drill left behind: one implementation for the watchdog and `gameday recover`.

Newest first, shielded, each step with a time limit; what failed is tried again
with growing pauses. It may be interrupted and run again at any instant: every
step is idempotent, and what is done is in ``recovery.jsonl``.
"""

from __future__ import annotations

import errno
import fcntl
import os
import signal
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path

import anyio
import anyio.to_thread
import msgspec

from gameday.drills import state
from gameday.drills.channels import close_book
from gameday.drills.durable import append, open_append, split_lines
from gameday.drills.ending import end_runner
from gameday.drills.fingerprint import difference
from gameday.drills.folder import DrillFolder
from gameday.drills.ownership import refuse_foreign
from gameday.drills.undo_log import UndoRead, read_undo_log
from gameday.drills.undoing import (
    STEP_LIMIT,
    PageResolver,
    at_once,
    page_resolver,
    undo_in_order,
    undo_one,
)
from gameday.injectors.errors import GamedayError, Refused, SandboxGone, UndoFailed
from gameday.injectors.reading import UNREADABLE
from gameday.injectors.sandbox import kinds
from gameday.injectors.sandbox.base import Sandbox
from gameday.injectors.sandbox.process import boot_id, is_stopped, signal_process
from gameday.injectors.undo import (
    Armed,
    Compared,
    Outcome,
    ResolvePage,
    SandboxRef,
    TearDown,
    Undone,
)
from gameday.injectors.writing import encode

__all__ = ["Connect", "check_recovered", "recover"]

Connect = Callable[[SandboxRef], Awaitable[Sandbox]]
SandboxKey = tuple[str, str]

PAUSES = (0.3, 1.0, 3.0)
"""Seconds before each further round over what failed."""
_CONNECT_LIMIT = 10.0
_FIRST = 4.0
"""Seconds at most for each step in the first round: what hangs must not hold up the rest."""
_HURRIED = 1.0
"""The same for a sandbox that has let one step run into its limit, until the next round."""

_BEFORE_TEAR_DOWN = 0.3
"""Seconds that targets have to become as they were before their sandbox is ended."""
_COMPARE_WITHIN = 3.0
"""The same where the sandbox stays."""


async def recover(
    folder: DrillFolder,
    *,
    by: str,
    connect: Connect | None = None,
    resolve_page: PageResolver | None = None,
    pauses: Iterable[float] = PAUSES,
    limit: float = STEP_LIMIT,
    wait: float = 0.0,
    insist: bool = False,
    log: Callable[[str], None] = lambda text: None,
) -> list[Undone]:
    """Undo everything outstanding in a drill's undo log; what was tried, in that order.

    A runner that is frozen, with no watchdog to see to it, is ended first, and so is a
    watchdog that is stopped.

    Args:
        folder: The drill.
        by: ``watchdog`` or ``recover``: who does it, for the debrief.
        connect: What finds a sandbox again; by default `gameday.injectors.sandbox.kinds.connect`.
        resolve_page: What resolves pages; by default the drill's own channels.
        pauses: Seconds before each further round over what failed.
        limit: Seconds for each step.
        wait: Seconds to wait for whoever holds the undo log.
        insist: Go on even if somebody still holds it: only for who has killed the holder.
        log: Told what happens, for people.

    Raises:
        Refused: if the runner or another recovery holds the undo log, or the folder is not
            ours alone: its undo steps could be anything. Nothing was touched.
    """
    refuse_foreign(folder.path)
    await anyio.to_thread.run_sync(_end_frozen, folder, log)
    async with _locked(folder.undo, wait, insist):
        recovery = _Recovery(
            folder,
            by,
            connect or _connect,
            resolve_page or page_resolver(folder.path),
            limit,
            log,
        )
        results: list[Undone] = []
        with anyio.CancelScope(shield=True):
            results = await recovery.run(tuple(pauses))
        read = read_undo_log(folder.undo, folder.recovery)
        if not folder.away and not read.problems:
            close_book(folder.path, read.outstanding)
    return results


def check_recovered(folder: DrillFolder) -> None:
    """Say what is still outstanding.

    Raises:
        UndoFailed: with what each step is by hand; also where the folder is away, so that
            nobody can know.
    """
    give_up = f"`gameday recover --forget {folder.id}`"
    if folder.away:
        raise UndoFailed(
            f"the drill {folder.id} has died, and {folder.path} is away: what it left is not known",
            hint=f"Mount it or move it back, then `gameday recover {folder.id}`; if it is gone for "
            f"good, look at the sandbox, then {give_up}.",
        )
    read = read_undo_log(folder.undo, folder.recovery)
    if not read.outstanding and not read.problems:
        return
    lines = [f"{armed.what} could not be put back" for armed in read.outstanding]
    hands = [
        f"  {kinds.by_hand(step, armed.sandbox)}"
        for armed in read.outstanding
        for step in armed.steps
    ]
    raise UndoFailed(
        "\n".join([*lines, *read.problems]),
        hint="\n".join(["By hand:", *hands, f"  Once that is done: {give_up}"])
        if hands
        else f"Put back by hand what {folder.undo} says there, then delete that line.",
    )


def _end_frozen(folder: DrillFolder, log: Callable[[str], None]) -> None:
    for drill in state.open_drills():
        if drill.id != folder.id:
            continue
        if drill.frozen:
            end_runner(drill.runner, drill.id, log=log)
        watchdog = drill.watchdog
        there = folder.undo.exists()  # else it alone knows what is outstanding
        if there and watchdog is not None and is_stopped(watchdog) and not drill.runs:
            signal_process(watchdog, signal.SIGKILL)  # it would hold the sandbox's lock for ever
            log(f"ended the stopped watchdog {watchdog.pid}")


async def _connect(ref: SandboxRef) -> Sandbox:
    return await kinds.connect(ref)


class _Recovery:
    def __init__(
        self,
        folder: DrillFolder,
        by: str,
        connect: Connect,
        resolve_page: PageResolver,
        limit: float,
        log: Callable[[str], None],
    ) -> None:
        self._folder = folder
        self._by = by
        self._connect = connect
        self._resolve_page = resolve_page
        self._limit = limit
        self._log = log
        self._slow: set[SandboxKey] = set()
        self._failures: dict[str, str] = {}
        self._axis = _Axis(folder.journal)

    async def run(self, pauses: tuple[float, ...]) -> list[Undone]:
        read = self._read()
        results: dict[str, Undone] = {}
        left = list(read.outstanding)
        left = await self._round(left, results, min(self._limit, _FIRST))
        for pause in pauses:
            if not left:
                break
            await anyio.sleep(pause)
            left = await self._round(left, results, self._limit)
        return [results[armed.id] for armed in read.outstanding]

    def _read(self) -> UndoRead:
        read = read_undo_log(self._folder.undo, self._folder.recovery)
        for problem in read.problems:
            self._log(problem)
        return read

    async def _round(
        self, left: list[Armed], results: dict[str, Undone], limit: float
    ) -> list[Armed]:
        """Try each once; what failed is left.

        Pages are resolved beside the rest, all at once: a channel that does not answer is no
        reason to leave anything broken for longer.
        """
        pages = [armed for armed in left if _is_page(armed)]
        bug: Exception | None = None
        async with anyio.create_task_group() as together:
            for armed in pages:
                together.start_soon(self._resolve, armed, results, limit)
            try:
                await self._in_order([each for each in left if each not in pages], results, limit)
            except Exception as error:
                bug = error  # raised outside, where no task group wraps it
        if bug is not None:
            raise bug
        return [armed for armed in left if results[armed.id].outcome is Outcome.FAILED]

    async def _resolve(self, armed: Armed, results: dict[str, Undone], limit: float) -> None:
        nowhere = SandboxGone("no sandbox is needed to resolve a page")
        result = await undo_one(armed, nowhere, resolve_page=self._resolve_page, limit=limit)
        results[armed.id] = self._noted(armed, result)

    async def _in_order(self, left: list[Armed], results: dict[str, Undone], limit: float) -> None:
        done: list[Armed] = []
        async with AsyncExitStack() as boxes:
            found = _Reached(self._connect, boxes)
            self._slow.clear()

            async def undo(armed: Armed) -> None:
                if any(isinstance(step, TearDown) for step in armed.steps):
                    await self._compare(done, found, _BEFORE_TEAR_DOWN)
                    done.clear()
                result = await self._undo(armed, found, limit)
                results[armed.id] = result
                if result.outcome is not Outcome.FAILED:
                    done.append(armed)

            await undo_in_order(left, undo)
            await self._compare(done, found, _COMPARE_WITHIN)

    async def _compare(self, done: list[Armed], found: _Reached, within: float) -> None:
        """Whether the targets are as they were before: a verdict of its own, and never a failure."""
        deadline = time.monotonic() + within

        async def check(armed: Armed) -> None:
            box = found.get(armed.sandbox)
            if not armed.before or box is None or isinstance(box, SandboxGone):
                return
            wrong = "it could not be compared"
            with anyio.move_on_after(within + 1.0):
                wrong = await difference(
                    box, armed.target, armed.before, lambda: deadline - time.monotonic()
                )
            if wrong:
                self._log(f"{armed.what}: the target is not as it was: {wrong}")
            at, wall = self._axis.now()
            self._note(Compared(armed.id, not wrong, wrong, at, wall))

        await at_once(done, check)

    async def _undo(self, armed: Armed, found: _Reached, limit: float) -> Undone:
        key = _key(armed.sandbox)
        try:
            box = await found.reach(armed.sandbox)
            limit = min(limit, _HURRIED) if key in self._slow else limit
            called = time.monotonic()
            result = await undo_one(armed, box, limit=limit)
            if result.outcome is Outcome.FAILED and time.monotonic() - called >= limit:
                self._slow.add(key)
        except (GamedayError, OSError, TimeoutError, ImportError) as error:
            why = error.message if isinstance(error, GamedayError) else str(error)
            why = why or type(error).__name__
            hands = "; ".join(kinds.by_hand(step, armed.sandbox) for step in armed.steps)
            result = Undone(
                armed.id, Outcome.FAILED, f"its sandbox cannot be reached: {why}; by hand: {hands}"
            )
        return self._noted(armed, result)

    def _noted(self, armed: Armed, result: Undone) -> Undone:
        """Told and recorded; a failure for the same reason as in the round before is so already."""
        at, wall = self._axis.now()
        result = msgspec.structs.replace(result, at=at, wall=wall, by=self._by)
        failure = result.detail if result.outcome is Outcome.FAILED else None
        if failure is None or failure != self._failures.get(armed.id):
            self._log(f"{armed.what}: {result.outcome.value} {result.detail}".rstrip())
            self._note(result)
        if failure is not None:
            self._failures[armed.id] = failure
        return result

    def _note(self, result: Undone | Compared) -> None:
        """On disk, if the disk takes it; where not, it is undone once more some time."""
        line = encode(result)
        for _ in range(2):
            try:
                fd = open_append(self._folder.recovery)
                try:
                    append(fd, line)
                finally:
                    os.close(fd)
            except OSError as error:
                self._log(f"{self._folder.recovery} cannot be written: {error.strerror}")
                if self._folder.release_reserve():
                    continue
            return


class _Reached:
    """The sandboxes of one round: each is connected to once, whoever needs it first."""

    def __init__(self, connect: Connect, boxes: AsyncExitStack) -> None:
        self._connect = connect
        self._boxes = boxes
        self._found: dict[SandboxKey, Sandbox | SandboxGone] = {}
        self._reaching = anyio.Lock()

    def get(self, ref: SandboxRef) -> Sandbox | SandboxGone | None:
        """What was found there; None if it has not been looked for, or cannot be reached."""
        return self._found.get(_key(ref))

    async def reach(self, ref: SandboxRef) -> Sandbox | SandboxGone:
        """The sandbox, or that it is gone; fails as ``connect`` does, or with `TimeoutError`."""
        async with self._reaching:
            if (found := self.get(ref)) is None:
                found = self._found[_key(ref)] = await self._try(ref)
            return found

    async def _try(self, ref: SandboxRef) -> Sandbox | SandboxGone:
        try:
            with anyio.fail_after(_CONNECT_LIMIT):
                box = await self._connect(ref)
        except SandboxGone as gone:
            return gone
        self._boxes.push_async_callback(_let_go, box)
        return box


def _key(ref: SandboxRef) -> SandboxKey:
    return ref.kind, ref.address


def _is_page(armed: Armed) -> bool:
    return all(isinstance(step, ResolvePage) for step in armed.steps)


async def _let_go(box: Sandbox) -> None:
    try:
        with anyio.move_on_after(1.0):
            await box.aclose()
    except (GamedayError, OSError):
        pass  # it may have been torn down meanwhile


class _Start(msgspec.Struct):
    clock: float = 0.0
    boot_id: str = ""
    wall: float = 0.0


class _Axis:
    """Now, on the drill's axis, as its journal's first line tells."""

    def __init__(self, journal: Path) -> None:
        self._start = _Start()
        try:
            with journal.open("rb") as file:
                lines, _ = split_lines(file.read(1 << 16))
            if lines:
                self._start = msgspec.json.decode(lines[0], type=_Start)
        except (OSError, *UNREADABLE):
            pass  # it died before its first event: then instants are 0, and wall time tells

    def now(self) -> tuple[float, float]:
        """Seconds since the drill's start (by wall-clock time after a reboot), and Unix time."""
        wall = time.time()
        if not self._start.boot_id:
            return 0.0, round(wall, 6)
        if self._start.boot_id == boot_id():
            return round(time.monotonic() - self._start.clock, 6), round(wall, 6)
        return round(max(0.0, wall - self._start.wall), 6), round(wall, 6)


@asynccontextmanager
async def _locked(undo: Path, wait: float, insist: bool) -> AsyncIterator[None]:
    """Hold the undo log's lock; without a log there is nothing to hold."""
    try:
        fd = os.open(undo, os.O_RDONLY | os.O_CLOEXEC)
    except OSError:
        yield
        return
    try:
        if not await _take(fd, wait) and not insist:
            raise Refused(
                f"the drill in {undo.parent} still runs, or is being recovered by another process",
                hint="`gameday abort` ends a drill that runs; it puts everything back.",
            )
        yield
    finally:
        os.close(fd)


async def _take(fd: int, wait: float) -> bool:
    deadline = time.monotonic() + wait
    while True:
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            if time.monotonic() >= deadline:
                return False
            await anyio.sleep(0.02)
        except OSError as error:
            # Some network file systems have no locks; idempotence has to do there.
            return error.errno in (errno.ENOLCK, errno.EOPNOTSUPP, errno.EINVAL)
        else:
            return True
