"""Inputs: what is shipped and what the formats hold, bent in ways that people and accidents bend it.

`make` is a pure function of seed and index, so that any input can be made again.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from copy import deepcopy
from functools import cache
from pathlib import Path
from random import Random
from typing import Any

import msgspec
import yaml

from gameday.drills.channels import Book
from gameday.drills.inbox import VERBS, Entry
from gameday.drills.state import OpenDrill
from gameday.injectors import undo
from gameday.scenarios.catalog import CATALOGUE
from gameday.scoring import events

__all__ = ["FRAGMENTS", "corpus", "make"]

ROOT = Path(__file__).resolve().parents[2]

_ODD = [
    *("", " ", "~", "null", "true", "no", "on", "0", "-1", "1.5", "-0.0", ".nan", ".inf", "-.inf"),
    *("NaN", "Infinity", "1e999", "1e308", "9" * 400, "0x" + "f" * 40, "0o777", "010", "1_000"),
    *(
        "2024-01-01",
        "1:30",
        "99%",
        "101%",
        "-5%",
        "0%",
        "1e3%",
        "500ms",
        "3m",
        "1m30s",
        "0s",
        "-1s",
    ),
    *("1e9d", "99999999999h", "5 parsecs", "10 MB", "64MiB", "999999TiB", "1Mbit/s", "0bit/s"),
    *(
        "*a",
        "&a x",
        "&a [*a]",
        "!!python/object/apply:os.system [id]",
        "!x y",
        "!!binary aGk=",
        "<<",
    ),
    *(
        "{",
        "}",
        "[",
        "]",
        "[[]]",
        "{}",
        "[]",
        "{a: 1}",
        "'",
        '"',
        "|",
        ">",
        "- -",
        ": ",
        "#",
        "%",
        "@",
    ),
    *(
        "`",
        "---",
        "...",
        "? x",
        "\t",
        "\\",
        '"\\ud800"',
        '"\\x00"',
        '"\\x1b[2J"',
        "\u202e",
        "\u2028",
    ),
    *(
        "\ufeff",
        "\u0000",
        "\u0007",
        "\u001b]8;;http://x\u0007y",
        "\u0085",
        "\u00a0",
        "\ud7ff",
        "\U0010ffff",
    ),
    *(
        "../../etc/passwd",
        "/etc/passwd",
        "runbooks/a.md",
        ".",
        "a\\0b",
        "x" * 300,
        "x" * 5000,
        "é" * 200,
    ),
    *(
        "{{ unhealthy }}",
        "{{ unhealthy.api",
        "}}",
        "{{ port }}",
        "{% for a in range(9) %}",
        "{{ 1/0 }}",
    ),
    *(
        "availability >= 95%",
        "availability >",
        "time_to_detect <= 15s",
        "a < 1 for 2s",
        "(" * 30,
        "status",
    ),
    *(
        "process.kill",
        "net.latency",
        "no.such",
        "api",
        "api-1",
        "store",
        "gateway->api",
        "gateway",
        "page",
    ),
]
_BYTES = [
    *(b"\x00", b"\xff", b"\xfe\xff", b"\xff\xfe", b"\xef\xbb\xbf", b"\xed\xa0\x80", b"\xc0\x80"),
    *(
        b"\xf4\x90\x80\x80",
        b"\n",
        b"\r",
        b"\r\n",
        b"\x1b[31m",
        b"\x85",
        b"\xe2\x80\xa8",
        b"{",
        b"[",
        b'"',
    ),
    *(
        b"\\u0000",
        b"\\ud800",
        b"1e999",
        b"-",
        b":",
        b",",
        b"null",
        b"[" * 600,
        b'{"a":' * 600,
        b"9" * 500,
    ),
]
_JSON: list[Any] = [
    *(
        None,
        True,
        False,
        0,
        -1,
        1e308,
        -1e308,
        2**63,
        2**64,
        10**30,
        0.1,
        "",
        "x",
        "\ud800",
        "\x1b[2J",
    ),
    *(
        [],
        {},
        [[]],
        {"": None},
        "9" * 400,
        "../..",
        "\u202e",
        "armed",
        "undone",
        "Sample",
        -(2**63),
        999,
    ),
]

FRAGMENTS: dict[str, list[str]] = {
    "expression": [
        *("availability >= 95%", "status < 500 and latency < 500ms", "a < 1 or (b > 2 and c == 3)"),
        *(
            "availability < 98% for 2s",
            "time_to_detect <= 15s",
            ">= 99%",
            "x != 0.5",
            "p99 <= 1m30s",
        ),
        *(
            "((((((((a < 1))))))))",
            "a < 1 and " * 60 + "b > 2",
            "a",
            "<",
            "for 2s",
            "a < 1 for",
            "µs",
        ),
    ],
    "step": [
        *("ack", "identify it is {{ unhealthy }}", "restart {{ unhealthy.api }}", "restart api-2"),
        *(
            "exec api-1 sh -c 'echo hello'",
            "scale api 3",
            "drain api-1",
            "undrain api-1",
            "wait 5s",
        ),
        *(
            "until healthy",
            "until quiet",
            "note I look at {{ unhealthy.store }}",
            "exec {{ unhealthy }} ls",
        ),
        *("update all is well", "exec api-1 'unclosed", "scale api 999999999", "restart", "until"),
    ],
    "unit": [
        *(
            "500ms",
            "1m30s",
            "3 h",
            "1.5 s",
            "99.9%",
            "0.95",
            "64MiB",
            "10 MB",
            "1Mbit/s",
            "64kbit/s",
            "7d",
        ),
        *(
            "1e5s",
            "١٢s",
            "1" * 400 + "d",
            "0." + "0" * 400 + "1s",
            "1 2s",
            "1µs",
            "1us",
            "TiB",
            "1 B",
        ),
    ],
    "say": [f"{verb} I have looked at it" for verb in VERBS]
    + ["note " + "ü" * 3000, "note \x1b[2J"],
    "template": [
        *(
            "{{ port }}",
            "{{ links.db[0].address }}",
            "{% for d in links.db %}{{ d.host }}{% endfor %}",
        ),
        *(
            "{{ links.db|map(attribute='address')|join(',') }}",
            "{% if number == 1 %}a{% else %}b{% endif %}",
        ),
        *(
            "{% set x = port + 1 %}{{ x }}",
            "{{ 'x' * 10**9 }}",
            "{{ range(10**9)|list }}",
            "{{ 9**9**9 }}",
        ),
        *("{{ ''.__class__.__mro__ }}", "{{ self.__init__.__globals__ }}", "{{ lipsum(n=10**6) }}"),
        *(
            "{% macro f() %}{{ f() }}{% endmacro %}{{ f() }}",
            "{{ '%999999999d' % 1 }}",
            "{{ slot|center(10**9) }}",
        ),
        *(
            "{{ '{:>999999999}'.format(1) }}",
            "{{ 'a'.ljust(10**10) }}",
            "{{ ([1] * 10**9)|length }}",
        ),
        *(
            "{% for a in range(99999) %}{% for b in range(99999) %}{% endfor %}{% endfor %}",
            "{% include 'x' %}",
        ),
        *(
            "{% set a = 'xxxxxxxxxx' %}" + "{% set a = a ~ a %}" * 40 + "{{ a }}",
            "{{ python|attr('__class__') }}",
        ),
        *(
            "{{ 'xx'|replace('x', 'x' * 1000)|replace('x', 'x' * 1000)|replace('x', 'x' * 1000) }}",
            "{{ -host }}",
        ),
        *(
            "{{ (1, 2)|tojson(indent=10**9) }}",
            "{{ namespace(a=1).a }}",
            "{{ cycler(1).next() }}",
            "{{ 1 % 0 }}",
        ),
        *(
            "{{ 'x'|indent(10**9) }}",
            "{{ 1.5|round(10**9) }}",
            "{{ [[]]|sum(start=[]) }}",
            "{{ links.db[9].x }}",
        ),
        *(
            "{{" * 300,
            "{{ " + "(" * 300 + "1" + ")" * 300 + " }}",
            "{{ " + "not " * 3000 + "1 }}",
            "{% raw %}",
        ),
    ],
}


@cache
def corpus(form: str) -> list[bytes]:
    """Sound inputs of that form."""
    match form:
        case "scenario":
            paths = [*CATALOGUE.glob("*.yaml"), ROOT / "scenarios/first/scenario.yaml"]
        case "cluster":
            paths = [ROOT / "scenarios/first/sandbox.yaml", ROOT / "scenarios/shop/shop.yaml"]
            paths += [ROOT / "tests/stack/sandbox.yaml"]
        case "any":
            return corpus("scenario") + corpus("cluster")
        case "inbox":
            spoken = [Entry(verb=verb, text="hello", name="ana") for verb in VERBS]
            return [_lines(spoken), _lines(spoken[:1])]
        case "journal":
            return [_lines(_history())]
        case "undo":
            return [_lines(_undo_records()), _lines(_undo_records()[:3])]
        case "state":
            drill = OpenDrill(id="20260101-000000-0000", folder="/no", runner=_PROCESS)
            return [
                msgspec.json.encode(drill),
                msgspec.json.encode(Book("d", "/no/file", "http://x")),
            ]
        case _:
            return [text.encode() for text in FRAGMENTS[form]]
    return [path.read_bytes() for path in sorted(paths)]


_PROCESS = undo.ProcessId("boot", 999_999, 1)


def _lines(records: Any) -> bytes:
    return b"".join(msgspec.json.encode(record) + b"\n" for record in records)


def _history() -> list[events.Event]:
    told: list[events.Event] = [
        events.DrillStarted(at=0.0, id="d", scenario="s", gameday="1", seed=1),
        events.PhaseBegan(at=0.1, phase="running"),
        events.Said(at=3.0, verb="note", role="fixer", text="hm"),
        events.Problem(at=4.0, where="x", what="y"),
        events.DrillEnded(at=9.0, why="resolved"),
    ]
    return [msgspec.structs.replace(one, seq=n, wall=1.0) for n, one in enumerate(told, 1)]


def _undo_records() -> list[undo.UndoRecord]:
    ref = undo.SandboxRef("local", "local:/x", "/x", {"tag": "t"})
    steps: tuple[undo.Step, ...] = (
        undo.SignalProcess("api-1", _PROCESS, 18),
        undo.StartSlot("api-1"),
        undo.ClearHold("api-1", "t"),
        undo.RemoveToxic("a->b", "t"),
        undo.EndHelpers("api-1", "t"),
        undo.RestoreAffinity("api-1", _PROCESS, (0, 1)),
        undo.RestoreLimit("api-1", _PROCESS, "as", "-1 -1"),
        undo.DeleteFile("api-1", "t"),
        undo.ResolvePage("p", "Alert", ("file",)),
        undo.TearDown("t"),
        undo.RunCommand("api-1", ("true", "it's")),
    )
    armed = [undo.Armed(str(n), "it", ref, (step,)) for n, step in enumerate(steps)]
    attached = undo.SandboxRef("attached", "a", "", {"attached": '{"api": {"restart": ["x"]}}'})
    armed.append(undo.Armed("99", "it", attached, (undo.StartSlot("api-1"),)))
    return [*armed, undo.Undone("3", undo.Outcome.PUT_BACK), undo.Undone("4", undo.Outcome.FAILED)]


# Kinds of mutation: a kind takes a sound input, the chance, and the input's form


def _raw(data: bytes, random: Random, form: str) -> bytes:
    """Bytes: flipped, cut, doubled, put in, from another input."""
    changed = bytearray(data)
    for _ in range(random.choice((1, 1, 2, 4, 16))):
        at = random.randrange(len(changed) + 1)
        to = min(len(changed), at + random.choice((1, 2, 8, 64)))
        match random.randrange(6):
            case 0 if at < len(changed):
                changed[at] ^= 1 << random.randrange(8)
            case 1:
                del changed[at:to]
            case 2:
                changed[at:at] = random.choice(_BYTES)
            case 3:
                changed[at:at] = changed[at:to] * random.choice((1, 2, 50))
            case 4:
                other = random.choice(corpus(form))
                cut = random.randrange(len(other) + 1)
                changed[at:to] = other[cut : cut + random.choice((1, 8, 64))]
            case _:
                changed[at:to] = random.randbytes(to - at)
    return bytes(changed)


def _lines_moved(data: bytes, random: Random, form: str) -> bytes:
    """Lines: left out, doubled, swapped, indented otherwise, a value put in another's place."""
    lines = data.decode("utf-8", "replace").split("\n")
    for _ in range(random.choice((1, 1, 1, 2, 5))):
        at = random.randrange(len(lines))
        other = random.randrange(len(lines))
        key, colon, value = lines[at].partition(": ")
        odd = random.choice(_ODD)
        match random.randrange(10):
            case 0:
                lines[at : at + 1] = [lines[at]] * random.choice((0, 2, 2, 120))
            case 1:
                lines[at], lines[other] = lines[other], lines[at]
            case 2:
                lines[at] = " " * random.choice((0, 1, 2, 4, 60)) + lines[at].lstrip()
            case 3:
                lines[at] = f"{key}: {lines[other].partition(': ')[2]}"
            case 4:
                lines[at] = f"{key}: &a {value}"
                lines[other] = lines[other].partition(": ")[0] + ": *a"
            case 5:
                lines[at] = lines[at].replace(key.strip() or "-", odd, 1)
            case 6:
                lines[at] = f"{key}: {'[' * random.choice((5, 49, 60, 2000))}{value}"
            case 7:
                lines[at] = lines[at] + odd
            case _:
                lines[at] = f"{key}{colon or ': '}{odd}"
    return "\n".join(lines).encode("utf-8", "surrogatepass")


