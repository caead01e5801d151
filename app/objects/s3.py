"""Objects in a bucket of S3 or a compatible server."""

import contextlib
import threading
from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Any

import boto3
import urllib3
from botocore.config import Config
from botocore.exceptions import BotoCoreError, ClientError

from app.domain.errors import ObjectMissing, StorageUnavailable
from app.objects.base import ObjectInfo, Objects, check_key, check_url_options

CONNECT_TIMEOUT_S = 2
READ_TIMEOUT_S = 10
# One retry here. Callers handle further failures: 503 for a client, backoff for a job.
ATTEMPTS = 2
POOL_SIZE = 32


class S3Objects(Objects):
    """A bucket, or the part of one below `prefix`. boto3 finds credentials and region."""

    def __init__(
        self,
        bucket: str,
        prefix: str = "",
        *,
        endpoint_url: str | None = None,
        public_endpoint_url: str | None = None,
    ):
        self._bucket = bucket
        self._prefix = f"{check_key(prefix)}/" if prefix else ""
        self._endpoint_url = endpoint_url
        self._public_endpoint_url = public_endpoint_url or endpoint_url
        self._lock = threading.Lock()
        self._clients: dict[str | None, Any] = {}

    def put(self, key: str, data: bytes, content_type: str) -> None:
        """See Objects.put."""
        with _errors(key):
            self._client().put_object(**self._at(key), Body=data, ContentType=content_type)

    def get(self, key: str) -> bytes:
        """See Objects.get."""
        with _errors(key):
            data: bytes = self._client().get_object(**self._at(key))["Body"].read()
            return data

    def delete(self, key: str) -> None:
        """See Objects.delete."""
        with contextlib.suppress(ObjectMissing), _errors(key):
            self._client().delete_object(**self._at(key))

    def head(self, key: str) -> ObjectInfo | None:
        """See Objects.head."""
        with contextlib.suppress(ObjectMissing), _errors(key):
            found = self._client().head_object(**self._at(key))
            return ObjectInfo(key, found["ContentLength"], found["LastModified"].astimezone(UTC))
        return None

    def list(self, prefix: str = "", older_than: datetime | None = None) -> Iterator[ObjectInfo]:
        """See Objects.list."""
        with _errors(prefix):
            pages = self._client().get_paginator("list_objects_v2")
            for page in pages.paginate(Bucket=self._bucket, Prefix=self._prefix + prefix):
                for found in page.get("Contents", ()):
                    key = found["Key"].removeprefix(self._prefix)
                    modified = found["LastModified"].astimezone(UTC)
                    if older_than is None or modified < older_than:
                        yield ObjectInfo(key, found["Size"], modified)

    def signed_url(
        self,
        key: str,
        *,
        expires_s: int,
        filename: str | None = None,
        content_type: str | None = None,
    ) -> str:
        """See Objects.signed_url. Makes no request."""
        check_url_options(expires_s, filename, content_type)
        params = self._at(key)
        if filename is not None:
            params["ResponseContentDisposition"] = f'inline; filename="{filename}"'
        if content_type is not None:
            params["ResponseContentType"] = content_type
        with _errors(key):
            # The signature covers the host, so use the one that clients see.
            url: str = self._client(self._public_endpoint_url).generate_presigned_url(
                "get_object", Params=params, ExpiresIn=expires_s
            )
            return url

    def signed_put_url(self, key: str, *, expires_s: int, size: int) -> str:
        """See Objects.signed_put_url. The length is signed: S3 refuses a body of any other."""
        check_url_options(expires_s, None, None)
        with _errors(key):
            url: str = self._client(self._public_endpoint_url).generate_presigned_url(
                "put_object", Params={**self._at(key), "ContentLength": size}, ExpiresIn=expires_s
            )
            return url

    def check(self) -> None:
        """See Objects.check."""
        with _errors(""):
            try:
                self._client().head_bucket(Bucket=self._bucket)
            except ClientError as error:
                if _status(error) == 404:
                    raise StorageUnavailable("The bucket does not exist.") from error
                raise

    def _at(self, key: str) -> dict[str, str]:
        return {"Bucket": self._bucket, "Key": self._prefix + check_key(key)}

    def _client(self, endpoint_url: str | None = None) -> Any:
        """Return the client for an endpoint (default: the one for our own requests)."""
        endpoint_url = endpoint_url or self._endpoint_url
        with self._lock:  # threads may share clients, but not create them concurrently
            if endpoint_url not in self._clients:
                self._clients[endpoint_url] = _new_client(endpoint_url)
            return self._clients[endpoint_url]


def _new_client(endpoint_url: str | None) -> Any:
    session = boto3.session.Session()
    config = Config(
        signature_version="s3v4",
        connect_timeout=CONNECT_TIMEOUT_S,
        read_timeout=READ_TIMEOUT_S,
        retries={"mode": "standard", "total_max_attempts": ATTEMPTS},
        max_pool_connections=POOL_SIZE,
        tcp_keepalive=True,
    )
    if endpoint_url:
        # Servers other than AWS seldom have a host name per bucket, and not all of them support the
        # checksums that boto3 adds by default.
        config = config.merge(
            Config(
                s3={"addressing_style": "path"},
                request_checksum_calculation="when_required",
                response_checksum_validation="when_required",
            )
        )
    return session.client(
        "s3",
        endpoint_url=endpoint_url,
        region_name=session.region_name or "us-east-1",
        config=config,
    )


@contextlib.contextmanager
def _errors(key: str) -> Iterator[None]:
    """Map boto3's errors. Their messages name hosts and request ids; those stay in the cause."""
    try:
        yield
    except ClientError as error:
        code = error.response.get("Error", {}).get("Code", "")
        if _status(error) == 404 and code != "NoSuchBucket":
            raise ObjectMissing(f"No such object: {key}.") from error
        raise StorageUnavailable(f"Object storage refused the request ({code}).") from error
    except (BotoCoreError, urllib3.exceptions.HTTPError, OSError) as error:
        raise StorageUnavailable(
            f"Object storage could not be reached ({type(error).__name__})."
        ) from error


def _status(error: ClientError) -> int:
    return int(error.response.get("ResponseMetadata", {}).get("HTTPStatusCode", 0))
