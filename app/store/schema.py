"""Every table of the database in one place, for migrations and tests."""

from app.store import models
from app.store.base import Base
from app.store.job import models as queue_models
from app.store.traffic import models as traffic_models
from app.store.webhooks import models as webhook_models

__all__ = ["METADATA", "models", "queue_models", "traffic_models", "webhook_models"]

METADATA = Base.metadata
REVISION = "0018"  # the migration that this release needs
