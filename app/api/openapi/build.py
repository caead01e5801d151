"""Builds the OpenAPI 3.1 document from the routes, their `@describe` and the models.

Nothing is written twice: paths come from the URL map, schemas from pydantic, the values allowed in
this deployment (regions, models, sizes) from its settings, errors from the list of codes.
"""

import inspect
import json
import re
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping
from functools import cached_property
from typing import Any

from flask import Flask
from pydantic import BaseModel
from pydantic.json_schema import models_json_schema
from werkzeug.routing import Rule

from app.api.models.problem import PROBLEM, Problem
from app.api.openapi import shared
from app.api.openapi.codes import CODES
from app.api.openapi.examples import EXAMPLES
from app.api.openapi.operation import Operation, ResponseSpec
from app.api.openapi.shared import JsonSchema
from app.config.settings import Settings
from app.domain.webhooks import GONE
from app.public.webhook_message import JobMessage, TestMessage
from stillmotion.signatures import TEST_EVENT, WebhookEvent

REF = "#/components/schemas/{model}"
UNSAFE = frozenset({"POST", "PUT", "PATCH", "DELETE"})

Model = type[BaseModel]


def routes(app: Flask) -> Iterator[tuple[Rule, str, Operation]]:
    """Every route of the API with its method and operation, without the pages and their files.

    Raises TypeError for a route without `@describe`.
    """
    for rule in app.url_map.iter_rules():
        if rule.endpoint.startswith("web."):
            continue
        operation = getattr(app.view_functions[rule.endpoint], "operation", None)
        if operation is None:
            raise TypeError(f"{rule.endpoint} has no @describe; the OpenAPI document needs it")
        for method in sorted((rule.methods or set()) - {"HEAD", "OPTIONS"}):
            yield rule, method, operation


class Document:
    """The document of an application. Raises TypeError like `routes`.

    Built on first use: it takes 0.1 s, which tools that only create the application can skip.
    """

    def __init__(self, app: Flask, settings: Settings):
        self._app, self._settings = app, settings
        list(routes(app))

    @cached_property
    def value(self) -> dict[str, Any]:
        return _Builder(self._settings).document(self._app)

    @cached_property
    def text(self) -> str:
        return json.dumps(self.value, separators=(",", ":"))


