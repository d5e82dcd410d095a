"""The shape of a cluster: its services and who calls whom, however it is brought up."""

from __future__ import annotations

import msgspec

from gameday.injectors.sandbox.base import labels_of
from gameday.injectors.sandbox.local.cluster import Cluster

__all__ = ["ServiceShape", "Shape", "shape_of"]


class ServiceShape(msgspec.Struct, frozen=True):
    """One service.

    Attributes:
        links: The services that it calls.
        protected: Whether it is never a target.
        labels: Those of its slots.
        networks: Those that its slots are in; processes without containers are all in one.
    """

    replicas: int = 1
    links: tuple[str, ...] = ()
    protected: bool = False
    labels: dict[str, str] = {}
    networks: tuple[str, ...] = ("default",)


class Shape(msgspec.Struct, frozen=True):
    """The services of a cluster that may be aimed at, as it will run.

    Attributes:
        entry: The service that users reach; None if that is not said.
    """

    services: dict[str, ServiceShape]
    entry: str | None = None

    @property
    def protected(self) -> tuple[str, ...]:
        """The services that are never a target."""
        return tuple(name for name, service in self.services.items() if service.protected)

    @property
    def labels(self) -> dict[str, dict[str, str]]:
        """The labels of each service's slots."""
        return {name: service.labels for name, service in self.services.items()}

    @property
    def links(self) -> tuple[str, ...]:
        """``api->store``: every way between two services."""
        return tuple(
            f"{name}->{other}" for name, service in self.services.items() for other in service.links
        )


def shape_of(cluster: Cluster) -> Shape:
    """The shape of a declared cluster of processes."""
    return Shape(
        {
            name: ServiceShape(
                service.replicas,
                tuple(service.links),
                service.protected,
                labels_of({}, owner=service.owner, tier=service.tier),
            )
            for name, service in cluster.services.items()
        },
        cluster.entry,
    )
