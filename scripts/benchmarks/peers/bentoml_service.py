"""Our no-op render as a BentoML task. Runs in the peer's own environment.

PEER_CLIP: the result of every render. PEER_HOLD: renders wait while this file exists.
"""

import os
import time
from pathlib import Path
from typing import Annotated

import bentoml
from bentoml.validators import ContentType

CLIP = Path(os.environ["PEER_CLIP"]).read_bytes()
HOLD = Path(os.environ["PEER_HOLD"])


# Each worker process renders in one thread, and only the jobs submitted on its connections.
@bentoml.service(workers=2, threads=1)
class Animation:
    @bentoml.task  # type: ignore[untyped-decorator]  # not installed where mypy looks
    def animate(self, image: Path) -> Annotated[bytes, ContentType("video/mp4")]:
        while HOLD.exists():
            time.sleep(0.002)
        return CLIP
