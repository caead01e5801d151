"""Requests to the API, and checks of their effects."""

import base64
import io
from pathlib import Path

from sqlalchemy import text


def submit(client, photo, headers=None, **fields):
    """POST a form, as a Flask test client does."""
    data = {"image": (io.BytesIO(photo), "photo.jpg"), **fields}
    return client.post("/v1/jobs", data=data, headers=headers or {})


def submit_json(client, **body):
    return client.post("/v1/jobs", json=body)


def data_uri(photo) -> str:
    return "data:image/jpeg;base64," + base64.b64encode(photo).decode()


def objects_in(directory: Path) -> list[str]:
    """The keys of all stored objects, without half-written files."""
    paths = (path.relative_to(directory) for path in directory.rglob("*") if path.is_file())
    return sorted(str(path) for path in paths if not str(path).startswith("."))


def rows_in(store, table="jobs") -> int:
    with store.autocommit() as conn:
        return conn.execute(text(f"SELECT count(*) FROM {table}")).scalar_one()


def assert_problem(answer, status, code, pointer=None) -> dict:
    """The answer is a complete RFC 9457 problem."""
    assert answer.status_code == status, answer.get_data(as_text=True)
    assert answer.content_type == "application/problem+json"
    body = answer.get_json(force=True)
    assert body["status"] == status
    assert body["code"] == code, body
    assert body["type"] == "about:blank"
    assert body["title"]
    assert body["detail"].endswith((".", "."))
    assert body["instance"] == f"urn:uuid:{answer.headers['X-Request-Id']}"
    assert isinstance(body["retryable"], bool)
    if pointer is not None:
        assert pointer in [fault["pointer"] for fault in body["errors"]]
    return body