def _tree(data: bytes, random: Random, form: str) -> bytes:
    """The tree: values swapped, replaced, doubled, nested, dropped, under other keys."""
    found = _parsed(data)
    if not isinstance(found, dict | list):
        return _raw(data, random, form)
    found = json.loads(json.dumps(found))
    for _ in range(random.choice((1, 1, 2, 3))):
        places = list(_places(found))
        if not places:
            break
        holder, key = random.choice(places)
        other, also = random.choice(places)
        match random.randrange(9):
            case 0:
                one, two = (
                    deepcopy(holder[key]),
                    deepcopy(other[also]),
                )  # else they may hold themselves
                other[also] = one
                if key in holder if isinstance(holder, dict) else key < len(holder):
                    holder[key] = two
            case 1:
                del holder[key]
            case 2:
                holder[key] = [holder[key]] * random.choice((1, 2, 40))
            case 3:
                for _ in range(random.choice((1, 5, 48, 60))):
                    holder[key] = {"a": holder[key]} if random.random() < 0.5 else [holder[key]]
            case 4 if isinstance(holder, dict):
                holder[random.choice(_ODD)] = holder.pop(key)
            case 5:
                holder[key] = random.choice(_JSON)
            case 6:
                holder[key] = _other_type(holder[key], random)
            case _:
                holder[key] = random.choice(_ODD)
    try:
        if random.random() < 0.3:
            text = yaml.dump(found, Dumper=_DUMPER, allow_unicode=True)
        else:
            text = json.dumps(found, ensure_ascii=random.random() < 0.5)
    except (ValueError, RecursionError, yaml.YAMLError):  # what no file could hold
        return _raw(data, random, form)
    return text.encode("utf-8", "surrogatepass")