class _Builder:
    def __init__(self, settings: Settings):
        self._settings = settings
        self._served = _served(settings)
        self._models: set[tuple[Model, Any]] = {(Problem, "serialization")}
        self._schemas: dict[str, JsonSchema] = {}

    def document(self, app: Flask) -> dict[str, Any]:
        listed = list(routes(app))
        self._path_parameter = {
            app.view_functions[rule.endpoint].__name__: next(iter(_names(rule)), None)
            for rule, _, _ in listed
        }
        paths: dict[str, dict[str, Any]] = defaultdict(dict)
        for rule, method, operation in listed:
            view = app.view_functions[rule.endpoint]
            path = re.sub(r"<(?:\w+:)?(\w+)>", r"{\1}", rule.rule)
            paths[path][method.lower()] = {
                "operationId": view.__name__,
                "tags": [shared.GROUP_OF[rule.endpoint.partition(".")[0]]],
                **_words(view),
                **self._operation(rule, method, operation),
            }
        webhooks = {
            event.value: {"post": self._webhook(event.value, JobMessage)} for event in WebhookEvent
        } | {TEST_EVENT: {"post": self._webhook(TEST_EVENT, TestMessage)}}
        return {
            "openapi": "3.1.0",
            "info": {
                "title": "Stillmotion",
                "version": shared.VERSION,
                "summary": "Turns a still picture into a short MP4.",
                "description": shared.ABOUT,
                "license": {"name": "Apache-2.0", "identifier": "Apache-2.0"},
            },
            "servers": [{"url": self._settings.public_url.rstrip("/")}],
            "tags": [{"name": name, "description": text} for name, text in shared.GROUPS.items()],
            "components": {
                "securitySchemes": shared.SECURITY,
                "headers": shared.RESPONSE_HEADERS,
                "parameters": {
                    name: {"name": name, "in": "header", **shown}
                    for name, shown in shared.REQUEST_HEADERS.items()
                },
                # Before the paths: this step decides the names of the schemas.
                "schemas": _tidy(self._components(), self._served),
            },
            "paths": _tidy(paths, self._served),
            "webhooks": _tidy(webhooks, self._served),
        }

    def _operation(self, rule: Rule, method: str, operation: Operation) -> dict[str, Any]:
        parameters = [
            {"name": name, "in": "path", "required": True, "schema": shared.PATH[name]}
            for name in _names(rule)
        ]
        parameters += [] if operation.query is None else self._query(operation.query)
        parameters += [{"$ref": f"#/components/parameters/{name}"} for name in operation.headers]
        shown: dict[str, Any] = {"parameters": parameters}
        if content := self._body(operation):
            shown["requestBody"] = {"content": content, "required": not operation.may_be_empty}
        shown["responses"] = {
            **{str(status): self._response(spec) for status, spec in operation.responses.items()},
            **self._problems(_codes(rule, method, operation), operation),
        }
        # OpenAPI lets these schemes name roles; ours are scopes.
        roles = [] if operation.scope == "any" else [operation.scope]
        shown["security"] = [] if operation.scope is None else [{"key": roles}, {"session": roles}]
        return shown

    def _query(self, model: Model) -> list[dict[str, Any]]:
        schema = self._inline(model)
        found = []
        for name, field in schema["properties"].items():
            entry = {"name": name, "in": "query", "required": name in schema.get("required", ())}
            if text := field.pop("description", None):
                entry["description"] = text
            if field.get("type") == "object":  # as name[key]=value
                entry |= {"style": "deepObject", "explode": True}
            found.append(entry | {"schema": field})
        return found

    def _body(self, operation: Operation) -> dict[str, Any]:
        content: dict[str, Any] = {}
        if operation.form is not None:
            content["multipart/form-data"] = self._form(operation)
        if operation.body is not None:
            content[operation.body_media_type] = {"schema": self._ref(operation.body, "validation")}
            if examples := operation.examples:
                listed = {name: {"value": value} for name, value in examples.items()}
                content[operation.body_media_type]["examples"] = listed
        elif operation.body_media_type != "application/json":
            content[operation.body_media_type] = {"schema": {}}
        return content

    def _form(self, operation: Operation) -> dict[str, Any]:
        assert operation.form is not None
        schema = self._inline(operation.form)
        encoding: dict[str, Any] = {}
        if operation.picture is not None:
            schema["properties"][operation.picture] = {
                "description": "The picture's file: JPEG, PNG, WebP, HEIC, AVIF, GIF, BMP or TIFF.",
                "type": "string",
                "format": "binary",
            }
            encoding[operation.picture] = {"contentType": "image/*"}
            if "upload_id" in schema["properties"]:
                schema["oneOf"] = [{"required": [operation.picture]}, {"required": ["upload_id"]}]
            else:
                schema["required"] = [*schema["required"], operation.picture]
        return {"schema": schema, "encoding": encoding}

    def _response(self, spec: ResponseSpec) -> dict[str, Any]:
        names = ("X-Request-Id", *spec.headers)
        shown: dict[str, Any] = {
            "description": spec.text,
            "headers": _headers(names),
        }
        if spec.model is not None:
            media: dict[str, Any] = {"schema": self._ref(spec.model, "serialization")}
            if spec.model in EXAMPLES:
                media["example"] = EXAMPLES[spec.model]
            shown["content"] = {spec.media_type or "application/json": media}
        elif spec.media_type is not None:
            shown["content"] = {spec.media_type: {"schema": {"type": "string"}}}
        if spec.leads_to:
            shown["links"] = {
                name: {
                    "operationId": name,
                    "parameters": {self._path_parameter[name]: "$response.body#/id"},
                }
                for name in spec.leads_to
            }
        return shown

    def _problems(self, codes: Iterable[str], operation: Operation) -> dict[str, Any]:
        by_status = defaultdict(list)
        for code in CODES:  # in the order of the list
            if code in codes:
                by_status[CODES[code][0]].append(code)
        model = operation.problem or Problem
        return {
            str(status): {
                "description": " ".join(f"`{code}`: {CODES[code][1]}" for code in of_status),
                "headers": _headers(("X-Request-Id", *_PROBLEM_HEADERS.get(status, ()))),
                "content": {
                    PROBLEM: {
                        "schema": {
                            "allOf": [self._ref(model, "serialization")],
                            "properties": {
                                "status": {"const": status},
                                "code": {"enum": of_status},
                            },
                        }
                    }
                },
            }
            for status, of_status in sorted(by_status.items())
        }

    def _webhook(self, event: str, model: Model) -> dict[str, Any]:
        name = event.replace(".", "_")
        message = {"schema": self._ref(model, "serialization")}
        if model in EXAMPLES:
            message["example"] = EXAMPLES[model]
        return {
            "operationId": f"on_{name}",
            "tags": ["Webhooks"],
            "summary": _WEBHOOK_WORDS[event],
            "description": "Respond with a 2xx within 15 seconds; anything else is retried.",
            "parameters": [
                {"name": header, "in": "header", "required": True, **shown}
                for header, shown in shared.WEBHOOK_HEADERS.items()
            ],
            "requestBody": {"required": True, "content": {"application/json": message}},
            "responses": {
                "2XX": {"description": "Received."},
                str(GONE): {"description": "Disables the webhook."},
            },
            "security": [],
        }

    def _ref(self, model: Model, mode: str) -> JsonSchema:
        """A placeholder for the model's schema; `_components` decides its name."""
        self._models.add((model, mode))
        return {"x-model": (model, mode)}

    def _inline(self, model: Model) -> JsonSchema:
        """A model as the flat fields of a query or form; its parts become components."""
        schema = model.model_json_schema(ref_template=REF)
        self._schemas |= schema.pop("$defs", {})
        schema["properties"] = {
            name: _without_null(field) for name, field in schema["properties"].items()
        }
        return schema

    def _components(self) -> dict[str, JsonSchema]:
        ordered = sorted(self._models, key=lambda entry: (entry[0].__name__, entry[1]))
        refs, found = models_json_schema(ordered, ref_template=REF)
        self._served |= {key: refs[key] for key in ordered}
        codes = {
            "type": "string",
            "description": "Every error code. Codes are stable.",
            "enum": list(CODES),
            "x-codes": {
                code: {"status": status, "when": text} for code, (status, text) in CODES.items()
            },
        }
        return dict(sorted({**self._schemas, **found["$defs"], "Code": codes}.items()))


