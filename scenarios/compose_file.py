"""A Compose file, read for what a scenario can aim at; Docker Compose reads it for all the rest."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from gameday.injectors.errors import Problem, ScenarioError
from gameday.injectors.sandbox.base import labels_of
from gameday.injectors.sandbox.docker.containers import OPT_IN
from gameday.scenarios.document import parse_document
from gameday.scenarios.shape import ServiceShape, Shape
from gameday.scenarios.source import read_source

__all__ = ["read_compose"]

_LABEL, _, _TRUE = OPT_IN.partition("=")


def read_compose(path: Path, replicas: Mapping[str, int]) -> Shape:
    """The services of a Compose file that opted in by the label ``gameday.sandbox=true``.

    Links are the label ``gameday.links`` (``api, store``), else ``depends_on``; the entry is
    the service with ``gameday.entry=true``, else the first that publishes a port.

    Args:
        replicas: Where the scenario wants others than the file.

    Raises:
        ScenarioError: if it is none, or no service of it opted in.
    """
    root, problems = parse_document(read_source(path), str(path))
    if problems:
        raise ScenarioError(str(path), problems)
    services = root.plain().get("services") if isinstance(root.plain(), dict) else None
    if not isinstance(services, dict) or not services:
        message = "a Compose file was expected, with `services`"
        raise ScenarioError(str(path), [Problem(message, *root.place)])
    every = {str(name): _merged(found) for name, found in services.items()}
    labels = {name: _pairs(service.get("labels")) for name, service in every.items()}
    ours = {
        name: service
        for name, service in every.items()
        if labels[name].get(_LABEL) == _TRUE and not service.get("profiles")
    }
    if not ours:
        message = f"no service has the label {OPT_IN}, so none of them may be broken"
        hint = f"Give it to each service that may:  labels: {{{_LABEL}: '{_TRUE}'}}"
        node = root.get("services") or root
        raise ScenarioError(str(path), [Problem(message, *node.place, hint)])
    entries = [name for name in ours if labels[name].get("gameday.entry") == "true"]
    entries += [name for name, service in ours.items() if service.get("ports")]
    shapes = {
        name: ServiceShape(
            replicas.get(name, _replicas(service)),
            tuple(other for other in _calls(service, labels[name]) if other in ours),
            labels[name].get("gameday.protected") == "true",
            labels_of(
                labels[name],
                owner=labels[name].get("gameday.owner", ""),
                tier=labels[name].get("gameday.tier", ""),
            ),
        )
        for name, service in ours.items()
    }
    return Shape(shapes, next(iter(entries), None))


def _merged(found: Any) -> dict[str, Any]:
    """A mapping with what its merge key (``<<``) brings in."""
    if not isinstance(found, dict):
        return {}
    brought = found.get("<<")
    merged: dict[str, Any] = {}
    for one in reversed(brought if isinstance(brought, list) else [brought]):
        merged |= _merged(one)
    return merged | {key: value for key, value in found.items() if key != "<<"}


def _pairs(found: Any) -> dict[str, str]:
    """Labels, as a mapping or as a list of ``name=value``."""
    if isinstance(found, list):
        split = (str(one).partition("=") for one in found)
        return {name: value for name, _, value in split}
    return {name: _word(value) for name, value in _merged(found).items()}


def _word(value: Any) -> str:
    if value is None:
        return ""
    return str(value).lower() if isinstance(value, bool) else str(value)


def _replicas(service: Mapping[str, Any]) -> int:
    deploy = service.get("deploy")
    wanted = deploy.get("replicas") if isinstance(deploy, dict) else None
    found = service.get("scale", wanted)
    return found if isinstance(found, int) and not isinstance(found, bool) else 1


def _calls(service: Mapping[str, Any], labels: Mapping[str, str]) -> Iterator[str]:
    if "gameday.links" in labels:
        yield from (one.strip() for one in labels["gameday.links"].split(",") if one.strip())
        return
    depends = service.get("depends_on")
    yield from (str(one) for one in depends or ())
