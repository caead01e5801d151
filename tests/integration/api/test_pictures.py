"""Pictures through the API: formats, the ground of transparent ones, and keys that hog decoders."""

import io
import threading

import numpy as np
import pillow_heif
import pytest
from PIL import Image, ImageDraw

from app.api.application import create_app
from app.store import keys
from tests.support import calls
from tests.support.pictures import encode

NOOP = {"model": "noop"}


def stored(objects_dir) -> Image.Image:
    (name,) = calls.objects_in(objects_dir)
    return Image.open(io.BytesIO((objects_dir / name).read_bytes()))


@pytest.mark.parametrize("fmt", ["HEIF", "AVIF"])
def test_heic_and_avif_are_accepted(api, photo, objects_dir, fmt):
    pillow_heif.register_heif_opener()
    image = Image.open(io.BytesIO(photo))
    answer = calls.submit(api, encode(image, fmt), **NOOP)
    assert answer.status_code == 202
    picture = stored(objects_dir)
    assert (picture.format, picture.size) == ("JPEG", image.size)
    assert np.abs(np.asarray(picture, float) - np.asarray(image, float)).mean() < 6


def white_logo() -> bytes:
    image = Image.new("RGBA", (128, 128), (255, 255, 255, 0))
    ImageDraw.Draw(image).ellipse((30, 30, 98, 98), fill=(255, 255, 255, 255))
    return encode(image)


@pytest.mark.parametrize(
    ("asked", "ground"), [({}, (0, 0, 0)), ({"background": "#0AC81e"}, (10, 200, 30))]
)
def test_a_white_logo_does_not_become_a_white_clip(api, objects_dir, asked, ground):
    answer = calls.submit(api, white_logo(), **asked, **NOOP)
    assert answer.status_code == 202
    levels = np.asarray(stored(objects_dir)).astype(int)
    assert np.abs(levels[4, 4] - ground).max() <= 4
    assert levels[64, 64].min() >= 250


@pytest.mark.parametrize("colour", ["", "white", "#fff", "0ac81e", "#0ac81eff", "#0ac81g"])
def test_a_background_is_six_digits(api, photo, colour):
    answer = calls.submit(api, photo, background=colour, **NOOP)
    calls.assert_problem(answer, 422, "invalid_field", "/background")


def test_two_backgrounds_are_two_requests(api):
    headers = {"Idempotency-Key": "a"}
    calls.submit(api, white_logo(), headers=headers, background="#000000", **NOOP)
    answer = calls.submit(api, white_logo(), headers=headers, background="#ffffff", **NOOP)
    calls.assert_problem(answer, 422, "idempotency_key_reused")


def test_a_key_whose_pictures_wait_holds_up_no_other_key(change, store, photo):
    """Its requests wait aside: there is one working slot, and it stays free."""
    app = create_app(change(api_threads=1))
    services = app.extensions["services"]
    clients, ids = [], []
    for name in ("hog", "other"):
        with store.begin() as tx:
            secret = keys.create(tx, name)[1]
        with store.autocommit() as conn:
            ids.append(keys.find(conn, secret).id)
        client = app.test_client()
        client.environ_base["HTTP_AUTHORIZATION"] = f"Bearer {secret}"
        clients.append(client)
    hog, other = clients
    answers = []
    waiting = threading.Thread(target=lambda: answers.append(calls.submit(hog, photo, **NOOP)))
    try:
        with services.normaliser.turns.turn(ids[0], 5):  # as if it decoded a slow picture
            waiting.start()
            assert calls.submit(other, photo, **NOOP).status_code == 202
            assert answers == []
        waiting.join(30)
        assert [answer.status_code for answer in answers] == [202]
    finally:
        services.close()
