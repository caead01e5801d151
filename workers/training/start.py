"""Starts a layered network from the weights of another one, layered or of one sheet.

What the shipped teacher knows of pictures, words and motion is kept. Its motion is that of the
whole picture, so the input channels of the camera and of what is soft start as copies of it.
"""

import torch
from torch import Tensor

from workers.pipeline.layer_state import CAMERA, CHANNELS
from workers.pipeline.layered_denoiser import LayeredDenoiser

IN, OUT = "unet.conv_in.weight", ("unet.conv_out.weight", "unet.conv_out.bias")
PICTURE = "picture_encoder.fine.0.0.weight"
SHEET = 2  # motion channels of a network for one sheet


@torch.no_grad()
def start_from(network: LayeredDenoiser, weights: dict[str, Tensor]) -> None:
    """Copy weights that fit, adapt those of the first and last layers, leave the rest as drawn.

    Raises KeyError or RuntimeError if the weights belong to a network of another width.
    """
    own = network.state_dict()
    if own[IN].shape == weights[IN].shape:
        network.load_state_dict(weights)
        return
    kept = {key: value for key, value in weights.items() if key not in (IN, PICTURE, *OUT)}
    network.load_state_dict(kept, strict=False)
    motion, static = weights[IN][:, :SHEET], weights[IN][:, SHEET:]
    first = torch.zeros_like(own[IN])
    first[:, CAMERA] = motion / 2
    first[:, CHANNELS // 2 : CHANNELS] = motion.repeat(1, 2, 1, 1) / 2
    first[:, CHANNELS : CHANNELS + static.shape[1]] = static
    network.unet.conv_in.weight.copy_(first)
    network.unet.conv_out.weight.copy_(weights[OUT[0]].repeat(2, 1, 1, 1))
    network.unet.conv_out.bias.copy_(weights[OUT[1]].repeat(2))
    # Colours, then the new matte, then x and y.
    colours, place = weights[PICTURE][:, :3], weights[PICTURE][:, 3:]
    matte = torch.zeros_like(colours[:, :1])
    network.picture_encoder.fine[0][0].weight.copy_(torch.cat([colours, matte, place], 1))
