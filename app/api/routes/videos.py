"""The videos API of OpenAI's clients (https://github.com/openai/openai-python) on our jobs.

The same queue, limits and jobs under other names: what is made here is also under /v1/jobs, with
the same id. An order is a picture, a prompt, seconds and a box for the size; everything else has
its default. Errors are problems as everywhere, with OpenAI's `error` object beside their fields.
"""

from datetime import datetime
from typing import Annotated, Any, Literal
from uuid import UUID

from flask import Blueprint, Response, g, json, redirect, request, url_for
from flask.typing import ResponseReturnValue
from pydantic import BaseModel, ConfigDict, Field
from sqlalchemy import Row

from app.api.models.answers import DeletedVideo, Video, VideoPage
from app.api.models.order_schema import MAX_PROMPT_CHARS, PICTURE_URI, ModelName, Order, Text
from app.api.models.schemas import (
    PRINTABLE,
    Fault,
    Invalid,
    Shown,
    parse_json,
    parse_strings,
    step_of,
)
from app.api.openapi.examples import PICTURE
from app.api.openapi.operation import JOB_CODES, PROBLEM, SUBMIT_CODES, Answer, describe
from app.api.openapi.shared import SUBMIT_HEADERS
from app.api.process.services import Services, services
from app.api.request import auth, rate_limit, submission
from app.api.request.errors import Problem
from app.api.request.job_view import poll_hint_s
from app.api.request.submission import Submission, max_body_bytes, picture_of
from app.api.routes import submit
from app.api.routes.jobs import own, remove, video_url
from app.config.profiles_file import PROFILES
from app.config.settings import Settings
from app.domain.errors import BadRequest
from app.store.job import jobs
from app.store.job.jobs import Filter
from stillmotion.states import JobState

bp = Blueprint("videos", __name__, url_prefix="/v1/videos")
bp.before_request(auth.require_jobs)

STATUSES = {
    JobState.QUEUED: "queued",
    JobState.STARTING: "in_progress",
    JobState.PROCESSING: "in_progress",
    JobState.SUCCEEDED: "completed",
}  # of the others: "failed"


class VideoForm(BaseModel):
    """An order's texts. Null: the model's default."""

    model_config = ConfigDict(extra="forbid", strict=True, use_attribute_docstrings=True)

    prompt: Annotated[str, Text(max_length=MAX_PROMPT_CHARS), PRINTABLE]
    model: ModelName | None = None
    seconds: Annotated[str, Field(pattern=r"^[0-9]{1,2}$")] | None = None
    """Longer clips get fewer frames a second; at most as many seconds as the model has frames for
    at its lowest rate."""
    size: Annotated[str, Field(pattern=r"^[0-9]{1,4}x[0-9]{1,4}$")] | None = None
    """Width x height of the box that the clip fits into; not smaller than the model makes."""


class Reference(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True)

    image_url: Annotated[str, Field(min_length=1, json_schema_extra=PICTURE_URI)]


class VideoJson(VideoForm):
    """The same as JSON, where the picture is a URL."""

    input_reference: Reference


class ListQuery(BaseModel):
    model_config = ConfigDict(extra="forbid", use_attribute_docstrings=True)

    after: UUID | None = None
    """The `last_id` of the page before."""
    limit: Annotated[int, Field(ge=1, le=100)] = 20
    order: Literal["asc", "desc"] = "desc"


class ContentQuery(BaseModel):
    model_config = ConfigDict(extra="forbid")

    variant: Literal["video"] = "video"


class OpenAIError(Shown):
    """What went wrong, where OpenAI's clients look for it."""

    message: str
    type: Literal["invalid_request_error", "server_error"]
    param: str | None
    code: str


class VideoProblem(Problem):
    """A problem as everywhere, with OpenAI's `error` beside its fields."""

    error: OpenAIError


@bp.post("")
@describe(
    {
        200: Answer(
            "The video is queued.",
            Video,
            headers=(*SUBMIT_HEADERS, "Location", "openai-poll-after-ms"),
            leads_to=("show_video", "show_content", "delete_video", "show_job"),
        )
    },
    headers=("Idempotency-Key",),
    body=VideoJson,
    form=VideoForm,
    picture="input_reference",
    codes=SUBMIT_CODES,
    examples={"data": {"prompt": "gentle waves", "input_reference": {"image_url": PICTURE}}},
    problem=VideoProblem,
)
def create_video() -> ResponseReturnValue:
    """Queue a video of the picture in `input_reference`."""
    parts = services()
    rate_limit.spend(parts)
    key = submission.idempotency_key(request)
    row, _ = submit.accept(parts, _read(parts.settings), key)
    where = url_for("videos.show_video", video_id=str(row.id))
    return _dump(parts, row), 200, {"Location": where} | _poll_after(row)


@bp.get("")
@describe({200: Answer("A page of videos.", VideoPage)}, query=ListQuery, problem=VideoProblem)
def list_videos() -> ResponseReturnValue:
    """List the caller's videos, by page."""
    parts = services()
    query = parse_strings(ListQuery, request.args.to_dict())
    with parts.store.autocommit() as conn:
        rows = jobs.page(
            conn,
            g.api_key.id,
            limit=query.limit + 1,
            only=Filter(cursor=query.after),
            newest_first=query.order == "desc",
        )
    shown = [_dump(parts, row) for row in rows[: query.limit]]
    return {
        "object": "list",
        "data": shown,
        "has_more": len(rows) > query.limit,
        "first_id": shown[0]["id"] if shown else None,
        "last_id": shown[-1]["id"] if shown else None,
    }


