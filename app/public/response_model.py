"""The base of every JSON body that leaves the service."""

from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any, overload
from uuid import UUID

from pydantic import BaseModel, ConfigDict


class ResponseModel(BaseModel):
    """A response body, or a part of one.

    The string under a field becomes its description in the OpenAPI document.
    """

    model_config = ConfigDict(
        use_attribute_docstrings=True, json_schema_serialization_defaults_required=True
    )

    def to_json(self) -> str:
        """The body as it is sent. Models with optional fields override this to omit them."""
        return self.model_dump_json()


class Identified(ResponseModel):
    """A resource with an id, which pages of a list continue after."""

    id: UUID


def may_lack(*names: str) -> Callable[[dict[str, Any]], None]:
    """A `json_schema_extra` for models whose JSON may omit these fields."""

    def change(schema: dict[str, Any]) -> None:
        schema["required"] = [name for name in schema["required"] if name not in names]

    return change


@overload
def utc(moment: datetime) -> datetime: ...
@overload
def utc(moment: None) -> None: ...
@overload
def utc(moment: datetime | None) -> datetime | None: ...
def utc(moment: datetime | None) -> datetime | None:
    """The moment in UTC: Postgres answers in the time zone of its session."""
    return None if moment is None else moment.astimezone(UTC)
