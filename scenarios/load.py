"""Scenario files and sandbox declarations, read with every problem at its place.

`load_scenario` reads a scenario with what it names: the cluster that it breaks,
and its runbooks. `load_text` reads the copy in a drill's folder, where those
files may be gone. `load_yaml` reads any other YAML file of ours.

A problem is never the last word: all problems of a file are reported at once,
in the order of the file.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from itertools import chain, islice
from pathlib import Path
from typing import Generic, TypeVar

import msgspec

from gameday.injectors.errors import Problem, ScenarioError
from gameday.injectors.models import Misfit, Misfits, Model, read
from gameday.injectors.sandbox.local.cluster import Cluster, links_order
from gameday.scenarios.checks import CHECKS
from gameday.scenarios.compose_file import read_compose
from gameday.scenarios.document import Node, parse_document
from gameday.scenarios.draft import Draft, did_you_mean, problem_at, sketch
from gameday.scenarios.model import DURATION, STABILISE, SandboxChoice, Scenario
from gameday.scenarios.sandboxes import (
    APPS,
    app_declaration,
    app_journeys,
    app_locustfile,
)
from gameday.scenarios.shape import Shape, shape_of
from gameday.scenarios.source import read_source
from gameday.scenarios.target_checks import TARGET_CHECKS
from gameday.scenarios.templates import cluster_templates
from gameday.scenarios.wording import problems_of

__all__ = [
    "Loaded",
    "LoadedScenario",
    "load_cluster",
    "load_scenario",
    "load_text",
    "load_yaml",
]

_MOST_PROBLEMS = 50
_RUNBOOK_LIMIT = 256 * 1024

M = TypeVar("M", bound=Model)


class Loaded(msgspec.Struct, Generic[M], frozen=True):
    """A valid file: its model, its exact text, and where it lies."""

    value: M
    text: str
    path: Path


class LoadedScenario(msgspec.Struct, frozen=True):
    """A valid scenario, with what it names.

    Attributes:
        text: The exact source.
        shape: The services that it can aim at, with the scenario's own replicas; None for what
            runs already, or where the declaration is not at hand.
        cluster: The cluster of processes that it breaks, with the scenario's own environment
            and replicas; None for a sandbox of another kind.
        cluster_path: The file that declares the cluster, of whatever kind.
        locustfile: The file with the load's journey; ``user`` is its user class, empty for all.
        runbooks: Their texts, by the names that the scenario uses.
    """

    scenario: Scenario
    text: str
    path: Path
    shape: Shape | None = None
    cluster: Cluster | None = None
    cluster_path: Path | None = None
    locustfile: Path | None = None
    user: str = ""
    runbooks: Mapping[str, str] = msgspec.field(default_factory=dict)


def load_yaml(path: Path, model: type[M]) -> Loaded[M]:
    """The file at ``path``, validated against ``model``.

    Raises:
        ScenarioError: with every problem of the file.
    """
    text = read_source(path)
    root, problems = parse_document(text, str(path))
    value, more = _validated(root, model)
    return Loaded(_sound(value, problems + more, str(path)), text, path)


def load_cluster(path: Path) -> Loaded[Cluster]:
    """The sandbox declaration at ``path``.

    Raises:
        ScenarioError: with every problem of the file.
    """
    text = read_source(path)
    root, problems = parse_document(text, str(path))
    value, more = _validated(root, Cluster)
    named = list(_cluster_names(root))
    if named:  # the same, but each at its own place
        more = [problem for problem in more if (problem.line, problem.column) != root.place]
    found = chain(problems, more, named, cluster_templates(root))
    return Loaded(_sound(value, found, str(path)), text, path)


def load_scenario(path: Path, kind: str | None = None) -> LoadedScenario:
    """The scenario at ``path``, its cluster and its runbooks.

    Args:
        kind: The kind of its sandbox, where another is wanted than the file says.

    Raises:
        ScenarioError: with every problem of the file.
    """
    text = read_source(path)
    root, problems = parse_document(text, str(path))
    if kind is not None:
        root = root.with_text(("sandbox", "kind"), kind)
    scenario, more = _validated(root, Scenario)
    draft = _draft(root, scenario)
    files = _Beside(path.parent, draft)
    found = chain(more, files.read(), _checked(draft))
    sound = _sound(scenario, chain(problems, found), str(path))
    return LoadedScenario(
        scenario=sound,
        text=text,
        path=path,
        shape=draft.cluster,
        cluster=files.cluster,
        cluster_path=files.cluster_path,
        locustfile=files.locustfile,
        user=files.user,
        runbooks=files.runbooks,
    )


def load_text(text: str, name: str) -> LoadedScenario:
    """A scenario from its text alone; the files that it names are not looked at.

    Raises:
        ScenarioError: with every problem of the text, which is called ``name``.
    """
    root, problems = parse_document(text, name)
    scenario, more = _validated(root, Scenario)
    found = chain(problems, more, _checked(_draft(root, scenario)))
    return LoadedScenario(scenario=_sound(scenario, found, name), text=text, path=Path(name))


def _validated(root: Node, model: type[M]) -> tuple[M | None, list[Problem]]:
    try:
        return read(model, root.plain()), []
    except Misfits as error:
        return None, problems_of(error.unfits, root)


def _draft(root: Node, whole: Scenario | None) -> Draft:
    return sketch(root, whole, duration=DURATION, stabilise=STABILISE)


def _checked(draft: Draft) -> Iterator[Problem]:
    return chain.from_iterable(check(draft) for check in (*CHECKS, *TARGET_CHECKS))


def _sound(value: M | None, found: Iterable[Problem], name: str) -> M:
    """The value, if there is no problem; at one place only the first is told."""
    problems: dict[object, Problem] = {}
    for problem in islice(found, 10 * _MOST_PROBLEMS):
        problems.setdefault(_subject(problem), problem)
    if value is not None and not problems:
        return value
    ordered = sorted(problems.values(), key=lambda one: (one.line or 0, one.column or 0))
    if len(ordered) > _MOST_PROBLEMS:
        rest = len(ordered) - _MOST_PROBLEMS
        ordered = [*ordered[:_MOST_PROBLEMS], Problem(f"{rest} further problems are not shown")]
    raise ScenarioError(name, ordered)


def _subject(problem: Problem) -> object:
    """What a problem is about: its place; where something is missing, that thing."""
    absent = " is missing" in problem.message or " lacks " in problem.message
    return (problem.line, problem.column, problem.message if absent or not problem.line else "")


def _cluster_names(root: Node) -> Iterator[Problem]:
    """Names in a declaration that meet nothing: entry, links, and circles of links."""
    services = root.get("services")
    known = tuple(name for name, _ in services.items()) if services is not None else ()
    entry = root.get("entry")
    if entry is not None and entry.text() is not None and entry.content not in known:
        message = f"entry: there is no service {entry.raw!r}"
        yield problem_at(entry, message, did_you_mean(entry.raw, known))
    calls: dict[str, list[str]] = {}
    for name, service in services.items() if services is not None else ():
        links = service.get("links")
        for node in links.entries() if links is not None else ():
            if node.text() in known:
                calls.setdefault(name, []).append(node.raw)
            elif node.text() is not None:
                message = f"services.{name}.links: there is no service {node.raw!r}"
                yield problem_at(node, message, did_you_mean(node.raw, known))
    try:
        links_order(calls)
    except ValueError as error:
        yield problem_at(root.closest(("services",)), str(error))


class _Beside:
    """The files that a scenario names; they lie beside it, or further down."""

    def __init__(self, folder: Path, draft: Draft) -> None:
        self._folder = folder
        self._draft = draft
        self.cluster: Cluster | None = None
        self.cluster_path: Path | None = None
        self.locustfile: Path | None = None
        self.user = ""
        self.runbooks: dict[str, str] = {}

    def read(self) -> Iterator[Problem]:
        """Read them, and say what is wrong with them."""
        yield from self._read_cluster()
        yield from self._read_runbooks()
        yield from self._find_journey()

    def _read_cluster(self) -> Iterator[Problem]:
        placed = self._draft.sandbox
        if placed is None:
            return
        choice = placed.value
        if choice.app is not None and choice.app not in APPS:
            message = f"sandbox.app: there is no application {choice.app!r}"
            yield problem_at(placed.at("app"), message, did_you_mean(choice.app, APPS))
        elif choice.app is not None:
            self._draft.journeys = app_journeys(choice.app)
            self._take(app_declaration(choice.app, choice.kind), choice)
        for key, name in (("file", choice.file), ("compose", choice.compose)):
            if name is not None:
                yield from self._read_own(key, name, choice, placed.at(key))

    def _take(self, path: Path, choice: SandboxChoice) -> None:
        """Take in a declaration.

        Raises:
            ScenarioError: with every problem of it.
        """
        self.cluster_path = path
        self.cluster, self._draft.cluster = _READERS[choice.kind](path, choice)

    def _read_own(
        self, key: str, name: str, choice: SandboxChoice, node: Node
    ) -> Iterator[Problem]:
        try:
            self._take(self._inside(name), choice)
        except Misfit as error:
            yield problem_at(node, f"sandbox.{key}: {error}", error.hint)
        except ScenarioError as error:
            count = len(error.problems)
            what = "a problem" if count == 1 else f"{count} problems"
            shown = "\n    ".join(problem.show(error.path) for problem in error.problems)
            yield problem_at(node, f"sandbox.{key}: {name} has {what}", shown)

    def _read_runbooks(self) -> Iterator[Problem]:
        root = self._draft.root
        alerts = root.get("alerts")
        nodes = [root.get("runbook")]
        nodes += [entry.get("runbook") for entry in (alerts.entries() if alerts else ())]
        for node in nodes:
            name = node.text() if node is not None else None
            if node is None or name is None or name in self.runbooks:
                continue
            try:
                self.runbooks[name] = read_source(self._inside(name), limit=_RUNBOOK_LIMIT)
            except Misfit as error:
                yield problem_at(node, f"runbook: {error}", error.hint)
            except ScenarioError as error:
                problem = error.problems[0]
                yield problem_at(node, f"runbook {name}: {problem.message}", problem.hint)

    def _find_journey(self) -> Iterator[Problem]:
        load, sandbox = self._draft.load, self._draft.sandbox
        if load is None:
            return
        journey = load.value.journey
        if not journey.endswith(".py"):
            if sandbox is not None and sandbox.value.app in APPS:
                self.locustfile, self.user = app_locustfile(str(sandbox.value.app)), journey
            return
        try:
            self.locustfile = self._inside(journey)
            read_source(self.locustfile)
        except Misfit as error:
            yield problem_at(load.at("journey"), f"load.journey: {error}", error.hint)
        except ScenarioError as error:
            problem = error.problems[0]
            yield problem_at(load.at("journey"), f"load.journey {journey}: {problem.message}")

    def _inside(self, name: str) -> Path:
        """A path beside the scenario.

        Raises:
            Misfit: if it leads out of the scenario's folder.
        """
        hint = "Put it beside the scenario, or further down."
        if not name.strip() or "\0" in name:
            raise Misfit("expected the name of a file", hint=hint)
        wanted = Path(name)
        if wanted.is_absolute() or ".." in wanted.parts:
            raise Misfit(f"{name!r} leads out of the scenario's folder", hint=hint)
        path = self._folder / wanted
        try:
            inside = path.resolve().is_relative_to(self._folder.resolve())
        except (OSError, RuntimeError) as error:  # a circle of links
            raise Misfit(f"{name!r} cannot be followed: {error}", hint=hint) from None
        if not inside:
            raise Misfit(f"{name!r} is a link out of the scenario's folder", hint=hint)
        return path


def _read_processes(path: Path, choice: SandboxChoice) -> tuple[Cluster | None, Shape]:
    cluster = _changed(load_cluster(path).value, choice)
    return cluster, shape_of(cluster)


def _read_containers(path: Path, choice: SandboxChoice) -> tuple[Cluster | None, Shape]:
    return None, read_compose(path, choice.replicas)


_READERS = {"local": _read_processes, "docker": _read_containers}
"""How the declaration of each kind of sandbox is read."""


def _changed(cluster: Cluster, choice: SandboxChoice) -> Cluster:
    """The cluster as the scenario wants it."""
    services = dict(cluster.services)
    for name, service in cluster.services.items():
        environment = service.environment | choice.environment.get(name, {})
        replicas = choice.replicas.get(name, service.replicas)
        services[name] = msgspec.structs.replace(
            service, environment=environment, replicas=replicas
        )
    return msgspec.structs.replace(cluster, services=services)
