"""What people do in the shop: an ordinary locustfile.

By hand: ``locust -f journeys.py --host http://127.0.0.1:8080``
"""
# mypy: disable-error-code="misc, untyped-decorator"

import random

from locust import HttpUser, between, task

PRODUCTS = 200
PAGES = 9


class Browse(HttpUser):
    """Looks around, puts things into the cart, and sometimes buys them."""

    wait_time = between(0.4, 0.9)  # 20 users: about 30 requests a second

    @task(10)
    def browse_products(self) -> None:
        page = random.randint(1, PAGES)
        self.client.get("/products", params={"page": page}, name="/products")

    @task(6)
    def look_at_product(self) -> None:
        self.client.get(f"/products/{random.randint(1, PRODUCTS)}", name="/products/[id]")

    @task(3)
    def add_to_cart(self) -> bool:
        item = {"product": random.randint(1, PRODUCTS), "quantity": random.randint(1, 3)}
        return bool(self.client.post("/cart", json=item, name="/cart").ok)

    @task(1)
    def check_out(self) -> None:
        if self.add_to_cart():
            self.client.post("/checkout", name="/checkout")
