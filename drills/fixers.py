"""Scripted fixers: the same door and the same knowledge as people.

They wake when somebody would: a page is delivered, or a report comes in. They
see alerts, reports, what others say, and `sandbox ps`; they act with the hands
and speak through the inbox, each step after its reaction time. A person who was
faster is not repeated. A page that fires while they respond is acknowledged like the first, if their
script acknowledges. A page that fires after it was said to be over is a new
call: they begin again, as on-call would. What fires and is over again while the
sandbox warms up is no call: their script is for the drill.
"""

from __future__ import annotations

import os
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field

import anyio

from gameday.injectors.errors import GamedayError
from gameday.injectors.sandbox.base import Sandbox
from gameday.scenarios.model import Scripted
from gameday.scenarios.steps import (
    Drain,
    Execute,
    Restart,
    Say,
    Scale,
    Step,
    Until,
    Wait,
    fill,
    is_well,
    parse_step,
)
from gameday.scoring import events

__all__ = ["Call", "Knowledge", "ScriptedFixer"]

ROLE = "fixer"
_OVER = frozenset({"resolve", "all-clear"})
_ONCE = frozenset({"ack", "declare", "identify", "mitigate"}) | _OVER
_PATIENCE = 20.0
"""Seconds that a fixer looks for an unhealthy slot before giving up on a step."""
_LOOK_EVERY = 0.5

Speak = Callable[[str, str], Awaitable[None]]
"""Says a verb with its words through the inbox."""


@dataclass(frozen=True, slots=True)
class Call:
    """What fixers respond to, from the first page or report until somebody says that it is over.

    Attributes:
        raised: Set by the page or report.
        over: Set when somebody says so.
        said: Verbs that were said in it.
    """

    raised: anyio.Event = field(default_factory=anyio.Event)
    over: anyio.Event = field(default_factory=anyio.Event)
    said: set[str] = field(default_factory=set)


class Knowledge:
    """What every fixer may know of a running drill; fed with the journal's events.

    Attributes:
        firing: Pages that fire.
        acknowledged: Pages that somebody acknowledged.
        call: The call that is open, or the next one.
    """

    def __init__(self) -> None:
        self.firing: set[str] = set()
        self.acknowledged: set[str] = set()
        self.call = Call()
        self._first = True
        self._running = False
        self._waiting: set[str] = set()
        self._old: set[str] = set()

    @property
    def unacknowledged(self) -> set[str]:
        """Pages that fire, and were not acknowledged, nor known when somebody said that it was over."""
        return self.firing - self.acknowledged - self._old

    def observe(self, event: events.Event) -> None:
        """Take in what is public; nothing of the breaker's is."""
        match event:
            case events.PhaseBegan():
                self._running = self._running or event.phase == "running"
                if self._running and self._waiting & self.firing:
                    self.call.raised.set()
            case events.AlertFired():
                self.firing.add(event.page)
            case events.AlertResolved():
                self.firing.discard(event.page)
            case events.AlertDelivered():
                if not self._running:
                    self._waiting.add(event.page)
                elif event.page not in self._old:
                    self.call.raised.set()
            case events.Reported():
                if self._first:  # later ones tell of what was already responded to
                    self.call.raised.set()
            case events.Said():
                self.call.said.add(event.verb)
                if event.verb == "ack":
                    self.acknowledged |= {event.page} if event.page else self.firing
                if event.verb in _OVER:
                    self._close()

    def _close(self) -> None:
        self.call.over.set()
        self.call, self._first = Call(), False
        self._old |= self.firing  # delivered once more, on another channel, they are not new


class ScriptedFixer:
    """Plays a script.

    Args:
        script: Reaction time and steps.
        box: For `sandbox ps` and the hands.
        knowledge: What fixers know.
        speak: The inbox.
    """

    def __init__(self, script: Scripted, box: Sandbox, knowledge: Knowledge, speak: Speak) -> None:
        self.reaction = script.reaction
        self.steps = [parse_step(text) for text in script.steps]
        self.box = box
        self.knowledge = knowledge
        self.speak = speak

    async def run(self) -> None:
        """Respond to each call, until cancelled."""
        while True:
            call = self.knowledge.call
            async with anyio.create_task_group() as beside:
                beside.start_soon(self._acknowledge_more, call)
                await self.respond(call)
                await call.over.wait()
                beside.cancel_scope.cancel()

    async def respond(self, call: Call) -> None:
        """Play the script once alerted; returns at its end, or when somebody else closed the call."""
        await call.raised.wait()
        for step in self.steps:
            await anyio.sleep(self.reaction)
            if call.over.is_set():
                return
            await self._take(step, call)

    async def _acknowledge_more(self, call: Call) -> None:
        """Pages that come once the script has acknowledged."""
        step = next(
            (each for each in self.steps if isinstance(each, Say) and each.verb == "ack"), None
        )
        while step is not None:
            await anyio.sleep(_LOOK_EVERY)
            if "ack" in call.said and self.knowledge.unacknowledged:
                await anyio.sleep(self.reaction)
                if self.knowledge.unacknowledged:
                    await self._utter(step)

    async def _take(self, step: Step, call: Call) -> None:
        try:
            await self._act(step, call)
        except GamedayError as error:
            await self.speak("note", f"that did not work: {error.message}")

    async def _act(self, step: Step, call: Call) -> None:
        match step:
            case Say():
                await self._say(step, call)
            case Restart():
                if slot := await self._find(step.slot, call):
                    await self.box.hands.restart(slot, by=ROLE)
            case Drain():
                if slot := await self._find(step.slot, call):
                    await self.box.hands.drain(slot, by=ROLE, back=step.back)
            case Scale():
                await self.box.hands.scale(step.service, step.replicas, by=ROLE)
            case Execute():
                if slot := await self._find(step.slot, call):
                    await self._execute(slot, step.argv)
            case Wait():
                await anyio.sleep(step.seconds)
            case Until():
                await self._until(step.what, call)

    async def _say(self, step: Say, call: Call) -> None:
        if step.verb in _ONCE and step.verb in call.said:
            return
        await self._utter(step)

    async def _utter(self, step: Say) -> None:
        text = fill(step.text, await self.box.list_slots())
        await self.speak(step.verb, step.text if text is None else text)

    async def _find(self, name: str, call: Call) -> str | None:
        """The slot that a step means, as `sandbox ps` shows it; None if nothing is unhealthy."""
        with anyio.move_on_after(_PATIENCE):
            while not call.over.is_set():
                found = fill(name, await self.box.list_slots())
                if found is not None:
                    return found
                await anyio.sleep(_LOOK_EVERY)
            return None
        await self.speak("note", "nothing is unhealthy any more; the step was left out")
        return None

    async def _execute(self, slot: str, argv: tuple[str, ...]) -> None:
        sink = os.open(os.devnull, os.O_RDWR)
        try:
            code = await self.box.hands.execute(slot, argv, by=ROLE, stdio=(sink, sink, sink))
        finally:
            os.close(sink)
        if code:
            await self.speak("note", f"{argv[0]} at {slot} ended with {code}")

    async def _until(self, what: str, call: Call) -> None:
        while not call.over.is_set():
            slots = await self.box.list_slots()
            well = all(is_well(slot) or slot.drained or slot.state == "stopped" for slot in slots)
            if (what == "healthy" and well) or (what == "quiet" and not self.knowledge.firing):
                return
            await anyio.sleep(_LOOK_EVERY)
