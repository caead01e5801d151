"""What the deployment offers, and the API's own description."""

from typing import Any, Literal

from pydantic import RootModel

from app.public.response_model import ResponseModel


class Range(ResponseModel):
    min: int
    max: int
    default: int


class Model(ResponseModel):
    """A served model and its limits."""

    id: str
    object: Literal["model"]
    default: bool
    licence: str
    steps: int
    passes: int
    frames: Range
    fps: Range
    size: Range


class ModelList(ResponseModel):
    object: Literal["list"]
    data: list[Model]


class OpenAPI(RootModel[dict[str, Any]]):
    """An OpenAPI 3.1 document."""
