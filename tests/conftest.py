"""What all tests share: components that a machine may lack, and terminals to type in."""

from __future__ import annotations

import functools
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests import engine
from tests.commands import Terminal
from tests.needed import need
from tests.own_engine import own, port, ssh

__all__ = ["own", "port", "ssh"]


@pytest.hookimpl(tryfirst=True)  # before they are chosen by their markers
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """The longest first: begun last, it would run on while the other workers have nothing to do.

    Of a test with the marker ``short_form``, all variants but those named are acceptance tests.
    """
    items.sort(key=lambda item: item.path.name != "test_wheel.py")
    named: dict[str, set[str]] = {}
    found: dict[str, set[str]] = {}
    for item in items:
        if (short := item.get_closest_marker("short_form")) is None:
            continue
        test, _, variant = item.nodeid.removesuffix("]").partition("[")
        named[test] = set(short.args)
        found.setdefault(test, set()).add(variant)
        if variant not in short.args:
            item.add_marker(pytest.mark.acceptance)
    for test, variants in found.items():
        if len(variants) > 1 and (unknown := named[test] - variants):
            raise pytest.UsageError(f"{test} has no variant {', '.join(unknown)}")


@pytest.fixture
def terminal(tmp_path: Path) -> Iterator[Terminal]:
    """An empty folder and a machine state of its own; drills that still run are ended."""
    cwd = tmp_path / "work"
    cwd.mkdir()
    terminal = Terminal(cwd, tmp_path / "state")
    yield terminal
    for run in terminal.running:
        run.end()


@pytest.fixture(scope="session")
def needs() -> Callable[[bool, str], None]:
    return need


@pytest.fixture(autouse=True)
def _machine(request: pytest.FixtureRequest, needs: Callable[[bool, str], None]) -> None:
    if request.node.get_closest_marker("sandbox"):
        needs(sys.platform == "linux", "the local sandbox needs Linux")
    if request.node.get_closest_marker("docker"):
        why = _no_engine()
        needs(not why, why)


@functools.cache
def _no_engine() -> str:
    return engine.why_not()


@pytest.fixture(scope="session")
def docker() -> Iterator[dict[str, str]]:
    """A Docker Engine: the variables by which it is found. With the marker ``docker``."""
    with engine.engine() as where:
        yield where


@pytest.fixture(scope="session")
def base_image(docker: dict[str, str]) -> str:
    """The name of an image with Debian's Python, nginx, HAProxy and Redis."""
    return engine.base_image(docker)
