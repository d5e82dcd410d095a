"""A small HTTP client for probes and webhooks, on h11.

A probe must know when its request was sent and when its answer was complete,
and must meet the service as a new user does: over a connection of its own.
"""

from __future__ import annotations

import socket
import ssl

import anyio
import anyio.lowlevel
import h11
import msgspec

__all__ = ["HttpFailure", "Response", "request", "short_error"]

_LIMIT = 8 * 1024 * 1024


class HttpFailure(Exception):
    """No answer.

    ``kind`` is short and stable: ``refused``, ``reset``, ``closed``, ``timeout``, ``unknown-host``,
    ``tls``, ``protocol``, ``too-large`` or ``unreachable``.
    """

    def __init__(self, kind: str, detail: str = "") -> None:
        super().__init__(f"{kind}: {detail}" if detail else kind)
        self.kind = kind


class Response(msgspec.Struct, frozen=True):
    """An answer, whole; ``at`` is when its last byte came, by `anyio.current_time`."""

    status: int
    body: bytes
    at: float = 0.0


def short_error(error: BaseException) -> str:
    """A short, stable name for what went wrong on a connection."""
    seen: BaseException | None = error
    while seen is not None:
        match seen:
            case HttpFailure():
                return seen.kind
            case ConnectionRefusedError():
                return "refused"
            case socket.gaierror():
                return "unknown-host"
            case ssl.SSLError():
                return "tls"
            case ConnectionError() | anyio.BrokenResourceError():
                return "reset"
            case anyio.EndOfStream():
                return "closed"
            case TimeoutError():
                return "timeout"
            case BaseExceptionGroup():
                return short_error(seen.exceptions[0])
        seen = seen.__cause__ or seen.__context__
    return "unreachable"


async def request(
    method: str,
    host: str,
    port: int,
    target: str,
    *,
    headers: dict[str, str] | None = None,
    body: bytes = b"",
    tls: ssl.SSLContext | None = None,
    timeout: float,
) -> Response:
    """Send one request over a connection of its own and read the whole answer.

    Args:
        target: Path and query.
        timeout: Seconds for all of it.

    Raises:
        HttpFailure: if there is no whole answer by then.
    """
    try:
        with anyio.fail_after(timeout):
            return await _exchange(method, host, port, target, headers or {}, body, tls)
    except (OSError, TimeoutError, anyio.EndOfStream, anyio.BrokenResourceError) as error:
        raise HttpFailure(short_error(error), str(error)) from error
    except h11.ProtocolError as error:
        raise HttpFailure("protocol", str(error)) from error


async def _exchange(
    method: str,
    host: str,
    port: int,
    target: str,
    headers: dict[str, str],
    body: bytes,
    tls: ssl.SSLContext | None,
) -> Response:
    connection = h11.Connection(h11.CLIENT)
    name = f"[{host}]" if ":" in host else host
    fields = {"Host": f"{name}:{port}", "Connection": "close", "User-Agent": "gameday"} | headers
    if body:
        fields["Content-Length"] = str(len(body))
    outgoing = connection.send(
        h11.Request(method=method, target=target, headers=list(fields.items()))
    )
    assert outgoing is not None
    stream: anyio.abc.ByteStream
    if tls is None:
        stream = await anyio.connect_tcp(host, port)
    else:
        # Not waiting for the other side's farewell: the answer says where it ends.
        stream = await anyio.connect_tcp(
            host, port, ssl_context=tls, tls_hostname=host, tls_standard_compatible=False
        )
    async with stream:
        sent = outgoing + (connection.send(h11.Data(data=body)) or b"")
        connection.send(h11.EndOfMessage())
        try:
            await stream.send(sent)
        except anyio.BrokenResourceError as error:
            return await _answered_early(connection, stream, error)
        return await _read(connection, stream)


async def _answered_early(
    connection: h11.Connection, stream: anyio.abc.ByteStream, error: anyio.BrokenResourceError
) -> Response:
    """The answer of a server that did not read all that we sent."""
    try:
        return await _read(connection, stream)
    except (OSError, anyio.EndOfStream, anyio.BrokenResourceError):
        raise error from error.__cause__


async def _read(connection: h11.Connection, stream: anyio.abc.ByteStream) -> Response:
    status, received, at = 0, bytearray(), 0.0
    while True:
        event = connection.next_event()
        if event is h11.NEED_DATA:
            try:
                data = await stream.receive()
                at = anyio.current_time()
                # Many answers may come at once, after an outage: let each have its time first.
                await anyio.lowlevel.checkpoint()
                connection.receive_data(data)
            except anyio.EndOfStream:
                if not status:
                    raise
                connection.receive_data(b"")
        elif isinstance(event, h11.Response):
            status = event.status_code
        elif isinstance(event, h11.Data):
            received += event.data
            if len(received) > _LIMIT:
                raise HttpFailure("too-large", f"more than {_LIMIT} bytes")
        elif isinstance(event, h11.EndOfMessage):
            return Response(status, bytes(received), at)
        elif not isinstance(event, h11.InformationalResponse):
            raise HttpFailure("protocol", f"{event!r} instead of an answer")
