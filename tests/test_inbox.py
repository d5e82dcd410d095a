"""The inbox: many speak at once, each is heard once, and nothing that is written there harms."""

from __future__ import annotations

import os
import subprocess
import sys
import textwrap
import time
from collections.abc import Iterable
from datetime import datetime
from pathlib import Path

import anyio
import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gameday.drills.folder import DrillFolder
from gameday.drills.inbox import VERBS, Entry, Garbled, Heard, say, tail
from gameday.injectors.errors import UsageError

pytestmark = pytest.mark.anyio


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


@pytest.fixture
def folder(tmp_path: Path) -> DrillFolder:
    return DrillFolder.create(tmp_path, datetime.now())


async def hear(folder: DrillFolder, count: int) -> list[Heard | Garbled]:
    heard: list[Heard | Garbled] = []
    with anyio.fail_after(20):
        async for each in tail(folder):
            heard.append(each)
            if len(heard) == count:
                break
    return heard


def texts(heard: Iterable[Heard | Garbled]) -> list[str]:
    return [each.entry.text for each in heard if isinstance(each, Heard)]


def start(script: str, *argv: str) -> subprocess.Popen[bytes]:
    return subprocess.Popen([sys.executable, "-c", textwrap.dedent(script), *argv])


async def test_what_is_said_is_heard_with_the_stamp_of_when_it_was_said(
    folder: DrillFolder,
) -> None:
    before = time.monotonic()
    said = say(folder, Entry(verb="identify", role="fixer", name="kim", text="api-2 is gone"))
    after = time.monotonic()
    await anyio.sleep(0.06)
    (heard,) = await hear(folder, 1)
    assert isinstance(heard, Heard)
    assert heard.entry == said
    assert before <= heard.clock <= after


async def test_many_speak_at_once_and_each_is_heard_once(folder: DrillFolder) -> None:
    script = """
        import sys
        from pathlib import Path
        from gameday.drills.folder import DrillFolder
        from gameday.drills.inbox import Entry, say
        folder = DrillFolder(Path(sys.argv[1]))
        for number in range(60):
            say(folder, Entry(verb="note", text=f"{sys.argv[2]}-{number} " + "x" * number * 50))
    """
    speakers = [start(script, str(folder.path), name) for name in "abcdef"]
    heard = await hear(folder, 6 * 60)
    assert [speaker.wait() for speaker in speakers] == [0] * 6
    names = [text.split()[0] for text in texts(heard)]
    assert sorted(names) == sorted(f"{name}-{number}" for name in "abcdef" for number in range(60))
    for name in "abcdef":  # each in the order in which it was said
        assert [n for n in names if n.startswith(name)] == [f"{name}-{n}" for n in range(60)]


async def test_garbage_is_reported_and_passed_over(folder: DrillFolder) -> None:
    say(folder, Entry(verb="note", text="one"))
    with folder.inbox.open("ab") as file:
        file.write(b"\xff\xfe\n{}\n[]\n\n" + b'{"verb":"explode"}\n' + b'{"verb":"note","te')
    say(folder, Entry(verb="note", text="two"))
    with folder.inbox.open("ab") as file:
        file.write(b"x" * 300_000 + b"\n")
    say(folder, Entry(verb="note", text="three"))
    heard = await hear(folder, 9)
    assert texts(heard) == ["one", "two", "three"]
    assert sum(isinstance(each, Garbled) for each in heard) == 6


async def test_a_line_that_comes_in_pieces_is_heard_once_it_is_whole(folder: DrillFolder) -> None:
    line = msgspec.json.encode(Entry(verb="note", text="slow")) + b"\n"
    heard: list[Heard | Garbled] = []
    async with anyio.create_task_group() as tasks:

        async def listen() -> None:
            heard.extend(await hear(folder, 1))

        tasks.start_soon(listen)
        for index in range(0, len(line), 5):
            with folder.inbox.open("ab") as file:
                file.write(line[index : index + 5])
            await anyio.sleep(0.01)
    assert texts(heard) == ["slow"]


async def test_a_foreign_or_future_stamp_says_nothing(folder: DrillFolder) -> None:
    now = time.monotonic()
    for entry in (
        Entry(verb="ack", clock=now + 1e6, boot_id=say(folder, Entry(verb="ack")).boot_id),
        Entry(verb="ack", clock=1.0, boot_id="another host"),
        Entry(verb="ack"),
    ):
        with folder.inbox.open("ab") as file:
            file.write(msgspec.json.encode(entry) + b"\n")
    for heard in await hear(folder, 4):
        assert now <= heard.clock <= time.monotonic()


async def test_a_cut_inbox_is_followed_from_its_end(folder: DrillFolder) -> None:
    heard: list[Heard | Garbled] = []
    async with anyio.create_task_group() as tasks:

        async def listen() -> None:
            heard.extend(await hear(folder, 2))

        say(folder, Entry(verb="note", text="one " * 20))
        tasks.start_soon(listen)
        await anyio.sleep(0.15)
        os.truncate(folder.inbox, 0)
        await anyio.sleep(0.15)
        say(folder, Entry(verb="note", text="two"))
    assert texts(heard)[-1] == "two"


@settings(max_examples=60, deadline=None)
@given(text=st.text(max_size=300), name=st.text(max_size=30), verb=st.sampled_from(VERBS))
def test_any_text_survives(
    tmp_path_factory: pytest.TempPathFactory, text: str, name: str, verb: str
) -> None:
    folder = DrillFolder(tmp_path_factory.mktemp("drill"))
    folder.inbox.touch()
    said = say(folder, Entry(verb=verb, name=name, text=text))
    (line,) = folder.inbox.read_bytes().splitlines()
    assert msgspec.json.decode(line, type=Entry) == said
    assert said.text == text.strip()


async def test_what_a_terminal_garbled_is_still_said(folder: DrillFolder) -> None:
    assert say(folder, Entry(verb="note", text="caf\udce9")).text == "caf?"


async def test_too_long_is_refused_with_its_length(folder: DrillFolder) -> None:
    with pytest.raises(UsageError, match="too long"):
        say(folder, Entry(verb="note", text="x" * 5000))
    assert folder.inbox.read_bytes() == b""


async def test_an_unknown_verb_and_no_drill(folder: DrillFolder, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="nothing to say"):
        say(folder, Entry(verb="shout"))
    with pytest.raises(UsageError, match="no drill"):
        say(DrillFolder(tmp_path), Entry(verb="note"))
