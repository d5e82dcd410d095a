"""The shop's answers as pages, for people with a browser."""

from __future__ import annotations

import json
from collections.abc import Iterable
from html import escape
from typing import Any

__all__ = ["error_page", "index_page", "render"]

_STYLE = (
    "body{font:16px/1.5 system-ui,sans-serif;max-width:60rem;margin:2rem auto;padding:0 1rem}"
    "table{border-collapse:collapse;width:100%}td,th{text-align:left;padding:.3rem .6rem;"
    "border-bottom:1px solid #ccc}td.n,th.n{text-align:right}"
)


def _page(title: str, body: str) -> str:
    return (
        f'<!doctype html><html lang="en"><meta charset="utf-8"><title>{escape(title)}</title>'
        f'<style>{_STYLE}</style><p><a href="/">Shop</a> · <a href="/products">Products</a> · '
        f'<a href="/cart">Cart</a></p><h1>{escape(title)}</h1>{body}</html>'
    )


def _price(cents: int) -> str:
    return f"{cents // 100}.{cents % 100:02d}"


def _table(head: tuple[str, ...], rows: Iterable[tuple[str, ...]]) -> str:
    def row(cells: tuple[str, ...], tag: str) -> str:
        inside = "".join(
            f"<{tag}{' class=n' if place else ''}>{cell}</{tag}>"
            for place, cell in enumerate(cells)
        )
        return f"<tr>{inside}</tr>"

    return f"<table>{row(head, 'th')}{''.join(row(cells, 'td') for cells in rows)}</table>"


def _products(answer: dict[str, Any]) -> str:
    rows = (
        (
            f'<a href="/products/{one["id"]}">{escape(one["name"])}</a>',
            _price(one["price_cents"]),
            str(one["stock"]),
        )
        for one in answer["products"]
    )
    page, pages = answer["page"], answer["pages"]
    near = [(page - 1, "Previous"), (page + 1, "Next")]
    links = [f'<a href="/products?page={to}">{name}</a>' for to, name in near if 1 <= to <= pages]
    table = _table(("Product", "Price", "In stock"), rows)
    return _page(f"Products, page {page} of {pages}", f"{table}<p>{' · '.join(links)}</p>")


def _product(answer: dict[str, Any]) -> str:
    facts = f"Price {_price(answer['price_cents'])}, {answer['stock']} in stock."
    return _page(answer["name"], f"<p>{escape(answer['description'])}</p><p>{facts}</p>")


def _cart(answer: dict[str, Any]) -> str:
    rows = (
        (escape(one["name"]), str(one["quantity"]), _price(one["price_cents"]))
        for one in answer["items"]
    )
    table = _table(("Product", "Quantity", "Price"), rows)
    return _page("Cart", f"{table}<p>Total {_price(answer['total_cents'])}</p>")


def _order(answer: dict[str, Any]) -> str:
    return _page("Thank you", f"<p>Order {answer['id']}: {_price(answer['total_cents'])}</p>")


_RENDERERS = {"products": _products, "product": _product, "cart": _cart, "order": _order}


def render(kind: str, body: bytes) -> str:
    """The page for an answer of the api; ``kind`` is products, product, cart or order."""
    return _RENDERERS[kind](json.loads(body))


def index_page() -> str:
    """The page at ``/``."""
    return _page("Shop", '<p>A small shop. See the <a href="/products">products</a>.</p>')


def error_page(status: int, message: str) -> str:
    """The page for a request that failed."""
    return _page("Sorry, that did not work", f"<p>{escape(message)} ({status})</p>")
