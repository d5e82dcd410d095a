"""What is shipped: the wheel's contents, and a drill from it in an empty folder."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest

from gameday.scenarios.catalog import CATALOGUE
from tests.commands import Terminal, assert_nothing_left, leftovers

pytestmark = [pytest.mark.acceptance, pytest.mark.timeout(420)]

ROOT = Path(__file__).parent.parent
PACKAGES = ("injectors", "scenarios", "scoring", "drills")


def run(*argv: str | Path, cwd: Path, timeout: float = 300) -> subprocess.CompletedProcess[str]:
    env = Terminal(cwd, cwd / "state").environment({"PIP_DISABLE_PIP_VERSION_CHECK": "1"})
    return subprocess.run(
        [str(word) for word in argv],
        cwd=cwd,
        env=env,
        capture_output=True,
        text=True,
        timeout=timeout,
    )


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory, needs: Callable[[bool, str], None]) -> Path:
    """The wheel, built from a copy of the sources as they are, without what was built before."""
    folder = tmp_path_factory.mktemp("wheel")
    sources = folder / "sources"
    sources.mkdir()
    waste = shutil.ignore_patterns("__pycache__", "*.egg-info")
    for name in (*PACKAGES, "src"):
        shutil.copytree(ROOT / name, sources / name, symlinks=True, ignore=waste)
    for name in ("pyproject.toml", "setup.py", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, sources / name)
    built = run(
        sys.executable, "-m", "build", "--wheel", "-o", folder / "dist", sources, cwd=folder
    )
    needs(built.returncode == 0 or not offline(built.stdout + built.stderr), "no package index")
    assert built.returncode == 0, built.stdout[-3000:] + built.stderr[-3000:]
    [found] = (folder / "dist").glob("*.whl")
    return found


def offline(text: str) -> bool:
    """Did pip fail because no index could be reached?"""
    marks = ("Could not find a version", "ConnectionError", "Temporary failure", "NewConnection")
    return any(mark in text for mark in marks)


def test_the_wheel_holds_what_drills_need_and_nothing_else(wheel: Path) -> None:
    assert wheel.name.endswith("-py3-none-any.whl")
    with zipfile.ZipFile(wheel) as archive:
        names = set(archive.namelist())
        metadata = archive.read(next(n for n in names if n.endswith("METADATA"))).decode()
    needed = {
        "gameday/py.typed",
        "gameday/__main__.py",
        "gameday/scenarios/catalogue/scenario.schema.json",
        "gameday/scenarios/shop/shop.yaml",
        "gameday/scenarios/first/scenario.yaml",
        "gameday/scenarios/first/service.py",
    }
    needed |= {f"gameday/scenarios/catalogue/{path.name}" for path in CATALOGUE.glob("*.yaml")}
    needed |= {
        f"gameday/scenarios/catalogue/runbooks/{path.name}"
        for path in (CATALOGUE / "runbooks").iterdir()
    }
    # Every file of ours that the packages hold, whatever its kind.
    for package in PACKAGES:
        for path in (ROOT / package).rglob("*"):
            if path.is_file() and "__pycache__" not in path.parts:
                needed.add(f"gameday/{path.relative_to(ROOT)}")
    assert not needed - names
    assert any(name.endswith(".j2") for name in names)
    assert any(name.endswith(".css") for name in names)
    assert {f"gameday/scoring/render/_debrief_{form}.py" for form in ("html", "md")} <= names
    for name in names:
        top = name.partition("/")[0]
        assert top == "gameday" or top.endswith(".dist-info"), name
        assert "test" not in Path(name).name.partition(".")[0].split("_"), name
        assert not name.endswith((".pyc", ".orig"))
    assert "Requires-Python: >=3.11" in metadata
    assert "License-Expression: Apache-2.0" in metadata


@pytest.mark.sandbox
def test_an_installed_wheel_runs_in_an_empty_folder(
    wheel: Path, tmp_path: Path, needs: Callable[[bool, str], None]
) -> None:
    """A fresh environment, dependencies from the index, nothing of the checkout in sight."""
    made = run(sys.executable, "-m", "venv", tmp_path / "venv", cwd=tmp_path)
    needs(made.returncode == 0, f"venv cannot make an environment: {made.stderr.strip()}")
    python, gameday = tmp_path / "venv/bin/python", tmp_path / "venv/bin/gameday"
    installed = run(python, "-m", "pip", "install", "--quiet", wheel, cwd=tmp_path)
    needs(
        installed.returncode == 0 or not offline(installed.stdout + installed.stderr),
        "no package index",
    )
    assert installed.returncode == 0, installed.stderr[-3000:]
    empty = tmp_path / "empty"
    empty.mkdir()
    where = run(python, "-c", "import gameday.drills.cli as c; print(c.__file__)", cwd=empty)
    assert "site-packages" in where.stdout, where
    assert str(ROOT) not in where.stdout

    listed = run(gameday, "catalog", cwd=empty)
    assert listed.returncode == 0, listed.stderr
    assert "false-alarm" in listed.stdout
    assert list(empty.iterdir()) == []
    played = run(gameday, "run", "false-alarm", "-q", cwd=empty)
    assert played.returncode in (0, 3), played.stdout + played.stderr  # 3: a machine too busy
    [folder] = (empty / ".gameday" / "drills").iterdir()
    assert folder.name in run(gameday, "list", cwd=empty).stdout
    debrief = json.loads((folder / "debrief.json").read_text())
    assert debrief["drill"]["scenario"] == "false-alarm"
    assert debrief["drill"]["exit_code"] == played.returncode
    assert (folder / "debrief.html").read_text().lower().startswith("<!doctype html>")
    # From templates that were compiled when the wheel was built; here they are compiled now.
    used = run(python, "-v", gameday, "debrief", folder.name, cwd=empty).stderr
    assert "import 'gameday.scoring.render._debrief_html'" in used
    written = {path.name: path.read_bytes() for path in folder.glob("debrief.*")}
    again = run(sys.executable, "-m", "gameday", "debrief", folder.name, cwd=empty)
    assert again.returncode in (0, played.returncode), again.stderr
    assert written == {path.name: path.read_bytes() for path in folder.glob("debrief.*")}
    # The shop's processes ran from there too.
    assert str(ROOT) not in (folder / "journal.jsonl").read_text()
    assert_nothing_left(Terminal(empty, empty / "state"), folder.name)
    assert not leftovers(folder.name)
    first = run(gameday, "init", "mine", cwd=empty)
    assert first.returncode == 0, first.stderr
    assert run(gameday, "validate", "mine/first.yaml", cwd=empty).returncode == 0
