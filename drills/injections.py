"""The injections of a drill: planned, armed, made, looked at, undone, compared.

The order of safety, for each: plan, arm (fsync), inject, look, journal. Undone is
newest first, and at once what was made at once; what goes wrong there is a verdict, and
the next one is still undone.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, Sequence
from functools import partial

import anyio
import anyio.lowlevel
import msgspec

from gameday.drills.armed_injection import (
    EFFECT_TIMEOUT,
    FIRST_LOOK,
    LOOK_EVERY,
    ArmedInjection,
)
from gameday.drills.director import lots
from gameday.drills.errands import Errands
from gameday.drills.foreign import foreign
from gameday.drills.ports import Emit, UndoBook
from gameday.drills.undoing import at_once, undo_in_order
from gameday.injectors.errors import GamedayError
from gameday.injectors.fault import Evidence, Fault, Injection, exclude_each_other, hits_links
from gameday.injectors.sandbox.base import Sandbox
from gameday.injectors.undo import Outcome, Undone
from gameday.scenarios.model import FaultEntry
from gameday.scoring import events

__all__ = ["Injections"]

_CPU_LIMIT = 2.0
"""Seconds for asking which CPUs burn."""
_UNDO_AGAIN = 1.0
"""Seconds that a fault may still be seen after its undo before it is undone once more."""


class _Breaking(msgspec.Struct):
    """An entry of ``faults`` that is being injected: whoever takes it back waits for its end."""

    scope: anyio.CancelScope = msgspec.field(default_factory=anyio.CancelScope)
    over: anyio.Event = msgspec.field(default_factory=anyio.Event)


class Injections:
    """Injects the scenario's faults, and knows what was armed.

    Args:
        faults: The scenario's.
        seed: Chooses the targets.
        box: Where they are.
        undo: Where each undo is armed, and what runs it.
        keep_off: Told which CPUs faults burn now.
        emit: Takes what happens.
        now: Seconds since the drill's start.
        errands: Where it is done, beside the rest.
        allow: Passes what an entry is about to hit, or raises; says what has changed since the plan.
        over: Whether the drill has ended, or somebody asked to: nothing is injected then.
    """

    def __init__(
        self,
        faults: Sequence[FaultEntry],
        *,
        seed: int,
        box: Sandbox,
        undo: UndoBook,
        keep_off: Callable[[frozenset[int]], None],
        emit: Emit,
        now: Callable[[], float],
        errands: Errands,
        allow: Callable[[int, Sequence[Injection]], Awaitable[str]],
        over: Callable[[], bool],
    ) -> None:
        self._faults = faults
        self._seed = seed
        self._box = box
        self._undo = undo
        self._keep_off = keep_off
        self._emit = emit
        self._now = now
        self._errands = errands
        self._allow = allow
        self._over = over
        self._armed: list[ArmedInjection] = []
        self._breaking: dict[int, _Breaking] = {}
        self._aiming: dict[str, anyio.Lock] = {}
        self._hits_slots = not all(hits_links(type(entry.breaks)) for entry in faults)

    @property
    def any_armed(self) -> bool:
        """True if something was armed in this drill, undone by now or not."""
        return bool(self._armed)

    @property
    def outstanding(self) -> bool:
        """True if something that was armed is not undone."""
        return any(not armed.ended for armed in self._armed)

    def inject(self, entry: int) -> None:
        """Inject that entry of ``faults``, beside the rest."""
        self._breaking[entry] = _Breaking()
        self._errands.start(self._where(entry), self._break, entry)

    def revert(self, entry: int) -> None:
        """Take one fault back before the end, beside the rest."""
        self._errands.start(self._where(entry), self._revert, entry)

    async def undo_all(self) -> None:
        """Undo everything, newest first; what failed before is tried again. Never raises."""
        await self._take_all_back(self._armed)

    async def compare(self, patience: Callable[[], float]) -> None:
        """Is every target as it was? ``patience``: seconds that are left for becoming it."""

        async def check(armed: ArmedInjection) -> None:
            difference = await armed.difference(patience)
            self._emit(
                events.TargetChecked(
                    at=self._now(),
                    injection=armed.injection.id,
                    equal=not difference,
                    detail=difference,
                )
            )

        await at_once(self._armed, check)

    def _where(self, entry: int) -> str:
        return f"fault {self._faults[entry].breaks.kind}"

    # Breaking

    async def _break(self, entry: int) -> None:
        fault, breaking = self._faults[entry].breaks, self._breaking[entry]
        try:
            with breaking.scope:
                planned = await foreign(fault.plan, self._box, lots(self._seed, entry))
                if changed := await self._allow(entry, planned):
                    self._emit(events.Noted(at=self._now(), kind="plan", text=changed))
                armed: list[ArmedInjection] = []
                async with anyio.create_task_group() as together:
                    for injection in planned:
                        together.start_soon(self._arm, fault, injection, entry, armed)
                # All are armed before the first is made, so that they hit at once.
                async with anyio.create_task_group() as together:
                    for each in armed:
                        together.start_soon(self._inject, each)
        finally:
            breaking.over.set()

    async def _inject(self, armed: ArmedInjection) -> None:
        fault, injection = armed.fault, armed.injection
        await anyio.lowlevel.checkpoint_if_cancelled()
        if self._over():  # asked for in this very moment: nobody has cancelled us yet
            return
        called = self._now()
        if other := self._excluding(armed):
            why = f"{other.fault.kind} is in force on {injection.target}, and both cannot be"
            self._emit(events.InjectFailed(at=called, injection=injection.id, error=why))
            return
        armed.made = True
        self._emit(events.InjectCalled(at=called, injection=injection.id))
        try:
            await foreign(fault.inject, self._box, injection)
        except Exception as error:
            failure = events.InjectFailed(at=self._now(), injection=injection.id, error=str(error))
            self._emit(failure)
            armed.made = False
            if isinstance(error, GamedayError):
                return
            raise
        self._errands.start(f"look at {injection.target}", self._look_on, armed, called)

    def _excluding(self, armed: ArmedInjection) -> ArmedInjection | None:
        """What is in force there, and excludes it: targets that are drawn by lot may meet."""
        for other in self._armed:
            same = other.injection.where == armed.injection.where
            acts = other.made and not other.over and not other.ended
            if same and acts and exclude_each_other(type(other.fault), type(armed.fault)):
                return other
        return None

    async def _arm(
        self, fault: Fault, injection: Injection, entry: int, found: list[ArmedInjection]
    ) -> None:
        """Put the undo on disk; armed and journalled is one thing, whatever is cancelled."""
        begins = _begins(injection) if self._hits_slots else ""
        async with self._aiming.setdefault(begins or injection.target, anyio.Lock()):
            before = await self._before(injection.where)
            beneath = await self._before(begins) if begins else {}
            armed = ArmedInjection(self._box, fault, injection, entry, before, beneath)
            with anyio.CancelScope(shield=True):
                await self._undo.arm(armed.record)
                self._armed.append(armed)
                self._emit(events.InjectionArmed(at=self._now(), injection=injection, entry=entry))
        found.append(armed)

    async def _before(self, where: str) -> Mapping[str, str]:
        """A target without any fault of ours: as it was before the first that is there now."""
        for armed in self._armed:
            if armed.ended:
                continue
            if armed.injection.where == where:
                return armed.before
            if armed.beneath and _begins(armed.injection) == where:
                return armed.beneath
        return await self._box.fingerprint(where)

    async def _look_on(self, armed: ArmedInjection, called: float) -> None:
        """Look at the target until the fault is over, noting what each look adds."""
        previous, pause, in_force = called, FIRST_LOOK, False
        while True:
            asked = self._now()
            evidence = await armed.look()
            if armed.undoing:
                return
            news = evidence.took_effect and not armed.took_effect
            if news or (armed.took_effect and evidence.in_force != in_force):
                armed.took_effect = True
                self._looked(armed, evidence, previous)
                await self._mind_cpus(armed)
            in_force = evidence.in_force
            if armed.took_effect and not in_force:
                armed.over = True
                return
            if self._now() - called > EFFECT_TIMEOUT and not armed.took_effect:
                self._looked(armed, evidence, previous)  # said once, and looked at still
                called = float("inf")
            previous = asked
            await anyio.sleep(pause)
            pause = min(LOOK_EVERY, pause * 2)

    def _looked(self, armed: ArmedInjection, evidence: Evidence, previous: float) -> None:
        self._emit(
            events.Looked(
                at=self._now(),
                injection=armed.injection.id,
                took_effect=armed.took_effect,
                in_force=evidence.in_force,
                seen=evidence.seen,
                previous=previous,
            )
        )

    async def _mind_cpus(self, armed: ArmedInjection) -> None:
        """Who measures keeps off the CPUs that burn, and gets them back."""
        if "cpu" not in armed.fault.needs:
            return
        try:
            with anyio.move_on_after(_CPU_LIMIT):
                self._keep_off(frozenset(await self._box.cpu.burning()))
        except (GamedayError, OSError) as error:
            self._emit(events.Problem(at=self._now(), where="cpu", what=str(error)))

    # Taking back

    async def _revert(self, entry: int) -> None:
        """What is still being injected is stopped first."""
        breaking = self._breaking[entry]
        breaking.scope.cancel()
        with anyio.CancelScope(shield=True):
            await breaking.over.wait()
            await self._take_all_back([each for each in self._armed if each.entry == entry])

    async def _take_all_back(self, oldest_first: Sequence[ArmedInjection]) -> None:
        every = {armed.injection.id: armed for armed in reversed(oldest_first)}
        await undo_in_order(
            [armed.record for armed in every.values()],
            lambda record: self._take_back(every[record.id]),
        )

    async def _take_back(self, armed: ArmedInjection) -> None:
        """Undo one injection; one that failed before is tried again. Never raises."""
        if armed.ended:
            return
        armed.undoing = True
        called = self._now()
        result = await self._undone(armed)
        armed.ended = result.outcome is not Outcome.FAILED
        if not armed.ended and result.detail == armed.failure:
            await self._mind_cpus(armed)
            return  # told already
        armed.failure = None if armed.ended else result.detail
        self._emit(
            events.InjectionUndone(
                at=self._now(),
                injection=armed.injection.id,
                outcome=result.outcome.value,
                called=called,
                detail=result.detail,
                by=result.by,
            )
        )
        await self._errands.carry("undo log", partial(self._undo.undone, result))
        await self._mind_cpus(armed)

    async def _undone(self, armed: ArmedInjection) -> Undone:
        """Run the steps; they count unless looks show that the fault is still in force.

        Then they are run once more: what was asked of the target before may have come late.
        """
        first, seen = await self._undone_once(armed, _UNDO_AGAIN)
        if not seen:
            return first
        second, seen = await self._undone_once(armed, EFFECT_TIMEOUT)
        if seen:
            return msgspec.structs.replace(second, outcome=Outcome.FAILED, detail=seen)
        return first if second.outcome is Outcome.NOTHING else second

    async def _undone_once(self, armed: ArmedInjection, within: float) -> tuple[Undone, str]:
        """What the steps came to, and how the fault is seen in force so long after them."""
        try:
            result = await self._undo.undo(armed.record, self._box)
        except Exception as error:
            self._errands.fail(f"undo of {armed.name}", error)
            what = f"{type(error).__name__}: {error}"
            return Undone(armed.injection.id, Outcome.FAILED, what), ""
        if result.outcome in (Outcome.FAILED, Outcome.TAKEN_OVER):
            return result, ""  # what somebody took over is theirs, as it is
        try:
            return result, await armed.still_seen(within)
        except Exception as error:  # a bug of the look: then the target itself has to prove it
            self._errands.fail(f"look after the undo of {armed.name}", error)
            return result, await self._unproved(armed)

    async def _unproved(self, armed: ArmedInjection) -> str:
        """What is not as it was before; empty if everything is. Never raises."""
        deadline = self._now() + EFFECT_TIMEOUT
        try:
            return await armed.difference(lambda: deadline - self._now())
        except Exception as error:
            return f"{type(error).__name__}: {error}"


def _begins(injection: Injection) -> str:
    """The slot where a link begins; empty for a slot."""
    source, arrow, _ = injection.target.partition("->")
    return source if arrow else ""
