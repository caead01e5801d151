"""The OpenAPI document prepared for the page at `/docs`, in the page's order.

The document is the only source, so the page cannot contradict it.
"""

import json
import re
import shlex
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from markupsafe import Markup, escape

METHODS = ("post", "get", "put", "patch", "delete")

_CODE = re.compile(r"`([^`]+)`")
_BOLD = re.compile(r"\*\*([^*]+)\*\*")


@dataclass(frozen=True)
class Field:
    """A parameter, or a field of an object. `link`: the schema named in `kind`."""

    name: str
    kind: str
    link: str | None
    required: bool
    text: str
    where: str = ""


@dataclass(frozen=True)
class Body:
    media_type: str
    fields: list[Field]


@dataclass(frozen=True)
class ResponseView:
    status: str
    text: str
    kind: str
    link: str | None
    headers: list[str]
    example: str | None


@dataclass(frozen=True)
class Operation:
    id: str
    method: str
    path: str
    summary: str
    text: str
    scope: str | None
    parameters: list[Field]
    bodies: list[Body]
    responses: list[ResponseView]
    problems: dict[str, list[str]]  # status -> codes
    curl: str | None
    message: str | None = None  # an example of what a webhook receives


@dataclass(frozen=True)
class Group:
    name: str
    text: str
    operations: list[Operation] = field(default_factory=list)


@dataclass(frozen=True)
class Schema:
    name: str
    text: str
    fields: list[Field]
    values: list[str]


@dataclass(frozen=True)
class Code:
    name: str
    status: int
    when: str


class Reference:
    """The whole page."""

    def __init__(self, document: Mapping[str, Any]):
        self._document = document
        self.title: str = document["info"]["title"]
        self.about: str = document["info"]["description"]
        self.server: str = document["servers"][0]["url"]
        self.groups = [Group(tag["name"], tag.get("description", "")) for tag in document["tags"]]
        by_name = {group.name: group for group in self.groups}
        for operation, tag in self._operations():
            by_name[tag].operations.append(operation)
        self.codes = [
            Code(name, known["status"], known["when"])
            for name, known in document["components"]["schemas"]["Code"]["x-codes"].items()
        ]
        self.schemas = list(self._schemas())

    def _operations(self) -> Iterator[tuple[Operation, str]]:
        for path, methods in self._document["paths"].items():
            for method in METHODS:
                if method in methods:
                    yield self._operation(method, path, methods[method]), methods[method]["tags"][0]
        for event, methods in self._document["webhooks"].items():
            yield self._operation("event", event, methods["post"]), methods["post"]["tags"][0]

    def _operation(self, method: str, path: str, shown: Mapping[str, Any]) -> Operation:
        parameters = [self._resolve(parameter) for parameter in shown["parameters"]]
        content = shown.get("requestBody", {}).get("content", {})
        roles = [role for need in shown["security"] for role in need.get("key", ())]
        scope = None if not shown["security"] else roles[0] if roles else "any"
        sent = None
        if method == "event":
            sent = _json(content["application/json"].get("example"))
        return Operation(
            id=shown["operationId"],
            method=method.upper(),
            path=path,
            summary=shown["summary"],
            text=shown.get("description", ""),
            scope=scope,
            parameters=[
                self._field(
                    each["name"],
                    each["schema"] | {"description": each.get("description", "")},
                    required=each.get("required", False),
                    where=each["in"],
                )
                for each in parameters
            ],
            bodies=[
                Body(media_type, list(self._fields(media["schema"])))
                for media_type, media in content.items()
            ],
            responses=[
                self._response(status, response)
                for status, response in shown["responses"].items()
                if status[0] in "23"
            ],
            problems={
                status: media["schema"]["properties"]["code"]["enum"]
                for status, response in shown["responses"].items()
                if (media := response.get("content", {}).get("application/problem+json"))
            },
            curl=None if method == "event" else self._curl(method, path, content, scope),
            message=sent,
        )

    def _response(self, status: str, response: Mapping[str, Any]) -> ResponseView:
        content: Mapping[str, Any] = response.get("content", {})
        media_type: str | None = next(iter(content), None)
        media: Mapping[str, Any] = {} if media_type is None else content[media_type]
        kind, link = ("nothing", None) if media_type is None else _kind(media["schema"])
        if link is None and media_type is not None:
            kind = media_type
        headers = [name for name in response.get("headers", {}) if name != "X-Request-Id"]
        return ResponseView(
            status, response["description"], kind, link, headers, _json(media.get("example"))
        )

    def _curl(self, method: str, path: str, content: Mapping[str, Any], scope: str | None) -> str:
        address = re.sub(r"\{(\w+)\}", lambda match: "$" + match[1].upper(), path)
        parts = ["curl" if method == "get" else f"curl -X {method.upper()}"]
        if scope is not None:
            parts.append('-H "Authorization: Bearer $KEY"')
        if form := content.get("multipart/form-data"):
            names = [name for name, each in form["schema"]["properties"].items() if _is_file(each)]
            parts += [f"-F {name}=@photo.jpg" for name in names] + ['-F prompt="gentle waves"']
        elif body := content.get("application/json"):
            parts.append("-H 'Content-Type: application/json'")
            example = next(iter(body.get("examples", {}).values()), {"value": self._least(body)})
            parts.append(f"-d {shlex.quote(json.dumps(example['value']))}")
        elif content:
            parts.append("--data-binary @photo.jpg")
        return " \\\n  ".join([*parts, f'"{self.server}{address}"'])

    def _least(self, media: Mapping[str, Any]) -> dict[str, Any]:
        """The smallest body that the schema accepts."""
        schema = self._resolve(media["schema"])
        return {
            name: "..." if each.get("type") == "string" else each.get("minimum", 0)
            for name, each in schema.get("properties", {}).items()
            if name in schema.get("required", ())
        }

    def _schemas(self) -> Iterator[Schema]:
        for name, schema in self._document["components"]["schemas"].items():
            if name != "Code":  # it has its own list
                values = [str(value) for value in schema.get("enum", ())]
                fields = list(self._fields(schema))
                yield Schema(name, schema.get("description", ""), fields, values)

    def _fields(self, schema: Mapping[str, Any]) -> Iterator[Field]:
        whole = self._resolve(schema)
        for name, each in whole.get("properties", {}).items():
            yield self._field(name, each, required=name in whole.get("required", ()))

    def _field(
        self, name: str, schema: Mapping[str, Any], *, required: bool, where: str = ""
    ) -> Field:
        kind, link = _kind(schema)
        if (default := schema.get("default")) not in (None, "", {}):
            kind += f", default {json.dumps(default)}"
        return Field(name, kind, link, required, schema.get("description", ""), where)

    def _resolve(self, node: Mapping[str, Any]) -> Mapping[str, Any]:
        while "$ref" in node:
            found: Any = self._document
            for part in node["$ref"].removeprefix("#/").split("/"):
                found = found[part]
            node = found
        return node


