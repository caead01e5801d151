"""From a request to an order: its fields, its picture, and what the deployment says to both."""

import base64
import binascii
import json
import re
from dataclasses import dataclass
from datetime import datetime, timedelta
from hashlib import sha256
from uuid import UUID

from flask import Request

from app.api.models.order_schema import JsonOrder, Order
from app.api.models.schemas import Fault, Invalid, parse_json, parse_strings
from app.api.routes.uploads import upload_key
from app.config.profiles_file import PROFILES
from app.config.settings import Settings
from app.domain.errors import BadRequest
from app.domain.job.cost import cost_units
from app.domain.job.profiles import Profile
from app.objects import Objects
from app.outbound import Allow, fetch, vet_url
from app.store.job.jobs import NewJob

FETCH_TIMEOUT_S = 10.0
# Room for every field at its longest, and for the form's own lines.
FIELDS_BYTES = 256 * 1024
BASE64_OVERHEAD = 4 / 3

_DATA_URI = re.compile(r"data:[\w.+/-]*(;[\w.+-]+=[\w.+-]+)*;base64,", re.ASCII)
_IDEMPOTENCY_KEY = re.compile(r"[\x21-\x7e]{1,255}")


def max_body_bytes(settings: Settings, *, as_json: bool) -> int:
    """The longest body that can hold a picture of `max_upload_mb`."""
    upload = settings.max_upload_mb * 1_000_000
    return FIELDS_BYTES + (int(upload * BASE64_OVERHEAD) if as_json else upload)


@dataclass(frozen=True)
class Submission:
    """An order with its picture: uploaded bytes, a URL to fetch them from, or an upload's id."""

    order: Order
    picture: bytes | str | UUID
    pointer: str = "/image"  # to the field that the picture came in

    @property
    def fingerprint(self) -> bytes:
        """SHA-256 of everything that was asked for, whatever the form it was sent in."""
        match self.picture:
            case bytes():
                kind, content = "bytes", self.picture
            case str():
                kind, content = "url", self.picture.encode()
            case _:
                kind, content = "upload", self.picture.bytes
        asked = {
            # What is not asked for is left out, so that a release with more fields knows the
            # requests of one with fewer.
            "order": self.order.model_dump(
                mode="json", exclude={"image", "upload_id"}, exclude_defaults=True
            ),
            "picture": [kind, sha256(content).hexdigest()],
        }
        return sha256(json.dumps(asked, sort_keys=True).encode()).digest()

    def load(self, settings: Settings, allow: Allow, objects: Objects, owner_id: UUID) -> bytes:
        """The picture's bytes. Raises BadRequest for what may not or cannot be read."""
        most = settings.max_upload_mb * 1_000_000
        if isinstance(self.picture, bytes):
            return self.picture
        if isinstance(self.picture, UUID):
            return _read_upload(objects, upload_key(owner_id, self.picture), most)
        try:
            return fetch(self.picture, max_bytes=most, timeout_s=FETCH_TIMEOUT_S, allow=allow)
        except BadRequest as error:
            error.pointer = self.pointer
            raise


def _read_upload(objects: Objects, key: str, most: int) -> bytes:
    found = objects.head(key)
    if found is None:
        detail = "upload_id: nothing was sent to this upload, or its day is over."
        raise Invalid([Fault("upload_not_found", "/upload_id", detail)])
    if found.size > most:
        detail = "upload_id: the picture's file is too large."
        raise Invalid([Fault("upload_too_large", "/upload_id", detail)], status=413)
    return objects.get(key)


def read_submission(request: Request, settings: Settings) -> Submission:
    """Read a form or JSON. Raises Invalid, BadRequest, and werkzeug's 413 before reading."""
    if request.mimetype == "multipart/form-data":
        request.max_content_length = max_body_bytes(settings, as_json=False)
        return _read_form(request)
    if request.mimetype == "application/json":
        request.max_content_length = max_body_bytes(settings, as_json=True)
        order = parse_json(JsonOrder, request.get_data(cache=False))
        if (order.image is None) == (order.upload_id is None):
            raise Invalid([_one_picture(neither=order.image is None)])
        if order.upload_id is not None:
            return Submission(order, order.upload_id, "/upload_id")
        return Submission(order, picture_of(order.image, "/image"))
    raise BadRequest(
        "unsupported_media_type",
        "Send multipart/form-data with a file named `image`, or application/json.",
        status=415,
    )


def _read_form(request: Request) -> Submission:
    faults = [
        Fault("unknown_field", f"/{name[:64]}", f"{name[:64]}: the only file is `image`.")
        for name in request.files
        if name != "image"
    ]
    values: dict[str, object] = {}
    for name, given in request.form.lists():
        if name == "image":
            continue  # a text; reported as a missing file below
        if name in ("allowed_regions", "webhook_events"):
            values[name] = given
        elif len(given) > 1:
            faults.append(Fault("invalid_field", f"/{name[:64]}", f"{name[:64]}: given twice."))
        elif name == "metadata":
            values[name] = _json_or_text(given[0])
        else:
            values[name] = given[0]
    files = request.files.getlist("image")
    if len(files) > 1:
        faults.append(Fault("invalid_field", "/image", "image: send exactly one file."))
    elif bool(files) == ("upload_id" in values):
        faults.append(_one_picture(neither=not files))
    try:
        order = parse_strings(Order, values)
    except Invalid as error:
        raise Invalid([*error.faults, *faults]) from None
    if faults:
        raise Invalid(faults)
    if order.upload_id is not None:
        return Submission(order, order.upload_id, "/upload_id")
    return Submission(order, files[0].read())


