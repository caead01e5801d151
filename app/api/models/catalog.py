"""What the deployment offers, and the API's own description."""

from typing import Any, Literal

from pydantic import RootModel

from app.domain.job.profiles import Option
from app.public.response_model import ResponseModel


class Range(ResponseModel):
    min: int
    max: int
    default: int


class FrameRange(Range):
    """A clip has `multiple` * k + `plus` frames."""

    multiple: int
    plus: int


class Size(ResponseModel):
    """Pixels."""

    width: int
    height: int


class Model(ResponseModel):
    """A served model and its limits."""

    id: str
    object: Literal["model"]
    default: bool
    licence: str
    licence_limits: str | None
    """What the licence forbids, in words; null: nothing of note."""
    steps: int
    passes: int
    frames: FrameRange
    fps: Range
    size: Range
    sizes: list[Size] | None
    """All that it renders; pictures are cropped to the nearest. Null: any, in a picture's shape."""
    options: list[Option]
    """Of prompt, negative_prompt, motion and loop, what it makes use of; the others are refused."""


class ModelList(ResponseModel):
    object: Literal["list"]
    data: list[Model]


class OpenAPI(RootModel[dict[str, Any]]):
    """An OpenAPI 3.1 document."""
