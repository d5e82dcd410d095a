"""An engine that does not answer: people are told why in plain words."""

from __future__ import annotations

import gc
import socket
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from socketserver import ThreadingMixIn, UnixStreamServer
from threading import Thread

import anyio
import pytest

from gameday.injectors.sandbox.docker.engine import Engine, EngineSilent
from tests.own_engine import free_port


@pytest.fixture(autouse=True)
def nothing_left_open() -> Iterator[None]:
    """Else a drill that waits for its engine would run out of sockets; pytest tells of those collected."""
    yield
    gc.collect()


class Versions(BaseHTTPRequestHandler):
    """As much of an engine as the SDK needs in order to begin."""

    def do_GET(self) -> None:
        body = b'{"ApiVersion": "1.44"}'
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        pass

    def address_string(self) -> str:
        return "unix"


class Server(ThreadingMixIn, UnixStreamServer):
    daemon_threads = True


def _why(engine: Engine) -> str:
    with pytest.raises(EngineSilent) as caught:
        anyio.run(engine.call, "containers")
    return caught.value.message


def test_a_reason_is_told_in_plain_words(tmp_path: Path) -> None:
    path = tmp_path / "s"
    near, port = f"unix://{path}", free_port()
    asked = {
        near: "there is no socket",
        f"tcp://127.0.0.1:{port}": "it refuses connections",
        "tcp://engine.invalid:2375": "its host is not known",
    }
    for address, why in asked.items():
        said = _why(Engine({"DOCKER_HOST": address}))
        assert said == f"the Docker engine at {address} does not answer: {why}"
    with socket.socket(socket.AF_UNIX) as deaf:
        deaf.bind(str(path))
    assert _why(Engine({"DOCKER_HOST": near})).endswith(": it refuses connections")


def test_so_it_is_where_it_answered_before(tmp_path: Path) -> None:
    """The SDK then raises one error in another, with addresses of objects in it."""
    path = tmp_path / "s"
    engine = Engine({"DOCKER_HOST": f"unix://{path}"})
    with Server(str(path), Versions) as server:
        Thread(target=server.serve_forever, daemon=True).start()
        anyio.run(engine.call, "version")
        server.shutdown()
    assert _why(engine).endswith("does not answer: it refuses connections")
    path.unlink()
    assert _why(engine).endswith("does not answer: there is no socket")
    engine.close()
