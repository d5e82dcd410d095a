"""Templates of a sandbox declaration, looked over where they stand.

This is no template engine: it looks at `{{ … }}` alone, and only says what is surely
wrong. Whether a template can be filled in is known once the sandbox fills it in.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator, Sequence

from gameday.injectors.errors import Problem
from gameday.scenarios.document import Node
from gameday.scenarios.draft import did_you_mean, problem_at

__all__ = ["KNOWN", "cluster_templates", "template_problems"]

KNOWN = (
    *("python", "slot", "service", "number", "host", "port", "data", "folder"),
    *("endpoints", "links"),
)
"""What a template sees; what it sees when it runs is `gameday.injectors.sandbox.local.templates`."""

_UNCLOSED = "a '{{' lacks its '}}'", "Write it as {{ port }}."
_BUILT_IN = frozenset(("range", "dict", "loop"))
_WORDS = frozenset(
    ["and", "or", "not", "in", "is", "if", "else", "true", "false", "none", "True", "False", "None"]
)
_METHODS = frozenset(dir(dict))
_HIDDEN = re.compile(r"\{#.*?#\}|\{%-?\s*raw\b.*?\{%-?\s*endraw\b.*?%\}", re.DOTALL)
_TEXT = re.compile(r"\"[^\"]*\"|'[^']*'")
_SHOWN = re.compile(r"\{\{((?:\"[^\"]*\"|'[^']*'|[^\"'])*?)\}\}", re.DOTALL)
_BLOCK = re.compile(r"\{%[-+]?\s*(\w+)(.*?)%\}", re.DOTALL)
_NAME = re.compile(r"[A-Za-z_]\w*")
_LATER = re.compile(r"[.|]\s*[A-Za-z_]\w*")
_LEADING = re.compile(r"(?<!\w)([A-Za-z_]\w*)(?!\w)(?!\s*=[^=])")
_MOST = 16 * 1024
"""Characters of a text that are looked over; the looking grows with their square."""

_TWO = re.compile(r"(?<![\w.])([A-Za-z_]\w*)\s+([A-Za-z_]\w*)")
_MAYBE = re.compile(r"\b(if|and|or|is|default|d)\b")
_LINK = re.compile(r"(?<![\w.])links\.([A-Za-z_]\w*)|(?<![\w.])links\[\s*[\"']([^\"']*)[\"']\s*\]")


def cluster_templates(root: Node) -> Iterator[Problem]:
    """What is wrong with the templates of a declaration, each at its own place."""
    services = root.get("services")
    known = [name for name, _ in services.items()] if services is not None else []
    for name, service in services.items() if services is not None else ():
        links = service.get("links")
        called = [node.raw for node in (links.entries() if links is not None else ())]
        for field, node in _texts(service):
            yield from template_problems(node, f"services.{name}.{field}", called, known)


def _texts(service: Node) -> Iterator[tuple[str, Node]]:
    for field, path in (("command", ("command",)), ("health.command", ("health", "command"))):
        command = service.get(*path)
        for index, node in enumerate(command.entries() if command is not None else ()):
            yield f"{field}[{index}]", node
    for field in ("environment", "files"):
        named = service.get(field)
        for name, node in named.items() if named is not None else ():
            yield f"{field}.{name}", node


def template_problems(
    node: Node, what: str, links: Sequence[str], services: Collection[str] = ()
) -> Iterator[Problem]:
    """What is surely wrong with the templates of one text.

    Args:
        what: What it is, for the message: ``services.api.command[2]``.
        links: The services that its service calls.
        services: All services of the cluster.
    """
    text = node.text()
    if text is None or "{{" not in text or len(text) > _MOST:
        return
    text = _HIDDEN.sub(lambda found: re.sub(r"[^\n]", " ", found[0]), text)
    defined = _defined(text)
    if defined is None:
        return
    begin = text.find("{{")
    while begin >= 0:
        found = _SHOWN.match(text, begin)
        wrong = _UNCLOSED if found is None else _wrong(found[1], defined, links, services)
        if wrong is not None:
            yield problem_at(node, f"{what}{_line(text, begin)}: {wrong[0]}", wrong[1])
        begin = text.find("{{", found.end()) if found is not None else -1


def _line(text: str, index: int) -> str:
    if "\n" not in text.strip():
        return ""
    return f", line {text.count(chr(10), 0, index) + 1} of it"


def _defined(text: str) -> set[str] | None:
    """Names that its control structures define; None if they are more than loops and sets."""
    defined: set[str] = set()
    for found in _BLOCK.finditer(text):
        kind, rest = found[1], found[2]
        if kind == "for":
            defined.update(_NAME.findall(rest.partition(" in ")[0]))
        elif kind == "set":
            defined.update(_NAME.findall(rest.partition("=")[0]))
        elif kind not in ("endfor", "endset"):
            return None
    return defined


def _wrong(
    inside: str, defined: set[str], links: Sequence[str], services: Collection[str]
) -> tuple[str, str] | None:
    """What is wrong with one expression, and what to do about it."""
    plain = _TEXT.sub('""', inside).strip().strip("-+").strip()
    shown = " ".join(inside.split())[:60]
    if "{{" in plain:
        return _UNCLOSED
    if "{" in plain or "}" in plain:
        return None  # a mapping; the closing braces may be its own
    if not plain:
        return "'{{ }}' names nothing", f"Templates see {', '.join(KNOWN)}."
    if any(plain.count(one) != plain.count(other) for one, other in ("()", "[]")):
        return f"the brackets of {{{{ {shown} }}}} do not match", "Close what is opened."
    return (
        _unknown_link(inside, links, services)
        or (None if _MAYBE.search(plain) else _two_words(plain, shown))
        or (None if _MAYBE.search(plain) else _unknown_name(plain, defined))
    )


def _two_words(plain: str, shown: str) -> tuple[str, str] | None:
    for found in _TWO.finditer(plain):
        if found[1] not in _WORDS and found[2] not in _WORDS:
            return f"{{{{ {shown} }}}} is no expression", f"Templates see {', '.join(KNOWN)}."
    return None


def _unknown_name(plain: str, defined: set[str]) -> tuple[str, str] | None:
    known = {*KNOWN, *defined, *_BUILT_IN, *_WORDS}
    for found in _LEADING.finditer(_LATER.sub(" ", plain)):
        if found[1] not in known:
            hint = did_you_mean(found[1], (*KNOWN, *sorted(defined)))
            return f"a template sees no {found[1]!r}", hint.replace("There are:", "It sees")
    return None


def _unknown_link(
    inside: str, links: Sequence[str], services: Collection[str]
) -> tuple[str, str] | None:
    known = {*links, *(name.replace("-", "_") for name in links)}
    for found in _LINK.finditer(inside):
        name = found[1] or found[2] or ""
        if name in known or (found[1] and name in _METHODS):
            continue
        service = name.replace("_", "-")
        if service in services:
            hint = f"Add {service} to the service's `links`."
        else:
            hint = did_you_mean(name, [one.replace("-", "_") for one in links])
        return f"links.{name}: the service's `links` do not name it", hint
    return None