def words(text: str) -> Markup:
    """Render the Markdown that descriptions use: paragraphs, `code`, **strong**."""
    shown = []
    for paragraph in filter(None, re.split(r"\n\s*\n", text.strip())):
        safe = _CODE.sub(r"<code>\1</code>", str(escape(paragraph)))
        shown.append("<p>" + _BOLD.sub(r"<strong>\1</strong>", safe) + "</p>")
    return Markup("".join(shown))


def _kind(schema: Mapping[str, Any]) -> tuple[str, str | None]:
    """The kind of a value in words, and the schema that the words name."""
    if "$ref" in schema:
        name = schema["$ref"].rpartition("/")[2]
        return name, name
    if kinds := schema.get("anyOf", schema.get("oneOf")):
        shown = [_kind(kind) for kind in kinds]
        link = next((link for _, link in shown if link), None)
        return " or ".join(text for text, _ in shown), link
    if "const" in schema:
        return json.dumps(schema["const"]), None
    if values := schema.get("enum"):
        return " | ".join(map(str, values)), None
    if schema.get("type") == "array":
        text, link = _kind(schema.get("items", {}))
        return f"list of {text}", link
    text = schema.get("type", "anything")
    if text == "object" and (values := schema.get("additionalProperties")):
        of, link = _kind(values) if isinstance(values, dict) else ("anything", None)
        return f"map of {of}", link
    if _is_file(schema):
        return "file", None
    if form := schema.get("format"):
        text = f"{text}, {form}"
    least, most = (schema.get(name) for name in ("minimum", "maximum"))
    if least is not None or most is not None:
        ends = ("" if end is None else f"{end:,}" for end in (least, most))
        return f"{text}, {'–'.join(ends)}", None
    if length := schema.get("maxLength"):
        return f"{text}, at most {length:,} characters", None
    return text, None


def _is_file(schema: Mapping[str, Any]) -> bool:
    return schema.get("format") == "binary"


def _json(value: Any) -> str | None:
    return None if value is None else json.dumps(value, indent=2)
