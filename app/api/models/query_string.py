"""Parses query strings strictly: what is sent is used or refused, never ignored."""

from collections.abc import Callable
from typing import Any, TypeVar
from urllib.parse import parse_qsl

from pydantic import BaseModel

from app.api.models.base import Invalid, parse_strings, pointer
from app.api.models.problem import FieldError

MAX_PARAMETERS = 100

Q = TypeVar("Q", bound=BaseModel)


def parse_query(
    model: type[Q],
    query_string: bytes,
    arrange: Callable[[dict[str, str]], dict[str, Any]] = dict,
) -> Q:
    """Parse a query string. `arrange`: turns parameters into the model's fields. Raises Invalid."""
    return parse_strings(model, arrange(single_values(query_string)))


def single_values(query_string: bytes) -> dict[str, str]:
    """A query string's parameters. Raises Invalid for repeated ones and for what is not UTF-8."""
    try:
        pairs = parse_qsl(
            query_string.decode(),
            keep_blank_values=True,
            errors="strict",
            max_num_fields=MAX_PARAMETERS,
        )
    except UnicodeDecodeError:
        raise Invalid([FieldError("invalid_field", "", "query: not in UTF-8.")]) from None
    except ValueError:
        detail = f"query: more than {MAX_PARAMETERS} parameters."
        raise Invalid([FieldError("invalid_field", "", detail)]) from None
    values = dict(pairs)
    if len(values) < len(pairs):
        names = [name for name, _ in pairs]
        raise Invalid([given_twice(name) for name in values if names.count(name) > 1])
    return values


def given_twice(name: str) -> FieldError:
    return FieldError("invalid_field", pointer(name), f"{name[:64]}: given twice.")
