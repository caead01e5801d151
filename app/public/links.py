"""What a job's public form needs besides its record: URLs, and which models there are."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Self
from uuid import UUID

from app.config.profiles_file import PROFILES
from app.config.settings import Settings
from app.domain.job.profiles import Profile
from app.objects import Objects
from app.public.job import Output, Urls
from app.store.clock import DatabaseClock
from app.store.job.records import JobRecord


@dataclass(frozen=True)
class Links:
    public_url: str
    objects: Objects
    signed_url_s: int
    clock: DatabaseClock
    profiles: Mapping[str, Profile] = field(default_factory=lambda: PROFILES)

    @classmethod
    def of(cls, settings: Settings, objects: Objects, clock: DatabaseClock) -> Self:
        url = settings.public_url.rstrip("/")
        return cls(url, objects, settings.signed_url_s, clock, settings.profiles)

    def output(self, job: JobRecord) -> Output | None:
        """A freshly signed link to a job's clip; None if the job has no clip."""
        if job.output_key is None or job.output_bytes is None or job.purged_at is not None:
            return None
        now = self.clock.now()
        valid_s = self.signed_url_s
        if job.expires_at is not None:  # a link must not outlive the clip
            valid_s = max(1, min(valid_s, int((job.expires_at - now).total_seconds())))
        return Output(
            url=self.objects.signed_url(
                job.output_key,
                expires_s=valid_s,
                filename=f"{job.id}.mp4",
                content_type="video/mp4",
            ),
            expires_at=now.replace(microsecond=0) + timedelta(seconds=valid_s),
            size_bytes=job.output_bytes,
        )

    def urls(self, job_id: UUID) -> Urls:
        base = f"{self.public_url}/v1/jobs/{job_id}"
        return Urls(
            self=base,
            cancel=f"{base}/cancel",
            video=f"{base}/video",
            events=f"{base}/events",
            timeline=f"{base}/timeline",
        )
