"""The shop's data in SQLite: products, carts, orders."""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from random import Random

__all__ = ["Database", "NotPossible", "OutOfSpace"]

_SCHEMA = """
CREATE TABLE products (
    id INTEGER PRIMARY KEY, name TEXT NOT NULL, category TEXT NOT NULL,
    description TEXT NOT NULL, price_cents INTEGER NOT NULL, stock INTEGER NOT NULL
);
CREATE TABLE cart_items (
    session TEXT NOT NULL, product INTEGER NOT NULL REFERENCES products, quantity INTEGER NOT NULL,
    PRIMARY KEY (session, product)
) WITHOUT ROWID;
CREATE TABLE orders (
    id INTEGER PRIMARY KEY, session TEXT NOT NULL, total_cents INTEGER NOT NULL,
    placed_at TEXT NOT NULL DEFAULT (strftime('%Y-%m-%dT%H:%M:%fZ', 'now'))
);
CREATE TABLE order_lines (
    "order" INTEGER NOT NULL REFERENCES orders, product INTEGER NOT NULL REFERENCES products,
    quantity INTEGER NOT NULL, price_cents INTEGER NOT NULL, PRIMARY KEY ("order", product)
) WITHOUT ROWID;
"""

_ADJECTIVES = [
    "Amber",
    "Blue",
    "Calm",
    "Deep",
    "Early",
    "Fine",
    "Green",
    "Heavy",
    "Iron",
    "Jade",
    "Kind",
    "Light",
    "Mild",
    "North",
    "Oak",
    "Plain",
    "Quiet",
    "Round",
    "Silver",
    "Tall",
]
_NOUNS = ["Bowl", "Chair", "Desk", "Fork", "Kettle", "Lamp", "Mug", "Rug", "Shelf", "Vase"]
_SPACE_ERRORS = {sqlite3.SQLITE_FULL, sqlite3.SQLITE_IOERR_SHMSIZE}
_NO_SPACE_BELOW = 64 * 1024


class OutOfSpace(Exception):
    """The disk is full; what was to be written was not."""


class NotPossible(Exception):
    """The request makes no sense for the data.

    Attributes:
        status: 404 if something does not exist, 409 if it conflicts with what is there.
    """

    def __init__(self, status: int, message: str) -> None:
        super().__init__(message)
        self.status = status