_DUMPER = getattr(yaml, "CSafeDumper", yaml.SafeDumper)
_LOADER = getattr(yaml, "CSafeLoader", yaml.SafeLoader)


@cache
def _parsed(data: bytes) -> Any:
    return yaml.load(data, Loader=_LOADER)


def _places(value: Any) -> Iterator[tuple[Any, Any]]:
    inner = value.items() if isinstance(value, dict) else enumerate(value)
    for key, one in list(inner):
        yield value, key
        if isinstance(one, dict | list):
            yield from _places(one)


def _other_type(value: Any, random: Random) -> Any:
    match value:
        case str():
            return random.choice([[value], {value: value}, len(value), float(len(value)), True])
        case list() | dict():
            return random.choice([str(value)[:200], len(value), None])
        case _:
            return str(value)


def _records(data: bytes, random: Random, form: str) -> bytes:
    """Lines of JSON: fields replaced, dropped, exchanged; lines torn, doubled, out of order."""
    lines = data.splitlines()
    for _ in range(random.choice((1, 1, 2, 4))):
        at = random.randrange(len(lines))
        match random.randrange(7):
            case 0:
                lines[at] = lines[at][: random.randrange(len(lines[at]) + 1)]
            case 1:
                lines.insert(random.randrange(len(lines) + 1), lines[at])
            case 2:
                random.shuffle(lines)
            case 3:
                lines[at] = random.choice(_BYTES) + lines[at]
            case _:
                lines[at] = _field_changed(lines[at], random)
    end = random.choice((b"\n", b"\n", b"", b"\n\n", b"\0", b"\n{"))
    return b"\n".join(lines) + end


