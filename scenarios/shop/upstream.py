"""One attempt to have another service answer."""

from __future__ import annotations

import asyncio
import os
import time
from dataclasses import dataclass

import aiohttp

from gameday.injectors.units import show_duration
from gameday.scenarios.shop.endpoints import Endpoint
from gameday.scenarios.shop.metrics import Metrics

__all__ = ["Answer", "Client", "NoAnswer"]


@dataclass(frozen=True, slots=True)
class Answer:
    """What a service answered, whatever its status."""

    status: int
    body: bytes
    content_type: str


class NoAnswer(Exception):
    """A service did not answer.

    Attributes:
        outcome: ``refused`` (no connection), ``broken`` (the connection ended) or ``timeout``.
        status: What to tell our own client: 502 or 504.
    """

    def __init__(self, outcome: str, message: str) -> None:
        super().__init__(message)
        self.outcome = outcome
        self.message = message
        self.status = 504 if outcome == "timeout" else 502


class Client:
    """Calls replicas over kept-alive connections, and counts how it went.

    Args:
        timeout: Seconds for one attempt, waiting for a free connection included.
        connections: Most connections at once, to all replicas together.
    """

    def __init__(self, metrics: Metrics, *, timeout: float, connections: int) -> None:
        self._metrics = metrics
        self._timeout = aiohttp.ClientTimeout(total=timeout)
        self._session = aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(limit=connections),
            cookie_jar=aiohttp.DummyCookieJar(),
            headers={"Accept-Encoding": "identity"},
        )

    async def ask(
        self,
        endpoint: Endpoint,
        method: str,
        path: str,
        *,
        body: bytes | None = None,
        headers: dict[str, str] | None = None,
    ) -> Answer:
        """One attempt at one replica.

        Raises:
            NoAnswer: if none came.
        """
        started = time.perf_counter()
        outcome = "error"
        try:
            answer = await self._send(
                f"http://{endpoint.address}{path}", method, body, headers, self._timeout
            )
            outcome = "ok" if answer.status < 500 else "error"
            return answer
        except TimeoutError:
            outcome = "timeout"
            within = show_duration(self._timeout.total or 0.0)
            raise NoAnswer(outcome, f"{endpoint.slot} did not answer within {within}") from None
        except aiohttp.ClientConnectorError as error:
            outcome = "refused"
            raise NoAnswer(outcome, f"{endpoint.slot} cannot be reached: {_why(error)}") from error
        except aiohttp.ClientError as error:
            outcome = "broken"
            raise NoAnswer(
                outcome, f"the connection to {endpoint.slot} broke: {_why(error)}"
            ) from error
        except asyncio.CancelledError:
            outcome = "cancelled"
            raise
        finally:
            self._metrics.attempts.labels(endpoint.slot, outcome).inc()
            self._metrics.attempt_duration.labels(endpoint.slot).observe(
                time.perf_counter() - started
            )

    async def check(self, endpoint: Endpoint, *, timeout: float) -> str:
        """One health check; what is wrong, or an empty text."""
        limit = aiohttp.ClientTimeout(total=timeout)
        try:
            answer = await self._send(f"http://{endpoint.address}/healthz", "GET", None, {}, limit)
        except TimeoutError:
            return f"no answer within {show_duration(timeout)}"
        except aiohttp.ClientError as error:
            return _why(error)
        return "" if answer.status == 200 else f"status {answer.status}"

    async def _send(
        self,
        url: str,
        method: str,
        body: bytes | None,
        headers: dict[str, str] | None,
        timeout: aiohttp.ClientTimeout,
    ) -> Answer:
        async with self._session.request(
            method, url, data=body, headers=headers, timeout=timeout, allow_redirects=False
        ) as response:
            return Answer(response.status, await response.read(), response.content_type)

    async def close(self) -> None:
        await self._session.close()


def _why(error: aiohttp.ClientError) -> str:
    """The reason in words, without aiohttp's details of how it called."""
    number = error.errno if isinstance(error, OSError) else None
    return os.strerror(number).lower() if number else str(error) or repr(error)
