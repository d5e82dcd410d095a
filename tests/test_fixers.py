"""Scripted fixers on virtual time: the same door and the same knowledge as people."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

import anyio
import trio.testing

from gameday.drills.fixers import Knowledge, ScriptedFixer
from gameday.injectors.sandbox.fake import FakeSandbox
from gameday.scenarios.model import Scripted
from gameday.scoring import events

Other = Callable[["Scene"], Awaitable[None]]


class Scene:
    """A fixer, a cluster, and what was said, with its time."""

    def __init__(
        self, *steps: str, reaction: float = 2.0, limit: float = 300.0, again: bool = False
    ) -> None:
        self.again = again
        self.script = Scripted.of({"reaction": f"{reaction}s", "steps": list(steps)})
        self.limit = limit
        self.said: list[tuple[float, str, str]] = []
        self.ended: float | None = None
        self.clock = trio.testing.MockClock(autojump_threshold=0)

    def play(self, other: Other | None = None, *, alert: bool = True) -> Scene:
        anyio.run(self._run, other, alert, backend="trio", backend_options={"clock": self.clock})
        return self

    async def _run(self, other: Other | None, alert: bool) -> None:
        self.box = FakeSandbox({"gateway": 1, "api": 3}, clock=self.clock.current_time)
        self.knowledge = Knowledge()
        fixer = ScriptedFixer(self.script, self.box, self.knowledge, self.speak)
        with anyio.move_on_after(self.limit):
            async with anyio.create_task_group() as tasks:
                if other is not None:
                    tasks.start_soon(other, self)
                self.begin("running")
                if alert:
                    self.page()
                call = self.knowledge.call
                if self.again:
                    await fixer.run()
                await fixer.respond(call)
                self.ended = self.clock.current_time()

    def begin(self, phase: str) -> None:
        self.knowledge.observe(events.PhaseBegan(at=0.0, phase=phase))

    def page(self, page: str = "A-1") -> None:
        self.knowledge.observe(
            events.AlertFired(at=0.0, page=page, alert="A", tier="page", source="monitoring")
        )
        self.deliver(page)

    def deliver(self, page: str) -> None:
        self.knowledge.observe(events.AlertDelivered(at=0.0, page=page, channel="terminal"))

    async def speak(self, verb: str, text: str) -> None:
        self.said.append((self.clock.current_time(), verb, text))
        self.hear(verb, text)

    def hear(self, verb: str, text: str = "") -> None:
        self.knowledge.observe(events.Said(at=0.0, verb=verb, role="fixer", text=text))

    @property
    def verbs(self) -> list[str]:
        return [verb for _, verb, _ in self.said]


def _fire(knowledge: Knowledge, page: str) -> None:
    knowledge.observe(
        events.AlertFired(at=0.0, page=page, alert="A", tier="page", source="monitoring")
    )
    knowledge.observe(events.AlertDelivered(at=0.0, page=page, channel="terminal"))


def test_what_is_over_before_the_drill_runs_is_no_call() -> None:
    knowledge = Knowledge()
    knowledge.observe(events.PhaseBegan(at=0.0, phase="steadying"))
    _fire(knowledge, "A-1")
    knowledge.observe(events.AlertResolved(at=0.0, page="A-1", by="monitoring"))
    knowledge.observe(events.PhaseBegan(at=0.0, phase="running"))
    assert not knowledge.call.raised.is_set()
    _fire(knowledge, "A-2")
    assert knowledge.call.raised.is_set()


def test_what_still_fires_when_the_drill_runs_is_a_call() -> None:
    knowledge = Knowledge()
    knowledge.observe(events.PhaseBegan(at=0.0, phase="steadying"))
    _fire(knowledge, "A-1")
    assert not knowledge.call.raised.is_set()
    knowledge.observe(events.PhaseBegan(at=0.0, phase="running"))
    assert knowledge.call.raised.is_set()


def test_each_step_after_its_reaction_time() -> None:
    scene = Scene("ack", "identify", "wait 5s", "mitigate", "resolve", reaction=3.0).play()
    assert [(at, verb) for at, verb, _ in scene.said] == [
        (3.0, "ack"),
        (6.0, "identify"),
        (17.0, "mitigate"),
        (20.0, "resolve"),
    ]
    assert scene.ended == 20.0


def test_they_sleep_until_somebody_wakes_them() -> None:
    async def later(scene: Scene) -> None:
        await anyio.sleep(50)
        scene.page()

    assert Scene("ack").play(later, alert=False).said == [(52.0, "ack", "")]
    assert Scene("ack").play(alert=False).said == []


def test_a_report_wakes_them_too() -> None:
    async def customer(scene: Scene) -> None:
        scene.knowledge.observe(events.Reported(at=0.0, sender="customer", text="It is slow."))

    assert Scene("declare").play(customer, alert=False).verbs == ["declare"]


def test_an_alert_that_reached_nobody_wakes_nobody() -> None:
    async def fire(scene: Scene) -> None:
        scene.knowledge.observe(
            events.AlertFired(at=0.0, page="A-1", alert="A", tier="page", source="monitoring")
        )

    assert Scene("ack").play(fire, alert=False).said == []


def test_what_a_person_did_already_is_not_repeated() -> None:
    async def person(scene: Scene) -> None:
        await anyio.sleep(1)
        scene.hear("ack")
        scene.hear("note", "I look at it")

    scene = Scene("ack", "note hello", "identify it is api").play(person)
    assert scene.verbs == ["note", "identify"]


def test_it_is_over_when_somebody_else_says_so() -> None:
    async def person(scene: Scene) -> None:
        await anyio.sleep(3)
        scene.hear("all-clear")

    scene = Scene("ack", "wait 10s", "mitigate", "resolve").play(person)
    assert scene.verbs == ["ack"]


def test_a_page_after_the_end_is_a_new_call() -> None:
    """An alert before the fault, on a busy machine, must not leave the fault to nobody."""

    async def later(scene: Scene) -> None:
        await anyio.sleep(50)
        scene.page("A-2")

    scene = Scene("ack", "mitigate", "resolve", again=True).play(later)
    assert scene.said == [
        *((2.0, "ack", ""), (4.0, "mitigate", ""), (6.0, "resolve", "")),
        *((52.0, "ack", ""), (54.0, "mitigate", ""), (56.0, "resolve", "")),
    ]


def test_a_page_that_comes_while_they_respond_is_acknowledged_too() -> None:
    async def flap(scene: Scene) -> None:
        await anyio.sleep(5.0)
        scene.knowledge.observe(events.AlertResolved(at=0.0, page="A-1", by="monitoring"))
        await anyio.sleep(1.2)
        scene.page("A-2")
        await anyio.sleep(20.0)
        scene.hear("resolve")

    scene = Scene("ack", "wait 10s", "mitigate", reaction=2.0, limit=60.0, again=True).play(flap)
    assert [(at, verb) for at, verb, _ in scene.said] == [
        (2.0, "ack"),
        (8.5, "ack"),
        (16.0, "mitigate"),
    ]
    silent = Scene("wait 10s", "mitigate", reaction=2.0, limit=60.0, again=True).play(flap)
    assert silent.verbs == ["mitigate"]


def test_what_was_known_before_the_end_is_no_new_call() -> None:
    async def later(scene: Scene) -> None:
        await anyio.sleep(50)
        scene.deliver("A-1")
        scene.knowledge.observe(events.Reported(at=0.0, sender="customer", text="It is slow."))

    assert Scene("ack", "resolve", again=True).play(later).verbs == ["ack", "resolve"]


def test_a_script_that_closes_nothing_is_played_once() -> None:
    async def later(scene: Scene) -> None:
        await anyio.sleep(50)
        scene.page("A-2")

    played = Scene("ack", "mitigate", again=True).play(later)
    assert played.verbs == ["ack", "mitigate", "ack"], "what comes later is only acknowledged"


def test_waiting_for_health_ends_when_somebody_else_says_that_it_is_over() -> None:
    async def person(scene: Scene) -> None:
        scene.box.crash("api-1")
        await anyio.sleep(30)
        scene.hear("resolve")

    scene = Scene("ack", "until healthy", "resolve").play(person)
    assert scene.ended is not None
    assert scene.ended < 40
    assert scene.verbs == ["ack"]


def test_a_template_is_what_the_list_of_slots_shows() -> None:
    async def breaks(scene: Scene) -> None:
        scene.box.crash("api-2")

    scene = Scene("restart {{ unhealthy.api }}", "note {{ unhealthy.api }} was down").play(breaks)
    assert scene.box.serves("api-2")
    acts = [(c.action, c.slot, c.by) for c in scene.box.history if c.by == "fixer"]
    assert ("restart", "api-2", "fixer") in acts


def test_a_step_for_which_there_is_nothing_is_left_out_and_said() -> None:
    scene = Scene("restart {{ unhealthy.api }}", "resolve").play()
    assert scene.verbs == ["note", "resolve"]
    assert "left out" in scene.said[0][2]
    assert not [c for c in scene.box.history if c.action == "restart"]


def test_what_does_not_work_is_a_note_and_the_rest_goes_on() -> None:
    scene = Scene("restart nobody-7", "ack").play()
    assert scene.verbs == ["note", "ack"]
    assert "did not work" in scene.said[0][2]


def test_the_hands() -> None:
    async def breaks(scene: Scene) -> None:
        scene.box.crash("api-1")

    scene = Scene("drain {{ unhealthy.api }}", "scale api 5", "exec api-2 true", "until healthy")
    scene.play(breaks)
    acts = [c.action for c in scene.box.history if c.by == "fixer"]
    assert [act for act in acts if act in ("drain", "scale", "exec")] == ["drain", "scale", "exec"]
    assert scene.box.commands == (("true",),)
    assert scene.ended is not None
