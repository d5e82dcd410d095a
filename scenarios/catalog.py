"""Finding scenarios: the shipped ones, and those of the folder one is in."""

from __future__ import annotations

import os
from itertools import chain
from pathlib import Path

import msgspec

from gameday.injectors.errors import Problem, ScenarioError
from gameday.scenarios.load import load_scenario
from gameday.scenarios.source import nearest

__all__ = ["CATALOGUE", "CatalogueEntry", "catalogue", "find_scenario"]

CATALOGUE = Path(__file__).parent / "catalogue"
"""The folder of the shipped scenarios."""

_SUFFIXES = (".yaml", ".yml")


class CatalogueEntry(msgspec.Struct, frozen=True):
    """A shipped scenario, as a list shows it."""

    name: str
    title: str
    severity: str
    objectives: tuple[str, ...]
    description: str
    path: Path


def catalogue() -> tuple[CatalogueEntry, ...]:
    """The shipped scenarios, by name."""
    return tuple(_entry(path) for path in sorted(CATALOGUE.glob("*.yaml")))


def find_scenario(name: str, cwd: Path) -> Path:
    """The file that ``name`` means.

    A path is taken as one, whether or not a file is there: reading it will tell.
    A bare name is looked for in ``cwd/scenarios``, in ``cwd``, and among the
    shipped scenarios, in this order; last, what is no file but has that name in ``cwd``, such
    as a folder, is taken as a path, too.

    Raises:
        ScenarioError: if a bare name is none; names the nearest one.
    """
    if os.sep in name or name.endswith(_SUFFIXES):
        return cwd / name
    places = _places(name, cwd)
    for path in places:
        if path.is_file():
            return path
    if places and places[-1].exists():
        return places[-1]
    raise ScenarioError(name, [Problem("there is no scenario of this name", hint=_hint(name, cwd))])


def _places(name: str, cwd: Path) -> list[Path]:
    folders = (cwd / "scenarios", cwd, CATALOGUE)
    if not name or "\0" in name or len(name) > 200:
        return []
    return [folder / (name + suffix) for folder in folders for suffix in _SUFFIXES] + [cwd / name]


def _hint(name: str, cwd: Path) -> str:
    shipped = sorted(path.stem for path in CATALOGUE.glob("*.yaml"))
    own = sorted(path.stem for path in chain(*(_own(f) for f in (cwd / "scenarios", cwd))))
    near = nearest(name, (*shipped, *own), cutoff=0.5)
    shown = f"Shipped are: {', '.join(shipped)}."
    return f"Did you mean {near}? {shown}" if near else f"{shown} A file is given by its path."


def _own(folder: Path) -> list[Path]:
    return [path for suffix in _SUFFIXES for path in folder.glob(f"*{suffix}")]


def _entry(path: Path) -> CatalogueEntry:
    scenario = load_scenario(path).scenario
    return CatalogueEntry(
        name=scenario.name,
        title=scenario.title,
        severity=scenario.severity,
        objectives=tuple(scenario.objectives),
        description=scenario.description,
        path=path,
    )
