"""The client knows what the API says today, and both clients can do the same."""

import inspect
import time
from uuid import uuid4

import pytest

from app.api.models import job_request, upload, webhook
from app.domain.webhooks import headers, secret_for
from app.public import job
from stillmotion import AsyncClient, Client, Order, answers, verify_webhook
from stillmotion.signatures import InvalidWebhook

PAIRS = [
    (answers.Job, job.Job),
    (answers.Attempt, job.Attempt),
    (answers.Region, job.Region),
    (answers.Queue, job.Queue),
    (answers.Output, job.Output),
    (answers.Metrics, job.Metrics),
    (answers.Webhook, webhook.Webhook),
    (answers.Delivery, webhook.Delivery),
    (answers.Secret, webhook.Secret),
    (answers.Upload, upload.Upload),
]


@pytest.mark.parametrize(("ours", "theirs"), PAIRS)
def test_an_answer_has_the_apis_fields(ours, theirs):
    # What kind of thing it is, and how a picture is put, need no field.
    assert ours.model_fields.keys() == theirs.model_fields.keys() - {"object", "method"}


def test_an_order_has_the_apis_fields():
    named = {"prompt", "upload_id"}  # by arguments of their own
    assert Order.__annotations__.keys() == job_request.JobRequest.model_fields.keys() - named


def test_both_clients_have_the_same_methods():
    def of(client):
        return {
            name: (str(inspect.signature(method)), method.__doc__)
            for name, method in vars(client).items()
            if inspect.isfunction(method) and not name.startswith("_") and name != "close"
        }

    assert of(Client) == of(AsyncClient)
    assert len(of(Client)) > 20
    assert all(words for _, words in of(Client).values())


@pytest.mark.parametrize("body", [b"[]", b"no JSON", b"{}", b'{"type": "job.failed"}'])
def test_a_signed_message_of_somebody_else_is_refused(body):
    secret = secret_for("k" * 32, uuid4())
    with pytest.raises(InvalidWebhook, match="no message"):
        verify_webhook(body, headers([secret], "1", int(time.time()), body), secret)
