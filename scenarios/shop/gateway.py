"""The gateway: what users reach. It spreads requests over the api replicas.

By default each request gets one attempt, and health checks only report. Set
``SHOP_RETRIES`` or ``SHOP_EJECT`` for a gateway that works around a dead replica.
"""

from __future__ import annotations

import asyncio
import gzip
import json
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import suppress
from dataclasses import dataclass

from aiohttp import web

from gameday.scenarios.shop.balancer import Balancer, HealthPolicy, RetryBudget
from gameday.scenarios.shop.endpoints import Endpoint
from gameday.scenarios.shop.pages import error_page, index_page, render
from gameday.scenarios.shop.service import (
    Failure,
    Process,
    find_endpoints,
    json_response,
    new_app,
    run,
)
from gameday.scenarios.shop.sessions import COOKIE, LIFETIME, Signer, rounds_for
from gameday.scenarios.shop.settings import Settings
from gameday.scenarios.shop.upstream import Answer, Client, NoAnswer

__all__ = ["Gateway", "build"]

_CONNECTIONS = 256
_GZIP_FROM = 512
_RETRY_STATUSES = frozenset({502, 503, 504})


@dataclass(frozen=True, slots=True)
class _Limits:
    """How hard the gateway tries.

    Attributes:
        retries: Further attempts for a GET, each on another replica.
        max_in_flight: Requests at once beyond which new ones get a 503; 0 is no limit.
    """

    retries: int
    max_in_flight: int


def _health_policy(settings: Settings) -> HealthPolicy:
    return HealthPolicy(
        every=max(settings.seconds("SHOP_HEALTH_EVERY", 1.0), 0.01),
        timeout=settings.seconds("SHOP_HEALTH_TIMEOUT", 0.5),
        fall=settings.whole("SHOP_HEALTH_FALL", 3),
        rise=settings.whole("SHOP_HEALTH_RISE", 2),
        eject=settings.switch("SHOP_EJECT", False),
    )


