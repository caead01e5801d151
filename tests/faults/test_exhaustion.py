"""A connection pool that runs out while statements wait for a lock."""

from concurrent.futures import ThreadPoolExecutor

import httpx
import pytest
from sqlalchemy import text

from app.store import keys
from tests.support import services


@pytest.fixture
def api(change, store, tmp_path):
    """A client of a real API with one connection to the database for eight threads."""
    settings = change(
        database_pool_size=1,
        database_timeout_s=2.0,
        public_url=f"http://127.0.0.1:{services.free_port()}",
    )
    with store.begin() as tx:
        key = keys.create(tx, "test")[1]
    with (
        services.gunicorn(settings, tmp_path / "api.log") as url,
        httpx.Client(
            base_url=url,
            headers={"Authorization": f"Bearer {key}"},
            timeout=60,
            trust_env=False,
        ) as client,
    ):
        yield client


def test_submits_beyond_the_pool_are_refused_or_completed(api, store, photo):
    def submit(n):
        return api.post(
            "/v1/jobs",
            headers={"Idempotency-Key": f"key-{n}"},
            files={"image": ("a.jpg", photo, "image/jpeg")},
            data={"model": "noop", "region": "us-east"},
        )

    assert submit("first").status_code == 202
    with ThreadPoolExecutor(8) as threads:
        with store.begin() as tx:
            tx.execute(text("LOCK TABLE jobs IN ACCESS EXCLUSIVE MODE"))
            waiting = [threads.submit(submit, n) for n in range(8)]
            with pytest.raises(TimeoutError):
                services.wait_until(lambda: all(w.done() for w in waiting), timeout_s=4)
        answers = [each.result() for each in waiting]
    assert {answer.status_code for answer in answers} <= {202, 503}, answers
    for answer in answers:
        if answer.status_code == 503:
            assert answer.json()["retryable"] is True
    # The same keys again: a refused submit may have been committed, and none is made twice.
    again = [submit(n) for n in range(8)]
    assert {answer.status_code for answer in again} <= {200, 202}
    with store.begin() as tx:
        assert tx.execute(text("SELECT count(*) FROM jobs")).scalar_one() == 9
