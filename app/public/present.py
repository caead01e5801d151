"""Turns a job's record into its public form: the API and the webhook sender both use this."""

from collections.abc import Mapping, Sequence
from datetime import datetime

from app.config.profiles_file import PROFILES
from app.domain.job.profiles import Profile
from app.domain.prompt.reading import understand
from app.domain.prompt.wishes import hint
from app.public.job import (
    Attempt,
    Job,
    JobError,
    Metrics,
    Progress,
    PromptUnderstood,
    Queue,
    Region,
)
from app.public.links import Links
from app.public.response_model import utc
from app.public.worker_name import shown_worker
from app.store.job.records import AttemptJson, JobRecord
from stillmotion.signatures import WebhookEvent
from stillmotion.states import JobState, Policy


def present_job(
    job: JobRecord,
    links: Links,
    *,
    step: int | None = None,
    queue: Queue | None = None,
    eta_s: float | None = None,
    attempts: Sequence[AttemptJson] | None = None,
    operator: bool = False,
) -> Job:
    """The public form of a job. `step`: a newer step than the record's, if one is known.

    `operator`: show the hosts of the attempts' workers.
    """
    state = JobState(job.state)
    error = None
    if job.error_code is not None:
        error = JobError(code=job.error_code, message=job.error_detail or "")
    return Job(
        id=job.id,
        state=state,
        terminal=state.terminal,
        created_at=utc(job.created_at),
        started_at=utc(job.started_at),
        finished_at=utc(job.finished_at),
        deadline=utc(job.deadline),
        expires_at=utc(job.expires_at),
        retention_seconds=job.retention_s,
        model=job.profile,
        prompt=job.prompt,
        negative_prompt=job.negative_prompt,
        prompt_understood=present_understood(job.profile, job.prompt, links.profiles),
        seed=job.seed,
        frames=job.frames,
        fps=job.fps,
        size=job.size,
        width=job.width,
        height=job.height,
        motion=job.motion,
        loop=job.loop,
        priority=job.priority,
        cost_units=round(job.cost, 4),
        region=Region(
            home=job.home_region,
            policy=Policy(job.policy),
            allowed=job.allowed_regions,
            current=None if state is JobState.QUEUED else job.region,
        ),
        progress=Progress(step=step_of(job, step), steps=job.steps),
        eta_seconds=None if eta_s is None else round(eta_s, 3),
        queue=queue,
        output=links.output(job),
        error=error,
        attempts=None if attempts is None else [_attempt(each, operator) for each in attempts],
        metrics=_metrics(job),
        metadata=job.metadata,
        webhook_url=job.webhook_url,
        webhook_events=_events(job.webhook_events),
        urls=links.urls(job.id),
    )


def present_understood(
    model: str, prompt: str, profiles: Mapping[str, Profile] = PROFILES
) -> PromptUnderstood | None:
    """What a model understands of a prompt. None if it takes free text, or is gone by now."""
    profile = profiles.get(model)
    return None if profile is None else understood_by(profile, prompt)


def understood_by(profile: Profile, prompt: str) -> PromptUnderstood | None:
    """What a profile's engine understands of a prompt. None if it takes free text."""
    understood = understand(profile.grammar, prompt)
    if understood is None:
        return None
    ignored = understood.ignored
    if profile.targets:  # otherwise these words have no effect either
        ignored = tuple(word for word in ignored if word not in understood.target_words)
    return PromptUnderstood(
        camera=understood.camera,
        object=understood.object,
        strength=understood.strength,
        target=understood.target if profile.targets else None,
        excluded=list(understood.excluded),
        unsupported=list(understood.unsupported),
        hint=hint(understood.unsupported),
        ignored=list(ignored),
        ambient=understood.ambient,
    )


def without_content(job: Job) -> Job:
    """A job that is gone: that it ended and how, without its texts, addresses and clip."""
    return job.model_copy(
        update={
            "prompt": "",
            "prompt_understood": None,
            "metadata": {},
            "output": None,
            "webhook_url": None,
            "webhook_events": None,
        }
    )


def _events(names: list[str] | None) -> list[WebhookEvent] | None:
    return None if names is None else [WebhookEvent(name) for name in names]


def step_of(job: JobRecord, known: int | None) -> int:
    """The step to show. `known`: a newer step than the record's, if one is known."""
    state, steps = JobState(job.state), job.steps
    if state is JobState.SUCCEEDED:
        return steps  # the record holds the step of the last lease renewal, up to 5 s old
    if state in (JobState.QUEUED, JobState.STARTING):
        return 0
    return min(steps, max(job.step, known or 0))


def _metrics(job: JobRecord) -> Metrics:
    def between(start: datetime | None, end: datetime | None) -> float | None:
        return None if start is None or end is None else round((end - start).total_seconds(), 3)

    return Metrics(
        queue=between(job.created_at, job.started_at),
        render=between(job.started_at, job.finished_at),
        total=between(job.created_at, job.finished_at),
        predicted=None if job.predicted_s is None else round(job.predicted_s, 3),
    )


def _attempt(attempt: AttemptJson, operator: bool) -> Attempt:
    def moment(value: str | None) -> datetime | None:
        return None if value is None else utc(datetime.fromisoformat(value))

    return Attempt(
        number=attempt["fence"],
        region=attempt["region"],
        worker=shown_worker(attempt["worker"], operator=operator),
        placed_at=utc(datetime.fromisoformat(attempt["placed_at"])),
        begun_at=moment(attempt["begun_at"]),
        ended_at=moment(attempt["ended_at"]),
        outcome=attempt["outcome"],
        error_code=attempt["error_code"],
        timings=attempt["timings"],
        hops=[dict(hop) for hop in attempt["hops"]],
    )