class Database:
    """One connection, used by one thread at a time.

    Raises:
        OutOfSpace: from every method, if the disk is full.
        sqlite3.Error: if the file cannot be used.
    """

    def __init__(self, folder: Path, products: int) -> None:
        self._folder = folder
        folder.mkdir(parents=True, exist_ok=True)
        self._db = sqlite3.connect(
            folder / "shop.sqlite3", isolation_level=None, check_same_thread=False
        )
        self._db.row_factory = sqlite3.Row
        with self._space():
            self._db.execute("PRAGMA journal_mode = WAL")
            self._db.execute("PRAGMA synchronous = NORMAL")
            self._db.execute("PRAGMA foreign_keys = ON")
            self._seed(products)

    def _seed(self, count: int) -> None:
        with self._write():
            if self._one("PRAGMA user_version")[0]:
                return
            for statement in _SCHEMA.split(";"):
                self._db.execute(statement)
            self._db.executemany(
                "INSERT INTO products VALUES (?, ?, ?, ?, ?, ?)", _catalogue(count)
            )
            self._db.execute("PRAGMA user_version = 1")

    def products(self, page: int, size: int) -> dict[str, object]:
        """One page of the catalogue, without the stock. Pages count from 1."""
        with self._space():
            total = self._one("SELECT count(*) FROM products")[0]
            rows = self._db.execute(
                "SELECT id, name, category, description, price_cents FROM products"
                " ORDER BY id LIMIT ? OFFSET ?",
                (size, (page - 1) * size),
            )
            pages = -(-total // size)
            return {"products": [dict(row) for row in rows], "page": page, "pages": pages}

    def product(self, number: int) -> dict[str, object]:
        """One product with its stock."""
        with self._space():
            row = self._db.execute("SELECT * FROM products WHERE id = ?", (number,)).fetchone()
        if row is None:
            raise NotPossible(404, f"there is no product {number}")
        return dict(row)

    def stock(self, numbers: Sequence[int]) -> dict[str, int]:
        """How many of each product are left; products that do not exist are left out."""
        marks = ",".join("?" * len(numbers))
        with self._space():
            rows = self._db.execute(
                f"SELECT id, stock FROM products WHERE id IN ({marks})", tuple(numbers)
            )
            return {str(row["id"]): row["stock"] for row in rows}

    def cart(self, session: str) -> dict[str, object]:
        """What is in the session's cart; an unknown session's is empty."""
        with self._space():
            items = self._items(session)
        total = sum(item["price_cents"] * item["quantity"] for item in items)
        return {"items": [dict(item) for item in items], "total_cents": total}

    def add_to_cart(self, session: str, product: int, quantity: int) -> dict[str, object]:
        """The cart after ``quantity`` more of ``product``."""
        self.product(product)
        with self._space(), self._write():
            self._db.execute(
                "INSERT INTO cart_items VALUES (?, ?, ?)"
                " ON CONFLICT DO UPDATE SET quantity = quantity + excluded.quantity",
                (session, product, quantity),
            )
        return self.cart(session)

    def place_order(self, session: str) -> dict[str, object]:
        """Turn the session's cart into an order: all of it, or nothing."""
        with self._space(), self._write():
            items = self._items(session)
            if not items:
                raise NotPossible(409, "the cart is empty")
            number = self._db.execute(
                "INSERT INTO orders (session, total_cents) VALUES (?, ?)",
                (session, sum(item["price_cents"] * item["quantity"] for item in items)),
            ).lastrowid
            for item in items:
                self._order_line(number, item)
            self._db.execute("DELETE FROM cart_items WHERE session = ?", (session,))
        return self.order(int(number or 0))

    def _order_line(self, order: int | None, item: sqlite3.Row) -> None:
        taken = self._db.execute(
            "UPDATE products SET stock = stock - ?1 WHERE id = ?2 AND stock >= ?1",
            (item["quantity"], item["product"]),
        )
        if taken.rowcount == 0:
            raise NotPossible(409, f"not enough of product {item['product']} in stock")
        self._db.execute(
            "INSERT INTO order_lines VALUES (?, ?, ?, ?)",
            (order, item["product"], item["quantity"], item["price_cents"]),
        )

    def order(self, number: int) -> dict[str, object]:
        """An order with its lines."""
        with self._space():
            row = self._db.execute("SELECT * FROM orders WHERE id = ?", (number,)).fetchone()
            lines = self._db.execute(
                'SELECT product, quantity, price_cents FROM order_lines WHERE "order" = ?',
                (number,),
            ).fetchall()
        if row is None:
            raise NotPossible(404, f"there is no order {number}")
        public = {key: row[key] for key in ("id", "total_cents", "placed_at")}
        return public | {"lines": [dict(line) for line in lines]}

    def check(self) -> dict[str, object]:
        """Whether the data can be read, and how much space is left."""
        with self._space():
            orders = self._one("SELECT count(*) FROM orders")[0]
        return {"status": "ready", "orders": orders, "disk_free_bytes": self.free()}

    def free(self) -> int:
        """Bytes free on the data folder's disk."""
        disk = os.statvfs(self._folder)
        return disk.f_bavail * disk.f_frsize

    def close(self) -> None:
        self._db.close()

    def _one(self, statement: str) -> sqlite3.Row:
        row: sqlite3.Row = self._db.execute(statement).fetchone()
        return row

    def _items(self, session: str) -> list[sqlite3.Row]:
        return self._db.execute(
            "SELECT product, name, quantity, price_cents FROM cart_items"
            " JOIN products ON id = product WHERE session = ? ORDER BY product",
            (session,),
        ).fetchall()

    @contextmanager
    def _write(self) -> Iterator[None]:
        self._db.execute("BEGIN IMMEDIATE")
        try:
            yield
            self._db.execute("COMMIT")
        finally:
            # SQLite may have rolled back itself, as it does on a full disk.
            if self._db.in_transaction:
                self._db.execute("ROLLBACK")

    @contextmanager
    def _space(self) -> Iterator[None]:
        try:
            yield
        except sqlite3.OperationalError as error:
            code = getattr(error, "sqlite_errorcode", 0)
            failed_io = code & 0xFF == sqlite3.SQLITE_IOERR
            if code in _SPACE_ERRORS or (failed_io and self.free() < _NO_SPACE_BELOW):
                raise OutOfSpace(str(error)) from error
            raise


def _catalogue(count: int) -> Iterator[tuple[int, str, str, str, int, int]]:
    chance = Random(count)  # the same catalogue every time
    for number in range(1, count + 1):
        noun = _NOUNS[number % len(_NOUNS)]
        adjective = _ADJECTIVES[number // len(_NOUNS) % len(_ADJECTIVES)]
        text = f"A {noun.lower()} in the {adjective.lower()} series, made to last and to be mended."
        price, stock = chance.randrange(300, 25_000), chance.randrange(2_000, 9_000)
        yield number, f"{adjective} {noun}", noun.lower(), text, price, stock