class Gateway:
    """Routes, attempts and retries."""

    def __init__(self, process: Process) -> None:
        settings = process.settings
        self._log = process.log
        self._metrics = process.metrics
        self._balancer = Balancer(
            find_endpoints(settings, process.log),
            "api",
            _health_policy(settings),
            process.metrics,
            process.log,
        )
        self._limits = _Limits(
            retries=settings.whole("SHOP_RETRIES", 0),
            max_in_flight=settings.whole("SHOP_MAX_IN_FLIGHT", 0),
        )
        self._budget = RetryBudget(
            settings.share("SHOP_RETRY_BUDGET", 0.2),
            settings.whole("SHOP_RETRY_FLOOR", 10),
            time.monotonic(),
        )
        self._signer = Signer(
            settings.secret("SHOP_SECRET", "not a secret"),
            rounds_for(settings.seconds("SHOP_SIGN_COST", 0.003)),
        )
        # Last, when every setting has been read: nothing is left open if one is wrong.
        self._client = Client(
            process.metrics,
            timeout=settings.seconds("SHOP_API_TIMEOUT", 2.0),
            connections=_CONNECTIONS,
        )
        self._in_flight = 0

    async def life(self, _: web.Application) -> AsyncIterator[None]:
        """The health checks, for as long as the application lives."""
        watching = asyncio.create_task(self._balancer.watch(self._client))
        yield
        watching.cancel()
        with suppress(asyncio.CancelledError):
            await watching
        await self._client.close()

    def routes(self) -> list[web.RouteDef]:
        return [
            web.get("/", self._index),
            web.get("/products", self._pass_on("products")),
            web.get("/products/{id}", self._pass_on("product")),
            web.get("/cart", self._pass_on("cart")),
            web.post("/cart", self._pass_on("cart")),
            web.post("/checkout", self._pass_on("order")),
            web.get("/status", self._status),
            web.get("/readyz", self._ready),
        ]

    def _pass_on(self, kind: str) -> Callable[[web.Request], Awaitable[web.Response]]:
        async def handle(request: web.Request) -> web.Response:
            if 0 < self._limits.max_in_flight <= self._in_flight:
                raise Failure(503, "too many requests at once; try again soon")
            self._in_flight += 1
            try:
                return await self._shop(request, kind)
            finally:
                self._in_flight -= 1

        return handle

    async def _shop(self, request: web.Request, kind: str) -> web.Response:
        session, cookie = self._signer.renew(request.cookies.get(COOKIE, ""), time.time())
        body = await request.read() if request.method == "POST" else None
        headers = {"X-Request-Id": request["id"], "X-Session": session}
        answer, served_by = await self._fetch(request, body, headers)
        response = _respond(request, kind, answer)
        response.headers["X-Served-By"] = served_by
        response.set_cookie(COOKIE, cookie, max_age=LIFETIME, httponly=True, samesite="Lax")
        return response

    async def _fetch(
        self, request: web.Request, body: bytes | None, headers: dict[str, str]
    ) -> tuple[Answer, str]:
        self._budget.request(time.monotonic())
        replica = self._balancer.pick()
        if replica is None:
            raise Failure(503, "no api replica is in rotation")
        tried = [replica.endpoint]
        answer = await self._attempt(request, replica.endpoint, body, headers)
        attempts = 1 + (self._limits.retries if request.method == "GET" else 0)
        while answer.status in _RETRY_STATUSES and len(tried) < attempts:
            replica = self._balancer.pick_other(tried)
            if replica is None or not self._may_retry():
                break
            tried.append(replica.endpoint)
            answer = await self._attempt(request, replica.endpoint, body, headers)
        return answer, tried[-1].slot

    async def _attempt(
        self, request: web.Request, endpoint: Endpoint, body: bytes | None, headers: dict[str, str]
    ) -> Answer:
        try:
            return await self._client.ask(
                endpoint, request.method, request.path_qs, body=body, headers=headers
            )
        except NoAnswer as failure:
            self._log.warning(
                "attempt failed",
                request_id=request["id"],
                upstream=endpoint.slot,
                outcome=failure.outcome,
                error=failure.message,
            )
            error = {"error": failure.message, "request_id": request["id"]}
            return Answer(failure.status, json.dumps(error).encode(), "application/json")

    def _may_retry(self) -> bool:
        allowed = self._budget.take()
        self._metrics.retries.labels("made" if allowed else "over_budget").inc()
        return allowed

    async def _index(self, _: web.Request) -> web.Response:
        return web.Response(text=index_page(), content_type="text/html")

    async def _status(self, _: web.Request) -> web.Response:
        rotation = self._balancer.rotation()
        replicas = [
            {
                "slot": one.endpoint.slot,
                "address": one.endpoint.address,
                "up": one.up,
                "in_rotation": one in rotation,
                "problem": one.problem,
            }
            for one in self._balancer.replicas()
        ]
        return json_response({"in_flight": self._in_flight, "api": replicas})

    async def _ready(self, _: web.Request) -> web.Response:
        if not any(one.up for one in self._balancer.replicas()):
            raise Failure(503, "no api replica is up")
        return json_response({"status": "ready"})


def _respond(request: web.Request, kind: str, answer: Answer) -> web.Response:
    body, content_type = answer.body, answer.content_type
    if "text/html" in request.headers.get("Accept", ""):
        body, content_type = _page(kind, answer).encode(), "text/html"
    headers = {"Content-Type": f"{content_type}; charset=utf-8", "Vary": "Accept, Accept-Encoding"}
    if len(body) >= _GZIP_FROM and "gzip" in request.headers.get("Accept-Encoding", ""):
        body, headers["Content-Encoding"] = gzip.compress(body, 6), "gzip"
    return web.Response(body=body, status=answer.status, headers=headers)


def _page(kind: str, answer: Answer) -> str:
    if answer.status < 400:
        return render(kind, answer.body)
    try:
        message = str(json.loads(answer.body)["error"])
    except (ValueError, KeyError, TypeError):
        message = "something went wrong"
    return error_page(answer.status, message)


async def build(process: Process) -> web.Application:
    """The gateway's application."""
    gateway = Gateway(process)
    app = new_app(process)
    app.add_routes(gateway.routes())
    app.cleanup_ctx.append(gateway.life)
    return app


if __name__ == "__main__":
    run("gateway", build)
