"""The signed queries of the local object store."""

from pydantic import BaseModel


class PutQuery(BaseModel):
    """The signed parameters of an upload's URL."""

    expires: int
    size: int
    signature: str


class GetQuery(BaseModel):
    """The signed parameters of a clip's URL."""

    expires: int
    signature: str
    filename: str | None = None
    content_type: str | None = None