def _one_picture(*, neither: bool) -> Fault:
    code = "missing_field" if neither else "invalid_field"
    return Fault(code, "/image", "image: send one picture, as `image` or by `upload_id`.")


def _json_or_text(value: str) -> object:
    """A form's `metadata`; what is no JSON stays text and fails as one."""
    try:
        return json.loads(value)
    except (ValueError, RecursionError):
        return value


def picture_of(image: str, pointer: str) -> bytes | str:
    """A data URI's bytes, or the URL itself."""
    if not image.startswith("data:"):
        return image
    head = _DATA_URI.match(image)
    try:
        if head is None:
            raise ValueError
        return base64.b64decode(image[head.end() :], validate=True)
    except (binascii.Error, ValueError):
        raise Invalid(
            [Fault("invalid_field", pointer, f"{pointer[1:]}: not a data URI with base64.")]
        ) from None


def idempotency_key(request: Request) -> str | None:
    """The request's Idempotency-Key. Raises BadRequest: invalid_idempotency_key."""
    key = request.headers.get("Idempotency-Key")
    if key is not None and not _IDEMPOTENCY_KEY.fullmatch(key):
        raise BadRequest(
            "invalid_idempotency_key", "Idempotency-Key must be 1 to 255 visible ASCII characters."
        )
    return key


@dataclass(frozen=True)
class Plan:
    """An order with the deployment's defaults filled in; it can be done here."""

    order: Order
    profile: Profile
    region: str
    frames: int
    fps: int
    size: int
    steps: int
    retention_s: int

    @property
    def cost(self) -> float:
        return cost_units(self.profile, frames=self.frames, size=self.size, steps=self.steps)

    def new_job(self, job_id: UUID, owner_id: UUID, seed: int, now: datetime) -> NewJob:
        """The job to write. `seed` is used where the order names none."""
        order = self.order
        return NewJob(
            id=job_id,
            owner_id=owner_id,
            profile=self.profile.name,
            prompt=order.prompt,
            seed=seed if order.seed is None else order.seed,
            frames=self.frames,
            fps=self.fps,
            size=self.size,
            motion=order.motion,
            loop=order.loop,
            steps=self.steps,
            input_key=f"inputs/{job_id}.jpg",
            home_region=self.region,
            policy=order.policy.value,
            queue_deadline=now + timedelta(seconds=order.max_queue_seconds),
            priority=order.priority,
            allowed_regions=order.allowed_regions,
            deadline=None
            if order.deadline_seconds is None
            else now + timedelta(seconds=order.deadline_seconds),
            webhook_url=order.webhook_url,
            webhook_events=order.webhook_events,
            labels=order.metadata,
            cost=self.cost,
            retention_s=self.retention_s,
        )


def make_plan(order: Order, settings: Settings, allow: Allow) -> Plan:
    """Hold an order against what this deployment serves. Raises Invalid with every fault."""
    faults: list[Fault] = []
    region = settings.region if order.region is None else order.region
    named = {"/region": region} | {
        f"/allowed_regions/{n}": name for n, name in enumerate(order.allowed_regions or [])
    }
    for where, name in named.items():
        if name not in settings.topology:
            faults.append(Fault("unknown_region", where, "There is no region of this name."))
    if order.allowed_regions is not None and region not in order.allowed_regions:
        faults.append(
            Fault("invalid_field", "/allowed_regions", "allowed_regions: lacks the home region.")
        )
    if order.webhook_url is not None:
        try:
            vet_url(order.webhook_url, allow)
        except BadRequest as error:
            faults.append(Fault(error.code, "/webhook_url", error.detail))
    if order.webhook_events is not None and order.webhook_url is None:
        faults.append(
            Fault("invalid_field", "/webhook_events", "webhook_events: needs a webhook_url.")
        )
    name = settings.served_profiles[0] if order.model is None else order.model
    if name not in settings.served_profiles:
        raise Invalid(
            [Fault("unknown_model", "/model", "There is no model of this name."), *faults]
        )
    profile = PROFILES[name]
    numbers = {
        "frames": (order.frames, profile.min_frames, profile.max_frames, profile.default_frames),
        "fps": (order.fps, profile.min_fps, profile.max_fps, profile.default_fps),
        "size": (order.size, profile.min_size, profile.max_size, profile.default_size),
    }
    chosen = {}
    for field, (asked, least, most, default) in numbers.items():
        chosen[field] = default if asked is None else asked
        if not least <= chosen[field] <= most:
            detail = f"{field}: {name} takes {least} to {most}."
            faults.append(Fault("invalid_field", f"/{field}", detail))
    if faults:
        raise Invalid(faults)
    keep_s = settings.retention_s if order.retention_seconds is None else order.retention_seconds
    return Plan(
        order, profile, region, steps=settings.steps_of(profile), retention_s=keep_s, **chosen
    )
