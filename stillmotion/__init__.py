"""The Python client of Stillmotion, which turns a picture into a short clip.

    from stillmotion import Client

    with Client("https://stillmotion.example", "sm_...") as client:
        client.run("photo.jpg", "gentle waves", to="clip.mp4")

`Client()` reads STILLMOTION_SERVER and STILLMOTION_API_KEY. `AsyncClient` has the same methods for
asyncio. `verify_webhook` checks the messages that a webhook receives.
"""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from stillmotion.asynchronous import AsyncClient
    from stillmotion.errors import (
        ConfigurationError,
        FieldError,
        JobFailed,
        Rejected,
        StillmotionError,
        UnexpectedResponse,
        Unreachable,
        WaitTimeout,
    )
    from stillmotion.jobs import SubmitOptions
    from stillmotion.models import (
        CompletedEvent,
        Delivery,
        Estimate,
        Event,
        Job,
        ProgressEvent,
        QueueEvent,
        StatusEvent,
        TimelineEntry,
        Upload,
        Usage,
        Webhook,
    )
    from stillmotion.signatures import InvalidWebhook
    from stillmotion.states import JobState
    from stillmotion.sync import Client
    from stillmotion.webhooks import WebhookMessage, verify_webhook

__all__ = [
    "AsyncClient",
    "Client",
    "CompletedEvent",
    "ConfigurationError",
    "Delivery",
    "Estimate",
    "Event",
    "FieldError",
    "InvalidWebhook",
    "Job",
    "JobFailed",
    "JobState",
    "ProgressEvent",
    "QueueEvent",
    "Rejected",
    "StatusEvent",
    "StillmotionError",
    "SubmitOptions",
    "TimelineEntry",
    "UnexpectedResponse",
    "Unreachable",
    "Upload",
    "Usage",
    "WaitTimeout",
    "Webhook",
    "WebhookMessage",
    "verify_webhook",
]

__version__ = "0.2.0.dev0"

HOMEPAGE = "https://github.com/stillmotion/stillmotion"

# Where the names above live. The light modules come first: they load neither httpx nor pydantic.
_MODULES = ("states", "errors", "signatures", "models", "jobs", "webhooks", "sync", "asynchronous")
_SERVER_PACKAGES = ("app", "server", "workers")


def __getattr__(name: str) -> Any:
    """Load a public name when it is first used.

    The command line and the server import this package for its light modules and must not pay for
    the others.
    """
    from importlib import import_module

    if name in __all__:
        for module_name in _MODULES:
            module = import_module(f"{__name__}.{module_name}")
            if hasattr(module, name):
                globals()[name] = getattr(module, name)
                return globals()[name]
    if name in _SERVER_PACKAGES:
        raise ImportError(
            f"The package stillmotion holds the client alone; the server runs from a clone of "
            f"{HOMEPAGE}."
        )
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
