"""What is fuzzed: each target takes bytes, and may refuse them only as it says it does.

An exception that is not a target's own is a finding. So is a message that would break a
terminal, or an error without words.
"""

from __future__ import annotations

import asyncio
import atexit
import os
import shutil
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import msgspec

from gameday.drills import state
from gameday.drills.channels import read_book
from gameday.drills.folder import DrillFolder
from gameday.drills.inbox import VERBS, Entry, Garbled, Heard, say, tail
from gameday.drills.journal import read_journal
from gameday.drills.undo_log import read_recovery, read_undo_log
from gameday.injectors import units
from gameday.injectors.errors import GamedayError, ScenarioError, StorageError, UsageError
from gameday.injectors.sandbox.base import Slot
from gameday.injectors.sandbox.kinds import by_hand
from gameday.injectors.sandbox.local import templates
from gameday.injectors.sandbox.local.cluster import Cluster
from gameday.injectors.sandbox.local.orders import ServiceSpec
from gameday.scenarios import expressions, steps
from gameday.scenarios.load import load_cluster, load_scenario, load_text, load_yaml
from gameday.scenarios.model import Scenario
from gameday.scenarios.source import decode

__all__ = ["TARGETS", "Target"]

ROOT = Path(__file__).resolve().parents[2]
HOME = "/dev/shm" if os.access("/dev/shm", os.W_OK) else tempfile.gettempdir()


@dataclass(frozen=True, slots=True)
class Target:
    """``run`` takes an input; ``refuses`` are the errors that it may end with; ``share`` of all."""

    run: Callable[[bytes], None]
    refuses: tuple[type[Exception], ...]
    share: float
    form: str


@cache
def _place() -> Path:
    """A folder of this process, in memory where there is some."""
    place = Path(tempfile.mkdtemp(prefix=f"gameday-fuzz-{os.getppid()}-", dir=HOME))
    atexit.register(shutil.rmtree, place, ignore_errors=True)  # one that is killed: by its parent
    for name in ("scenarios/catalogue/runbooks", "scenarios/first"):
        shutil.copytree(ROOT / name, place / Path(name).name, dirs_exist_ok=True)
    for path in (place / "first").iterdir():
        if path.is_file():
            path.rename(place / path.name)
    (place / "runbook.md").rename(place / "runbooks" / "first.md")
    return place


def _put(name: str, data: bytes) -> Path:
    path = _place() / name
    path.write_bytes(data)
    return path


def _scenario(data: bytes) -> None:
    load_scenario(_put("scenario.yaml", data))


def _text(data: bytes) -> None:
    if data[:1] == b"S":  # a text may hold what no file can: halves of pairs
        try:
            text = data.decode("utf-8", "surrogatepass")
        except UnicodeDecodeError:
            text = data.decode("utf-8", "surrogateescape")
        load_text(text, "s")
    else:
        load_text(decode(data, "scenario.yaml"), "scenario.yaml")


def _yaml(data: bytes) -> None:
    load_yaml(_put("any.yaml", data), Scenario if len(data) % 2 else Cluster)


def _cluster(data: bytes) -> None:
    loaded = load_cluster(_put("cluster.yaml", data))
    msgspec.json.encode(loaded.value)


_VALUES = {"status": 200.0, "latency": 0.2, "availability": float("nan")}


def _expression(data: bytes) -> None:
    text = data.decode("utf-8", "surrogateescape")
    refused = 0
    for parse in (
        expressions.parse_condition,
        expressions.parse_comparison,
        lambda one: expressions.parse_bound(one, "availability"),
    ):
        try:
            found = parse(text)
        except ValueError as error:
            refused += _is_worded(error)
            continue
        found.evaluate(_VALUES)
        expressions.names_of(found)
        assert str(found)
    try:
        when = expressions.parse_when(text)
        assert when.hold >= 0
        assert str(when)
    except ValueError as error:
        _is_worded(error)


def _is_worded(error: Exception) -> bool:
    assert str(error), "an error without words"
    return True


_SLOTS = [Slot(name="api-1", service="api", state="running", health="unhealthy")]


def _step(data: bytes) -> None:
    text = data.decode("utf-8", "surrogateescape")
    steps.fill(text, _SLOTS)
    list(steps.unhealthy_named(text))
    steps.parse_step(text)


