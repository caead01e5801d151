"""The videos API of OpenAI's clients (https://github.com/openai/openai-python) on our jobs.

The same queue, limits and jobs under other names: a video is also a job under /v1/jobs, with the
same id. A request has a picture, a prompt, seconds and a box for the size; everything else keeps
its default. Errors are problems as everywhere, with OpenAI's `error` object added.
"""

from contextlib import closing
from datetime import datetime
from typing import Any, Literal, overload

from flask import Blueprint, Response, g, json, redirect, request, url_for

from app.api.models.base import Invalid, parse_json, parse_strings
from app.api.models.job_request import JobRequest
from app.api.models.problem import PROBLEM, FieldError
from app.api.models.query_string import parse_query
from app.api.models.video import (
    ContentQuery,
    DeletedVideo,
    OpenAIError,
    Video,
    VideoError,
    VideoForm,
    VideoJson,
    VideoPage,
    VideoProblem,
    VideoQuery,
)
from app.api.openapi.examples import PICTURE
from app.api.openapi.operation import JOB_CODES, SUBMIT_CODES, ResponseSpec, Result, describe
from app.api.openapi.shared import RATE_HEADERS
from app.api.process.services import Services, get_services
from app.api.request import auth, owned_job, rate_limit
from app.api.request.acceptance import accept
from app.api.request.form_body import read_form
from app.api.request.job_view import poll_hint_s
from app.api.request.json_body import read_json
from app.api.request.picture_file import PictureFile
from app.api.request.picture_source import PictureSource
from app.api.request.submission import (
    Submission,
    limit_body,
    new_picture_file,
    read_idempotency_key,
    unsupported,
)
from app.config.settings import Settings
from app.domain.job.profiles import Profile
from app.domain.job.served_sizes import longest_sides
from app.public.present import step_of
from app.store.job import lists
from app.store.job.lists import Filter
from app.store.job.records import JobRecord
from stillmotion.states import JobState

bp = Blueprint("videos", __name__, url_prefix="/v1/videos")
bp.before_request(auth.require_jobs)

Status = Literal["queued", "in_progress", "completed", "failed"]
# All other states: "failed".
STATUSES: dict[JobState, Status] = {
    JobState.QUEUED: "queued",
    JobState.STARTING: "in_progress",
    JobState.PROCESSING: "in_progress",
    JobState.SUCCEEDED: "completed",
}


