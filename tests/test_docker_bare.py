"""The faults on containers that hold one static program and nothing else: no shell, no tool, no library."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from gameday.injectors.errors import Unsupported
from gameday.injectors.laws import (
    Trial,
    a_restart_by_a_fixer_is_no_conflict,
    looks_tell_the_truth,
    undo_restores,
)
from gameday.injectors.sandbox import process
from gameday.injectors.sandbox.docker.driver import DockerSandbox
from tests.containers import KINDS_HERE, Containers, attach, make, run, undo_by_hand

pytestmark = [pytest.mark.docker, pytest.mark.acceptance, pytest.mark.timeout(180)]

PROGRAM = """\
package main

import (
	"net/http"
	"os"
)

func main() {
	if err := os.WriteFile("/data/file", []byte("data"), 0o600); err != nil {
		panic(err)
	}
	http.HandleFunc("/", func(w http.ResponseWriter, _ *http.Request) { w.Write([]byte("ok")) })
	panic(http.ListenAndServe(":8000", nil))
}
"""
FILE = "/settings"


@contextmanager
def bare_containers(where: dict[str, str], folder: Path) -> Iterator[Containers]:
    """A front and two backs of an image that holds the program, and one file."""
    (folder / "main.go").write_text(PROGRAM)
    (folder / "settings").write_text("a setting\n" * 1000)
    static = os.environ | {"CGO_ENABLED": "0", "GO111MODULE": "off"}
    subprocess.run(["go", "build", "-o", "serve", "main.go"], cwd=folder, env=static, check=True)
    subprocess.run(["tar", "-cf", "image.tar", "serve", "settings"], cwd=folder, check=True)
    containers = Containers(where, "gameday-test-bare", folder)
    containers.command, containers.options = ("/serve",), ()
    containers.docker("import", str(folder / "image.tar"), containers.image)
    try:
        with containers:
            yield containers
    finally:
        containers.docker("rmi", containers.image)


@pytest.fixture(scope="module")
def bare(
    docker: dict[str, str],
    needs: Callable[[bool, str], None],
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[Containers]:
    needs(shutil.which("go") is not None, "there is no Go to build a static program with")
    with bare_containers(docker, tmp_path_factory.mktemp("bare")) as made:
        yield made


@pytest.fixture(scope="module")
def box(bare: Containers) -> DockerSandbox:
    return attach(bare)


def on_it(kind: str, box: DockerSandbox) -> Trial:
    given: dict[str, object] = {"path": FILE} if kind.startswith("file.") else {}
    given |= {"size": "32MiB"} if kind == "memory.limit" else {}
    given |= {"target": {"slot": "back-1"}} if kind == "clock.skew" else {}
    return Trial(box, make(kind, **given), patience=30.0, places=(f"back-1:{FILE}",))


@pytest.mark.parametrize("kind", [kind for kind in KINDS_HERE if kind != "clock.skew"])
def test_every_fault_works_without_a_shell(kind: str, box: DockerSandbox, bare: Containers) -> None:
    before = bare.inspected()
    for law in (undo_restores, looks_tell_the_truth, a_restart_by_a_fixer_is_no_conflict):
        run(law, on_it(kind, box))
    assert bare.inspected() == before
    undo_by_hand(on_it(kind, box).fault, box, bare)
    assert not process.find_by_environment("GAMEDAY_SANDBOX", box.tag)


def test_the_clock_of_a_static_program_is_refused(box: DockerSandbox) -> None:
    with pytest.raises(Unsupported, match="no program of back-1 has libfaketime loaded"):
        run(on_it("clock.skew", box).plan)


def test_there_is_nothing_in_it(bare: Containers) -> None:
    done = subprocess.run(
        ["docker", "exec", bare.names[0], "sh", "-c", "true"], env=os.environ | bare.where
    )
    assert done.returncode