def _field_changed(line: bytes, random: Random) -> bytes:
    try:
        found = json.loads(line)
    except (ValueError, RecursionError):
        return line
    if not isinstance(found, dict) or not found:
        return line
    places = list(_places(found))
    holder, key = random.choice(places)
    other, also = random.choice(places)
    if random.random() < 0.2:
        holder[key] = deepcopy(other[also])
    elif random.random() < 0.2:
        del holder[key]
    else:
        holder[key] = random.choice(_JSON)
    return json.dumps(found).encode()


def _coded(data: bytes, random: Random, form: str) -> bytes:
    """Another encoding, a byte order mark, other line ends, a great size."""
    text = data.decode("utf-8", "replace")
    match random.randrange(8):
        case 0:
            return text.encode("utf-16")
        case 1:
            return text.encode("utf-32-be")
        case 2:
            return b"\xef\xbb\xbf" * random.choice((1, 2)) + data
        case 3:
            return text.replace("a", "ä", random.randrange(9)).encode("latin-1", "replace")
        case 4:
            return data.replace(
                b"\n", random.choice((b"\r\n", b"\r", b"\xc2\x85", b"\xe2\x80\xa8"))
            )
        case 5:
            return data + random.choice((b" ", b"#", b"\n", b"a: 1\n", b"- ")) * random.choice(
                (9, 30_000)
            )
        case 6:
            return b"S" + data[: random.randrange(40)] + b"\xed\xa0\x80" + data
        case _:
            return b"S" + data.replace(b"a", b"\xff", 3)


