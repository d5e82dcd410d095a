"""The HTTP client against real sockets that misbehave in every way; each failure has one name."""

from __future__ import annotations

import ssl
import subprocess
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import anyio
import anyio.abc
import pytest
from anyio.streams.tls import TLSStream

from gameday.drills.http import HttpFailure, Response, request

pytestmark = pytest.mark.anyio
Talk = Callable[[anyio.abc.SocketStream], Awaitable[None]]


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


@asynccontextmanager
async def serve(talk: Talk, host: str = "127.0.0.1") -> AsyncIterator[int]:
    """A server that treats each connection as told; its port."""
    listener = await anyio.create_tcp_listener(local_host=host)

    async def handle(stream: anyio.abc.SocketStream) -> None:
        async with stream:
            try:
                await talk(stream)
            except (anyio.BrokenResourceError, anyio.EndOfStream):
                pass

    async with listener, anyio.create_task_group() as tasks:
        tasks.start_soon(listener.serve, handle)
        yield listener.extra(anyio.abc.SocketAttribute.local_port)
        tasks.cancel_scope.cancel()


def answers(*parts: bytes, pause: float = 0.0) -> Talk:
    """Reads the request, then sends each part."""

    async def talk(stream: anyio.abc.SocketStream) -> None:
        await stream.receive()
        for part in parts:
            await stream.send(part)
            await anyio.sleep(pause)

    return talk


async def silent(stream: anyio.abc.SocketStream) -> None:
    await anyio.sleep_forever()


async def deaf(stream: anyio.abc.SocketStream) -> None:
    return


async def resetting(stream: anyio.abc.SocketStream) -> None:
    await stream.receive()
    raw = stream.extra(anyio.abc.SocketAttribute.raw_socket)
    raw.setsockopt(1, 13, b"\x01\x00\x00\x00\x00\x00\x00\x00")  # SO_LINGER 0: a reset


OK = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"


@pytest.mark.parametrize(
    ("talk", "status", "body"),
    [
        (answers(OK), 200, b"ok"),
        (answers(OK[:20], OK[20:], pause=0.01), 200, b"ok"),
        (answers(b"HTTP/1.1 100 Continue\r\n\r\n", OK), 200, b"ok"),
        (answers(b"HTTP/1.1 103 Early Hints\r\nLink: <x>\r\n\r\n" + OK), 200, b"ok"),
        (
            answers(
                b"HTTP/1.1 503 No\r\nTransfer-Encoding: chunked\r\n\r\n",
                b"3\r\nabc\r\n",
                b"0\r\n\r\n",
            ),
            503,
            b"abc",
        ),
        (answers(b"HTTP/1.0 200 OK\r\n\r\n", b"until the end"), 200, b"until the end"),
        (answers(b"HTTP/1.1 204 No Content\r\n\r\n"), 204, b""),
        (answers(b"HTTP/1.1 302 Found\r\nLocation: /x\r\nContent-Length: 0\r\n\r\n"), 302, b""),
    ],
)
async def test_answers(talk: Talk, status: int, body: bytes) -> None:
    async with serve(talk) as port:
        before = anyio.current_time()
        answer = await request("GET", "127.0.0.1", port, "/", timeout=5)
        assert (answer.status, answer.body) == (status, body)
        assert before <= answer.at <= anyio.current_time()


