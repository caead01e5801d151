"""An S3 server with the bucket `clips`, as tests need it."""

import contextlib
import importlib.util
import os
from collections.abc import Iterator

import boto3
import pytest

from scripts.benchmarks.harness import swift_server
from tests.support import services

BUCKET_URL = "s3://clips"


@contextlib.contextmanager
def s3_server(*, delay_s: float = 0.0) -> Iterator[str]:
    """The endpoint's URL. Our processes find its keys in the environment.

    `delay_s`: what each call takes at least.
    """
    services.need("swift", importlib.util.find_spec("swift"))
    with swift_server.swift_server(delay_s=delay_s) as server, pytest.MonkeyPatch.context() as env:
        env.setenv("AWS_ACCESS_KEY_ID", swift_server.ACCESS_KEY)
        env.setenv("AWS_SECRET_ACCESS_KEY", swift_server.SECRET_KEY)
        env.setenv("AWS_CONFIG_FILE", os.devnull)
        client = boto3.client("s3", endpoint_url=server.endpoint_url, region_name="us-east-1")
        client.create_bucket(Bucket=BUCKET_URL.removeprefix("s3://"))
        yield server.endpoint_url
