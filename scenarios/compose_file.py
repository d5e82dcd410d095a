"""A Compose file, read for what a scenario can aim at; Docker Compose reads it for all the rest."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from pathlib import Path

import msgspec

from gameday.injectors.errors import Problem, ScenarioError
from gameday.injectors.sandbox.base import labels_of
from gameday.injectors.sandbox.docker.containers import OPT_IN
from gameday.scenarios.document import STRANGE, Node, parse_document, show_found
from gameday.scenarios.shape import ServiceShape, Shape
from gameday.scenarios.source import read_source

__all__ = ["read_compose"]

_LABEL, _, _TRUE = OPT_IN.partition("=")
_PROTECTED = "gameday.protected"
_READ = ("gameday.links", "gameday.entry", _PROTECTED, "gameday.owner", "gameday.tier")
"""What labels say about a service that opted in."""
_VARIABLE = re.compile(r"(?<!\$)(?:\$\$)*\$[{A-Za-z_]")
_MOST_REPLICAS = 100
_MOST_EXTENDED = 20
_WRITE_OUT = "Write it out, or take it from a YAML anchor."


def read_compose(path: Path, replicas: Mapping[str, int]) -> Shape:
    """The services of a Compose file that opted in by the label ``gameday.sandbox=true``.

    Links are the label ``gameday.links`` (``api, store``), else ``depends_on``; the entry is
    the service with ``gameday.entry=true``, else the first that publishes a port. All is read
    as it is written: variables are not filled in, and ``extends`` is followed in this file only.

    Args:
        replicas: Where the scenario wants others than the file.

    Raises:
        ScenarioError: if it is none, or no service of it opted in.
    """
    root, problems = parse_document(read_source(path), str(path))
    if problems:
        raise ScenarioError(str(path), problems)
    node = root.get("services")
    if node is None or not node.content or not isinstance(node.content, dict):
        message = "a Compose file was expected, with `services`"
        raise ScenarioError(str(path), [Problem(message, *(node or root).place)])
    reader = _Reader(node)
    ours = reader.opted_in()
    if not ours and not reader.problems:
        reader.problems.append(reader.nobody(node))
    named = reader.names_of_networks(root.get("networks"))
    shapes = {
        name: ServiceShape(
            replicas[name] if name in replicas else reader.replicas(service),
            tuple(other for other in service.calls() if other in ours),
            service.says(_PROTECTED) == "true",
            labels_of(
                service.words(),
                owner=service.says("gameday.owner"),
                tier=service.says("gameday.tier"),
            ),
            tuple(named.get(network, network) for network in service.in_networks()),
        )
        for name, service in ours.items()
    }
    if reader.problems:
        found = sorted(dict.fromkeys(reader.problems), key=lambda one: (one.line, one.column))
        raise ScenarioError(str(path), found)
    entries = [name for name, service in ours.items() if service.says("gameday.entry") == "true"]
    entries += [name for name, service in ours.items() if service.ports]
    return Shape(shapes, next(iter(entries), None))


class _Service(msgspec.Struct):
    """What is read of a service.

    Attributes:
        labels: Each as text, and where it stands.
        scale, deployed: How many replicas: the one counts before the other.
        networks: Those that it names.
        mode: Which network it has that is none of the project's, as Compose has it; empty if none.
        ports, profiles: Whether there are any.
        elsewhere: Where it says that a part of it stands in another file.
    """

    name: str
    labels: dict[str, tuple[str, Node]] = {}
    depends: tuple[str, ...] = ()
    scale: Node | None = None
    deployed: Node | None = None
    networks: tuple[str, ...] = ()
    mode: str = ""
    ports: bool = False
    profiles: bool = False
    elsewhere: Node | None = None

    def says(self, label: str) -> str:
        return self.labels[label][0] if label in self.labels else ""

    def words(self) -> dict[str, str]:
        return {name: value for name, (value, _) in self.labels.items()}

    def calls(self) -> Iterator[str]:
        if "gameday.links" not in self.labels:
            yield from self.depends
            return
        yield from (one.strip() for one in self.says("gameday.links").split(",") if one.strip())

    def in_networks(self) -> tuple[str, ...]:
        if self.mode:
            return ("bridge",) if self.mode == "bridge" else ()
        return self.networks or ("default",)

    def beside(self, base: _Service) -> _Service:
        """This one, which extends ``base``."""
        return _Service(
            self.name,
            base.labels | self.labels,
            tuple(dict.fromkeys((*base.depends, *self.depends))),
            self.scale or base.scale,
            self.deployed or base.deployed,
            tuple(dict.fromkeys((*base.networks, *self.networks))),
            self.mode or base.mode,
            self.ports or base.ports,
            self.profiles or base.profiles,
            self.elsewhere or base.elsewhere,
        )


class _Reader:
    """The services of a file, and what is wrong with them."""

    def __init__(self, node: Node) -> None:
        self.problems: list[Problem] = []
        self._nodes = self._members(node, "services")
        self._every = {name: self._service(name, ()) for name in self._nodes}

    def opted_in(self) -> dict[str, _Service]:
        ours = {}
        for name, service in self._every.items():
            if service.profiles:
                continue  # it does not come up by itself
            self._refuse_variables(service, (_LABEL,))
            if service.says(_LABEL) == _TRUE:
                self._refuse_variables(service, _READ)
                self._refuse_elsewhere(service)
                ours[name] = service
        return ours

    def nobody(self, node: Node) -> Problem:
        hidden = [s.name for s in self._every.values() if s.profiles and s.says(_LABEL) == _TRUE]
        if hidden:
            message = f"what has the label {OPT_IN} is under a profile ({', '.join(hidden)})"
            return Problem(message, *node.place, "Such a service does not come up in a drill.")
        message = f"no service has the label {OPT_IN}, so none of them may be broken"
        hint = f"Give it to each service that may:  labels: {{{_LABEL}: '{_TRUE}'}}"
        if any(service.elsewhere for service in self._every.values()):
            hint += ", in this file: what `extends` takes from another one is not read"
        return Problem(message, *node.place, hint)

    def replicas(self, service: _Service) -> int:
        key = "deploy.replicas" if service.scale is None else "scale"
        node = service.scale or service.deployed
        if node is None or node.content is None:
            return 1
        number = node.content
        if isinstance(number, str) and re.fullmatch(r"[0-9]{1,3}", number):
            number = int(number)  # Compose takes that for a number, too
        whole = isinstance(number, int) and not isinstance(number, bool)
        if whole and 0 <= number <= _MOST_REPLICAS:
            return int(number)
        hint = f"Write the number out, or give sandbox.replicas.{service.name} in the scenario."
        self._wrong(node, service.name, key, f"a whole number up to {_MOST_REPLICAS}", hint)
        return 1

    def names_of_networks(self, node: Node | None) -> dict[str, str]:
        """What the engine calls those that have a name of their own."""
        found: dict[str, str] = {}
        for key, one in (self._members(node, "networks") if node is not None else {}).items():
            name = self._members(one, f"networks.{key}").get("name")
            if name is not None and (text := name.text()) and not _VARIABLE.search(text):
                found[key] = text
        return found

    def _service(self, name: str, before: tuple[str, ...]) -> _Service:
        node = self._nodes[name]
        found = self._members(node, f"services.{name}")
        deploy = found.get("deploy")
        service = _Service(
            name,
            self._labels(name, found.get("labels")),
            self._names(name, "depends_on", found.get("depends_on"), mapping=True),
            found.get("scale"),
            self._members(deploy, f"services.{name}.deploy").get("replicas") if deploy else None,
            self._names(name, "networks", found.get("networks"), mapping=True),
            _word(found["network_mode"]) if "network_mode" in found else "",
            self._has_ports(name, found.get("ports")),
            bool(self._names(name, "profiles", found.get("profiles"))),
        )
        extends = found.get("extends")
        if extends is None or extends.content is None:
            return service
        return self._extended(service, extends, (*before, name))

    def _extended(self, service: _Service, extends: Node, before: tuple[str, ...]) -> _Service:
        wanted = {"service": extends}
        if isinstance(extends.content, dict):
            wanted = self._members(extends, f"services.{service.name}.extends")
        if wanted.get("file"):
            return msgspec.structs.replace(service, elsewhere=extends)
        base = wanted["service"].text() if "service" in wanted else None
        if base is None:
            self._wrong(extends, service.name, "extends", "the name of a service")
        elif base in before:
            message = f"services.{service.name}.extends: {base!r} extends this one in its turn"
            self.problems.append(Problem(message, *extends.place))
        elif base not in self._nodes:
            message = f"services.{service.name}.extends: there is no service {base!r} in this file"
            hint = "Names are read as they are written, without variables."
            self.problems.append(Problem(message, *extends.place, hint))
        elif len(before) > _MOST_EXTENDED:
            message = f"services.{service.name}.extends: more than {_MOST_EXTENDED} in a row"
            self.problems.append(Problem(message, *extends.place))
        else:
            return service.beside(self._service(base, before))
        return service

    def _members(self, node: Node, what: str) -> dict[str, Node]:
        """A mapping with what its merge key (``<<``) brings in; empty for nothing."""
        if not isinstance(node.content, dict):
            if node.content is not None:
                message = f"{what}: found {show_found(node, STRANGE)}, expected a mapping"
                self.problems.append(Problem(message, *node.place))
            return {}
        merged: dict[str, Node] = {}
        brought = node.get("<<")
        if brought is not None:
            for one in reversed(brought.entries() or [brought]):
                merged |= self._members(one, f"{what}.<<")
        return merged | {key: value for key, value in node.items() if key != "<<"}

    def _labels(self, name: str, node: Node | None) -> dict[str, tuple[str, Node]]:
        """Labels, as a mapping or as a list of ``name=value``."""
        found: dict[str, tuple[str, Node]] = {}
        if node is not None and isinstance(node.content, list):
            for one in node.entries():
                key, _, value = (one.text() or "").partition("=")
                if key:
                    found[key] = value, one
                else:
                    self._wrong(one, name, "labels", "NAME=VALUE")
        elif node is not None:
            for key, one in self._members(node, f"services.{name}.labels").items():
                if isinstance(one.content, dict | list):
                    self._wrong(one, name, f"labels.{key}", "text")
                found[key] = _word(one), one
        return found

    def _names(
        self, name: str, key: str, node: Node | None, *, mapping: bool = False
    ) -> tuple[str, ...]:
        if node is None or node.content is None:
            return ()
        if mapping and isinstance(node.content, dict):
            return tuple(self._members(node, f"services.{name}.{key}"))
        if not isinstance(node.content, list):
            self._wrong(node, name, key, "a list of names")
        for one in node.entries():
            if one.text() is None:
                self._wrong(one, name, key, "a name")
        return tuple(text for one in node.entries() if (text := one.text()) is not None)

    def _has_ports(self, name: str, node: Node | None) -> bool:
        if node is None or node.content is None:
            return False
        if not isinstance(node.content, list):
            self._wrong(node, name, "ports", "a list of ports")
        for one in node.entries():
            if one.content is None or isinstance(one.content, list | bool):
                self._wrong(one, name, "ports", "a port")
        return bool(node.content)

    def _refuse_variables(self, service: _Service, labels: tuple[str, ...]) -> None:
        for label in labels:
            value, node = service.labels.get(label, ("", None))
            if node is not None and _VARIABLE.search(value):
                self._wrong(node, service.name, f"labels.{label}", "a plain value")

    def _refuse_elsewhere(self, service: _Service) -> None:
        """What protects a service must not be overlooked because it stands in another file."""
        if service.elsewhere is None or _PROTECTED in service.labels:
            return
        self.problems.append(
            Problem(
                f"services.{service.name}.extends: found another file, which is not read; whether "
                "the service is protected may stand there",
                *service.elsewhere.place,
                f"Write the label {_PROTECTED} here ('true' or 'false'), and what else counts.",
            )
        )

    def _wrong(self, node: Node, name: str, key: str, expected: str, hint: str = "") -> None:
        if isinstance(node.content, str) and _VARIABLE.search(node.content):
            expected += "; variables are not filled in here"
            hint = hint or _WRITE_OUT
        message = f"services.{name}.{key}: found {show_found(node)}, expected {expected}"
        self.problems.append(Problem(message, *node.place, hint))


def _word(node: Node) -> str:
    value = node.content
    if value is None:
        return ""
    return str(value).lower() if isinstance(value, bool) else str(value)
