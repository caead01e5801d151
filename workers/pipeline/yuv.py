"""RGB to YUV 4:2:0 as H.264 means it: BT.709, limited range, chroma sited left."""

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

# A chroma sample lies on the left one of its two columns, half a pixel left of their middle: a
# quarter of the distance between two samples (Rec. ITU-T H.264, E.2.1: type 0, the default).
LEFT = -0.25
# BT.709, limited range (Rec. ITU-R BT.709-6, items 3.2 to 3.4 and 4.6): Y, Cb, Cr from R, G, B.
_LUMA = (0.2126, 0.7152, 0.0722)
_BT709 = torch.tensor(
    [
        [219 / 255 * k for k in _LUMA],
        [224 / 255 * k / 1.8556 for k in (-_LUMA[0], -_LUMA[1], 1 - _LUMA[2])],
        [224 / 255 * k / 1.5748 for k in (1 - _LUMA[0], -_LUMA[1], -_LUMA[2])],
    ]
)


def to_yuv420(picture: np.ndarray) -> tuple[Tensor, Tensor]:
    """(H, W, 3) uint8 RGB -> luma (1, H, W) and chroma (2, H / 2, W / 2), float32, rounded.

    An odd side gets one more row or column, a copy of the last.
    """
    pixels = torch.tensor(picture).permute(2, 0, 1).float()
    height, width = picture.shape[:2]
    pixels = F.pad(pixels[None], (0, width % 2, 0, height % 2), mode="replicate")[0]
    luma, *colour = torch.einsum("kc,chw->khw", _BT709, pixels)
    return (luma[None] + 16).round(), (_at_chroma(torch.stack(colour)) + 128).round()


def subsampled(plane: np.ndarray) -> np.ndarray:
    """A plane (H, W) of even sides, such as a matte, at the places of the chroma samples."""
    sampled: np.ndarray = _at_chroma(torch.from_numpy(plane)[None])[0].numpy()
    return sampled


def _at_chroma(planes: Tensor) -> Tensor:
    """(C, H, W) -> (C, H / 2, W / 2): a sample lies between two rows and on the left column, whose
    neighbours count by half."""
    beside = F.pad(planes[None], (1, 1, 0, 0), mode="replicate")
    rows = beside.unfold(2, 2, 2).mean(-1)
    return (rows[..., :-2:2] + 2 * rows[..., 1:-1:2] + rows[..., 2::2])[0] / 4
