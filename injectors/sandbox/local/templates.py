"""Templates in commands, environments and files: how ports and paths reach the services."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Mapping
from typing import Any

from jinja2 import TemplateError, TemplateSyntaxError, UndefinedError

from gameday.injectors.errors import UsageError
from gameday.injectors.sandbox.local import bounded
from gameday.injectors.sandbox.local.orders import ServiceSpec

__all__ = ["check", "render", "variables"]

HOST = "127.0.0.1"


def render(text: str, values: Mapping[str, Any]) -> str:
    """The text with its templates filled in, within `gameday.injectors.sandbox.local.bounded`.

    Raises:
        TemplateError: if a variable is unknown, the template is none, or it goes too far.
    """
    return bounded.render(text, values) if "{" in text else text


def variables(
    *,
    slot: str,
    service: str,
    number: int,
    port: int,
    data: str,
    endpoints: str,
    folder: str,
    links: Mapping[str, list[dict[str, Any]]],
) -> dict[str, Any]:
    """What a template sees. Keep it in step with the docstring of `cluster.Service`."""
    return {
        "python": sys.executable,
        "slot": slot,
        "service": service,
        "number": number,
        "host": HOST,
        "port": port,
        "data": data,
        "endpoints": endpoints,
        "folder": folder,
        "links": {name.replace("-", "_"): ends for name, ends in links.items()} | dict(links),
    }


def _texts(service: ServiceSpec) -> Iterator[tuple[str, str]]:
    for index, text in enumerate(service.command):
        yield f"command[{index}]", text
    for name, text in service.environment.items():
        yield f"environment.{name}", text
    for name, text in service.files.items():
        yield f"files.{name}", text
    command = service.health.command if service.health is not None else None
    for index, text in enumerate(command or ()):
        yield f"health.command[{index}]", text


def _problem(text: str, values: Mapping[str, Any]) -> str:
    try:
        render(text, values)
    except TemplateSyntaxError as error:
        return f"line {error.lineno} of the template: {error.message}"
    except UndefinedError as error:
        return str(error.message).replace("'dict object' has no attribute", "'links' has no")
    except TemplateError as error:
        return str(error)
    except (TypeError, ValueError, ArithmeticError, LookupError, AttributeError) as error:
        # An expression in the user's template, such as a sum of a word and a number.
        return str(error)
    return ""


def check(services: tuple[ServiceSpec, ...], folder: str) -> None:
    """Fill in every template once, for show.

    Raises:
        UsageError: names each service and field whose template cannot be filled in, and why.
    """
    problems = []
    for service in services:
        slot = f"{service.name}-1"
        ends = {
            name: [{"slot": f"{name}-1", "address": f"{HOST}:1", "host": HOST, "port": 1}]
            for name in service.links
        }
        values = variables(
            slot=slot,
            service=service.name,
            number=1,
            port=1,
            data="/data",
            endpoints="/endpoints.json",
            folder=folder,
            links=ends,
        )
        for field, text in _texts(service):
            problem = _problem(text, values)
            if problem:
                problems.append(f"services.{service.name}.{field}: {problem}")
    if problems:
        known = "python, slot, service, number, host, port, data, folder, endpoints, links"
        raise UsageError(
            "\n".join(problems),
            hint=f"Templates see {known}; links.<service> needs that service under `links`.",
        )
