"""Setting the stage of a drill, playing it, and striking it: every real effect in order.

The order is the promise: the record and the watchdog stand before the sandbox's
first process; the teardown is armed before anything is brought up; and whatever
happens in between, it is put back, recorded, and told.
"""

from __future__ import annotations

import logging
import os
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from datetime import UTC, datetime
from functools import partial
from io import TextIOWrapper
from pathlib import Path

import anyio
import anyio.lowlevel
import msgspec

from gameday._version import __version__
from gameday.drills import state
from gameday.drills.affinity import Affinity
from gameday.drills.aim import Aim
from gameday.drills.briefing import RUNBOOK
from gameday.drills.channels import Book, close_book, write_book
from gameday.drills.channels.file import File
from gameday.drills.channels.message import Channel
from gameday.drills.channels.terminal import Terminal
from gameday.drills.durable import is_storage, storage_hint, write_private
from gameday.drills.fixers import Knowledge, ScriptedFixer
from gameday.drills.folder import DrillFolder
from gameday.drills.inbox import Entry, say
from gameday.drills.interruption import Interruption, Stopped, heed_while_starting
from gameday.drills.journal import Journal
from gameday.drills.listening import listen
from gameday.drills.pages import DrillPages
from gameday.drills.planned import Planned
from gameday.drills.probes import Addresses, Probe
from gameday.drills.production import Production
from gameday.drills.runner import Runner, Stage, each_error
from gameday.drills.standby import Standby
from gameday.drills.stop_signals import StopSignals
from gameday.drills.undo_log import SANDBOX, UndoLog, read_undo_log
from gameday.drills.undoing import undo_one
from gameday.drills.usage import Usage
from gameday.drills.view import View
from gameday.drills.watchdog import Watchdog
from gameday.drills.watchers import watch_changes, watch_machine, watch_pace, watch_stop_url
from gameday.injectors.errors import GamedayError, Refused, StorageError
from gameday.injectors.sandbox.base import Sandbox
from gameday.injectors.sandbox.process import boot_id, process_id
from gameday.injectors.undo import Armed, Outcome, ProcessId, SandboxRef, TearDown
from gameday.scoring import events

__all__ = ["Options", "run_drill"]

_TICK = 0.25
GRACE = 60.0
"""Seconds beyond the scenario's duration, and after the last undo, at which the watchdog steps in."""


class Options(msgspec.Struct, frozen=True):
    """How it is played.

    Attributes:
        root: The folder that holds ``.gameday``.
        seed: Chooses targets.
        scripted: Whether the scenario's scripted fixers take part.
        webhook: Where pages are posted, too.
        planned: What the plan that was made beforehand would hit.
        stop: What says that a real incident is going on.
        allow_exec: Whether commands may run that a script or a fault brings.
    """

    root: Path
    seed: int
    scripted: bool = True
    webhook: str = ""
    planned: tuple[Planned, ...] = ()
    stop: StopSignals = StopSignals()
    allow_exec: bool = False


async def run_drill(
    production: Production, options: Options, view: View, standby: Standby | None = None
) -> DrillFolder:
    """Play a scenario. Returns the drill's folder once everything is put back and recorded.

    Args:
        production: What is played.
        options: How.
        view: What it is shown on.
        standby: Its watchdog's process, if that was started before.

    Raises:
        Refused: if a safety check says no; nothing was touched.
        GamedayError: if the drill cannot be played; nothing is left of it. A sandbox that does
            not start is none of these: that is the drill's outcome, in its record.
        UndoFailed: if something could not be put back; says how to do it by hand.
    """
    if (stop := state.blocked()) is not None:
        raise Refused(
            f"drills are stopped on this machine: {stop.why or 'no reason was given'}",
            hint="`gameday unblock` allows them again.",
        )
    await options.stop.check()
    await production.preflight()  # again: time has passed since the plan
    interruption = Interruption()
    found: DrillFolder | GamedayError
    async with anyio.create_task_group() as listening:
        listening.start_soon(interruption.listen)
        await anyio.lowlevel.checkpoint()
        try:
            found = await _play(production, options, view, interruption, standby)
        except GamedayError as error:
            found = error  # raised outside, where no task group wraps it
        listening.cancel_scope.cancel()
    if isinstance(found, GamedayError):
        raise found
    return found


