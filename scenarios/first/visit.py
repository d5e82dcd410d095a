# mypy: ignore-errors
"""What synthetic users do: an ordinary locustfile (https://docs.locust.io)."""

from locust import HttpUser, between, task


class Visitor(HttpUser):
    """Looks at the page again and again."""

    wait_time = between(0.2, 0.6)

    @task
    def look(self) -> None:
        self.client.get("/")
