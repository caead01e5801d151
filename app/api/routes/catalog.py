"""What this deployment offers."""

from flask import Blueprint
from flask.typing import ResponseReturnValue

from app.api.models.answers import ModelList
from app.api.openapi.operation import Answer, describe
from app.api.process.services import services
from app.api.request import auth
from app.config.profiles_file import PROFILES
from app.domain.job.profiles import Profile

bp = Blueprint("catalog", __name__, url_prefix="/v1")
bp.before_request(auth.require_jobs)


@bp.get("/models")
@describe({200: Answer("The models.", ModelList)})
def list_models() -> ResponseReturnValue:
    """List the served profiles with their limits; the first is the default."""
    settings = services().settings
    names = settings.served_profiles
    models = [
        _model(PROFILES[name], settings.steps_of(PROFILES[name]), name == names[0])
        for name in names
    ]
    return {"object": "list", "data": models}


def _model(profile: Profile, steps: int, default: bool) -> dict[str, object]:
    limits = {
        field: {
            "min": getattr(profile, f"min_{field}"),
            "max": getattr(profile, f"max_{field}"),
            "default": getattr(profile, f"default_{field}"),
        }
        for field in ("frames", "fps", "size")
    }
    return {
        "id": profile.name,
        "object": "model",
        "default": default,
        "licence": profile.licence,
        "steps": steps,
        "passes": profile.passes,
        **limits,
    }
