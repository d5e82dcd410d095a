"""A first scenario of one's own: what `gameday init` writes."""

from __future__ import annotations

import re
from contextlib import ExitStack
from pathlib import Path

from gameday.injectors.errors import UsageError
from gameday.scenarios.schema import (
    SANDBOX_FILE,
    SCENARIO_FILE,
    sandbox_schema,
    scenario_schema,
    schema_text,
)

__all__ = ["write_first_scenario"]

_HERE = Path(__file__).parent
_NAME = re.compile(r"[a-z0-9][a-z0-9-]{0,62}")
_FOR_OUR_TOOLS = "# mypy: ignore-errors\n"


def write_first_scenario(folder: Path, name: str) -> list[Path]:
    """Write a scenario that teaches, with a sandbox, a runbook and a journey of its own.

    Args:
        folder: Where; made if it is not there.
        name: The scenario's name, and its file's.

    Returns:
        The files written; the scenario comes first.

    Raises:
        UsageError: if the name is none, a file is already there, or the folder cannot be
            written to. Then nothing is left behind.
    """
    if not _NAME.fullmatch(name):
        raise UsageError(
            f"{name!r} cannot name a scenario",
            hint="Use lower-case letters, digits and dashes, such as checkout-slow.",
        )
    files = {folder / place: text for place, text in _texts(name).items()}
    there = [str(path) for path in files if path.exists() or path.is_symlink()]
    if there:
        raise UsageError(
            f"already there: {', '.join(there)}",
            hint="Choose another folder or --name, or move them away; nothing was written.",
        )
    with ExitStack() as leftovers:
        try:
            for path, text in files.items():
                path.parent.mkdir(parents=True, exist_ok=True)
                leftovers.callback(path.unlink, missing_ok=True)
                with path.open("x", encoding="utf-8") as file:
                    file.write(text)
        except OSError as error:
            reason = error.strerror or str(error)
            raise UsageError(f"{path} cannot be written: {reason}") from error
        leftovers.pop_all()
    return list(files)


def _texts(name: str) -> dict[str, str]:
    scenario = _template("scenario.yaml").replace("\nname: first\n", f"\nname: {name}\n")
    scenario = scenario.replace("first.yaml", f"{name}.yaml")
    scenario = scenario.replace("runbooks/first.md", f"runbooks/{name}.md")
    return {
        f"{name}.yaml": scenario,
        "sandbox.yaml": _template("sandbox.yaml"),
        "service.py": _template("service.py"),
        "visit.py": _template("visit.py"),
        f"runbooks/{name}.md": _template("runbook.md"),
        f"schemas/{SCENARIO_FILE}": schema_text(scenario_schema()),
        f"schemas/{SANDBOX_FILE}": schema_text(sandbox_schema()),
    }


def _template(name: str) -> str:
    return (_HERE / name).read_text(encoding="utf-8").removeprefix(_FOR_OUR_TOOLS)