@bp.get("/<video_id>")
@describe(
    {200: Answer("The video.", Video, headers=("openai-poll-after-ms",))},
    codes=JOB_CODES,
    problem=VideoProblem,
)
def show_video(video_id: str) -> ResponseReturnValue:
    """Show a video: its status, and its progress in percent."""
    parts = services()
    with parts.store.autocommit() as conn:
        row = own(conn, video_id)
    return _dump(parts, row), 200, _poll_after(row)


@bp.delete("/<video_id>")
@describe(
    {200: Answer("It is removed, or will be.", DeletedVideo)},
    codes=JOB_CODES,
    problem=VideoProblem,
)
def delete_video(video_id: str) -> ResponseReturnValue:
    """Cancel and remove a video; one that is being rendered goes when its worker has stopped."""
    row, _ = remove(services(), video_id)
    return {"id": str(row.id), "object": "video.deleted", "deleted": True}


@bp.get("/<video_id>/content")
@describe(
    {302: Answer("Where the MP4 is.", headers=("Location",))},
    query=ContentQuery,
    codes=(*JOB_CODES, "job_not_finished", "job_has_no_video"),
    problem=VideoProblem,
)
def show_content(video_id: str) -> ResponseReturnValue:
    """Redirect to the MP4."""
    parse_strings(ContentQuery, request.args.to_dict())
    return redirect(video_url(services(), video_id), 302)


def _read(settings: Settings) -> Submission:
    """What is asked for, as a form or JSON. Raises Invalid, BadRequest."""
    if request.mimetype == "multipart/form-data":
        request.max_content_length = max_body_bytes(settings, as_json=False)
        form = parse_strings(VideoForm, request.form.to_dict())
        files = request.files.getlist("input_reference")
        if len(files) != 1 or len(request.files) != 1:
            code = "invalid_field" if request.files else "missing_field"
            detail = "input_reference: send exactly one picture."
            raise Invalid([Fault(code, "/input_reference", detail)])
        return Submission(_order(form, settings), files[0].read(), "/input_reference")
    if request.mimetype == "application/json":
        request.max_content_length = max_body_bytes(settings, as_json=True)
        body = parse_json(VideoJson, request.get_data(cache=False))
        where = "/input_reference/image_url"
        picture = picture_of(body.input_reference.image_url, where)
        return Submission(_order(body, settings), picture, where)
    raise BadRequest(
        "unsupported_media_type",
        "Send multipart/form-data with a file named `input_reference`, or application/json.",
        status=415,
    )


def _order(form: VideoForm, settings: Settings) -> Order:
    """The order of a job. A longer clip than the model has frames for gets fewer a second; a
    larger box than it can fill is filled as far as it goes. Raises Invalid."""
    asked: dict[str, object] = {"prompt": form.prompt, "model": form.model}
    profile = PROFILES.get(form.model or settings.served_profiles[0])
    if profile is not None and form.seconds is not None:
        seconds = max(1, int(form.seconds))
        fps = min(profile.default_fps, profile.max_frames // seconds)
        if fps < profile.min_fps:
            most = profile.max_frames // profile.min_fps
            detail = f"seconds: {profile.name} makes at most {most}."
            raise Invalid([Fault("invalid_field", "/seconds", detail)])
        asked |= {"fps": fps, "frames": max(profile.min_frames, seconds * fps)}
    if profile is not None and form.size is not None:
        longest = max(int(side) for side in form.size.split("x"))
        asked["size"] = min(longest, profile.max_size)
    return Order(**asked)


def _dump(parts: Services, row: Row[Any]) -> dict[str, Any]:
    state = JobState(row.state)
    step = step_of(row, parts.step(row) if state is JobState.PROCESSING else None)
    error = None
    if state.terminal and state is not JobState.SUCCEEDED:
        error = {"code": row.error_code or state.value, "message": row.error_detail or ""}
    return {
        "id": str(row.id),
        "object": "video",
        "status": STATUSES.get(state, "failed"),
        "progress": 100 * step // row.steps,
        "created_at": _unix(row.created_at),
        "completed_at": _unix(row.finished_at) if state is JobState.SUCCEEDED else None,
        "expires_at": _unix(row.expires_at),
        "model": row.profile,
        "prompt": row.prompt,
        "seconds": f"{row.frames / row.fps:g}",
        "size": f"{row.size}x{row.size}",  # the box that the clip fits into
        "error": error,
        "remixed_from_video_id": None,
    }


def _unix(moment: datetime | None) -> int | None:
    return None if moment is None else int(moment.timestamp())


def _poll_after(row: Row[Any]) -> dict[str, str]:
    """When the client's `poll` asks again; it would do so every second otherwise."""
    if JobState(row.state).terminal:
        return {}
    return {"openai-poll-after-ms": str(1000 * poll_hint_s(row.predicted_s))}


@bp.after_request
def _as_openai_says_it(answer: Response) -> Response:
    """Add the object in which OpenAI's clients look for what went wrong."""
    if answer.mimetype == PROBLEM:
        body = json.loads(answer.get_data())
        first = next(iter(body.get("errors", [])), {})
        error = OpenAIError.model_validate(
            {
                "message": body["detail"],
                "type": "invalid_request_error" if answer.status_code < 500 else "server_error",
                "param": first.get("pointer", "").lstrip("/") or None,
                "code": body["code"],
            }
        )
        answer.set_data(json.dumps(body | {"error": error.model_dump()}))
    return answer
