"""The documentation is true: what is generated is current, what it says can be done can be done."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path
from types import ModuleType

import pytest

ROOT = Path(__file__).resolve().parent.parent


def _load() -> ModuleType:
    spec = importlib.util.spec_from_file_location("docs_check", ROOT / "docs" / "check.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


check = _load()
PAGES = check.tracked(".md")


def _name(path: Path) -> str:
    return str(path.relative_to(ROOT))


def test_what_is_generated_is_current() -> None:
    assert list(check.stale()) == []


@pytest.mark.parametrize("page", PAGES, ids=_name)
@pytest.mark.parametrize("look", ["bad_links", "bad_commands", "bad_yaml"])
def test_page(page: Path, look: str) -> None:
    assert list(getattr(check, look)(page)) == []


def test_nothing_names_this_machine() -> None:
    private = check.private_words()
    for file in check.tracked(".md", ".py", ".yaml", ".toml", ".json", ".j2", ".css", ".svg", ""):
        assert list(check.machine_paths(file, private)) == []


# The checks find what they are for


def _page(folder: Path, text: str) -> Path:
    page = folder / "page.md"
    page.write_text(text, encoding="utf-8")
    check.anchors.cache_clear()
    return page


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("[gone](nowhere.md)", "nowhere.md leads nowhere"),
        ("[self](#nothing)", "no heading for #nothing"),
        ('<img src="no.png">', "no.png leads nowhere"),
    ],
)
def test_a_broken_link_is_found(tmp_path: Path, text: str, found: str) -> None:
    (problem,) = check.bad_links(_page(tmp_path, f"# A page\n\n{text}\n"))
    assert problem.startswith("page.md:3: ")
    assert found in problem


@pytest.mark.parametrize(
    "text",
    [
        "# One & two: `three`\n\n[here](#one--two-three)",
        "# Same\n\n# Same\n\n[second](#same-1)",
        "[out](https://example.org/nowhere.md)",
        "```text\n[not a link](nowhere.md)\n```",
        "`[not a link](nowhere.md)`",
    ],
)
def test_a_good_link_is_not(tmp_path: Path, text: str) -> None:
    assert list(check.bad_links(_page(tmp_path, text))) == []


@pytest.mark.parametrize(
    ("line", "found"),
    [
        ("gameday rnu x", "there is no command 'rnu'"),
        ("cd drills && .venv/bin/gameday run x --fixer people", "No such option"),
        ("gameday sandbox pz", "there is no command 'pz'"),
        ("gameday note", "Missing argument"),
        ("gameday run x --fixers nobody | tail", "nobody"),
        ("uvx --from gameday-drills gameday catalog --sauce", "No such option"),
    ],
)
def test_a_wrong_command_is_found(tmp_path: Path, line: str, found: str) -> None:
    (problem,) = check.bad_commands(_page(tmp_path, f"# A page\n\n```sh\n{line}\n```\n"))
    assert problem.startswith("page.md:4: ")
    assert found in problem


@pytest.mark.parametrize(
    "text",
    [
        "```sh\ngameday run x --fixers people   # on call\n```",
        "```sh\ngameday ack && gameday sandbox exec api-2 -- curl -s localhost\n```",
        "```sh\ngameday --version > version.txt\n```",
        "```text\ngameday does not parse output\n```",
        "`gameday note`, `gameday run SCENARIO --seed N`, `gameday sandbox …`",
    ],
)
def test_a_right_command_is_not(tmp_path: Path, text: str) -> None:
    assert list(check.bad_commands(_page(tmp_path, text))) == []


def test_a_wrong_mention_is_found(tmp_path: Path) -> None:
    (problem,) = check.bad_commands(_page(tmp_path, "Undo it with `gameday unbreak`."))
    assert "there is no command 'unbreak'" in problem


@pytest.mark.parametrize(
    ("yaml", "found"),
    [
        ("faults:\n  - {at: 1s, inject: process.kil, target: {service: api}}", "process.kill"),
        ("hypotheses:\n  - {id: x, claim: y, expect: uptime > 3%}", "uptime"),
        ("duration: 3", "unit"),
        ("name: x\nservices: {a: {comand: [b]}}", "comand"),
        ("apiVersion: gameday/v1\nname: x", "slis"),
        ("a: [", "not YAML"),
    ],
)
def test_a_wrong_example_is_found(tmp_path: Path, yaml: str, found: str) -> None:
    problems = list(check.bad_yaml(_page(tmp_path, f"```yaml\n{yaml}\n```\n")))
    assert found in "\n".join(problems)


def test_what_cannot_be_tried_says_why(tmp_path: Path) -> None:
    block = "```yaml\nfaults:\n  - {at: 1s, inject: acme.kill, target: {service: api}}\n```\n"
    assert list(check.bad_yaml(_page(tmp_path, block)))
    assert not list(check.bad_yaml(_page(tmp_path, "<!-- not checked: a package's -->\n" + block)))


def test_a_path_of_this_machine_is_found(tmp_path: Path) -> None:
    page = _page(tmp_path, f"Look\nat {ROOT}/README.md, not at https://example.org{ROOT}/x")
    (problem,) = check.machine_paths(page, [str(ROOT)])
    assert problem.startswith("page.md:2: ")
