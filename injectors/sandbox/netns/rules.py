"""The rules of iptables in a namespace: read, added all or none, and taken out by their tag."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterable
from typing import NamedTuple

from gameday.injectors.errors import SandboxError, Unsupported
from gameday.injectors.sandbox.netns import mark
from gameday.injectors.sandbox.netns.inside import Inside
from gameday.injectors.sandbox.netns.kinds import SLOTS, Rule
from gameday.injectors.sandbox.netns.mark import InForce

__all__ = ["add", "faults", "normalised", "read", "remove", "slots"]

_PROGRAM = {4: "iptables", 6: "ip6tables"}
_TRIES = 3
_COUNTERS = re.compile(r" \[\d+:\d+\]$")


class _Chain(NamedTuple):
    table: str
    line: str


def read(inside: Inside) -> tuple[Rule, ...]:
    """Every rule there is, the user's too, as ``-A CHAIN …``."""
    found = []
    for family, program in _PROGRAM.items():
        for table, line in _saved(inside, program):
            if line.startswith("-A "):
                found.append(Rule(family, table, line))
    return tuple(found)


def faults(rules: Iterable[Rule]) -> tuple[InForce, ...]:
    """The faults that these rules make, with their peers, each once, in order."""
    found: dict[str, InForce] = {}
    for rule in rules:
        one = _fault(rule)
        if one is not None:
            before = found.get(one.toxic.tag, one)
            peers = tuple(dict.fromkeys(before.peers + one.peers))
            found[one.toxic.tag] = InForce(one.toxic, peers, one.direction)
    return tuple(found.values())


def slots(rules: Iterable[Rule]) -> dict[str, int]:
    """Where among `SLOTS` the faults stand whose packets are queued, by their tags."""
    found = {}
    for rule in rules:
        one, chain = _fault(rule), (rule.table, rule.text.split(" ", 2)[1])
        if one is not None and "--queue-bypass" in rule.text:
            found[one.toxic.tag] = next(
                number for number, slot in enumerate(SLOTS) if chain in slot.values()
            )
    return found


def add(inside: Inside, rules: Iterable[Rule]) -> None:
    """Add rules; of each table and family all or none.

    Raises:
        SandboxError: if the kernel does not take them.
        Unsupported: if a program is missing.
    """
    _restore(inside, rules)


def remove(inside: Inside, tag: str) -> str:
    """Take out the rules with this tag: the kind of fault that they made; empty if there were none.

    Raises:
        SandboxError: if some cannot be taken out.
    """
    kind = ""
    for attempt in range(_TRIES):
        ours = [rule for rule in read(inside) if _tag(rule) == tag]
        if not ours:
            break
        kind = faults(ours)[0].toxic.kind
        try:
            _restore(inside, (rule._replace(text="-D" + rule.text[2:]) for rule in ours))
        except SandboxError:  # somebody else takes the same ones out: look again
            if attempt == _TRIES - 1:
                raise
    return kind


def normalised(inside: Inside) -> dict[str, str]:
    """Every table with its chains and rules, without counters and without what says nothing.

    A table that only has its built-in chains, empty and open, is as good as none: looking is
    enough to make one. Docker's rules for its name server are left out: they differ with each start.
    """
    tables: dict[str, list[str]] = {}
    for program in _PROGRAM.values():
        for table, line in _saved(inside, program):
            text = _COUNTERS.sub("", line)
            bare = text.startswith(":") and text.endswith(" ACCEPT")
            if not bare and "DOCKER_" not in text:
                tables.setdefault(f"{program} {table}", []).append(text)
    return {name: "\n".join(lines) for name, lines in tables.items()}


def _saved(inside: Inside, program: str) -> list[_Chain]:
    if program == "ip6tables" and not (inside.has_ipv6 and inside.has("ip6tables-save")):
        return []
    found, table = [], ""
    for line in inside.run(f"{program}-save").splitlines():
        if line.startswith("*"):
            table = line[1:]
        elif line.startswith(("-A ", ":")):
            found.append(_Chain(table, line))
    return found


def _restore(inside: Inside, rules: Iterable[Rule]) -> None:
    by_family: dict[int, dict[str, list[str]]] = {}
    for rule in rules:
        by_family.setdefault(rule.family, {}).setdefault(rule.table, []).append(rule.text)
    for family, tables in by_family.items():
        program = f"{_PROGRAM[family]}-restore"
        if not inside.has(program):
            raise Unsupported(f"{program} is not on this machine (Debian: iptables)")
        text = "".join(
            "\n".join((f"*{table}", *lines, "COMMIT\n")) for table, lines in tables.items()
        )
        inside.run(program, "--noflush", "--wait", "5", given=text)


def _words(rule: Rule) -> list[str]:
    try:
        return shlex.split(rule.text)
    except ValueError:  # a user's comment that only iptables understands
        return rule.text.split()


def _after(words: list[str], *options: str) -> str:
    for option in options:
        if option in words[:-1]:
            return words[words.index(option) + 1]
    return ""


def _fault(rule: Rule) -> InForce | None:
    words = _words(rule)
    one = mark.read(_after(words, "--comment"))
    if one is None:
        return None
    peer = _after(words, "-d", "-s", "--ctorigdst").removesuffix("/32").removesuffix("/128")
    return InForce(one.toxic, (peer,) if peer else (), one.direction)


def _tag(rule: Rule) -> str:
    one = mark.read(_after(_words(rule), "--comment"))
    return one.toxic.tag if one is not None else ""
