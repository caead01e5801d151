"""What an API process says about itself: on the internal port, and to load balancers on its own."""

from app import telemetry
from app.api.process.services import Services
from app.internal_port import Checks, Readiness, readiness


def checks_of(services: Services) -> Checks:
    """The checks for the internal port."""
    return Checks(ready=lambda: ready(services), metrics=telemetry.API)


def ready(services: Services) -> Readiness:
    """Check every dependency. Degraded without Redis: jobs are accepted, and placed by polling."""
    if not services.hub.alive():
        return Readiness("unavailable", {"process": "stopping"})
    return readiness(
        {"database": services.store.check, "storage": services.objects.check},
        {"redis": lambda: [client.ping() for client in services.redis.urls().values()]},
    )
