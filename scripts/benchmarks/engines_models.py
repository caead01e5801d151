"""Published image-to-video models at full size, with random weights drawn on the device.

Configurations are the defaults of the classes, which the library took from the published models;
where they are not, a docstring names the model whose public config.json has them.
"""

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import diffusers
import torch
import transformers
from accelerate import init_empty_weights

from tests.support.toys.lightricks import gemma_tokenizer
from tests.support.toys.others import svd_scheduler
from tests.support.toys.parts import t5_tokenizer

BF16, FP32 = torch.bfloat16, torch.float32
TEMPLATES = Path(__file__).resolve().parents[2] / "workers/engines/diffusers/templates"


@dataclass(frozen=True)
class Variant:
    """Another way to run a model with our engine, on top of those before it."""

    name: str
    table: dict[str, Any] = field(default_factory=dict)  # changes to the profile's table
    cast: dict[str, torch.dtype] = field(default_factory=dict)  # of parts
    steps: int | None = None  # fewer, for a rough look


@dataclass(frozen=True)
class Model:
    """A published model. `parts` makes its components on a device, and `config` its pipeline's."""

    name: str
    template: Path  # the profile that ships for it
    parts: Callable[[torch.device], dict[str, Any]]
    config: dict[str, Any]
    frames: int
    size: tuple[int, int]  # width, height
    target_s: float | None
    variants: tuple[Variant, ...]


def random_weights(make: Callable[[], Any], dtype: torch.dtype, device: torch.device) -> Any:
    """A network whose weights are drawn on the device; buffers are computed as always.

    Scaled so that activations neither vanish nor grow: 1/sqrt(fan-in), norms 1, biases 0.
    """
    with init_empty_weights(include_buffers=False):
        network = make()
    if isinstance(network, transformers.PreTrainedModel):
        network.tie_weights()
    kept = getattr(network, "_keep_in_fp32_modules", None) or ()
    if not isinstance(network, diffusers.ModelMixin):
        kept = ()  # transformers keeps them for fp16 alone
    known: dict[int, torch.nn.Parameter] = {}  # tied weights stay tied
    for path, module in network.named_modules():
        for name, old in module._parameters.items():
            if old is None:
                continue
            if id(old) not in known:
                keys = {*path.split("."), name}
                numbers = FP32 if keys & set(kept) else dtype
                known[id(old)] = _drawn(name, old, numbers, device)
            module._parameters[name] = known[id(old)]
        for name, buffer in module._buffers.items():
            if buffer is not None:
                saved = buffer.is_floating_point() and name in _saved(module)
                module._buffers[name] = buffer.to(device, dtype if saved else None)
    return network.eval()


def _saved(module: torch.nn.Module) -> set[str]:
    """Buffers that checkpoints hold; they are loaded in the network's type."""
    return set(module._buffers) - module._non_persistent_buffers_set


def _drawn(
    name: str, old: torch.nn.Parameter, dtype: torch.dtype, device: torch.device
) -> torch.nn.Parameter:
    made = torch.empty(old.shape, dtype=dtype, device=device)
    if made.ndim >= 2:
        made.normal_(0, (made[0].numel()) ** -0.5)
    else:
        made.fill_(0.0 if name.endswith("bias") else 1.0)
    return torch.nn.Parameter(made, requires_grad=False)


def t5(kind: type[Any], config: type[Any], vocabulary: int) -> Any:
    """The encoder of google/t5-v1_1-xxl and google/umt5-xxl."""
    return kind(
        config(
            vocab_size=vocabulary,
            d_model=4096,
            d_kv=64,
            d_ff=10240,
            num_layers=24,
            num_heads=64,
            feed_forward_proj="gated-gelu",
        )
    )


def wan_parts(device: torch.device) -> dict[str, Any]:
    """Wan-AI/Wan2.2-I2V-A14B-Diffusers: in_channels 36, else the defaults."""

    def expert() -> Any:
        return random_weights(lambda: diffusers.WanTransformer3DModel(in_channels=36), BF16, device)

    return {
        "transformer": expert(),
        "transformer_2": expert(),
        "vae": random_weights(diffusers.AutoencoderKLWan, FP32, device),
        "text_encoder": random_weights(
            lambda: t5(transformers.UMT5EncoderModel, transformers.UMT5Config, 256384),
            BF16,
            device,
        ),
        "tokenizer": t5_tokenizer(),
        "scheduler": diffusers.UniPCMultistepScheduler(
            prediction_type="flow_prediction", use_flow_sigmas=True, flow_shift=3.0
        ),
    }


def _ltx_scheduler() -> Any:
    return diffusers.FlowMatchEulerDiscreteScheduler(
        use_dynamic_shifting=True, shift_terminal=0.1, base_shift=0.95, max_shift=2.05
    )


