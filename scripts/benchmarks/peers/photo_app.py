"""What the two applications with our promise share: their HTTP interface, photo check and storage.

They answer as our API does, so the same client drives all three. Run in the peers' environments.
PEER_STORAGE: the directory of the pictures and clips. PEER_CLIP: the result of every render.
PEER_HOLD: renders wait while this file exists. PEER_READY: a worker creates it when it is ready.
"""

import io
import os
import time
import uuid
from collections.abc import Callable
from pathlib import Path
from typing import Any

from flask import Flask, Response, abort, jsonify, request
from PIL import Image, ImageOps, UnidentifiedImageError

STORAGE = Path(os.environ["PEER_STORAGE"])
CLIP = Path(os.environ["PEER_CLIP"]).read_bytes()
HOLD = Path(os.environ["PEER_HOLD"])
MAX_BYTES = 25_000_000
MAX_PIXELS = 50_000_000
MAX_SIDE = 2048
FORMATS = ("JPEG", "PNG", "WEBP", "GIF", "BMP", "TIFF")

Job = dict[str, Any]  # state, terminal, error


def create_app(submit: Callable[[str], str], find: Callable[[str], Job | None]) -> Flask:
    """The API. `submit` makes a durable job of a stored picture's key and returns the job's id.

    `find` returns a job as our API shows it, or None.
    """
    app = Flask(__name__)
    app.config["MAX_CONTENT_LENGTH"] = MAX_BYTES

    @app.post("/v1/jobs")
    def submit_job() -> tuple[Response, int]:
        if "image" not in request.files:
            abort(422)
        picture = normalised(request.files["image"].read())
        key = f"inputs/{uuid.uuid4()}.jpg"
        put(key, picture)  # before the row: an orphan can be swept, a hole cannot
        return jsonify(id=submit(key)), 202

    @app.get("/v1/jobs/<job_id>")
    def show_job(job_id: str) -> Response:
        job = find(job_id)
        if job is None:
            abort(404)
        return jsonify(id=job_id, **job)

    @app.get("/ready")
    def ready() -> str:
        return "ready"

    return app


def normalised(data: bytes) -> bytes:
    """An upright RGB JPEG without metadata, as our API stores it. Aborts with 422 for a bad one.

    Decoded in the web process. Ours uses a confined process and converts colour profiles.
    """
    try:
        image = Image.open(io.BytesIO(data), formats=FORMATS)
        if image.width * image.height > MAX_PIXELS:
            abort(422)
        image.draft("RGB", (MAX_SIDE, MAX_SIDE))
        upright = ImageOps.exif_transpose(image).convert("RGB")
    except (UnidentifiedImageError, OSError, ValueError, Image.DecompressionBombError):
        abort(422)
    upright.thumbnail((MAX_SIDE, MAX_SIDE), Image.Resampling.LANCZOS)
    even = upright.crop((0, 0, upright.width & ~1, upright.height & ~1))
    out = io.BytesIO()
    even.save(out, "JPEG", quality=95, subsampling=0)
    return out.getvalue()


def put(key: str, data: bytes) -> None:
    """Store a new object durably, with one flush, as our storage does."""
    path = STORAGE / key
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(f".{uuid.uuid4()}.partial")
    with partial.open("xb", buffering=0) as file:
        file.write(data)
        partial.rename(path)
        os.fsync(file.fileno())  # after the rename: one flush makes content and name durable


def render(picture_key: str, clip_key: str) -> None:
    """Our no-op render: read the picture, wait while held, store the clip."""
    (STORAGE / picture_key).read_bytes()
    while HOLD.exists():
        time.sleep(0.002)
    put(clip_key, CLIP)


def worker_ready() -> None:
    """Tell the benchmark that this worker takes jobs."""
    Path(os.environ["PEER_READY"]).touch()
