"""What each service counts, in the words of Prometheus."""

from __future__ import annotations

from aiohttp import web
from prometheus_client import (
    CollectorRegistry,
    Counter,
    Gauge,
    Histogram,
    Info,
    ProcessCollector,
    disable_created_metrics,
    generate_latest,
)
from prometheus_client.exposition import CONTENT_TYPE_LATEST

__all__ = ["Metrics"]

_BUCKETS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)


class Metrics:
    """The metrics of one process, in a registry of its own."""

    def __init__(self, service: str, slot: str) -> None:
        disable_created_metrics()  # type: ignore[no-untyped-call]
        registry = self.registry = CollectorRegistry()
        ProcessCollector(registry=registry)
        Info("shop_process", "Who this is.", registry=registry).info(
            {"service": service, "slot": slot}
        )
        self.requests = Counter(
            "shop_requests",
            "Requests answered, by route and status.",
            ["route", "method", "status"],
            registry=registry,
        )
        self.duration = Histogram(
            "shop_request_duration_seconds",
            "Time from a request's arrival to its answer.",
            ["route"],
            buckets=_BUCKETS,
            registry=registry,
        )
        self.in_flight = Gauge(
            "shop_requests_in_flight", "Requests being answered now.", registry=registry
        )
        self.attempts = Counter(
            "shop_upstream_attempts",
            "Calls to another service, by replica and outcome: ok, error, refused, broken,"
            " timeout, cancelled.",
            ["upstream", "outcome"],
            registry=registry,
        )
        self.attempt_duration = Histogram(
            "shop_upstream_duration_seconds",
            "Time of calls to another service, by replica.",
            ["upstream"],
            buckets=_BUCKETS,
            registry=registry,
        )
        self.retries = Counter(
            "shop_retries",
            "Retries on another replica: made, or refused by the retry budget.",
            ["result"],
            registry=registry,
        )
        self.upstream_up = Gauge(
            "shop_upstream_up",
            "1 if the replica's last health checks passed, else 0.",
            ["upstream"],
            registry=registry,
        )
        self.upstream_in_rotation = Gauge(
            "shop_upstream_in_rotation",
            "1 if requests go to the replica, else 0.",
            ["upstream"],
            registry=registry,
        )

    async def expose(self, _: web.Request) -> web.Response:
        """The handler of ``/metrics``."""
        return web.Response(
            body=generate_latest(self.registry), headers={"Content-Type": CONTENT_TYPE_LATEST}
        )