_PROBLEM_HEADERS = {
    401: ("WWW-Authenticate",),
    408: ("Retry-After",),
    429: ("Retry-After", *shared.RATE_HEADERS),
    503: ("Retry-After",),
}

_WEBHOOK_WORDS = {
    WebhookEvent.SUCCEEDED: "A job has its clip",
    WebhookEvent.FAILED: "A job has failed",
    WebhookEvent.CANCELED: "A job was canceled",
    WebhookEvent.EXPIRED: "A job did not start in time",
    TEST_EVENT: "A test requested by the owner",
}


def _headers(names: Iterable[str]) -> dict[str, JsonSchema]:
    return {name: {"$ref": f"#/components/headers/{name}"} for name in names}


def _names(rule: Rule) -> list[str]:
    """The parameters of a route's path, in order."""
    return re.findall(r"<(?:\w+:)?(\w+)>", rule.rule)


def _words(view: Any) -> dict[str, str]:
    """The first clause of a view's docstring, and all of it if there is more."""
    text = inspect.getdoc(view) or ""
    summary = re.split(r"[.;:](?:\s|$)", text, maxsplit=1)[0]
    more = text.rstrip(".") != summary
    return {"summary": summary} | ({"description": text} if more else {})


def _codes(rule: Rule, method: str, operation: Operation) -> set[str]:
    """Every code of an operation: the declared ones, and those that follow from its fields."""
    codes = {"internal_error", *operation.codes}
    if rule.arguments:
        codes.add("not_found")  # for a path with extra segments
    if operation.scope is not None:
        codes |= {"missing_api_key", "invalid_api_key", "invalid_session", "database_unavailable"}
        codes |= {"cross_site_request"} if method in UNSAFE else set()
    if operation.scope in ("jobs", "admin"):
        codes.add("insufficient_scope")
    if operation.query is not None or operation.takes_no_query:
        codes |= {"unknown_field", "invalid_field"}
    if operation.body is not None:
        codes |= {"invalid_json", "unknown_field", "missing_field", "invalid_field"}
    if operation.form is not None:
        codes.add("invalid_form")
    if operation.may_be_empty:
        codes.add("unsupported_media_type")
    if operation.body is not None or operation.form is not None:
        codes |= {"bad_request", "body_too_large", "body_too_slow", "too_many_uploads"}
    return codes


def _served(settings: Settings) -> dict[Any, JsonSchema]:
    """The values that fields may have in this deployment, by their `x-served` mark."""
    profiles = [settings.profiles[name] for name in settings.served_profiles]
    numbers = {
        field: {
            "minimum": min(getattr(profile, f"min_{field}") for profile in profiles),
            "maximum": max(getattr(profile, f"max_{field}") for profile in profiles),
        }
        for field in ("frames", "fps", "size")
    }
    return {
        "code": {"$ref": REF.format(model="Code")},
        "upload": {"maximum": settings.max_upload_mb * 1_000_000},
        "region": {"enum": list(settings.topology.names)},
        "model": {"enum": list(settings.served_profiles)},
        **numbers,
    }


def _without_null(schema: JsonSchema) -> JsonSchema:
    kinds = [kind for kind in schema.get("anyOf", ()) if kind != {"type": "null"}]
    if len(kinds) != 1:
        return schema
    kind: JsonSchema = kinds[0]
    return {name: value for name, value in schema.items() if name != "anyOf"} | kind


def _tidy(node: Any, served: Mapping[Any, JsonSchema]) -> Any:
    """Replace the marks, and drop the titles and null defaults that pydantic adds."""
    if isinstance(node, list | tuple):
        return [_tidy(item, served) for item in node]
    if not isinstance(node, dict):
        return node
    kept: dict[str, Any] = {}
    for name, value in node.items():
        if name in ("x-served", "x-model"):
            kept |= served[value]
        elif name in ("example", "examples"):
            kept[name] = value
        elif not (name == "title" and isinstance(value, str)) and (name, value) != (
            "default",
            None,
        ):
            kept[name] = _tidy(value, served)
    return kept
