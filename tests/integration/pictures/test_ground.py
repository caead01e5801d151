"""What transparent pictures are laid on."""

import numpy as np
import pytest
from PIL import Image, ImageDraw

from tests.support.pictures import encode, pixels

WHITE, BLACK = (255, 255, 255), (0, 0, 0)


def logo(*colours: tuple[int, int, int], fmt: str = "PNG") -> bytes:
    """Rings side by side on nothing, one of each colour; 160 pixels each."""
    image = Image.new("RGBA", (160 * len(colours), 160), (*WHITE, 0))
    draw = ImageDraw.Draw(image)
    for i, colour in enumerate(colours):
        draw.ellipse((160 * i + 20, 20, 160 * i + 140, 140), outline=(*colour, 255), width=30)
    return encode(image, fmt, **({"lossless": True} if fmt == "WEBP" else {}))


def luminance(colour) -> float:
    v = np.asarray(colour) / 255
    linear = np.where(v <= 0.04045, v / 12.92, ((v + 0.055) / 1.055) ** 2.4)
    return float(linear @ (0.2126, 0.7152, 0.0722))


def contrast(one, other) -> float:
    low, high = sorted((luminance(one), luminance(other)))
    return (high + 0.05) / (low + 0.05)


@pytest.mark.parametrize("fmt", ["PNG", "WEBP", "TIFF"])
@pytest.mark.parametrize(
    "colours",
    [
        [WHITE],
        [BLACK],
        [WHITE, BLACK],
        [(255, 230, 0)],
        [(250, 250, 250), (200, 40, 40)],
        [(30, 60, 200)],
        [(119, 119, 119)],
        [WHITE, (119, 119, 119)],
    ],
)
def test_every_part_of_a_logo_stands_out_from_its_ground(normaliser, colours, fmt):
    result = pixels(normaliser.normalise(logo(*colours, fmt=fmt)))
    ground = result[4, 4]
    for i, colour in enumerate(colours):
        ring = result[80, 160 * i + 35]
        assert np.abs(ring - colour).max() <= 8
        assert contrast(ring, ground) > 1.5, (ring, ground)


def test_white_is_the_ground_while_little_would_vanish_on_it(normaliser):
    for colours in ([BLACK], [(200, 40, 40)], [(30, 60, 200), BLACK, (200, 40, 40), WHITE]):
        result = pixels(normaliser.normalise(logo(*colours)))
        assert result[4, 4].min() >= 250, colours


def test_round_corners_of_a_bright_page_are_white(normaliser):
    image = Image.new("RGBA", (300, 200), (*WHITE, 0))
    draw = ImageDraw.Draw(image)
    draw.rounded_rectangle((0, 0, 299, 199), 20, fill=(*WHITE, 255))
    draw.line((40, 100, 260, 100), fill=(*BLACK, 255), width=4)
    assert pixels(normaliser.normalise(encode(image)))[0, 0].min() >= 250


def test_soft_edges_mix_with_the_ground(normaliser):
    image = Image.new("RGBA", (128, 64), (*WHITE, 0))
    image.paste((*WHITE, 128), (32, 0, 96, 64))
    result = pixels(normaliser.normalise(encode(image)))
    assert result[32, 8].max() <= 6
    assert np.abs(result[32, 64] - 128).max() <= 6


def test_the_caller_chooses_the_ground(normaliser):
    for colours in ([WHITE], [BLACK]):
        picture = normaliser.normalise(logo(*colours), background=(10, 200, 30))
        assert np.abs(pixels(picture)[4, 4] - (10, 200, 30)).max() <= 4


def test_a_picture_of_nothing_is_white(normaliser):
    picture = normaliser.normalise(encode(Image.new("RGBA", (64, 64), (1, 2, 3, 0))))
    assert pixels(picture).min() >= 250
