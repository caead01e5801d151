"""What the OpenAPI document promises of answers, and a client that holds every answer to it."""

import re

import jsonschema_rs
from flask.testing import FlaskClient
from werkzeug.exceptions import HTTPException

# What a 422 is about is a field, except here: it is the whole request.
WHOLE = {"idempotency_key_reused"}


class Contract:
    """The document with its objects closed: a field that it does not know breaks it."""

    def __init__(self, document, url_map):
        self.document = document
        self._urls = url_map.bind("localhost")
        schemas = document["components"]["schemas"]
        closed = {
            name: schema | ({"additionalProperties": False} if schema.get("properties") else {})
            for name, schema in schemas.items()
        }
        self._components = {"components": {"schemas": closed}}
        self._validators = {}

    def check(self, answer):
        method, path = answer.request.method, answer.request.path
        try:
            rule, _ = self._urls.match(path, method, return_rule=True)
        except HTTPException:
            return  # no operation: an unknown address or method
        if rule.endpoint.startswith("web.") or method in ("HEAD", "OPTIONS"):
            return
        name = re.sub(r"<(?:\w+:)?(\w+)>", r"{\1}", rule.rule)
        told = self.document["paths"][name][method.lower()]["responses"]
        where = f"{method} {name} {answer.status_code}"
        assert str(answer.status_code) in told, f"{where} is not in the document"
        content = told[str(answer.status_code)].get("content", {})
        if not content:
            assert not answer.is_sequence or not answer.data, f"{where} has a body"
            return
        if not answer.mimetype.endswith("json"):
            assert answer.mimetype in content or "*/*" in content, f"{where}: {answer.mimetype}"
            return
        if where not in self._validators:
            schema = content[answer.mimetype]["schema"] | self._components
            self._validators[where] = jsonschema_rs.Draft202012Validator(
                schema, validate_formats=True
            )
        body = answer.get_json(force=True)
        faults = [
            f"{error.instance_path}: {error.message}"
            for error in self._validators[where].iter_errors(body)
        ]
        assert not faults, f"{where}: {faults}: {body}"
        if answer.status_code == 422 and body["code"] not in WHOLE:
            assert body.get("errors"), f"{where} names no field: {body}"

    def client(self):
        """The class of a Flask test client that checks what it gets."""
        contract = self

        class Checked(FlaskClient):
            def open(self, *args, **options):
                answer = super().open(*args, **options)
                contract.check(answer)
                return answer

        return Checked
