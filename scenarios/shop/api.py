"""The api: what the shop does. It keeps nothing itself; everything is in the store."""

from __future__ import annotations

import json
import time
from collections.abc import AsyncIterator
from typing import Any
from urllib.parse import urlencode

from aiohttp import web

from gameday.scenarios.shop.service import (
    Failure,
    Process,
    find_endpoints,
    json_response,
    new_app,
    read_json,
    run,
)
from gameday.scenarios.shop.upstream import Client, NoAnswer

__all__ = ["Api", "build"]

_PAGE_SIZE = 24
_MOST_PAGES = 10_000
_MOST_OF_ONE = 20
_CACHED_PAGES = 256


class Cache:
    """Answers of the store, each kept for a while; a lifetime of 0 s keeps none."""

    def __init__(self, lifetime: float) -> None:
        self._lifetime = lifetime
        self._kept: dict[str, tuple[float, Any]] = {}

    def get(self, key: str, now: float) -> Any | None:
        stored, value = self._kept.get(key, (float("-inf"), None))
        return value if now - stored < self._lifetime else None

    def put(self, key: str, value: Any, now: float) -> None:
        if self._lifetime <= 0:
            return
        if len(self._kept) >= _CACHED_PAGES:
            self._kept.clear()
        self._kept[key] = (now, value)


class Api:
    """Products, carts and orders, through the store."""

    def __init__(self, process: Process) -> None:
        settings = process.settings
        self._log = process.log
        self._endpoints = find_endpoints(settings, process.log)
        self._cache = Cache(settings.seconds("SHOP_CACHE", 0.0))
        # Last, when every setting has been read: nothing is left open if one is wrong.
        self._client = Client(
            process.metrics,
            timeout=settings.seconds("SHOP_STORE_TIMEOUT", 1.0),
            connections=max(settings.whole("SHOP_STORE_CONNECTIONS", 16), 1),
        )

    async def life(self, _: web.Application) -> AsyncIterator[None]:
        """Closes the connections to the store at the end."""
        yield
        await self._client.close()

    def routes(self) -> list[web.RouteDef]:
        return [
            web.get("/products", self._products),
            web.get("/products/{id}", self._product),
            web.get("/cart", self._cart),
            web.post("/cart", self._add_to_cart),
            web.post("/checkout", self._checkout),
            web.get("/readyz", self._ready),
        ]

    async def _products(self, request: web.Request) -> web.Response:
        page = _number(request.query.get("page", "1"), "page", most=_MOST_PAGES)
        listing = await self._read(request, f"/products?page={page}&size={_PAGE_SIZE}")
        products = listing["products"]
        if products:
            # The second call needs the ids of the first: the store's latency counts twice.
            ids = ",".join(str(one["id"]) for one in products)
            stock = await self._read(request, f"/stock?{urlencode({'ids': ids})}")
            products = [one | {"stock": stock.get(str(one["id"]), 0)} for one in products]
        return json_response(listing | {"products": products})

    async def _product(self, request: web.Request) -> web.Response:
        number = _number(request.match_info["id"], "product")
        return json_response(await self._read(request, f"/products/{number}"))

    async def _cart(self, request: web.Request) -> web.Response:
        return json_response(await self._call(request, "GET", f"/carts/{_session(request)}"))

    async def _add_to_cart(self, request: web.Request) -> web.Response:
        body = await read_json(request)
        item = {
            "product": _number(body.get("product"), "product"),
            "quantity": _number(body.get("quantity", 1), "quantity", most=_MOST_OF_ONE),
        }
        path = f"/carts/{_session(request)}"
        return json_response(await self._call(request, "POST", path, item), status=201)

    async def _checkout(self, request: web.Request) -> web.Response:
        order = {"session": _session(request)}
        return json_response(await self._call(request, "POST", "/orders", order), status=201)

    async def _ready(self, request: web.Request) -> web.Response:
        return json_response(await self._call(request, "GET", "/readyz"))

    async def _read(self, request: web.Request, path: str) -> Any:
        now = time.monotonic()
        found = self._cache.get(path, now)
        if found is None:
            found = await self._call(request, "GET", path)
            self._cache.put(path, found, now)
        return found

    async def _call(
        self, request: web.Request, method: str, path: str, body: object | None = None
    ) -> Any:
        replicas = self._endpoints.of("store")
        if not replicas:
            raise Failure(503, "no store is linked")
        try:
            answer = await self._client.ask(
                replicas[0],
                method,
                path,
                body=None if body is None else json.dumps(body).encode(),
                headers={"X-Request-Id": request["id"]},
            )
        except NoAnswer as failure:
            self._store_failed(request, path, failure.outcome, failure.message)
            raise Failure(503, f"the store does not answer: {failure.message}") from None
        try:
            found = json.loads(answer.body)
        except ValueError:
            self._store_failed(request, path, "malformed", f"status {answer.status}, not JSON")
            raise Failure(502, "the store's answer cannot be read") from None
        if answer.status >= 400:
            message = str(found.get("error", "the store refuses"))
            if answer.status >= 500:
                self._store_failed(request, path, "error", f"{answer.status}: {message}")
            raise Failure(answer.status, message)
        return found

    def _store_failed(self, request: web.Request, path: str, outcome: str, error: str) -> None:
        self._log.warning(
            "store call failed", request_id=request["id"], call=path, outcome=outcome, error=error
        )


def _session(request: web.Request) -> str:
    session = request.headers.get("X-Session", "")
    if not (session.isascii() and session.isalnum() and len(session) <= 64):
        raise Failure(400, "the header X-Session must carry the session")
    return session


def _number(value: object, name: str, *, most: int = 1_000_000_000) -> int:
    text = str(value) if isinstance(value, int | str) and not isinstance(value, bool) else ""
    if text.isascii() and text.isdigit() and len(text) < 12 and 1 <= int(text) <= most:
        return int(text)
    raise Failure(400, f"{name} must be a whole number from 1 to {most}")


async def build(process: Process) -> web.Application:
    """The api's application."""
    api = Api(process)
    app = new_app(process)
    app.add_routes(api.routes())
    app.cleanup_ctx.append(api.life)
    return app


if __name__ == "__main__":
    run("api", build)