async def _play(
    production: Production,
    options: Options,
    view: View,
    interruption: Interruption,
    standby: Standby | None,
) -> DrillFolder:
    folder = DrillFolder.create(options.root, datetime.now(UTC))
    with ExitStack() as stack:
        with ExitStack() as refused:
            refused.callback(folder.discard)  # a drill that may not begin leaves no record of one
            _keep(folder.scenario, production.source)
            if production.runbook:
                _keep(folder.path / RUNBOOK, production.runbook)
            reference = production.reference(folder)
            lock = state.lock_sandbox(reference.identity, folder.id)
            refused.pop_all()
        stack.callback(lock.release)
        journal = stack.enter_context(Journal(folder.journal, release=folder.release_reserve))
        log = UndoLog(folder.undo, zero=journal.zero, allow_exec=options.allow_exec)
        stack.callback(log.close)
        stack.enter_context(_asyncio_log(folder))
        play = _Play(production, options, view, interruption, folder, reference, journal, log, lock)
        await play.run(standby)
    return folder


def _keep(path: Path, text: str) -> None:
    try:
        write_private(path, text.encode())
    except OSError as error:
        raise _unstored(error) from None


def _unstored(error: OSError) -> StorageError:
    where = error.filename or "a file of the drill"
    return StorageError(f"{where} cannot be written: {error.strerror}", hint=storage_hint(error))


