"""What gateway, api and store have in common: start, log, measure, answer errors, stop."""

from __future__ import annotations

import asyncio
import json
import os
import re
import signal
import sys
import time
import uuid
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import NoReturn

from aiohttp import web
from aiohttp.typedefs import Handler, Middleware

from gameday.injectors.errors import UsageError
from gameday.scenarios.shop.endpoints import Endpoints, Finds
from gameday.scenarios.shop.logs import Log, open_log
from gameday.scenarios.shop.lookup import Lookup
from gameday.scenarios.shop.metrics import Metrics
from gameday.scenarios.shop.settings import Settings

__all__ = ["Failure", "Process", "find_endpoints", "json_response", "new_app", "read_json", "run"]

_BACKLOG = 1024
_BODY_LIMIT = 64 * 1024
_CLIENT_LEFT = 499
_QUIET = {"/healthz", "/readyz", "/metrics"}
_REQUEST_ID = re.compile(r"[A-Za-z0-9_.-]{1,64}")


class Failure(Exception):
    """A request that cannot be served, with the status that says so."""

    def __init__(self, status: int, message: str) -> None:
        super().__init__(message)
        self.status = status
        self.message = message


@dataclass(frozen=True, slots=True)
class Process:
    """What a service is built from."""

    slot: str
    settings: Settings
    log: Log
    metrics: Metrics


Build = Callable[[Process], Awaitable[web.Application]]


def find_endpoints(settings: Settings, log: Log) -> Finds:
    """Where the services are that this one calls: by lookup where names are given, else by file."""
    wanted = settings.text("SHOP_LOOK_UP", "")
    return Lookup(wanted, log) if wanted else Endpoints(settings.path("ENDPOINTS"), log)


def json_response(
    body: object, *, status: int = 200, headers: dict[str, str] | None = None
) -> web.Response:
    """A response with ``body`` as compact JSON."""
    text = json.dumps(body, ensure_ascii=False, separators=(",", ":"))
    return web.Response(text=text, status=status, headers=headers, content_type="application/json")


async def read_json(request: web.Request) -> dict[str, object]:
    """The request's body.

    Raises:
        Failure: 400 if it is no JSON object.
    """
    try:
        body = json.loads(await request.text())
    except ValueError:  # not JSON, or not in the charset that it claims
        body = None
    except LookupError:
        raise Failure(400, "the body's charset is unknown") from None
    if not isinstance(body, dict):
        raise Failure(400, "the body must be a JSON object")
    return body


def _route(request: web.Request) -> str:
    resource = request.match_info.route.resource
    return resource.canonical if resource is not None else "unknown"


def _observer(process: Process) -> Middleware:
    metrics, log = process.metrics, process.log

    def record(request: web.Request, status: int, started: float) -> None:
        elapsed = time.perf_counter() - started
        route = _route(request)
        metrics.requests.labels(route, request.method, str(status)).inc()
        metrics.duration.labels(route).observe(elapsed)
        write = log.debug if request.path in _QUIET and status < 500 else log.info
        write(
            "request",
            request_id=request["id"],
            method=request.method,
            path=request.path_qs,
            route=route,
            status=status,
            duration_ms=round(elapsed * 1000, 2),
        )

    @web.middleware
    async def observe(request: web.Request, handler: Handler) -> web.StreamResponse:
        started = time.perf_counter()
        given = request.headers.get("X-Request-Id", "")
        request["id"] = given if _REQUEST_ID.fullmatch(given) else uuid.uuid4().hex
        status = 500
        metrics.in_flight.inc()
        try:
            response = await _answer(request, handler)
            status = response.status
            response.headers["X-Request-Id"] = request["id"]
            return response
        except asyncio.CancelledError:
            status = _CLIENT_LEFT
            raise
        finally:
            metrics.in_flight.dec()
            record(request, status, started)

    return observe


async def _answer(request: web.Request, handler: Handler) -> web.StreamResponse:
    try:
        return await handler(request)
    except Failure as failure:
        status, message = failure.status, failure.message
    except web.HTTPException as error:  # aiohttp's own: no such route, method not allowed …
        status, message = error.status, error.reason
    return json_response({"error": message, "request_id": request["id"]}, status=status)


async def _alive(_: web.Request) -> web.Response:
    return json_response({"status": "ok"})


async def _serve(process: Process, build: Build) -> None:
    settings, log = process.settings, process.log
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    host, port = settings.text("HOST", "127.0.0.1"), settings.whole("PORT", 0)
    grace = settings.seconds("SHOP_GRACE", 1.0)
    app = await build(process)
    app.router.add_get("/healthz", _alive)
    app.router.add_get("/metrics", process.metrics.expose)
    # Work for a client that has given up is dropped, not finished.
    runner = web.AppRunner(app, access_log=None, handler_cancellation=True, shutdown_timeout=grace)
    await runner.setup()
    try:
        await web.TCPSite(runner, host, port, backlog=_BACKLOG).start()
        log.info("listening", address=_address(runner), settings=settings.used)
        await stop.wait()
        log.info("stopping")
    finally:
        await runner.cleanup()


def _address(runner: web.AppRunner) -> str:
    host, port = runner.addresses[0][:2]
    return f"{host}:{port}"


def new_app(process: Process) -> web.Application:
    """An application that logs, counts and answers errors as every service does."""
    return web.Application(middlewares=[_observer(process)], client_max_size=_BODY_LIMIT)


def run(service: str, build: Build) -> NoReturn:
    """Run one service until SIGTERM, then exit.

    Exit codes: 0 stopped, 1 cannot start (the port or the data folder), 2 a bad setting.
    """
    settings = Settings(os.environ)
    slot = settings.text("GAMEDAY_SLOT", f"{service}-1")
    try:
        log = open_log(service, slot, settings.text("SHOP_LOG_LEVEL", "info"))
    except ValueError as error:
        sys.exit(f"SHOP_LOG_LEVEL: {error}")
    try:
        asyncio.run(_serve(Process(slot, settings, log, Metrics(service, slot)), build))
    except UsageError as error:
        log.error("a setting cannot be used", error=str(error))
        sys.exit(2)
    except OSError as error:
        log.error("cannot start", error=str(error))
        sys.exit(1)
    log.info("stopped")
    sys.exit(0)
