"""Health checks of a replica: an HTTP path, a TCP connection, or a command."""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import Mapping, Sequence

from gameday.injectors.sandbox.local.child import Child

__all__ = ["check_command", "check_http", "check_tcp"]

_HOST = "127.0.0.1"
_TO_THE_END = 0.05


async def check_tcp(port: int, timeout: float) -> bool:
    """Whether the port accepts a connection within ``timeout`` seconds."""
    try:
        async with asyncio.timeout(timeout):
            _, writer = await asyncio.open_connection(_HOST, port)
    except (OSError, TimeoutError):
        return False
    writer.transport.abort()
    return True


async def check_http(port: int, path: str, timeout: float) -> bool:
    """Whether a GET is answered with a status below 400 within ``timeout`` seconds."""
    writer = None
    try:
        async with asyncio.timeout(timeout):
            reader, writer = await asyncio.open_connection(_HOST, port)
            request = f"GET {path} HTTP/1.1\r\nHost: {_HOST}:{port}\r\nUser-Agent: gameday-health\r\nConnection: close\r\n\r\n"
            writer.write(request.encode())
            line = await reader.readline()
            await _drain(reader)
    except (OSError, TimeoutError, ValueError):
        return False
    finally:
        if writer is not None:
            writer.transport.abort()
    words = line.split()
    return len(words) >= 2 and words[1].isdigit() and int(words[1]) < 400


async def _drain(reader: asyncio.StreamReader) -> None:
    """Read a short answer to its end: a server may complain of a connection that is cut."""
    try:
        async with asyncio.timeout(_TO_THE_END):
            await reader.read(1 << 20)
            while not reader.at_eof():
                await reader.read(1 << 20)
    except TimeoutError:
        pass  # it keeps the connection open, though we asked it not to


async def check_command(
    argv: Sequence[str], environment: Mapping[str, str], folder: str, timeout: float
) -> bool:
    """Whether the command exits with 0 within ``timeout`` seconds; it is killed after that."""
    null = os.open(os.devnull, os.O_RDWR)
    try:
        child = Child(argv, environment=environment, folder=folder, stdio=(null, null, null))
    except OSError:
        return False
    finally:
        os.close(null)
    try:
        await child.wait(timeout)
        return child.code == 0
    finally:
        child.signal_group(signal.SIGKILL)