@pytest.mark.parametrize(
    ("talk", "kind"),
    [
        (silent, "timeout"),
        (answers(b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nhal", pause=9), "timeout"),
        (deaf, "closed"),
        (answers(), "closed"),
        (answers(OK[:17]), "closed"),
        (answers(b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nhalf"), "protocol"),
        (answers(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n"), "protocol"),
        (answers(b"\x00\xff garbage\r\n\r\n"), "protocol"),
        (answers(b"SSH-2.0-OpenSSH_9.2\r\n\r\n"), "protocol"),
        (answers(b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: x\r\n\r\n"), "protocol"),
        (answers(b"HTTP/1.1 200 OK\r\n" + b"x: y\r\n" * 20_000), "protocol"),
        (answers(b"HTTP/1.1 200 OK\r\n\r\n" + b"x" * (9 << 20)), "too-large"),
        (resetting, "reset"),
    ],
)
async def test_failures_have_names(talk: Talk, kind: str) -> None:
    async with serve(talk) as port:
        with pytest.raises(HttpFailure) as failure:
            await request("GET", "127.0.0.1", port, "/", timeout=1.0 if kind != "timeout" else 0.2)
    # A server that closes with our request unread resets the connection: that is up to the kernel.
    assert failure.value.kind in ((kind, "reset") if talk is deaf else (kind,))


async def test_nobody_listens() -> None:
    async with serve(silent) as port:
        pass
    with pytest.raises(HttpFailure) as failure:
        await request("GET", "127.0.0.1", port, "/", timeout=2)
    assert failure.value.kind == "refused"


async def test_what_is_no_request_is_refused_before_anything_is_sent() -> None:
    with pytest.raises(HttpFailure) as failure:
        await request("GET", "127.0.0.1", 1, "/a b\r\nx", timeout=1)
    assert failure.value.kind == "protocol"


async def test_an_answer_before_the_whole_request_was_read() -> None:
    async def talk(stream: anyio.abc.SocketStream) -> None:
        await stream.receive(100)
        await stream.send(b"HTTP/1.1 413 Too Large\r\nContent-Length: 0\r\n\r\n")
        with anyio.move_on_after(0.5):
            async for _ in stream:
                pass

    async with serve(talk) as port:
        answer = await request("POST", "127.0.0.1", port, "/", body=b"x" * 300_000, timeout=5)
    assert answer.status == 413


async def test_the_request_is_what_a_new_user_would_send() -> None:
    seen: list[bytes] = []

    async def talk(stream: anyio.abc.SocketStream) -> None:
        seen.append(await stream.receive())
        await stream.send(OK)

    async with serve(talk) as port:
        await request("POST", "127.0.0.1", port, "/a?b=c", headers={"X": "y"}, body=b"z", timeout=5)
    head, _, body = seen[0].partition(b"\r\n\r\n")
    lines = head.decode().split("\r\n")
    assert lines[0] == "POST /a?b=c HTTP/1.1"
    assert f"Host: 127.0.0.1:{port}" in lines
    assert "Connection: close" in lines
    assert "X: y" in lines
    assert body == b"z"


def certificate(folder: Path) -> tuple[Path, Path]:
    key, cert = folder / "key.pem", folder / "cert.pem"
    command = ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256"]
    command += ["-nodes", "-days", "2", "-subj", "/CN=localhost", "-keyout", str(key)]
    command += ["-out", str(cert), "-addext", "subjectAltName=DNS:localhost,IP:127.0.0.1"]
    subprocess.run(command, check=True, capture_output=True)
    return key, cert


@pytest.mark.parametrize("trusted", [True, False])
async def test_tls(trusted: bool, tmp_path: Path, needs: Callable[[bool, str], None]) -> None:
    from shutil import which

    needs(which("openssl") is not None, "openssl makes the certificate")
    key, cert = certificate(tmp_path)
    server = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    server.load_cert_chain(cert, key)
    client = ssl.create_default_context(cafile=str(cert) if trusted else None)

    async def talk(stream: anyio.abc.SocketStream) -> None:
        try:
            secure = await TLSStream.wrap(stream, server_side=True, ssl_context=server)
        except ssl.SSLError:
            return
        await secure.receive()
        await secure.send(OK)
        await anyio.sleep_forever()  # and never says goodbye

    async with serve(talk) as port:
        asked = request("GET", "127.0.0.1", port, "/", tls=client, timeout=5)
        if trusted:
            assert isinstance(await asked, Response)
        else:
            with pytest.raises(HttpFailure) as failure:
                await asked
            assert failure.value.kind == "tls"
