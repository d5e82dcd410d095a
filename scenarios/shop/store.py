"""The store: the shop's data behind HTTP, on SQLite in the folder ``DATA``."""

from __future__ import annotations

import asyncio
import sqlite3
from collections.abc import AsyncIterator, Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TypeVar

from aiohttp import web
from prometheus_client import Counter, Gauge

from gameday.injectors.errors import UsageError
from gameday.scenarios.shop.database import Database, NotPossible, OutOfSpace
from gameday.scenarios.shop.service import (
    Failure,
    Process,
    json_response,
    new_app,
    read_json,
    run,
)

__all__ = ["Store", "build"]

T = TypeVar("T")

_MOST_IDS = 200


class Store:
    """The routes. The database has a thread of its own, so that a slow disk stops nothing else."""

    def __init__(self, process: Process, database: Database) -> None:
        self._log = process.log
        self._database = database
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="sqlite")
        registry = process.metrics.registry
        self._orders = Counter("shop_orders", "Orders placed.", registry=registry)
        self._refused = Counter(
            "shop_disk_full", "Requests refused because the disk is full.", registry=registry
        )
        Gauge(
            "shop_disk_free_bytes", "Bytes free in the data folder.", registry=registry
        ).set_function(database.free)

    async def life(self, _: web.Application) -> AsyncIterator[None]:
        """Closes the database at the end."""
        yield
        self._thread.submit(self._database.close)
        self._thread.shutdown()

    def routes(self) -> list[web.RouteDef]:
        return [
            web.get("/products", self._products),
            web.get("/products/{id}", self._product),
            web.get("/stock", self._stock),
            web.get("/carts/{session}", self._cart),
            web.post("/carts/{session}", self._add_to_cart),
            web.post("/orders", self._place_order),
            web.get("/orders/{id}", self._order),
            web.get("/readyz", self._ready),
        ]

    async def _products(self, request: web.Request) -> web.Response:
        page, size = _query(request, "page", 1), min(_query(request, "size", 24), 100)
        return json_response(await self._ask(request, lambda db: db.products(page, size)))

    async def _product(self, request: web.Request) -> web.Response:
        number = _whole(request.match_info["id"])
        return json_response(await self._ask(request, lambda db: db.product(number)))

    async def _stock(self, request: web.Request) -> web.Response:
        numbers = [_whole(text) for text in request.query.get("ids", "").split(",")[:_MOST_IDS]]
        return json_response(await self._ask(request, lambda db: db.stock(numbers)))

    async def _cart(self, request: web.Request) -> web.Response:
        session = request.match_info["session"]
        return json_response(await self._ask(request, lambda db: db.cart(session)))

    async def _add_to_cart(self, request: web.Request) -> web.Response:
        session, body = request.match_info["session"], await read_json(request)
        product, quantity = _whole(body.get("product")), _whole(body.get("quantity"))
        return json_response(
            await self._ask(request, lambda db: db.add_to_cart(session, product, quantity))
        )

    async def _place_order(self, request: web.Request) -> web.Response:
        session = str((await read_json(request)).get("session", ""))
        order = await self._ask(request, lambda db: db.place_order(session))
        self._orders.inc()
        self._log.info("order placed", request_id=request["id"], order=order["id"])
        return json_response(order)

    async def _order(self, request: web.Request) -> web.Response:
        number = _whole(request.match_info["id"])
        return json_response(await self._ask(request, lambda db: db.order(number)))

    async def _ready(self, request: web.Request) -> web.Response:
        return json_response(await self._ask(request, lambda db: db.check()))

    async def _ask(self, request: web.Request, question: Callable[[Database], T]) -> T:
        loop = asyncio.get_running_loop()
        try:
            return await loop.run_in_executor(self._thread, question, self._database)
        except NotPossible as error:
            raise Failure(error.status, str(error)) from None
        except OutOfSpace as error:
            self._refused.inc()
            self._log.error(
                "the disk is full",
                request_id=request["id"],
                error=str(error),
                disk_free_bytes=self._database.free(),
            )
            raise Failure(507, "the store's disk is full") from None
        except sqlite3.Error as error:
            self._log.error("the database failed", request_id=request["id"], error=repr(error))
            raise Failure(500, "the store's database failed") from None


def _query(request: web.Request, name: str, default: int) -> int:
    return max(_whole(request.query.get(name, default)), 1)


def _whole(value: object) -> int:
    text = str(value)
    if text.isascii() and text.isdigit() and len(text) < 16:
        return int(text)
    raise Failure(400, f"{text[:40]!r} is not a whole number")


def _open(process: Process) -> Database:
    folder = process.settings.path("DATA") or Path()
    products = process.settings.whole("SHOP_PRODUCTS", 200)
    if not products:
        raise UsageError("SHOP_PRODUCTS: a shop has at least one product")
    try:
        return Database(folder, products)
    except (OutOfSpace, sqlite3.Error) as error:
        raise OSError(f"the database in {folder} cannot be opened: {error}") from error


async def build(process: Process) -> web.Application:
    """The store's application."""
    store = Store(process, _open(process))
    app = new_app(process)
    app.add_routes(store.routes())
    app.cleanup_ctx.append(store.life)
    return app


if __name__ == "__main__":
    run("store", build)
