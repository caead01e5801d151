"""The models that this deployment serves."""

from flask import Blueprint

from app.api.models.catalog import FrameRange, Model, ModelList, Range, Size
from app.api.openapi.operation import ResponseSpec, Result, describe
from app.api.process.services import get_services
from app.api.request import auth
from app.domain.job.profiles import Option, Profile

bp = Blueprint("catalog", __name__, url_prefix="/v1")
bp.before_request(auth.require_jobs)


@bp.get("/models")
@describe({200: ResponseSpec("The models.", ModelList)})
def list_models() -> Result:
    """List the served profiles with their limits; the first is the default."""
    settings = get_services().settings
    profiles = [settings.profiles[name] for name in settings.served_profiles]
    models = [_model(each, settings.steps_of(each), each is profiles[0]) for each in profiles]
    return ModelList(object="list", data=models)


def _model(profile: Profile, steps: int, default: bool) -> Model:
    return Model(
        id=profile.name,
        object="model",
        default=default,
        licence=profile.licence,
        licence_limits=profile.licence_limits or None,
        steps=steps,
        passes=profile.passes,
        frames=FrameRange(
            min=profile.min_frames,
            max=profile.max_frames,
            default=profile.default_frames,
            multiple=profile.frames_multiple,
            plus=profile.frames_plus,
        ),
        fps=Range(min=profile.min_fps, max=profile.max_fps, default=profile.default_fps),
        size=Range(min=profile.min_size, max=profile.max_size, default=profile.default_size),
        sizes=[Size(width=size.width, height=size.height) for size in profile.sizes] or None,
        options=[option for option in Option if option in profile.honours],
    )