def ltx2_parts(device: torch.device) -> dict[str, Any]:
    """Lightricks/LTX-2: the defaults; the VAE's flags from the library's conversion script."""
    from diffusers.pipelines.ltx2 import LTX2TextConnectors
    from diffusers.pipelines.ltx2.vocoder import LTX2Vocoder

    def gemma() -> Any:  # google/gemma-3-12b
        text = {
            "hidden_size": 3840,
            "intermediate_size": 15360,
            "num_hidden_layers": 48,
            "num_attention_heads": 16,
            "num_key_value_heads": 8,
            "head_dim": 256,
            "sliding_window": 1024,
            "query_pre_attn_scalar": 256,
            "vocab_size": 262208,
        }
        vision = {
            "hidden_size": 1152,
            "intermediate_size": 4304,
            "num_hidden_layers": 27,
            "num_attention_heads": 16,
            "image_size": 896,
            "patch_size": 14,
        }
        config = transformers.Gemma3Config(text_config=text, vision_config=vision)
        return transformers.Gemma3ForConditionalGeneration(config)

    def vae() -> Any:
        return diffusers.AutoencoderKLLTX2Video(
            decoder_causal=False, spatial_compression_ratio=32, temporal_compression_ratio=8
        )

    return {
        "transformer": random_weights(diffusers.LTX2VideoTransformer3DModel, BF16, device),
        "connectors": random_weights(LTX2TextConnectors, BF16, device),
        "vae": random_weights(vae, BF16, device),
        "audio_vae": random_weights(diffusers.AutoencoderKLLTX2Audio, BF16, device),
        "vocoder": random_weights(LTX2Vocoder, BF16, device),
        "text_encoder": random_weights(gemma, BF16, device),
        "tokenizer": gemma_tokenizer(),
        "scheduler": _ltx_scheduler(),
    }


def svd_parts(device: torch.device) -> dict[str, Any]:
    """stabilityai/stable-video-diffusion-img2vid-xt: the UNet's defaults; CLIP ViT-H/14."""

    def vae() -> Any:
        return diffusers.AutoencoderKLTemporalDecoder(
            block_out_channels=(128, 256, 512, 512),
            down_block_types=("DownEncoderBlock2D",) * 4,
            layers_per_block=2,
            sample_size=768,
        )

    def clip() -> Any:
        return transformers.CLIPVisionModelWithProjection(
            transformers.CLIPVisionConfig(
                hidden_size=1280,
                intermediate_size=5120,
                num_hidden_layers=32,
                num_attention_heads=16,
                patch_size=14,
                projection_dim=1024,
                hidden_act="gelu",
            )
        )

    return {
        "unet": random_weights(diffusers.UNetSpatioTemporalConditionModel, BF16, device),
        "vae": random_weights(vae, BF16, device),
        "image_encoder": random_weights(clip, BF16, device),
        "feature_extractor": transformers.CLIPImageProcessor(),
        "scheduler": svd_scheduler(),
    }


def ltx_parts(device: torch.device) -> dict[str, Any]:
    """Lightricks/LTX-Video-0.9.8-2B-distilled: the defaults, and the VAE of 0.9.5."""

    def vae() -> Any:
        return diffusers.AutoencoderKLLTXVideo(
            block_out_channels=(128, 256, 512, 1024, 2048),
            down_block_types=("LTXVideo095DownBlock3D",) * 4,
            decoder_block_out_channels=(256, 512, 1024),
            layers_per_block=(4, 6, 6, 2, 2),
            decoder_layers_per_block=(5, 5, 5, 5),
            spatio_temporal_scaling=(True,) * 4,
            decoder_spatio_temporal_scaling=(True,) * 3,
            decoder_inject_noise=(False,) * 4,
            downsample_type=("spatial", "temporal", "spatiotemporal", "spatiotemporal"),
            upsample_residual=(True,) * 3,
            upsample_factor=(2,) * 3,
            timestep_conditioning=True,
            spatial_compression_ratio=32,
            temporal_compression_ratio=8,
        )

    return {
        "transformer": random_weights(diffusers.LTXVideoTransformer3DModel, BF16, device),
        "vae": random_weights(vae, BF16, device),
        "text_encoder": random_weights(
            lambda: t5(transformers.T5EncoderModel, transformers.T5Config, 32128), BF16, device
        ),
        "tokenizer": t5_tokenizer(),
        "scheduler": _ltx_scheduler(),
    }


CUDNN = Variant("cudnn attention", {"attention": "_native_cudnn"})
COMPILED = Variant("compiled", {"graphs": {"transformer": "compile"}})
BOTH_COMPILED = Variant(
    "compiled", {"graphs": {"transformer": "compile", "transformer_2": "compile"}}
)
MODELS = {
    model.name: model
    for model in (
        Model(
            "wan",
            TEMPLATES / "wan2.2-i2v-lightning.toml",
            wan_parts,
            {"boundary_ratio": 0.9},
            81,
            (832, 480),
            14.0,
            (CUDNN, BOTH_COMPILED, Variant("vae bf16", cast={"vae": BF16})),
        ),
        Model(
            "ltx2",
            TEMPLATES / "ltx-2.3-distilled.toml",
            ltx2_parts,
            {},
            121,
            (768, 512),
            9.5,
            (CUDNN, COMPILED),
        ),
        Model(
            "svd",
            TEMPLATES / "svd-xt.toml",
            svd_parts,
            {},
            25,
            (1024, 576),
            22.6,
            (Variant("few steps", steps=4),),
        ),
        Model(
            "ltx",
            TEMPLATES / "ltx-video-2b-distilled.toml",
            ltx_parts,
            {},
            121,
            (768, 512),
            None,
            (CUDNN, COMPILED),
        ),
    )
}
