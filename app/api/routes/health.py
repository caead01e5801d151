"""Health checks for load balancers. They need no key, because they reveal nothing about any user.

They wait for no working place. Metrics are on the internal port (app/internal_port.py), which has
the same checks for orchestrators.
"""

from flask import Blueprint

from app.api.models.ops import Alive, Ready
from app.api.openapi.operation import ResponseSpec, Result, describe
from app.api.process.checks import ready
from app.api.process.services import get_services

bp = Blueprint("health", __name__)


@bp.get("/healthz")
@describe({200: ResponseSpec("Alive.", Alive)}, scope=None)
def healthz() -> Result:
    """Report that the process is alive, without checking its dependencies."""
    return Alive(status="ok")


@bp.get("/readyz")
@describe(
    {200: ResponseSpec("Ready.", Ready), 503: ResponseSpec("Not ready; `parts` says why.", Ready)},
    scope=None,
)
def readyz() -> Result:
    """Check every dependency. `degraded` without Redis: jobs are accepted and placed by polling."""
    found = ready(get_services())
    shown = Ready(status=found.status, parts=dict(found.parts))
    return shown, 503 if found.status == "unavailable" else 200