@bp.post("")
@describe(
    {
        200: ResponseSpec(
            "The video is queued.",
            Video,
            headers=(*RATE_HEADERS, "Location", "openai-poll-after-ms"),
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
def create_video() -> Result:
    """Queue a video of the picture in `input_reference`."""
    services = get_services()
    rate_limit.spend_submit(services)
    submission = _read_submission(services.settings)
    with closing(submission.picture):
        job, _ = accept(services, submission)
    where = url_for("videos.show_video", video_id=str(job.id))
    return _present(services, job), 200, {"Location": where} | _poll_after(job)


@bp.get("")
@describe(
    {200: ResponseSpec("A page of videos.", VideoPage)}, query=VideoQuery, problem=VideoProblem
)
def list_videos() -> Result:
    """List the caller's videos, by page."""
    services = get_services()
    query = parse_query(VideoQuery, request.query_string)
    with services.store.autocommit() as conn:
        found = lists.page(
            conn,
            g.api_key.id,
            limit=query.limit + 1,
            only=Filter(cursor=query.after),
            newest_first=query.order == "desc",
        )
    videos = [_present(services, job) for job in found[: query.limit]]
    return VideoPage(
        object="list",
        data=videos,
        has_more=len(found) > query.limit,
        first_id=videos[0].id if videos else None,
        last_id=videos[-1].id if videos else None,
    )


@bp.get("/<video_id>")
@describe(
    {200: ResponseSpec("The video.", Video, headers=("openai-poll-after-ms",))},
    codes=JOB_CODES,
    problem=VideoProblem,
)
def show_video(video_id: str) -> Result:
    """Show a video: its status, and its progress in percent."""
    services = get_services()
    with services.store.autocommit() as conn:
        job = owned_job.own_job(conn, video_id)
    return _present(services, job), 200, _poll_after(job)


@bp.delete("/<video_id>")
@describe(
    {200: ResponseSpec("The video is removed, or will be.", DeletedVideo)},
    codes=JOB_CODES,
    problem=VideoProblem,
)
def delete_video(video_id: str) -> Result:
    """Cancel and remove a video; one that is rendering goes when its worker has stopped."""
    job, _ = owned_job.remove(get_services(), video_id)
    return DeletedVideo(id=job.id, object="video.deleted", deleted=True)


@bp.get("/<video_id>/content")
@describe(
    {302: ResponseSpec("The MP4's URL.", headers=("Location",))},
    query=ContentQuery,
    codes=(*JOB_CODES, "job_not_finished", "job_has_no_video"),
    problem=VideoProblem,
)
def show_content(video_id: str) -> Result:
    """Redirect to the MP4."""
    parse_query(ContentQuery, request.query_string)
    url = owned_job.clip_url(get_services(), lambda conn: owned_job.own_job(conn, video_id))
    return redirect(url, 302)


def _read_submission(settings: Settings) -> Submission:
    """Read a form or JSON. Raises Invalid, BadRequest."""
    idempotency_key = read_idempotency_key(request)
    limit_body(request, settings)
    asked: VideoForm
    if request.mimetype == "multipart/form-data":
        sent = new_picture_file(settings, "/input_reference")
        asked, picture = _read_form(sent), PictureSource.of_file(sent)
    elif request.mimetype == "application/json":
        sent = new_picture_file(settings, "/input_reference/image_url")
        rest, taken_out = read_json(request.stream, "image_url", sent)
        asked = body = parse_json(VideoJson, rest)
        uri = body.input_reference.image_url
        picture = PictureSource.of_file(sent) if taken_out else PictureSource.of_uri(uri, sent)
    else:
        raise unsupported("input_reference")
    return Submission(_job_request(asked, settings), picture, g.api_key, idempotency_key)


def _read_form(sent: PictureFile) -> VideoForm:
    """Read a form and its picture. Raises Invalid, BadRequest."""
    form = read_form(request, sent)
    values = {name: form.single(name) for name in form.texts if name != "input_reference"}
    if not form.check_files("input_reference") and "input_reference" not in form.texts:
        detail = "input_reference: send exactly one picture."
        form.errors.append(FieldError("missing_field", "/input_reference", detail))
    try:
        asked = parse_strings(VideoForm, values)
    except Invalid as error:
        raise Invalid([*error.errors, *form.errors]) from None
    if form.errors:
        raise Invalid(form.errors)
    return asked


def _job_request(form: VideoForm, settings: Settings) -> JobRequest:
    """The job that a video asks for. Raises Invalid.

    A clip longer than the model's frames last gets a lower frame rate, and a box larger than the
    model can fill is filled as far as possible.
    """
    frames = fps = size = None
    profile = settings.profiles.get(form.model or settings.served_profiles[0])
    if profile is not None and form.seconds is not None:
        seconds = max(1, int(form.seconds))
        fps = min(profile.default_fps, profile.max_frames // seconds)
        if fps < profile.min_fps:
            most = profile.max_frames // profile.min_fps
            detail = f"seconds: {profile.name} makes at most {most}."
            raise Invalid([FieldError("invalid_field", "/seconds", detail)])
        frames = profile.nearest_frames(seconds * fps)
    if profile is not None and form.size is not None:
        longest = max(int(side) for side in form.size.split("x"))
        size = _largest_within(profile, longest)
    return JobRequest(prompt=form.prompt, model=form.model, frames=frames, fps=fps, size=size)


def _largest_within(profile: Profile, longest: int) -> int:
    """The model's largest size that fits into a box; the box's own if none does."""
    if not profile.sizes:
        return min(longest, profile.max_size)
    return max((side for side in longest_sides(profile.sizes) if side <= longest), default=longest)


def _present(services: Services, job: JobRecord) -> Video:
    state = JobState(job.state)
    step = step_of(job, services.step(job) if state is JobState.PROCESSING else None)
    error = None
    if state.terminal and state is not JobState.SUCCEEDED:
        error = VideoError(code=job.error_code or state.value, message=job.error_detail or "")
    return Video(
        id=job.id,
        object="video",
        status=STATUSES.get(state, "failed"),
        progress=100 * step // job.steps,
        created_at=_unix(job.created_at),
        completed_at=_unix(job.finished_at) if state is JobState.SUCCEEDED else None,
        expires_at=_unix(job.expires_at),
        model=job.profile,
        prompt=job.prompt,
        seconds=f"{job.frames / job.fps:g}",
        size=f"{job.size}x{job.size}",
        error=error,
        remixed_from_video_id=None,
    )


@overload
def _unix(moment: datetime) -> int: ...
@overload
def _unix(moment: datetime | None) -> int | None: ...
def _unix(moment: datetime | None) -> int | None:
    return None if moment is None else int(moment.timestamp())


def _poll_after(job: JobRecord) -> dict[str, str]:
    """When the client's `poll` asks again; its own default is every second."""
    if JobState(job.state).terminal:
        return {}
    return {"openai-poll-after-ms": str(1000 * poll_hint_s(job.predicted_s))}


@bp.after_app_request  # no view of ours has a path or method that does not exist
def _add_openai_error(response: Response) -> Response:
    """Add the `error` object that OpenAI's clients read to every problem under our path."""
    if response.mimetype == PROBLEM and f"{request.path}/".startswith(f"{bp.url_prefix}/"):
        body: dict[str, Any] = json.loads(response.get_data())
        code: str = body["code"]
        first: dict[str, str] = next(iter(body.get("errors", [])), {})
        error = OpenAIError(
            message=body["detail"],
            type="invalid_request_error" if response.status_code < 500 else "server_error",
            param=first.get("pointer", "").lstrip("/") or None,
            code=code,
        )
        response.set_data(json.dumps(body | {"error": error.model_dump()}))
    return response