def _spliced(data: bytes, random: Random, form: str) -> bytes:
    """Words of several inputs and odd ones, in any order."""
    words = [word for one in random.choices(corpus(form), k=3) for word in one.decode().split(" ")]
    chosen = random.choices([*words[:200], *random.choices(_ODD, k=8)], k=random.randrange(1, 14))
    return random.choice((" ", " ", "")).join(chosen).encode("utf-8", "surrogatepass")


Kind = Callable[[bytes, Random, str], bytes]
_YAML: list[Kind] = [_lines_moved, _lines_moved, _tree, _raw, _coded]
_KINDS: dict[str, list[Kind]] = {
    "scenario": _YAML,
    "cluster": _YAML,
    "any": _YAML,
    "inbox": [_records, _records, _raw, _coded],
    "journal": [_records, _records, _raw, _coded],
    "undo": [_records, _records, _raw, _coded],
    "state": [_records, _raw, _coded],
}
_OF_TEXTS: list[Kind] = [_raw, _spliced, _spliced, _coded]


def make(form: str, random: Random) -> tuple[str, bytes]:
    """The kind of a mutation, and the input that it makes."""
    kind = random.choice(_KINDS.get(form, _OF_TEXTS))
    return kind.__name__.strip("_"), kind(random.choice(corpus(form)), random, form)
