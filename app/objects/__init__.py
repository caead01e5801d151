"""Object storage: pictures and clips, in a local directory or in S3."""

import time
from collections.abc import Callable, Sequence
from pathlib import Path
from urllib.parse import unquote, urlsplit

from app.config.settings import ConfigError, Settings
from app.objects.base import ObjectInfo, Objects
from app.objects.local import LocalObjects

__all__ = ["LocalObjects", "ObjectInfo", "Objects", "objects_for", "open_objects"]


def open_objects(
    url: str,
    *,
    secret_key: str | Sequence[str],
    public_url: str,
    now: Callable[[], float] = time.time,
    s3_endpoint_url: str | None = None,
    s3_public_endpoint_url: str | None = None,
) -> Objects:
    """Return the store at `file:///directory` or `s3://bucket[/prefix]` without connecting to it.

    `secret_key` signs the URLs of a local store, which the API serves below `public_url`; of
    several, the first signs and all are accepted. They expire by `now`, in Unix seconds. S3 signs
    its own URLs, for `s3_public_endpoint_url` if clients reach it under another name, by the clock
    of this host: S3 refuses requests whose time is off.

    Raises:
        ValueError: unsupported URL; the message is one sentence for the operator.
    """
    parts = urlsplit(url)
    if parts.scheme == "file" and not parts.netloc and len(parts.path) > 1:
        secret_keys = (secret_key,) if isinstance(secret_key, str) else secret_key
        return LocalObjects(Path(unquote(parts.path)), secret_keys, public_url, now)
    if parts.scheme == "s3" and parts.netloc:
        # boto3 takes 30 MB and a quarter of a second to import; a local store does without it.
        from app.objects.s3 import S3Objects

        return S3Objects(
            parts.netloc,
            parts.path.strip("/"),
            endpoint_url=s3_endpoint_url or None,
            public_endpoint_url=s3_public_endpoint_url or None,
        )
    raise ValueError("OBJECTS_URL must be file:///directory or s3://bucket[/prefix].")


def objects_for(settings: Settings, now: Callable[[], float] = time.time) -> Objects:
    """The deployment's store. Raises ConfigError for an unsupported OBJECTS_URL.

    `now`: the clock that signed URLs of a local store expire by; see `open_objects`.
    """
    try:
        return open_objects(
            settings.objects_url,
            secret_key=settings.secret_keys,
            public_url=settings.public_url,
            now=now,
            s3_endpoint_url=settings.s3_endpoint_url,
            s3_public_endpoint_url=settings.s3_public_endpoint_url,
        )
    except ValueError as error:
        raise ConfigError(str(error)) from error
