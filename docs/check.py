"""Keep the documentation true: `make docs`.

``python docs/check.py`` compares what can be generated (the pages of faults and
commands, the JSON Schema) with what is committed, and tries what can be tried:
every link, every `gameday` command, every scenario and sandbox in a code block.
``python docs/check.py --write`` writes the generated files.
"""

from __future__ import annotations

import inspect
import re
import shlex
import socket
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import click
import yaml

from gameday.drills.cli import COMMANDS, cli
from gameday.injectors.errors import GamedayError
from gameday.injectors.fault import hits_links
from gameday.injectors.models import field_types
from gameday.injectors.registry import BUILT_IN, fault_class
from gameday.scenarios.catalog import CATALOGUE
from gameday.scenarios.compose_file import read_compose
from gameday.scenarios.first import write_first_scenario
from gameday.scenarios.load import load_cluster, load_scenario
from gameday.scenarios.model import Scenario
from gameday.scenarios.schema import SCENARIO_FILE, scenario_schema, schema_text

ROOT = Path(__file__).resolve().parent.parent
GENERATED = "<!-- Generated: do not edit. `python docs/check.py --write` writes this page. -->"
UNCHECKED = "<!-- not checked: "
"""Stands before a code block that cannot be tried, followed by the reason."""


@dataclass(frozen=True, slots=True)
class Block:
    """A fenced code block: its language, its text, and the line of its first fence."""

    language: str
    text: str
    line: int


# What can be generated


def generated() -> dict[Path, str]:
    """Every generated file with the text that it should have."""
    return {
        ROOT / "docs/faults.md": faults_page(),
        ROOT / "docs/cli.md": commands_page(),
        ROOT / "scenarios/catalogue" / SCENARIO_FILE: schema_text(scenario_schema()),
    }


def faults_page() -> str:
    """All built-in faults: what they do, and their parameters."""
    schema = scenario_schema()["$defs"]
    parts = [GENERATED, "# Faults", _FAULTS_INTRODUCTION.strip(), _fault_table()]
    parts += [_fault_section(kind, schema[kind]) for kind in BUILT_IN]
    return "\n\n".join(parts) + "\n"


_FAULTS_INTRODUCTION = """
What a scenario can inject. A fault is an entry of `faults`: when (`at`), for how long (`lasts`,
by default until the drill's end), what (`inject`), on whom (`target`), and its own parameters.
[The scenario file](scenario-file.md#faults) says how targets are chosen; [write a
fault](write-a-fault.md) how to add one; `gameday doctor` which of these this machine can do.

On [Docker](docker.md) all of them work; on a sandbox of kind `local`, those whose last column does not say
Docker alone. On `attached` processes, which were there before, only `process.kill` and `process.pause` do.
"""

_ACTS_THROUGH = {
    "processes": "signals",
    "holds": "the supervisor",
    "cpu": "CPU affinity, and busy processes beside it",
    "memory": "the target's control group, or else `prlimit` on it",
    "disk": "a file on the slot's own disk",
    "links": "the link's proxy; on Docker, its packets",
    "packets": "packets, in the containers' own networks (Docker)",
    "limits": "the container's control group (Docker)",
    "networks": "the engine (Docker)",
    "containers": "the engine (Docker)",
    "files": "the container's own files (Docker)",
    "clock": "libfaketime in the image (Docker)",
}


def _fault_table() -> str:
    rows = [
        f"| [`{kind}`](#{slug(kind)}) | {_summary(fault_class(kind))} | {_through(kind)} |"
        for kind in BUILT_IN
    ]
    return "\n".join(["| fault | does | acts through |", "| --- | --- | --- |", *rows])


def _through(kind: str) -> str:
    return ", ".join(_ACTS_THROUGH[part] for part in fault_class(kind).needs[-1:])


def _summary(found: type[Any]) -> str:
    return inspect.cleandoc(found.__doc__ or "").partition("\n")[0]


