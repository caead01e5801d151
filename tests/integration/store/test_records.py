"""Records are built from rows by position, so their fields must match the columns in order."""

from dataclasses import fields

import pytest

from app.store.job.records import AttemptJson, JobRecord
from app.store.models import AttemptRow, JobRow
from app.store.traffic.controls import AuditRecord
from app.store.traffic.models import AuditRow
from app.store.webhooks.models import DeliveryRow, WebhookEndpointRow
from app.store.webhooks.records import DeliveryRecord, EndpointRecord


@pytest.mark.parametrize(
    ("record", "table"),
    [
        (JobRecord, JobRow),
        (DeliveryRecord, DeliveryRow),
        (EndpointRecord, WebhookEndpointRow),
        (AuditRecord, AuditRow),
    ],
)
def test_a_record_has_its_tables_columns_in_order(record, table):
    assert [field.name for field in fields(record)] == list(table.__table__.c.keys())


def test_an_attempt_in_json_has_its_tables_columns():
    assert AttemptJson.__annotations__.keys() == set(AttemptRow.__table__.c.keys())
