"""What a transparent picture is laid on."""

from PIL import Image

WHITE, BLACK, GREY = (255, 255, 255), (0, 0, 0), (119, 119, 119)
# Grey has the same contrast with white and black, 4.5 : 1 (WCAG 2.2).

# Below this contrast, a shape and its ground cannot be told apart at a glance.
_LEAST_CONTRAST = 1.6
# A picture that is nearly all opaque, such as a screenshot with round corners, brings its own
# ground.
_LEAST_TRANSPARENT = 0.05
# White stays while no more than this share of what is visible would vanish on it.
_MAY_VANISH = 0.25
_SAMPLE_PIXELS = 128


def laid(
    image: Image.Image, alpha: Image.Image, ground: tuple[int, int, int] | None
) -> Image.Image:
    """Lay an sRGB image on `ground`; None chooses one that its shapes stand out from."""
    under = Image.new("RGB", image.size, ground or _chosen(image, alpha))
    under.paste(image, mask=alpha)
    return under


def _chosen(image: Image.Image, alpha: Image.Image) -> tuple[int, int, int]:
    weights, luminances = _sampled(image, alpha)
    visible = sum(weights)
    transparent = 1 - visible / (255 * len(weights))
    if not visible or transparent < _LEAST_TRANSPARENT:
        return WHITE

    def vanishing(ground: tuple[int, int, int]) -> float:
        own = _luminance(ground[0])
        lost = sum(
            weight
            for weight, luminance in zip(weights, luminances, strict=True)
            if _contrast(own, luminance) < _LEAST_CONTRAST
        )
        return lost / visible

    if vanishing(WHITE) <= _MAY_VANISH:
        return WHITE
    return min((WHITE, BLACK, GREY), key=vanishing)


def _sampled(image: Image.Image, alpha: Image.Image) -> tuple[list[int], list[float]]:
    """Alpha and luminance of a smaller copy, pixel by pixel."""
    small = image.convert("RGB")
    small.putalpha(alpha)
    small.thumbnail((_SAMPLE_PIXELS, _SAMPLE_PIXELS))
    red, green, blue, opacity = small.split()
    # WCAG's relative luminance needs linear light; a table per channel gives it in 1/255.
    linear = [round(255 * _luminance(v)) for v in range(256)]
    light = Image.merge("RGB", [band.point(linear) for band in (red, green, blue)])
    luminance = light.convert("L", (0.2126, 0.7152, 0.0722, 0))
    return list(opacity.tobytes()), [v / 255 for v in luminance.tobytes()]


def _luminance(level: int) -> float:
    """Of an sRGB grey level, 0 to 1 (WCAG 2.2)."""
    v = level / 255
    return v / 12.92 if v <= 0.04045 else ((v + 0.055) / 1.055) ** 2.4


def _contrast(one: float, other: float) -> float:
    """WCAG 2.2's contrast ratio of two luminances, 1 to 21."""
    return (max(one, other) + 0.05) / (min(one, other) + 0.05)
