"""Channels: what people read, what receivers get, and what becomes of those that do not answer."""

from __future__ import annotations

import json
import math
import subprocess
import sys
from pathlib import Path
from typing import Any

import anyio
import anyio.abc
import msgspec
import pytest
import trio.testing

from gameday.drills.channels import Book, read_book, resolve_page, write_book
from gameday.drills.channels.delivery import PAUSES, SEND_LIMIT, TRIES, deliver
from gameday.drills.channels.file import File
from gameday.drills.channels.message import MARK, ChannelError, Message, plain_text
from gameday.drills.channels.terminal import Terminal
from gameday.drills.channels.webhook import Webhook
from gameday.drills.pages import DrillPages
from gameday.injectors.errors import SandboxError, UsageError
from gameday.injectors.undo import Outcome, ResolvePage
from gameday.scenarios.model import AlertRule
from gameday.scoring import events
from tests.test_http import serve

ANSWERS = {
    "summary": "The shop serves errors.",
    "impact": "Customers cannot buy.",
    "verify": "gameday status",
    "first_step": "Restart what is unhealthy.",
    "escalate": "The owner of api.",
}
FIRING = Message(
    "firing",
    "Down-1",
    "Down",
    "d-1",
    1_700_000_000.0,
    "page",
    "SEV-2",
    "availability 42 %",
    runbook="runbooks/down.md",
    **ANSWERS,
)
RESOLVED = msgspec.structs.replace(FIRING, status="resolved", summary="The drill has ended.")
REPORT = Message("report", "report-1", "A customer says", "d-1", 1.0, summary="It is slow.")
RULE = AlertRule.of({"name": "Down", "at": "1s"} | ANSWERS)


def virtual(run: Any) -> float:
    """Run on virtual time; how long it took there."""
    clock = trio.testing.MockClock(autojump_threshold=0)
    anyio.run(run, backend="trio", backend_options={"clock": clock})
    return clock.current_time()


class Flaky:
    name = "flaky"

    def __init__(self, *outcomes: Exception | float | None) -> None:
        self.outcomes = list(outcomes)
        self.at: list[float] = []
        self.taken: list[Message] = []

    async def send(self, message: Message) -> None:
        self.at.append(anyio.current_time())
        outcome = self.outcomes.pop(0) if self.outcomes else None
        if isinstance(outcome, float):
            await anyio.sleep(outcome)
        elif outcome is not None:
            raise outcome
        self.taken.append(message)


def run_delivery(*channels: Flaky) -> tuple[list[str], dict[str, str], float]:
    accepted: list[str] = []
    failed: dict[str, str] = {}
    lasted = virtual(
        lambda: deliver(
            FIRING, channels, accepted.append, lambda name, why: failed.__setitem__(name, str(why))
        )
    )
    return accepted, failed, lasted


# What is said


def test_a_page_answers_the_five_questions_and_says_that_it_is_an_exercise() -> None:
    text = plain_text(FIRING)
    assert text.startswith(f"[{MARK}] PAGE Down (availability 42 %)")
    for answer in (*ANSWERS.values(), "runbooks/down.md"):
        assert answer in text
    assert [line[2:13].strip() for line in text.split("\n")[1:]] == [
        "What broke",
        "Impact",
        "Verify",
        "Try first",
        "Call",
        "Runbook",
    ]


@pytest.mark.parametrize("message", [FIRING, RESOLVED, REPORT])
def test_everything_that_leaves_a_drill_is_marked(message: Message, tmp_path: Path) -> None:
    shown: list[str] = []
    file = File(tmp_path / "pages.jsonl")

    async def send() -> None:
        await Terminal(lambda _, text: shown.append(text)).send(message)
        await file.send(message)

    anyio.run(send)
    line = json.loads(file.path.read_text())
    assert MARK in shown[0]
    assert line["mark"] == MARK
    assert {**line, "mark": None} == {**msgspec.to_builtins(message), "mark": None}


def test_a_summary_of_several_lines_stays_in_its_place() -> None:
    sly = msgspec.structs.replace(FIRING, summary="one\n  Call       the boss\n\x1b[2J")
    assert len(plain_text(sly).split("\n")) == len(plain_text(FIRING).split("\n"))


# The webhook


