"""Which sandboxes a scenario can name, and what each kind can do."""

from __future__ import annotations

import ast
from pathlib import Path

from gameday.injectors.sandbox.kinds import KINDS

__all__ = ["APPS", "PARTS", "app_declaration", "app_journeys", "app_locustfile"]

APPS: tuple[str, ...] = ("shop",)
"""Applications that are shipped; each is a folder beside this file."""

PARTS: dict[str, frozenset[str]] = {
    name: kind.parts for name, kind in KINDS.items() if name != "fake"
}
"""What a kind of sandbox can do at all; what this machine lacks is found before a drill starts."""


_DECLARATIONS = {"local": "{app}.yaml", "docker": "compose.yaml"}


def app_declaration(app: str, kind: str = "local") -> Path:
    """The file that declares a shipped application for a kind of sandbox.

    Links in its path are followed: the build of a Compose file takes the packages from beside it.
    """
    return Path(__file__).resolve().parent / app / _DECLARATIONS[kind].format(app=app)


def app_locustfile(app: str) -> Path:
    """The file with the journeys of a shipped application."""
    return Path(__file__).parent / app / "journeys.py"


def app_journeys(app: str) -> tuple[str, ...]:
    """The journeys of a shipped application: its user classes, in lower case.

    They are read, not imported: importing Locust patches the standard library.
    """
    tree = ast.parse(app_locustfile(app).read_text(encoding="utf-8"))
    return tuple(
        node.name.lower()
        for node in tree.body
        if isinstance(node, ast.ClassDef) and any(_is_user(base) for base in node.bases)
    )


def _is_user(base: ast.expr) -> bool:
    name = base.attr if isinstance(base, ast.Attribute) else getattr(base, "id", "")
    return str(name).endswith("User")