class _Play:
    """One drill's effects, from the first process to the last."""

    def __init__(
        self,
        production: Production,
        options: Options,
        view: View,
        interruption: Interruption,
        folder: DrillFolder,
        reference: SandboxRef,
        journal: Journal,
        log: UndoLog,
        lock: state.SandboxLock,
    ) -> None:
        self.lock = lock
        self.production = production
        self.scenario = production.scenario
        self.options = options
        self.view = view
        self.interruption = interruption
        self.folder = folder
        self.reference = reference
        self.journal = journal
        self.log = log
        self.usage = Usage()
        self.affinity = Affinity()
        self.watchdog: Watchdog | None = None
        self.opened: state.OpenDrill | None = None

    def emit(self, event: events.Event) -> None:
        self.view.observe(self.journal.append(event))

    def now(self) -> float:
        return self.journal.now()

    async def run(self, standby: Standby | None) -> None:
        runner_id = process_id(os.getpid())
        assert runner_id is not None
        self.emit(
            events.DrillStarted(
                at=self.now(),
                id=self.folder.id,
                scenario=self.scenario.name,
                gameday=__version__,
                seed=self.options.seed,
                boot_id=boot_id(),
                clock=self.journal.zero,
                host=_host(),
                control=not self.scenario.faults,
            )
        )
        self.emit(events.PhaseBegan(at=self.now(), phase="starting"))
        opened = state.OpenDrill(
            id=self.folder.id,
            folder=str(self.folder.path),
            runner=runner_id,
            title="",  # fixers see it: it would give the drill away
            sandbox=self.reference,
            clock=self.journal.zero,
        )
        try:
            await self._open(opened, standby)
        except GamedayError as error:
            await self._refuse(error)
            raise
        try:
            async with anyio.create_task_group() as beside:
                beside.start_soon(self._guard)
                beside.start_soon(
                    heed_while_starting,
                    self.interruption,
                    self.folder,
                    self.options.stop,
                    self._check_record,
                )
                failure = await self._between(runner_id)
                beside.cancel_scope.cancel()
            await self._close()
        except Exception as error:
            self._record_own_fault(error)  # the watchdog does what we did not
            raise
        if failure is None and not self.folder.scenario.is_file():
            failure = StorageError(
                f"{self.folder.path} was removed while the drill ran; everything was put back, "
                "and there is no record left to judge",
                hint="Leave the drill's folder alone while it runs.",
            )
        if failure is not None:
            raise failure

    async def _open(self, opened: state.OpenDrill, standby: Standby | None) -> None:
        """Note the drill, and wait for its watchdog to stand."""
        state.remember(opened)
        self.opened = opened
        self.watchdog = Watchdog.start(
            self.folder,
            opened.runner,
            kind=self.reference.kind,
            also=("gameday.drills.channels.webhook",) if self.options.webhook else (),
            limit=self.scenario.duration + GRACE,
            inherit=(self.lock,),
            standby=standby,
        )
        await self.watchdog.ready()
        self.opened = msgspec.structs.replace(opened, watchdog=self.watchdog.process)
        state.remember(self.opened)

    async def _refuse(self, error: GamedayError) -> None:
        """Nothing was started: the record says why, and the drill is closed."""
        self.emit(events.Problem(at=self.now(), where="drill", what=str(error)))
        await self._strike("refused" if isinstance(error, Refused) else "aborted", None)
        await self._close()

    async def _between(self, runner_id: ProcessId) -> GamedayError | None:
        """From the sandbox's first process to its last; the error that kept us from playing."""
        assert self.watchdog is not None
        why, failure = "failed", None
        steady_after: bool | None = None
        try:
            owners = [runner_id, *([self.watchdog.process] if self.watchdog.process else [])]
            box = await self._bring_up(owners)
            if box is None:
                why = "unhealthy-start"
                return None
            runner = await self._runner(box)
            self.interruption.runner = runner
            if self.interruption.received:
                runner.abort(self.interruption.by, self.interruption.received)
            why = await runner.run()
            steady_after = runner.steady_after
        except Stopped:
            why = "aborted"
            by, asked = self.interruption.by, self.interruption.received
            self.emit(events.AbortAsked(at=self.now(), by=by, why=asked))
        except GamedayError as error:
            failure = error
            self.emit(events.Problem(at=self.now(), where="drill", what=str(error)))
        except Exception as error:
            if isinstance(error, OSError) and is_storage(error):
                failure, why = _unstored(error), "aborted"
            self._record_own_fault(error)
        finally:
            with anyio.CancelScope(shield=True):
                await self._strike(why, steady_after)
        return failure

    def _record_own_fault(self, error: Exception) -> None:
        """It is in the record, everything is put back, exit code 70."""
        for each in each_error(error):
            what = f"{type(each).__name__}: {each}"
            self.emit(events.Problem(at=self.now(), where="drill", what=what))

    async def _guard(self) -> None:
        """Beat, so that the watchdog knows that we are well; without one nothing is broken."""
        assert self.watchdog is not None
        why = await self.watchdog.wait_lost()
        self.interruption.stop("watchdog-lost", why)

    async def _bring_up(self, owners: list[ProcessId]) -> Sandbox | None:
        """The sandbox; None if it does not start, which the record then says."""
        if self.production.teardown:
            step = TearDown(tag=self.reference.options.get("tag", self.folder.id))
            what = "the sandbox"
            await self.log.arm(Armed(SANDBOX, what, self.reference, (step,)))
        if self.interruption.received:
            raise Stopped
        with anyio.CancelScope() as self.interruption.scope:
            try:
                box = await self.production.bring_up(self.folder, self.reference, owners)
            except GamedayError as error:
                self.emit(events.Problem(at=self.now(), where="sandbox", what=str(error)))
                return None
            box.drill = self.folder.id
            return box
        raise Stopped

    async def _runner(self, box: Sandbox) -> Runner:
        addresses = Addresses(box, self.production.entry)
        await addresses.refresh()
        await self._note_services(box)
        aim = await Aim.taken(box, self.production, self.options.planned, self.options.seed)
        pages = DrillPages(
            self.folder.id, self.scenario.severity, self._channels(), self.now, self._channel_bug
        )
        knowledge = Knowledge()
        stage = Stage(
            box=box,
            journal=self.journal,
            undo=self.log,
            pages=pages,
            watchers={
                "journal": self._watch_journal,
                "record": self._watch_record,
                "machine": partial(watch_machine, self.options.stop),
                "pace": watch_pace,
                "sandbox": watch_changes,
                "view": self._draw,
            },
            keep_off=self.affinity.keep_off,
            allow=aim.allow,
            listeners=[self.view.observe, knowledge.observe, self._move_limit],
        )
        for name, sli in self.scenario.slis.items():
            probe = Probe(name, sli, addresses, self.now)
            stage.watchers[f"probe {name}"] = partial(_sample, probe)
        if self.options.stop.url:
            stage.watchers["stop URL"] = partial(watch_stop_url, self.options.stop)
        if self.scenario.load is not None:
            stage.watchers["load"] = partial(self._offer_load, addresses)
        stage.actors["inbox"] = partial(listen, self.folder, self.scenario.hints)
        scripted = self.scenario.fixers.scripted
        if scripted is not None and self.options.scripted:
            fixer = ScriptedFixer(scripted, box, knowledge, self._speak)
            stage.actors["fixer"] = lambda runner: fixer.run()
        return Runner(self.scenario, stage, seed=self.options.seed, zero=self.journal.zero)

    def _move_limit(self, event: events.Event) -> None:
        """Fifty targets may take their time; what hangs undoes nothing."""
        if isinstance(event, events.InjectionUndone) and self.watchdog is not None:
            self.watchdog.extend(GRACE)

    async def _note_services(self, box: Sandbox) -> None:
        """Whose services take part: the debrief names their owners."""
        slots = await box.list_slots()
        services = {slot.service: {"owner": slot.owner, "tier": slot.tier} for slot in slots}
        self.emit(events.Noted(at=self.now(), kind="services", data=services))

    def _channels(self) -> list[Channel]:
        book = Book(
            drill=self.folder.id,
            file=str(self.folder.path / "pages.jsonl"),
            webhook=self.options.webhook,
        )
        write_book(self.folder.path, book)
        channels: list[Channel] = [
            Terminal(lambda message, text: self.view.page(text, message.status)),
            File(Path(book.file)),
        ]
        if book.webhook:
            from gameday.drills.channels.webhook import Webhook

            channels.append(Webhook(book.webhook))
        return channels

    def _channel_bug(self, error: Exception) -> None:
        if self.interruption.runner is not None:
            self.interruption.runner.own_fault("channel", error)

    # Beside the drill

    async def _watch_journal(self, runner: Runner) -> None:
        raise await self.journal.wait_failed()

    async def _watch_record(self, runner: Runner) -> None:
        """Somebody may remove it (`git clean`): then nobody else could put things back."""
        while True:
            self._check_record()
            await anyio.sleep(_TICK)

    def _check_record(self) -> None:
        """Raises: StorageError: if something is missing by which the drill is found, or stopped."""
        self.log.check_there()
        self.journal.check_there()
        if self.opened is not None:
            state.check_noted(self.opened)
        self.lock.check_there()
        self.folder.check_inbox()

    async def _draw(self, runner: Runner) -> None:
        self.view.watch(runner.monitor.values)
        while True:
            self.view.tick(runner.now())
            await anyio.sleep(_TICK)

    async def _offer_load(self, addresses: Addresses, runner: Runner) -> None:
        from gameday.drills.load import run_load
        from gameday.drills.load_messages import Order

        wanted = self.scenario.load
        assert wanted is not None
        assert self.production.locustfile is not None
        host, port = addresses.of(None)
        order = Order(
            journey=wanted.journey,
            locustfile=str(self.production.locustfile),
            user=self.production.user,
            host=f"http://{host}:{port}",
            users=wanted.users,
            spawn_rate=wanted.spawn_rate,
        )
        log = self.folder.logs / "load.log"
        await run_load(order, log, runner.emit, self.now, self.journal.zero, self._load_started)

    def _load_started(self, pid: int) -> None:
        self.affinity.load_pid = pid
        identity = process_id(pid)
        if identity is not None and self.watchdog is not None:
            self.watchdog.register(identity)

    # In the drill

    async def _speak(self, verb: str, text: str) -> None:
        say(self.folder, Entry(verb=verb, role="fixer", text=text, scripted=True))

    # The end

    async def _strike(self, why: str, steady_after: bool | None) -> None:
        """Take the sandbox down, close the record, and let the watchdog go."""
        self.affinity.restore()
        await self._tear_down()
        own, host = self.usage.since()
        self.emit(events.PhaseBegan(at=self.now(), phase="ended", why=self._put_back()))
        self.emit(
            events.DrillEnded(
                at=self.now(),
                why=why,
                steady_after=steady_after,
                own_cpu=round(own, 3),
                host_cpu=round(host, 3),
            )
        )

    def _put_back(self) -> str:
        """Whether it all is, in words; what is not the watchdog tries again, once we are done."""
        if not self.log.outstanding:
            return "Everything is put back"
        return "Not everything could be put back"

    async def _close(self) -> None:
        """The record is whole: let the watchdog go, which looks once more for what is left."""
        try:
            await self.journal.sync()
        except GamedayError:
            pass  # the debrief says where the record ends
        self.log.close()
        if self.watchdog is not None:
            await self.watchdog.done()
        read = read_undo_log(self.folder.undo, self.folder.recovery)
        # Where it is away the watchdog has seen to what it kept of it; without one, we alone know.
        left = self.log.outstanding if self.folder.away else list(read.outstanding)
        if not left:
            state.forget(self.folder.id)
        close_book(self.folder.path, left)
        self.folder.release_reserve()

    async def _tear_down(self) -> None:
        for record in self.log.outstanding:
            if record.id != SANDBOX:
                continue
            from gameday.injectors.sandbox.kinds import connect

            result = await undo_one(record, await connect(self.reference))
            if result.outcome is Outcome.FAILED:
                self.emit(events.Problem(at=self.now(), where="teardown", what=result.detail))
            await self.log.undone(result)


class _PrivateLog(logging.FileHandler):
    """A log for its owner alone, made once there is something to say."""

    def _open(self) -> TextIOWrapper:
        def private(path: str, flags: int) -> int:
            return os.open(path, flags, 0o600)

        return TextIOWrapper(open(self.baseFilename, "ab", opener=private), encoding="utf-8")


@contextmanager
def _asyncio_log(folder: DrillFolder) -> Iterator[None]:
    """What the event loop has to say of its own goes to the drill's logs, not to the terminal."""
    log = logging.getLogger("asyncio")
    handler = _PrivateLog(folder.logs / "runner.log", encoding="utf-8", delay=True)
    handler.setFormatter(logging.Formatter("%(asctime)s %(message)s"))
    log.addHandler(handler)
    log.propagate = False
    try:
        yield
    finally:
        log.removeHandler(handler)
        handler.close()


async def _sample(probe: Probe, runner: Runner) -> None:
    await probe.run(runner.emit)


def _host() -> dict[str, str]:
    name = os.uname()
    return {
        "system": f"{name.sysname} {name.release}",
        "python": ".".join(map(str, sys.version_info[:3])),
        "cpus": str(os.cpu_count() or 0),
    }
