"""What the attacks of `scripts/bench abuse` send."""

import io
import json

from PIL import Image

from scripts.benchmarks import abuse_attacks as attacks
from scripts.benchmarks.abuse_pictures import SCANS, many_scans


def test_the_picture_of_many_scans_is_small_and_is_a_picture():
    data = many_scans(side=64, scans=20)
    assert data.count(b"\xff\xda") == 20
    with Image.open(io.BytesIO(data)) as image:
        assert (image.format, image.size, image.mode) == ("JPEG", (64, 64), "L")
        assert image.getextrema() == (128, 128)  # every coefficient is zero
    whole = many_scans()
    assert whole.count(b"\xff\xda") == SCANS
    assert 150_000 < len(whole) < 190_000


def test_the_json_bombs_are_valid_json_of_the_announced_size():
    assert len(json.loads(attacks.unknown_fields(1000))) == 1000
    assert 12_900 < len(attacks.unknown_fields(size_bytes=13_000)) <= 13_001
    image = json.loads(attacks.data_uri(4000))["image"]
    assert image.startswith("data:image/jpeg;base64,")
    assert len(image.partition(",")[2]) == 4000