def _units(data: bytes) -> None:
    text = data.decode("utf-8", "surrogateescape")
    for parse, show in (
        (units.parse_duration, units.show_duration),
        (units.parse_share, units.show_share),
        (units.parse_size, units.show_size),
        (units.parse_rate, units.show_rate),
    ):
        try:
            value = parse(text)
        except ValueError as error:
            _is_worded(error)
        else:
            assert value >= 0
            assert show(value)


@cache
def _loop() -> asyncio.Runner:
    return asyncio.Runner()


@cache
def _drill() -> DrillFolder:
    path = _place() / "20260101-000000-0000"
    path.mkdir()
    return DrillFolder(path)


_LAST = msgspec.json.encode(Entry(verb="note", text="the last"))


async def _hear_all() -> None:
    async for heard in tail(_drill()):
        if isinstance(heard, Garbled):
            heard.what.encode()
        elif isinstance(heard, Heard):
            assert heard.entry.verb in VERBS
            if heard.entry.text == "the last":
                return


def _inbox(data: bytes) -> None:
    _drill().inbox.write_bytes(data + b"\n" + _LAST + b"\n")
    _loop().run(_hear_all())


def _say(data: bytes) -> None:
    _drill().inbox.write_bytes(b"torn")
    text = data.decode("utf-8", "surrogateescape")
    verb, _, rest = text.partition(" ")
    say(_drill(), Entry(verb=verb, text=rest, name=text[:40], role=text[-9:], page=text[3:8]))
    last = _drill().inbox.read_bytes().splitlines()[-1]
    msgspec.json.decode(last, type=Entry)


def _journal(data: bytes) -> None:
    read_journal(_put("journal.jsonl", data))


def _undo(data: bytes) -> None:
    read = read_undo_log(_put("undo.jsonl", data), _put("recovery.jsonl", data[::-1]))
    for armed in read.outstanding:
        for step in armed.steps:
            assert by_hand(step, armed.sandbox)


def _recovery(data: bytes) -> None:
    read_recovery(_put("recovery.jsonl", data))
    read_undo_log(_place() / "none", _place() / "recovery.jsonl")


def _state(data: bytes) -> None:
    folder = _place() / "state"
    (folder / "drills").mkdir(parents=True, exist_ok=True, mode=0o700)
    os.environ["GAMEDAY_STATE"] = str(folder)
    (folder / "drills" / "20260101-000000-0000.json").write_bytes(data)
    (folder / "stop").write_bytes(data)
    (_place() / "pages.json").write_bytes(data)
    state.outstanding_message()
    state.running_drills()
    state.blocked()
    read_book(_place())


_SERVICE = ServiceSpec(
    name="api",
    command=("true",),
    replicas=1,
    environment={},
    files={},
    links=("db",),
    health=None,
    reload=None,
    stop=15,
    grace=1.0,
    restart=False,
    owner="",
    tier="",
)


def _template(data: bytes) -> None:
    text = data.decode("utf-8", "replace")
    templates.check((msgspec.structs.replace(_SERVICE, files={"f": text}),), "/folder")


_MISFIT = (ValueError,)
TARGETS: dict[str, Target] = {
    "load_scenario": Target(_scenario, (ScenarioError,), 0.10, "scenario"),
    "load_text": Target(_text, (ScenarioError,), 0.10, "scenario"),
    "load_yaml": Target(_yaml, (ScenarioError,), 0.05, "any"),
    "load_cluster": Target(_cluster, (ScenarioError,), 0.10, "cluster"),
    "expressions": Target(_expression, (), 0.12, "expression"),
    "steps": Target(_step, _MISFIT, 0.08, "step"),
    "units": Target(_units, (), 0.08, "unit"),
    "inbox": Target(_inbox, (), 0.10, "inbox"),
    "say": Target(_say, (UsageError, StorageError), 0.06, "say"),
    "journal": Target(_journal, (UsageError,), 0.06, "journal"),
    "undo": Target(_undo, (), 0.06, "undo"),
    "recovery": Target(_recovery, (), 0.03, "undo"),
    "state": Target(_state, (), 0.02, "state"),
    "templates": Target(_template, (GamedayError,), 0.04, "template"),
}
