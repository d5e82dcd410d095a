"""JSON Schemas (draft 2020-12) of the scenario file and of the sandbox declaration.

They follow from the models, so editors complete and check what the loader
accepts. What a schema cannot say (names that meet, bounds that parse) the loader
checks alone. The shipped scenarios refer to `SCENARIO_FILE` beside them::

    # yaml-language-server: $schema=scenario.schema.json
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterable
from typing import Any

import msgspec

from gameday.injectors.models import Model
from gameday.injectors.registry import fault_class, known_kinds
from gameday.injectors.sandbox.local.cluster import Cluster
from gameday.injectors.units import show_duration, show_rate, show_share, show_size
from gameday.scenarios.model import Scenario
from gameday.scenarios.steps import VERBS

__all__ = ["SANDBOX_FILE", "SCENARIO_FILE", "sandbox_schema", "scenario_schema", "schema_text"]

SCENARIO_FILE = "scenario.schema.json"
SANDBOX_FILE = "sandbox.schema.json"

_DRAFT = "https://json-schema.org/draft/2020-12/schema"
_NUMBER = r"\d+(\.\d+)?"
_SPAN = rf"({_NUMBER}\s*(us|µs|ms|min|s|m|h|d)\s*)+"
_DURATION = rf"^\s*{_SPAN}$|^\s*0\s*$"
_SIGNED = rf"^\s*[+-]?\s*{_SPAN}$"
_SHARE = rf"^\s*{_NUMBER}\s*%?\s*$"
_SIZE = rf"^\s*{_NUMBER}\s*([kKMGT]i?B|B)?\s*$"
_RATE = rf"^\s*{_NUMBER}\s*[kMG]?bit/s\s*$"

_Show = Callable[[Any], str]
_UNITS: dict[str, tuple[dict[str, Any], _Show]] = {
    "500ms": (
        {"type": ["string", "integer"], "pattern": _DURATION, "minimum": 0, "maximum": 0},
        show_duration,
    ),
    "1h": ({"type": "string", "pattern": _SIGNED}, show_duration),
    "95%": (
        {"type": ["string", "number"], "pattern": _SHARE, "minimum": 0, "maximum": 1},
        show_share,
    ),
    "64MiB": ({"type": ["string", "integer"], "pattern": _SIZE, "minimum": 0}, show_size),
    "1Mbit/s": ({"type": ["string", "number"], "pattern": _RATE, "minimum": 0}, show_rate),
}
"""By the first of its examples: what a value with a unit may be, and how it is written."""

_PAGE = ("summary", "impact", "verify", "first_step", "escalate")
_RULES: dict[str, dict[str, Any]] = {
    "AlertRule": {
        "oneOf": [{"required": ["when"]}, {"required": ["at"]}],
        "if": {"properties": {"tier": {"const": "page"}}},
        "then": {
            "required": list(_PAGE),
            "properties": {key: {"pattern": r"\S"} for key in _PAGE},
        },
    },
    "SandboxChoice": {
        "if": {"properties": {"kind": {"const": "local"}}},
        "then": {"oneOf": [{"required": ["app"]}, {"required": ["file"]}]},
    },
    "SlotTarget": {"oneOf": [{"required": [key]} for key in ("service", "slot", "label")]},
    "Health": {"oneOf": [{"required": [key]} for key in ("http", "tcp", "command")]},
}
"""What the models' validators say, in the schema's words."""


def scenario_schema(*, third_party: bool = False) -> dict[str, Any]:
    """The schema of a scenario file; with ``third_party``, with faults of installed packages."""
    schema = _schema_of(Scenario)
    definitions: dict[str, Any] = schema["$defs"]
    entry = definitions.pop("FaultEntry")
    own = {key: entry["properties"][key] for key in ("at", "lasts")}
    kinds = known_kinds(third_party=third_party)
    for kind in kinds:
        definitions[kind] = _entry(kind, own, definitions)
    faults = schema["properties"]["faults"]
    faults["items"] = {"oneOf": [{"$ref": f"#/$defs/{kind}"} for kind in kinds]}
    steps = definitions["Scripted"]["properties"]["steps"]["items"]
    steps["pattern"] = rf"^\s*({'|'.join(VERBS)})(\s|$)"
    return _finish(schema, "Gameday scenario")


def sandbox_schema() -> dict[str, Any]:
    """The schema of a sandbox declaration."""
    return _finish(_schema_of(Cluster), "Gameday sandbox")


def schema_text(schema: dict[str, Any]) -> str:
    """The schema as the text of a file."""
    return json.dumps(schema, indent=1, ensure_ascii=False) + "\n"


def _entry(kind: str, own: dict[str, Any], definitions: dict[str, Any]) -> dict[str, Any]:
    """An entry of ``faults`` for one kind; what it refers to joins the definitions."""
    schema = _schema_of(fault_class(kind))
    for name, definition in schema.pop("$defs", {}).items():
        definitions.setdefault(name, definition)
    return {
        "type": "object",
        "title": kind,
        "description": schema.get("description", ""),
        "properties": {"inject": {"const": kind}} | own | schema["properties"],
        "required": ["at", "inject", *schema.get("required", ())],
        "additionalProperties": False,
    }


def _finish(schema: dict[str, Any], title: str) -> dict[str, Any]:
    return {"$schema": _DRAFT, "title": title} | schema


def _schema_of(model: type[Model]) -> dict[str, Any]:
    whole = _tidy(msgspec.json.schema(model))
    definitions: dict[str, Any] = whole["$defs"]
    schema: dict[str, Any] = definitions.pop(model.__name__) | {"$defs": definitions}
    for name, rule in _RULES.items():
        if name in schema.get("$defs", {}):
            schema["$defs"][name] |= rule
    return schema


def _tidy(node: Any) -> Any:
    """Without msgspec's titles, with prose for people and values as they are written in a file."""
    if isinstance(node, list):
        return [_tidy(one) for one in node]
    if not isinstance(node, dict):
        return node
    tidied = {key: _tidy(value) for key, value in node.items() if not _is_title(key, value)}
    if isinstance(tidied.get("description"), str):
        tidied["description"] = _prose(tidied["description"])
    for first, (unit, show) in _UNITS.items():
        if first in _first_examples(tidied):
            tidied = _with_unit(tidied, unit, show)
    if tidied.get("default", 0) is None:
        del tidied["default"]
    if tidied.get("required") == []:
        del tidied["required"]
    return tidied


def _is_title(key: str, value: Any) -> bool:
    return key == "title" and isinstance(value, str)


def _first_examples(node: dict[str, Any]) -> Iterable[Any]:
    for one in (node, *node.get("anyOf", ())):
        yield from one.get("examples", ())[:1]


def _with_unit(node: dict[str, Any], unit: dict[str, Any], show: _Show) -> dict[str, Any]:
    if isinstance(node.get("default"), int | float):
        node["default"] = show(node["default"]).replace(" ", "")
    return node | unit if node.get("type") in ("number", "integer") else node


def _prose(text: str) -> str:
    first = text.split("\n\n", 1)[0].replace("``", "`")
    return re.sub(r"\s+", " ", first).strip()


if __name__ == "__main__":
    from gameday.scenarios.catalog import CATALOGUE

    (CATALOGUE / SCENARIO_FILE).write_text(schema_text(scenario_schema()), encoding="utf-8")