def _fault_section(kind: str, schema: dict[str, Any]) -> str:
    found = fault_class(kind)
    excluded = ", ".join(f"`{other}`" for other in found.excludes)
    never = f"Not at the same time on the same target: {excluded}." if excluded else ""
    parts = [f"## {kind}", _summary(found), _parameters(schema), never]
    return "\n\n".join([part for part in parts if part] + [_fault_example(kind, schema)])


def _parameters(schema: dict[str, Any]) -> str:
    own = {k: v for k, v in schema["properties"].items() if k not in _COMMON}
    if not own:
        return "It has no parameters of its own."
    rows = [
        f"| `{name}` | {_default(value)} | {value.get('description', '')} |"
        for name, value in own.items()
    ]
    return "\n".join(["| parameter | default | |", "| --- | --- | --- |", *rows])


_COMMON = ("at", "lasts", "inject", "target")


def _default(value: dict[str, Any]) -> str:
    if value.get("default") == "":
        return "all"
    return f"`{_written(value['default'])}`" if "default" in value else "required"


def _fault_example(kind: str, schema: dict[str, Any]) -> str:
    target = "{link: api->store}" if hits_links(fault_class(kind)) else "{service: api}"
    own = [(k, v) for k, v in schema["properties"].items() if k not in _COMMON]
    examples = {
        "delay": "300ms",
        "rate": "64kbit/s",
        "share": "10%",
        "cpus": 0.2,
        "size": "64MiB",
        "path": "/etc/app.conf",
        "offset": "1h",
    }
    given = "".join(
        f", {k}: {_written(v.get('default', examples.get(k)))}"
        for k, v in own
        if v.get("default") != ""
    )
    entry = f"  - {{at: 10s, inject: {kind}, target: {target}{given}}}"
    return f"```yaml\nfaults:\n{entry}\n```"


def _written(value: object) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)


def commands_page() -> str:
    """All commands with their arguments and options."""
    parts = [GENERATED, "# Commands", _COMMANDS_INTRODUCTION.strip()]
    for title, section in COMMANDS.items():
        parts.append(f"## {title}")
        for name in section:
            command = _command(cli, name)
            parts.append(_command_section(name, command))
            if isinstance(command, click.Group):
                parts += [
                    _command_section(f"{name} {each}", _command(command, each))
                    for each in command.list_commands(click.Context(command))
                ]
    return "\n\n".join(parts) + "\n"


_COMMANDS_INTRODUCTION = """
Every command says the same with `--help`. Exit codes of `gameday run` are in
[measurements](measurements.md#exit-codes); other commands end with 0, with 2 if they were used
wrongly, or with the code of what went wrong. `GAMEDAY_DEBUG=1` shows a traceback where Gameday
itself failed.
"""


def _command(group: click.Group, name: str) -> click.Command:
    found = group.get_command(click.Context(group), name)
    assert found is not None
    return found


def _command_section(path: str, command: click.Command) -> str:
    context = click.Context(command, info_name=f"gameday {path}")
    usage = " ".join([context.command_path, *command.collect_usage_pieces(context)])
    text = inspect.cleandoc(command.help or "").replace("\b\n", "")
    parts = [f"### gameday {path}", f"```text\n{usage}\n```", text]
    rows = [
        f"| `{record[0]}` | {record[1]} |"
        for option in command.params
        if isinstance(option, click.Option) and (record := option.get_help_record(context))
    ]
    if rows:
        parts.append("\n".join(["| option | |", "| --- | --- |", *(_cell(row) for row in rows)]))
    return "\n\n".join(parts)


def _cell(row: str) -> str:
    """A bar within a choice, such as ``[md|html]``, is no border of the table."""
    return re.sub(r"(?<=\w)\|(?=\w)", r"\\|", row)


def stale() -> Iterator[str]:
    """Generated files that are not as they should be."""
    for path, text in generated().items():
        if not path.exists() or path.read_text(encoding="utf-8") != text:
            yield f"{shown(path)}: not current; `python docs/check.py --write` writes it"


