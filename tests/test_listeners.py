"""Who listens where: the kernel's own answer, beside the tables that everybody can read."""

from __future__ import annotations

import os
import socket
import subprocess
import sys

import pytest

from gameday.injectors.sandbox import listeners
from gameday.injectors.sandbox.listeners import listening_ports
from gameday.injectors.sandbox.process import process_id

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="reads /proc and sock_diag")


def test_the_kernel_says_what_its_tables_say() -> None:
    with socket.create_server(("127.0.0.1", 0)) as one, socket.create_server(("", 0)) as other:
        mine = {one.getsockname()[1], other.getsockname()[1]}
        me = process_id(os.getpid())
        assert me is not None
        assert mine <= listening_ports(me)
        asked = listeners._asked()
        assert asked is not None
        assert mine <= {port for port, _ in asked}
        inodes = {os.fstat(one.fileno()).st_ino, os.fstat(other.fileno()).st_ino}
        read = {each for each in listeners._read(os.getpid()) if each[1] in inodes}
        assert read == {each for each in asked if each[1] in inodes}
        assert {port for port, _ in read} == mine


def test_a_connection_is_no_listener() -> None:
    with (
        socket.create_server(("127.0.0.1", 0)) as server,
        socket.create_connection(server.getsockname()) as client,
    ):
        me = process_id(os.getpid())
        assert me is not None
        assert client.getsockname()[1] not in listening_ports(me)


@pytest.mark.parametrize("asks", [True, False], ids=["asked", "read"])
def test_where_nobody_may_ask_the_tables_are_read(
    asks: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As in another network namespace, and where a filter of system calls forbids it."""
    if not asks:
        monkeypatch.setattr(listeners, "_asked", lambda: None)
    code = "import socket, sys; s = socket.create_server(('127.0.0.1', 0)); print(s.getsockname()[1], flush=True); sys.stdin.read()"
    with subprocess.Popen(
        [sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as server:
        assert server.stdin is not None
        assert server.stdout is not None
        port = int(server.stdout.readline())
        who = process_id(server.pid)
        assert who is not None
        assert listening_ports(who) == {port}
        server.stdin.close()
    assert listening_ports(who) == frozenset()
