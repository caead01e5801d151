"""The motion engine. What its settings name wrongly is found here, before seconds of imports."""

from app.config.settings import ModelSettings
from app.domain.errors import Permanent
from workers.pipeline.errors import MatteError
from workers.pipeline.matte_file import find_matte


def check(config: ModelSettings) -> None:
    """Raises Permanent if the matte model's file is missing, or is not the expected one."""
    try:
        find_matte(config.matte_model)
    except MatteError as error:
        raise Permanent(str(error), code="matte_unusable") from error