# Markdown


def tracked(*suffixes: str) -> list[Path]:
    """Files of the repository with these suffixes, new ones included."""
    listed = subprocess.run(
        ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    if listed.returncode == 0:
        names = listed.stdout.split("\0")
        found = [ROOT / name for name in names if name]
    else:
        found = [path for path in ROOT.rglob("*") if not _is_hidden(path)]
    return sorted(path for path in found if path.is_file() and path.suffix in suffixes)


def _is_hidden(path: Path) -> bool:
    parts = path.relative_to(ROOT).parts
    return any(part.startswith(".") or part in ("build", "dist") for part in parts[:-1])


def shown(path: Path) -> str:
    """A path as the reader of a message knows it."""
    return str(path.relative_to(ROOT)) if path.is_relative_to(ROOT) else path.name


def blocks(text: str) -> Iterator[Block]:
    """The fenced code blocks of a page that are to be tried."""
    lines = text.split("\n")
    number = 0
    while number < len(lines):
        fence = re.match(r"\s*(```+|~~~+)\s*(\w*)", lines[number])
        if fence is None:
            number += 1
            continue
        end = number + 1
        while end < len(lines) and not lines[end].strip().startswith(fence[1]):
            end += 1
        before = next((line for line in reversed(lines[:number]) if line.strip()), "")
        if not before.startswith(UNCHECKED):
            yield Block(fence[2], "\n".join(lines[number + 1 : end]), number + 1)
        number = end + 1


def prose(text: str) -> str:
    """A page without its code blocks; lines keep their numbers."""
    kept, fence = [], ""
    for line in text.split("\n"):
        mark = re.match(r"\s*(```+|~~~+)", line)
        if mark is not None and (not fence or line.strip() == fence):
            fence = "" if fence else mark[1]
            kept.append("")
        else:
            kept.append("" if fence else line)
    return "\n".join(kept)


def slug(heading: str) -> str:
    """The anchor of a heading, as GitHub makes it."""
    plain = re.sub(r"\[([^\]]*)\]\([^)]*\)", r"\1", heading).strip().lower()
    return re.sub(r"[^\w\- ]", "", plain).replace(" ", "-")


@cache
def anchors(path: Path) -> frozenset[str]:
    """Every anchor that leads into a page."""
    text = prose(path.read_text(encoding="utf-8"))
    found: list[str] = re.findall(r"""\b(?:id|name)=["']([^"']+)["']""", text)
    counts: dict[str, int] = {}
    for heading in re.findall(r"^#{1,6}\s+(.*?)\s*#*$", text, re.MULTILINE):
        name = slug(heading)
        counts[name] = counts.get(name, -1) + 1
        found.append(f"{name}-{counts[name]}" if counts[name] else name)
    return frozenset(found)


_LINK = re.compile(
    r"""\]\(<?([^)\s>]+)>?(?:\s+"[^"]*")?\)|\b(?:href|src|srcset)=["']([^"']+)["']"""
)


def bad_links(path: Path) -> Iterator[str]:
    """Relative links of a page that lead nowhere."""
    text = re.sub(r"`[^`\n]*`", "", prose(path.read_text(encoding="utf-8")))
    for match in _LINK.finditer(text):
        link = match[1] or match[2]
        line = text.count("\n", 0, match.start()) + 1
        if re.match(r"[a-z][a-z0-9+.-]*:", link):
            continue
        name, _, anchor = link.partition("#")
        target = (path.parent / name).resolve() if name else path
        if not target.exists():
            yield f"{shown(path)}:{line}: {link} leads nowhere"
        elif anchor and target.suffix == ".md" and anchor not in anchors(target):
            yield f"{shown(path)}:{line}: {shown(target)} has no heading for #{anchor}"


# Commands


_SHELL = ("sh", "bash", "shell", "console")
_OPERATORS = {"|", "||", "&&", ";", ">", ">>", "2>", "<", "&"}


def bad_commands(path: Path) -> Iterator[str]:
    """`gameday` commands of a page that the command line would not take."""
    text = path.read_text(encoding="utf-8")
    for block in blocks(text):
        if block.language not in _SHELL:
            continue
        for offset, line in enumerate(block.text.split("\n"), start=1):
            for words in calls(line):
                if wrong := misused(words):
                    yield f"{shown(path)}:{block.line + offset}: `{line.strip()}`: {wrong}"
    if path.suffix == ".md":
        text = prose(text)
    for match in re.finditer(r"`gameday( [^`\n]*)?`", text):
        for words in calls(match[0].strip("`")):
            if wrong := misused(words, whole=False):
                line_number = text.count("\n", 0, match.start()) + 1
                yield f"{shown(path)}:{line_number}: {match[0]}: {wrong}"


def calls(line: str) -> Iterator[list[str]]:
    """The arguments of each call of `gameday` in a line of shell."""
    lexer = shlex.shlex(line.strip().removeprefix("$ "), posix=True, punctuation_chars=True)
    lexer.whitespace_split = True
    try:
        words = list(lexer)
    except ValueError:
        return  # not a line of shell, such as a message with an apostrophe
    call: list[str] | None = None
    for word in words:
        if word in _OPERATORS:
            if call is not None:
                yield call
            call = None
        elif call is None:
            call = [] if word.rpartition("/")[2] == "gameday" else None
        else:
            call.append(word)
    if call is not None:
        yield call


def misused(words: list[str], *, whole: bool = True) -> str:
    """What is wrong with a call; empty if nothing is. A mention in prose need not be ``whole``."""
    if not whole:
        words = [word for word in words if word not in ("…", "...")]
    command: click.Command = cli
    try:
        while isinstance(command, click.Group) and words and not words[0].startswith("-"):
            found = command.get_command(click.Context(command), words[0])
            if found is None:
                return f"there is no command {words[0]!r}"
            command, words = found, words[1:]
        if isinstance(command, click.Group):
            known = {option for param in command.params for option in param.opts} | {"-h", "--help"}
            unknown = [word for word in words if word not in known]
            return f"there is no option {unknown[0]}" if unknown else ""
        command.make_context("gameday", list(words))
    except click.exceptions.Exit:
        return ""
    except click.BadParameter as error:  # a mention may say N, or leave out what has to be given
        return error.format_message() if whole else ""
    except click.UsageError as error:
        return error.format_message()
    return ""


# Scenarios and sandboxes


_FIELDS = frozenset(field_types(Scenario))


def bad_yaml(path: Path) -> Iterator[str]:
    """Scenarios, parts of scenarios and sandboxes of a page that the loader refuses."""
    with tempfile.TemporaryDirectory(prefix="gameday-docs-") as name:
        folder = Path(name)
        write_first_scenario(folder, "first")
        for block in blocks(path.read_text(encoding="utf-8")):
            if block.language in ("yaml", "yml"):
                yield from _refused(path, block, folder)


def _refused(page: Path, block: Block, folder: Path) -> Iterator[str]:
    place = f"{shown(page)}:{block.line}"
    try:
        found = yaml.safe_load(block.text)
    except yaml.YAMLError as error:
        yield f"{place}: not YAML: {error}"
        return
    if not isinstance(found, dict):
        return
    file = folder / "block.yaml"
    try:
        if "apiVersion" in found:
            _keep_named(found, folder)
            file.write_text(block.text, encoding="utf-8")
            load_scenario(file)
        elif any("image" in service for service in found.get("services", {}).values()):
            compose = folder / "compose.yaml"
            compose.write_text(block.text, encoding="utf-8")
            read_compose(compose, {})
        elif "services" in found and "name" in found:
            file.write_text(block.text, encoding="utf-8")
            load_cluster(file)
            # Scenarios that follow on the page may break it.
            (folder / "cluster.yaml").write_text(block.text, encoding="utf-8")
        elif set(found) <= _FIELDS:
            _keep_named(found, folder)
            _try_part(found, file)
    except GamedayError as error:
        yield f"{place}: {str(error).replace(str(file), 'the block')}"


def _try_part(part: dict[str, Any], file: Path) -> None:
    """Some keys of a scenario are about the shop, or about what `gameday init` writes."""
    try:
        file.write_text(_within_whole(part, {"app": "shop"}), encoding="utf-8")
        load_scenario(file)
    except GamedayError:
        for other in ({"kind": "docker", "app": "shop"}, {"file": "sandbox.yaml"}):
            file.write_text(_within_whole(part, other), encoding="utf-8")
            try:
                load_scenario(file)
                return
            except GamedayError:
                pass  # what is wrong in the shop is the better answer
        raise


def _keep_named(found: dict[str, Any], folder: Path) -> None:
    """Runbooks and journeys that an example names need not exist in the documentation."""
    named = [found.get("runbook"), (found.get("load") or {}).get("journey")]
    named += [alert.get("runbook") for alert in found.get("alerts", ())]
    for name in named:
        if isinstance(name, str) and name.endswith((".md", ".py")):
            file = folder / name
            file.parent.mkdir(parents=True, exist_ok=True)
            file.touch()


def _within_whole(part: dict[str, Any], sandbox: dict[str, str]) -> str:
    """A whole scenario around some of its keys."""
    whole: dict[str, Any] = {
        "apiVersion": "gameday/v1",
        "name": "example",
        "title": "An example",
        "sandbox": sandbox,
        "slis": {"availability": {"path": "/"}},
        "steady_state": {"availability": ">= 99%"},
    }
    slis = whole["slis"] | part.get("slis", {})
    return yaml.safe_dump(whole | part | {"slis": slis}, sort_keys=False)


# This machine


_SHARED = frozenset(
    Path(f"/{name}")
    for name in ("", "app", "code", "home", "mnt", "opt", "root", "src", "srv", "tmp", "usr", "var")
)
"""Folders that many machines have; naming one says nothing of this machine."""


def private_words() -> list[str]:
    """What only this machine knows: where the repository lies, its user's home, its name."""
    home, name = Path.home(), socket.gethostname()
    places = [place for place in (ROOT, ROOT.parent, home) if place not in _SHARED]
    named = [name] if len(name) > 8 and re.search(r"\d", name) else []
    return [*dict.fromkeys(str(place) for place in places), *named]


def machine_paths(path: Path, private: list[str]) -> Iterator[str]:
    """Lines that name something of this machine."""
    text = path.read_text(encoding="utf-8", errors="replace")
    for word in private:
        for match in re.finditer(rf"(?<![\w./-]){re.escape(word)}(?![\w-])", text):
            line = text.count("\n", 0, match.start()) + 1
            yield f"{shown(path)}:{line}: names {word}, which only this machine has"


def problems() -> Iterator[str]:
    """Everything that is wrong."""
    yield from stale()
    for page in tracked(".md"):
        yield from bad_links(page)
        yield from bad_commands(page)
        yield from bad_yaml(page)
    for scenario in sorted(CATALOGUE.glob("*.yaml")):
        yield from bad_commands(scenario)
    private = private_words()
    texts = (".md", ".py", ".yaml", ".yml", ".toml", ".json", ".j2", ".css", ".svg", ".sh", "")
    for file in tracked(*texts):
        yield from machine_paths(file, private)


def main(arguments: list[str]) -> int:
    """Check, or with ``--write`` write what is generated; 1 if something is wrong."""
    if arguments == ["--write"]:
        for path, text in generated().items():
            if not path.exists() or path.read_text(encoding="utf-8") != text:
                path.write_text(text, encoding="utf-8")
                print(f"wrote {shown(path)}")
        return 0
    if arguments:
        print("usage: python docs/check.py [--write]", file=sys.stderr)
        return 2
    found = list(problems())
    for problem in found:
        print(problem, file=sys.stderr)
    print(f"docs: {len(found)} to mend" if found else "docs: in order")
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
