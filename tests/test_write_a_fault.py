"""The page "write a fault" is true: its example, built as it says, is found and obeys."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

from gameday.injectors import laws, registry
from gameday.injectors import undo as undo_module
from gameday.injectors.sandbox.fake import FakeSandbox

PAGE = Path(__file__).parent.parent / "docs" / "write-a-fault.md"


@pytest.fixture
def package(tmp_path: Path) -> Path:
    """What the page says, as an installer would lay it out."""
    blocks = re.findall(r"```\w+\n# (\S+)\n(.*?)```", PAGE.read_text(), flags=re.DOTALL)
    files = dict(blocks)
    assert set(files) == {
        "acme_faults/process_terminate.py",
        "pyproject.toml",
        "tests/test_process_terminate.py",
    }
    for name, text in files.items():
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(text)
    project = tomllib.loads(files["pyproject.toml"])["project"]
    points = project["entry-points"]["gameday.faults"]
    info = tmp_path / "acme_faults-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text(
        f"Metadata-Version: 2.1\nName: {project['name']}\nVersion: {project['version']}\n"
    )
    lines = [f"{name} = {value}" for name, value in points.items()]
    lines.append("process.broken = acme_faults.nowhere:Nothing")
    lines.append("process.other = acme_faults.process_terminate:ProcessTerminate")
    (info / "entry_points.txt").write_text("[gameday.faults]\n" + "\n".join(lines) + "\n")
    return tmp_path


def python(package: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    environment = os.environ | {"PYTHONPATH": str(package)}
    command = [sys.executable, *arguments]
    return subprocess.run(
        command, cwd=package, env=environment, capture_output=True, text=True, timeout=60
    )


def test_its_law_test_passes(package: Path) -> None:
    done = python(package, "-m", "pytest", "-q", "-p", "no:cacheprovider", "tests")
    assert done.returncode == 0, done.stdout + done.stderr
    assert f"{5 * len(laws.LAWS)} passed" in done.stdout


ASK = """
import sys
from gameday.injectors import registry
from gameday.injectors.errors import UsageError
assert "acme_faults" not in sys.modules
print(registry.known_kinds(third_party=True)[-1], registry.known_kinds()[-1])
print(registry.describe("process.terminate"))
print(registry.fault_class("process.terminate").__module__)
for kind in ("process.broken", "process.other", "process.terminat"):
    try:
        registry.fault_class(kind)
    except UsageError as error:
        print(str(error).replace(chr(10), " |"))
"""


def test_its_entry_point_is_found_and_broken_ones_are_explained(package: Path) -> None:
    done = python(package, "-c", ASK)
    assert done.returncode == 0, done.stderr
    kinds, line, module, broken, other, unknown = done.stdout.splitlines()
    assert kinds == f"process.terminate {registry.known_kinds()[-1]}"
    assert line.startswith("Ask a process to stop (SIGTERM)")
    assert module == "acme_faults.process_terminate"
    assert "the fault 'process.broken' of acme-faults cannot be loaded" in broken
    assert "acme_faults.nowhere:Nothing" in broken
    assert "acme-faults promises a fault 'process.other'" in other
    assert "Did you mean process.terminate?" in unknown


def test_the_page_names_what_exists() -> None:
    """Every step, part and attribute in its tables is one; no step that a fault can use is left out."""
    text = PAGE.read_text()
    steps = {name for line in text.splitlines() for name in re.findall(r"`([A-Z]\w+)\(", line)}
    not_for_faults = {"ResolvePage", "TearDown"}
    assert steps == {step.__name__ for step in undo_module.Step.__args__} - not_for_faults
    parts = re.search(r"\*\*The parts\*\*.*?:\n(.*?)\. A part", text, flags=re.DOTALL)
    assert parts is not None
    assert set(re.findall(r"`(\w+)`", parts[1])) == set(FakeSandbox({"a": 1}).parts)


def test_asking_what_there_is_imports_no_fault() -> None:
    """`gameday --help` and shell completion must not pay for them."""
    code = (
        "import sys; from gameday.injectors import registry;"
        "[registry.describe(kind) for kind in registry.known_kinds()];"
        "sys.exit('gameday.injectors.fault' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code], timeout=60).returncode == 0
    assert len(registry.known_kinds()) == 23
