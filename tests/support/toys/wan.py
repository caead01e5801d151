"""Wan 2.1 and 2.2."""

import transformers
from diffusers import (
    AutoencoderKLWan,
    UniPCMultistepScheduler,
    WanImageToVideoPipeline,
    WanTransformer3DModel,
)

from tests.support.toys.parts import (
    TEXT_WIDTH,
    clip_processor,
    clip_vision,
    t5_tokenizer,
    umt5_encoder,
)


def wan_vae(**changes: object) -> AutoencoderKLWan:
    given = {
        "base_dim": 8,
        "z_dim": 16,
        "dim_mult": [1, 1, 1, 1],
        "num_res_blocks": 1,
        "temperal_downsample": [False, True, True],
    }
    return AutoencoderKLWan(**given | changes)


def wan_transformer(**changes: object) -> WanTransformer3DModel:
    given = {
        "patch_size": (1, 2, 2),
        "num_attention_heads": 4,
        "attention_head_dim": 12,
        "in_channels": 36,
        "out_channels": 16,
        "text_dim": TEXT_WIDTH,
        "freq_dim": 64,
        "ffn_dim": 64,
        "num_layers": 2,
        "cross_attn_norm": True,
        "qk_norm": "rms_norm_across_heads",
        "rope_max_seq_len": 32,
    }
    return WanTransformer3DModel(**given | changes)


def _wan(**parts: object) -> WanImageToVideoPipeline:
    scheduler = UniPCMultistepScheduler(
        prediction_type="flow_prediction", use_flow_sigmas=True, flow_shift=3.0
    )
    given = {
        "tokenizer": t5_tokenizer(),
        "text_encoder": umt5_encoder(),
        "vae": wan_vae(),
        "scheduler": scheduler,
        "transformer": wan_transformer(),
    }
    return WanImageToVideoPipeline(**given | parts)


def wan22() -> WanImageToVideoPipeline:
    """Two experts, as in Wan2.2-I2V-A14B."""
    return _wan(transformer_2=wan_transformer(), boundary_ratio=0.9)


def wan22_ti2v() -> WanImageToVideoPipeline:
    vae = wan_vae(
        z_dim=48,
        in_channels=12,
        out_channels=12,
        is_residual=True,
        patch_size=2,
        latents_mean=[0.0] * 48,
        latents_std=[1.0] * 48,
        scale_factor_spatial=16,
        scale_factor_temporal=4,
    )
    return _wan(
        vae=vae,
        transformer=wan_transformer(in_channels=48, out_channels=48),
        expand_timesteps=True,
    )


def wan21(**changes: object) -> WanImageToVideoPipeline:
    """One network that looks at the picture through CLIP, as in Wan2.1-I2V-14B."""
    transformer = wan_transformer(image_dim=16, added_kv_proj_dim=48, **changes)
    return _wan(
        transformer=transformer,
        image_encoder=clip_vision(transformers.CLIPVisionModel),
        image_processor=clip_processor(),
    )


LIGHTNING = """
pipeline = "WanImageToVideoPipeline"
dtype = { default = "fp32" }
scheduler = "FlowMatchEulerDiscreteScheduler"
sigmas = [1.0, 0.9375, 0.8333, 0.625]
first_frame = "generated"
"""
TAUGHT = """
pipeline = "WanImageToVideoPipeline"
dtype = { default = "fp32" }
"""
