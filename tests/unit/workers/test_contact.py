"""Contact sheets of real photos."""

from PIL import Image

from tests.support.tiny_model import write_model
from workers.pipeline.animation import Animation
from workers.training import contact


def test_a_page_shows_a_photo_with_every_prompt(tmp_path):
    animation = Animation.load(write_model(tmp_path / "model"), matte="none")
    [page] = contact.pages(animation, tmp_path / "sheets", 1)
    with Image.open(page) as image:
        side = contact.SIDE  # of a square photo
        rows = len(contact.PROMPTS) * (side + contact.CAPTION)
        assert image.size == (len(contact.SHARES) * side, rows)


def test_every_photo_exists():
    assert len(set(contact.PHOTOS)) == 16 and len(set(contact.PROMPTS)) == 6
    for name in contact.PHOTOS:
        assert max(contact.load(name).shape) == contact.SIDE
