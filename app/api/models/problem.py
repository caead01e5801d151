"""Errors as application/problem+json (RFC 9457)."""

from typing import Annotated, Literal

from pydantic import ConfigDict, Field
from pydantic.dataclasses import dataclass

from app.public.response_model import ResponseModel, may_lack

PROBLEM = "application/problem+json"

Code = Annotated[str, Field(json_schema_extra={"x-served": "code"})]


@dataclass(frozen=True, config=ConfigDict(use_attribute_docstrings=True))
class FieldError:
    """One thing that is wrong with a request."""

    code: Code
    pointer: str
    """A JSON pointer (RFC 6901) to the field."""
    detail: str


class Problem(ResponseModel):
    """An error (RFC 9457)."""

    model_config = ConfigDict(json_schema_extra=may_lack("errors"))

    type: Literal["about:blank"] = "about:blank"
    title: str
    status: int
    detail: str
    """One sentence for people."""
    instance: str
    """Identifies the request in the server's logs."""
    code: Code
    retryable: bool
    """Whether the same request may succeed later."""
    errors: list[FieldError] | None = None
    """What is wrong with the request's fields; omitted if no field is to blame."""

    def to_json(self) -> str:
        return self.model_dump_json(exclude_none=True)
