"""From a model's coarse matte to one with the picture's own edges; or to none, if unsure."""

import cv2
import numpy as np

# What a subject covers of the picture. Less is a speck; more leaves no background to move against.
LEAST_COVER, MOST_COVER = 0.004, 0.8
SURE = 0.8  # a subject has pixels of which the model is so sure
# Of how much the model may be unsure: a share of the subject, and of the picture (thin subjects are
# all edge).
DOUBTFUL = (0.2, 0.8)
MOST_DOUBT, EDGE_DOUBT = 0.25, 0.006
LEAST_PART = 0.1  # of the largest part's area: a smaller part belongs to the background
FRINGE = 0.015  # of the matte's side: the subject's doubtful pixels are no farther from sure ones
LEAST_SIDE = 32  # pixels
NARROWEST = 1 / 3  # the models see a square: a longer picture is too distorted
GUIDE_SIDE = 320  # pixels of the guided filter's coarse copy
GUIDE_RADIUS = 4
GUIDE_EPS = 2e-4
HARDEN = (0.08, 0.92)  # what lies beyond becomes exactly 0 and 1


def subject_in(matte: np.ndarray, height: int, width: int) -> np.ndarray | None:
    """A model's matte (h, w) of a picture of this size, without its specks; None: no subject.

    None as well for what is not clearly one thing in front of another: then the picture is better
    left in one piece.
    """
    if min(height, width) < LEAST_SIDE or min(height, width) < NARROWEST * max(height, width):
        return None
    inside = matte > 0.5
    cover = float(inside.mean())
    if not LEAST_COVER <= cover <= MOST_COVER or float(matte.max()) < SURE:
        return None
    doubtful = float(((matte > DOUBTFUL[0]) & (matte < DOUBTFUL[1])).mean())
    if doubtful > MOST_DOUBT * cover + EDGE_DOUBT:
        return None
    count, parts, stats, _ = cv2.connectedComponentsWithStats(inside.astype(np.uint8))
    areas = stats[1:, cv2.CC_STAT_AREA]
    kept = [n + 1 for n in range(count - 1) if areas[n] >= LEAST_PART * areas.max()]
    # Hair and other fringes are doubtful, but near to what is sure.
    side = 2 * round(FRINGE * max(matte.shape)) + 1
    near = cv2.dilate(np.isin(parts, kept).astype(np.uint8), np.ones((side, side), np.uint8))
    other = inside & ~np.isin(parts, kept)
    cleaned: np.ndarray = np.where((near > 0) & ~other, matte, 0).astype(np.float32)
    return cleaned if (cleaned > 0.5).mean() >= LEAST_COVER else None


def refined(matte: np.ndarray, picture: np.ndarray) -> np.ndarray:
    """The matte at the size of the picture, (H, W, 3) uint8, along its edges; float32 in [0, 1].

    A guided filter (He, Sun and Tang 2013, doi:10.1109/TPAMI.2012.213) whose coefficients are
    computed on a smaller copy (He and Sun 2015, arXiv:1505.00996).
    """
    height, width = picture.shape[:2]
    scale = min(1.0, GUIDE_SIDE / max(height, width))
    size = (max(1, round(width * scale)), max(1, round(height * scale)))
    guide = cv2.resize(picture, size, interpolation=cv2.INTER_AREA).astype(np.float32) / 255
    wanted = cv2.resize(matte, size, interpolation=cv2.INTER_LINEAR)
    slope, offset = _guided(guide, wanted)
    slope = cv2.resize(slope, (width, height), interpolation=cv2.INTER_LINEAR)
    offset = cv2.resize(offset, (width, height), interpolation=cv2.INTER_LINEAR)
    alpha = offset + (slope * (picture * np.float32(1 / 255))).sum(-1)
    # Far from the model's own edge, texture of the picture must not show through.
    plain = cv2.resize(matte, (width, height), interpolation=cv2.INTER_LINEAR)
    near = cv2.blur(plain, (9, 9))
    alpha = np.where(near < 0.02, 0, np.where(near > 0.98, 1, alpha))
    hard = (alpha - HARDEN[0]) / (HARDEN[1] - HARDEN[0])
    clipped: np.ndarray = np.clip(hard, 0, 1).astype(np.float32)
    return clipped


def _guided(guide: np.ndarray, wanted: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Slopes (h, w, 3) and offsets (h, w) of local linear models: wanted = slope guide + offset."""
    side = (2 * GUIDE_RADIUS + 1,) * 2

    def mean(x: np.ndarray) -> np.ndarray:
        blurred: np.ndarray = cv2.blur(x, side, borderType=cv2.BORDER_REFLECT)
        return blurred

    r, g, b = (np.ascontiguousarray(guide[..., n]) for n in range(3))
    mr, mg, mb, target = mean(r), mean(g), mean(b), mean(wanted)
    rr, gg, bb = (
        mean(x * x) - m * m + np.float32(GUIDE_EPS) for x, m in ((r, mr), (g, mg), (b, mb))
    )
    rg, rb, gb = mean(r * g) - mr * mg, mean(r * b) - mr * mb, mean(g * b) - mg * mb
    pr, pg, pb = (mean(x * wanted) - m * target for x, m in ((r, mr), (g, mg), (b, mb)))
    # The inverse of the symmetric covariance, by its cofactors.
    c00, c01, c02 = gg * bb - gb * gb, rb * gb - rg * bb, rg * gb - rb * gg
    c11, c12, c22 = rr * bb - rb * rb, rg * rb - rr * gb, rr * gg - rg * rg
    whole = rr * c00 + rg * c01 + rb * c02
    slopes = (
        c00 * pr + c01 * pg + c02 * pb,
        c01 * pr + c11 * pg + c12 * pb,
        c02 * pr + c12 * pg + c22 * pb,
    )
    slope = np.stack(slopes, -1) / whole[..., None]
    offset = target - slope[..., 0] * mr - slope[..., 1] * mg - slope[..., 2] * mb
    return mean(slope), mean(offset)
