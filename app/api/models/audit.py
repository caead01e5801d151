"""The audit of operators' decisions."""

from typing import Annotated, Literal
from uuid import UUID

from pydantic import Field

from app.api.models.base import PageSize, Query
from app.public.response_model import ResponseModel

MAX_ID = 2**63 - 1  # the largest bigint in Postgres


class AuditQuery(Query):
    """The query of the audit."""

    limit: PageSize = 20
    after: Annotated[int, Field(ge=1, le=MAX_ID)] | None = None
    """The `next` of the previous page."""


class KeyName(ResponseModel):
    id: UUID
    name: str


class AuditEntry(ResponseModel):
    id: int
    # A string: these times have always ended in +00:00, and pydantic would write Z.
    at: Annotated[str, Field(json_schema_extra={"format": "date-time"})]
    key: KeyName
    verb: str
    subject: str
    old: bool | int | None
    new: bool | int | None


class Audit(ResponseModel):
    """A page of the audit, newest first."""

    object: Literal["list"]
    data: list[AuditEntry]
    has_more: bool
    next: int | None