class Receiver:
    """A real receiver of webhooks; it answers as told."""

    def __init__(self, *statuses: int) -> None:
        self.statuses = list(statuses)
        self.bodies: list[dict[str, Any]] = []
        self.heads: list[str] = []

    async def talk(self, stream: anyio.abc.SocketStream) -> None:
        data = b""
        while b"\r\n\r\n" not in data:
            data += await stream.receive()
        head, _, body = data.partition(b"\r\n\r\n")
        length = next(
            int(line.split(b":")[1])
            for line in head.split(b"\r\n")
            if line.lower().startswith(b"content-length")
        )
        while len(body) < length:
            body += await stream.receive()
        self.heads.append(head.decode())
        self.bodies.append(json.loads(body))
        status = self.statuses.pop(0) if self.statuses else 200
        await stream.send(f"HTTP/1.1 {status} X\r\nContent-Length: 0\r\n\r\n".encode())


@pytest.mark.parametrize("message", [FIRING, RESOLVED, REPORT])
def test_the_webhook_speaks_as_alertmanager_does(message: Message) -> None:
    receiver = Receiver()

    async def run() -> None:
        async with serve(receiver.talk) as port:
            await Webhook(f"http://me:s%40fe@127.0.0.1:{port}/hook?x=1").send(message)

    anyio.run(run)
    (body,), (head,) = receiver.bodies, receiver.heads
    assert head.startswith("POST /hook?x=1 HTTP/1.1")
    assert "Authorization: Basic bWU6c0BmZQ==" in head
    assert "Content-Type: application/json" in head
    assert set(body) == {
        "version",
        "groupKey",
        "status",
        "receiver",
        "groupLabels",
        "commonLabels",
        "commonAnnotations",
        "externalURL",
        "alerts",
    }
    assert body["version"] == "4"
    (alert,) = body["alerts"]
    assert set(alert) >= {"status", "labels", "annotations", "startsAt", "endsAt", "fingerprint"}
    over = message.status == "resolved"
    assert body["status"] == alert["status"] == ("resolved" if over else "firing")
    assert alert["labels"]["alertname"] == message.title
    assert alert["labels"]["exercise"] == "true"
    assert alert["labels"]["drill"] == message.drill
    assert alert["fingerprint"] == message.key
    assert alert["annotations"]["summary"].startswith(MARK)
    texts = [*alert["labels"].values(), *alert["annotations"].values()]
    assert all(
        isinstance(text, str) and text for text in texts if text is not alert["labels"].get("tier")
    )


@pytest.mark.parametrize(
    ("status", "retry"),
    [(400, False), (404, False), (408, True), (429, True), (500, True), (503, True)],
)
def test_which_answers_are_worth_another_try(status: int, retry: bool) -> None:
    async def run() -> ChannelError:
        async with serve(Receiver(status).talk) as port:
            with pytest.raises(ChannelError) as refusal:
                await Webhook(f"http://127.0.0.1:{port}/").send(FIRING)
        return refusal.value

    error = anyio.run(run)
    assert error.retry is retry
    assert str(status) in str(error)


def test_a_webhook_that_nobody_serves_is_tried_again() -> None:
    async def run() -> ChannelError:
        async with serve(Receiver().talk) as port:
            pass
        with pytest.raises(ChannelError) as refusal:
            await Webhook(f"http://127.0.0.1:{port}/").send(FIRING)
        return refusal.value

    assert anyio.run(run).retry


@pytest.mark.parametrize(
    "url", ["", "example.org", "ftp://x/", "http://", "http://[::1", "http://x:y/"]
)
def test_what_is_no_webhook(url: str) -> None:
    with pytest.raises(UsageError, match="no webhook"):
        Webhook(url)


# Delivery


def test_a_channel_is_tried_again_after_its_pauses_and_then_given_up() -> None:
    flaky = Flaky(*[ChannelError("busy", retry=True)] * TRIES)
    accepted, failed, lasted = run_delivery(flaky)
    assert (accepted, failed) == ([], {"flaky": "busy"})
    assert flaky.at == [0.0, PAUSES[0], PAUSES[0] + PAUSES[1]]
    assert lasted == sum(PAUSES)


def test_a_second_try_may_do() -> None:
    accepted, failed, _ = run_delivery(Flaky(ChannelError("busy", retry=True)))
    assert (accepted, failed) == (["flaky"], {})


def test_what_trying_again_cannot_help_is_not_tried_again() -> None:
    flaky = Flaky(ChannelError("bad address", retry=False))
    assert run_delivery(flaky)[1] == {"flaky": "bad address"}
    assert len(flaky.at) == 1


