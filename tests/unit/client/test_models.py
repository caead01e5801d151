"""The client knows the API's fields, and both clients have the same methods."""

import inspect
import time
from uuid import uuid4

import pytest

from app.api.models import job_request, upload, webhook
from app.domain.webhooks import headers, secret_for
from app.public import job
from stillmotion import AsyncClient, Client, SubmitOptions, models, verify_webhook
from stillmotion.signatures import InvalidWebhook

PAIRS = [
    (models.Job, job.Job),
    (models.Attempt, job.Attempt),
    (models.Region, job.Region),
    (models.Queue, job.Queue),
    (models.PromptUnderstood, job.PromptUnderstood),
    (models.Estimate, job_request.Estimate),
    (models.Output, job.Output),
    (models.Metrics, job.Metrics),
    (models.Webhook, webhook.Webhook),
    (models.Delivery, webhook.Delivery),
    (models.Secret, webhook.Secret),
    (models.Upload, upload.Upload),
]


@pytest.mark.parametrize(("ours", "theirs"), PAIRS)
def test_a_model_has_the_apis_fields(ours, theirs):
    # The kind of object and the method of an upload need no field. A prompt's object does.
    unneeded = {"method"} if ours is models.PromptUnderstood else {"object", "method"}
    assert ours.model_fields.keys() == theirs.model_fields.keys() - unneeded


def test_submit_options_have_the_apis_fields():
    named = {"prompt", "upload_id"}  # arguments of their own
    assert (
        SubmitOptions.__annotations__.keys() == job_request.JobRequest.model_fields.keys() - named
    )


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
def test_a_signed_message_that_is_not_ours_is_refused(body):
    secret = secret_for("k" * 32, uuid4())
    with pytest.raises(InvalidWebhook, match="not a Stillmotion"):
        verify_webhook(body, headers([secret], "1", int(time.time()), body), secret)
