"""A browser's session."""

from typing import Annotated, Literal

from pydantic import Field

from app.api.models.audit import KeyName
from app.api.models.base import RequestBody
from app.public.response_model import ResponseModel


class SignIn(RequestBody):
    api_key: Annotated[str, Field(min_length=1, max_length=200)]


class SessionKey(KeyName):
    scopes: list[str]


class Session(ResponseModel):
    """The key that a browser is signed in with."""

    object: Literal["session"]
    key: SessionKey | None