def test_a_channel_that_hangs_or_crashes_does_not_hold_up_the_others() -> None:
    good, hung, broken = Flaky(), Flaky(math.inf, math.inf, math.inf), Flaky(KeyError("bug"))
    good.name, hung.name, broken.name = "good", "hung", "broken"
    accepted, failed, lasted = run_delivery(hung, broken, good)
    assert accepted == ["good"]
    assert good.at == [0.0]
    assert set(failed) == {"hung", "broken"}
    assert "KeyError" in failed["broken"]
    assert lasted == TRIES * SEND_LIMIT + sum(PAUSES)


# Pages of a drill


def test_a_page_never_arrives_after_its_own_end() -> None:
    flaky = Flaky(ChannelError("busy", retry=True), 60.0)
    pages = DrillPages("d", "SEV-2", [flaky], lambda: 0.0)
    heard: list[events.Event] = []

    async def run() -> None:
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(pages.fire, "Down-1", RULE, "", heard.append)
            await anyio.sleep(1.0)
            undone = await pages.resolve("Down-1", RULE, "monitoring")
            assert undone.outcome is Outcome.PUT_BACK
            assert (await pages.resolve("Other-1", RULE, "x")).outcome is Outcome.NOTHING

    assert virtual(run) < 10
    assert [message.status for message in flaky.taken] == ["resolved"]


def test_a_failed_resolution_names_the_channel_and_can_be_repeated() -> None:
    good, bad = Flaky(), Flaky(None, ChannelError("gone", retry=False))
    good.name, bad.name = "good", "bad"
    pages = DrillPages("d", "SEV-2", [good, bad], lambda: 0.0)

    async def run() -> None:
        await pages.fire("Down-1", RULE, "", lambda event: None)
        first = await pages.resolve("Down-1", RULE, "gameday")
        assert first.outcome is Outcome.FAILED
        assert "bad: gone" in first.detail
        assert (await pages.resolve("Down-1", RULE, "gameday")).outcome is Outcome.PUT_BACK

    virtual(run)
    assert [message.status for message in good.taken] == ["firing", "resolved"]
    assert [message.status for message in bad.taken] == ["firing", "resolved"]


# Files, and other processes


def test_lines_of_several_processes_never_mix(tmp_path: Path) -> None:
    path = tmp_path / "pages.jsonl"
    program = (
        "import sys, anyio; from pathlib import Path\n"
        "from gameday.drills.channels.file import File\n"
        "from gameday.drills.channels.message import Message\n"
        "async def run():\n"
        "    for n in range(100):\n"
        "        await File(Path(sys.argv[1])).send(Message('firing', str(n), 'x' * 3000, 'd', 0.0))\n"
        "anyio.run(run)\n"
    )
    writers = [subprocess.Popen([sys.executable, "-c", program, str(path)]) for _ in range(2)]
    assert [writer.wait(60) for writer in writers] == [0, 0]
    lines = [json.loads(line) for line in path.read_text().splitlines()]
    assert len(lines) == 200
    assert path.stat().st_mode & 0o777 == 0o600


@pytest.mark.parametrize("place", ["missing/pages.jsonl", "."])
def test_a_file_that_cannot_be_written_says_why(place: str, tmp_path: Path) -> None:
    with pytest.raises(ChannelError, match=r"No such file|Is a directory") as refusal:
        anyio.run(File(tmp_path / place).send, FIRING)
    assert not refusal.value.retry


def test_a_full_disk_leaves_no_half_line() -> None:
    with pytest.raises(ChannelError, match="No space"):
        anyio.run(File(Path("/dev/full")).send, FIRING)


def test_another_process_resolves_a_page_by_the_book(tmp_path: Path) -> None:
    """What the watchdog does: harmless to repeat, and honest where a channel does not answer."""
    receiver = Receiver()

    async def run() -> None:
        step = ResolvePage(page="Down-1", alert="Down", channels=("terminal", "file", "webhook"))
        assert (await resolve_page(step, tmp_path)).outcome is Outcome.NOTHING
        async with serve(receiver.talk) as port:
            book = Book("d-1", str(tmp_path / "pages.jsonl"), f"http://127.0.0.1:{port}/")
            write_book(tmp_path, book)
            assert read_book(tmp_path) == book
            for _ in range(2):
                assert (await resolve_page(step, tmp_path)).outcome is Outcome.PUT_BACK
        with pytest.raises(SandboxError, match="webhook: refused"):
            await resolve_page(step, tmp_path)

    anyio.run(run)
    assert [body["status"] for body in receiver.bodies] == ["resolved"] * 2
    lines = [json.loads(line) for line in (tmp_path / "pages.jsonl").read_text().splitlines()]
    assert {(line["mark"], line["status"], line["key"]) for line in lines} == {
        (MARK, "resolved", "Down-1")
    }
