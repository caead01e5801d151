"""A test client that checks every response against the OpenAPI document.

Successful bodies need no check here: `@describe` serialises only the models from which the document
is built. This checks statuses, media types and error codes.
"""

import re

from flask.testing import FlaskClient
from werkzeug.exceptions import HTTPException

# These 422s name no field, because the whole request is wrong.
WHOLE = {"idempotency_key_reused"}


class Contract:
    """The statuses, media types and codes that the document lists for each operation."""

    def __init__(self, document, url_map):
        self.document = document
        self._urls = url_map.bind("localhost")

    def check(self, response):
        method, path = response.request.method, response.request.path
        try:
            rule, _ = self._urls.match(path, method, return_rule=True)
        except HTTPException:
            return  # an unknown path or method is not an operation
        if rule.endpoint.startswith("web.") or method in ("HEAD", "OPTIONS"):
            return
        name = re.sub(r"<(?:\w+:)?(\w+)>", r"{\1}", rule.rule)
        listed = self.document["paths"][name][method.lower()]["responses"]
        where = f"{method} {name} {response.status_code}"
        assert str(response.status_code) in listed, f"{where} is not in the document"
        content = listed[str(response.status_code)].get("content", {})
        if not content:
            assert not response.is_sequence or not response.data, f"{where} has a body"
            return
        assert response.mimetype in content or "*/*" in content, f"{where}: {response.mimetype}"
        if response.mimetype == "application/problem+json":
            body = response.get_json(force=True)
            codes = content[response.mimetype]["schema"]["properties"]["code"]["enum"]
            assert body["code"] in codes, f"{where}: {body['code']} is not in the document"
            if response.status_code == 422 and body["code"] not in WHOLE:
                assert body.get("errors"), f"{where} names no field: {body}"

    def client_class(self):
        """The class of a Flask test client that checks every response."""
        contract = self

        class CheckedClient(FlaskClient):
            def open(self, *args, **options):
                response = super().open(*args, **options)
                contract.check(response)
                return response

        return CheckedClient
