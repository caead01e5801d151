"""The models that this deployment serves."""

from flask import Blueprint

from app.api.models.catalog import Model, ModelList, Range
from app.api.openapi.operation import ResponseSpec, Result, describe
from app.api.process.services import get_services
from app.api.request import auth
from app.config.profiles_file import PROFILES
from app.domain.job.profiles import Profile

bp = Blueprint("catalog", __name__, url_prefix="/v1")
bp.before_request(auth.require_jobs)


@bp.get("/models")
@describe({200: ResponseSpec("The models.", ModelList)})
def list_models() -> Result:
    """List the served profiles with their limits; the first is the default."""
    settings = get_services().settings
    names = settings.served_profiles
    models = [
        _model(PROFILES[name], settings.steps_of(PROFILES[name]), name == names[0])
        for name in names
    ]
    return ModelList(object="list", data=models)


def _model(profile: Profile, steps: int, default: bool) -> Model:
    return Model(
        id=profile.name,
        object="model",
        default=default,
        licence=profile.licence,
        steps=steps,
        passes=profile.passes,
        frames=Range(
            min=profile.min_frames, max=profile.max_frames, default=profile.default_frames
        ),
        fps=Range(min=profile.min_fps, max=profile.max_fps, default=profile.default_fps),
        size=Range(min=profile.min_size, max=profile.max_size, default=profile.default_size),
    )
