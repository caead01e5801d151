"""Checks a job request against the deployment and fills in its defaults."""

from dataclasses import dataclass
from uuid import UUID

from app.api.models.base import Invalid
from app.api.models.job_request import JobRequest
from app.api.models.problem import FieldError
from app.config.settings import Settings
from app.domain.errors import BadRequest
from app.domain.job.cost import cost_units
from app.domain.job.profiles import Profile, refusals
from app.outbound import Allow, vet_url
from app.store.job.jobs import NewJob
from app.store.keys import ApiKey
from stillmotion.states import Policy


@dataclass(frozen=True)
class Plan:
    """A job that this deployment can do, without gaps."""

    job_request: JobRequest
    profile: Profile
    region: str
    frames: int
    fps: int
    size: int
    steps: int
    retention_s: int
    priority: int
    webhook_url: str | None

    @property
    def cost(self) -> float:
        return cost_units(self.profile, frames=self.frames, size=self.size, steps=self.steps)

    @property
    def movable(self) -> bool:
        """Whether the job may leave its home region."""
        return self.job_request.policy is not Policy.STRICT

    def new_job(self, job_id: UUID, owner_id: UUID, random_seed: int) -> NewJob:
        """The job to write. `random_seed` is used if the request names no seed."""
        asked = self.job_request
        events = asked.webhook_events
        return NewJob(
            id=job_id,
            owner_id=owner_id,
            profile=self.profile.name,
            prompt=asked.prompt,
            negative_prompt=asked.negative_prompt,
            seed=random_seed if asked.seed is None else asked.seed,
            frames=self.frames,
            fps=self.fps,
            size=self.size,
            motion=asked.motion,
            loop=asked.loop,
            steps=self.steps,
            input_key=f"inputs/{job_id}.jpg",
            home_region=self.region,
            policy=asked.policy.value,
            max_queue_s=asked.max_queue_seconds,
            priority=self.priority,
            allowed_regions=asked.allowed_regions,
            deadline_s=asked.deadline_seconds,
            webhook_url=self.webhook_url,
            webhook_events=None if events is None else [event.value for event in events],
            labels=asked.metadata,
            cost=self.cost,
            retention_s=self.retention_s,
        )


def make_plan(asked: JobRequest, settings: Settings, allow: Allow, caller: ApiKey) -> Plan:
    """Plan what a job request asks for. Raises Invalid with everything that is wrong."""
    errors: list[FieldError] = []
    region = settings.region if asked.region is None else asked.region
    named = {"/region": region} | {
        f"/allowed_regions/{n}": name for n, name in enumerate(asked.allowed_regions or [])
    }
    for where, name in named.items():
        if name not in settings.topology:
            errors.append(FieldError("unknown_region", where, "No such region."))
    if asked.allowed_regions is not None and region not in asked.allowed_regions:
        detail = "allowed_regions: must include the home region."
        errors.append(FieldError("invalid_field", "/allowed_regions", detail))
    webhook_url = asked.webhook_url
    if webhook_url is not None:
        try:
            webhook_url = vet_url(webhook_url, allow)
        except BadRequest as error:
            errors.append(FieldError(error.code, "/webhook_url", error.detail))
    if asked.webhook_events is not None and asked.webhook_url is None:
        detail = "webhook_events: needs a webhook_url."
        errors.append(FieldError("invalid_field", "/webhook_events", detail))
    best = caller.best_priority
    # Without one, the default or the key's best, whichever is lower.
    priority = asked.priority if "priority" in asked.model_fields_set else max(best, asked.priority)
    if priority < best:
        detail = f"priority: the best that this key may ask for is {best}."
        errors.append(FieldError("priority_not_allowed", "/priority", detail))
    keep_s = settings.retention_s if asked.retention_seconds is None else asked.retention_seconds
    if keep_s > settings.max_retention_s:
        detail = f"retention_seconds: at most {settings.max_retention_s} here."
        errors.append(FieldError("invalid_field", "/retention_seconds", detail))
    name = settings.served_profiles[0] if asked.model is None else asked.model
    if name not in settings.served_profiles:
        raise Invalid([FieldError("unknown_model", "/model", "No such model."), *errors])
    profile = settings.profiles[name]
    chosen = {
        "frames": profile.default_frames if asked.frames is None else asked.frames,
        "fps": profile.default_fps if asked.fps is None else asked.fps,
        "size": profile.default_size if asked.size is None else asked.size,
    }
    errors += [
        FieldError("invalid_field", f"/{field}", f"{field}: {sentence}")
        for field, sentence in refusals(
            profile,
            **chosen,
            prompt=asked.prompt,
            negative_prompt=asked.negative_prompt,
            motion=asked.motion,
            loop=asked.loop,
        )
    ]
    if errors:
        raise Invalid(errors)
    return Plan(
        asked,
        profile,
        region,
        steps=settings.steps_of(profile),
        retention_s=keep_s,
        priority=priority,
        webhook_url=webhook_url,
        **chosen,
    )
