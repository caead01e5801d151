"""Toy checkpoints of real families: real classes, random weights, saved as published ones are.

Each is a folder that the engine loads as it loads the full-size one, and a profile in TOML. They
render 9 frames of 64x64 in about a second.
"""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import torch
import transformers
from diffusers import (
    AutoencoderKLCogVideoX,
    AutoencoderKLHunyuanVideo15,
    AutoencoderKLLTX2Audio,
    AutoencoderKLLTX2Video,
    AutoencoderKLLTXVideo,
    AutoencoderKLTemporalDecoder,
    AutoencoderKLWan,
    CogVideoXDDIMScheduler,
    CogVideoXImageToVideoPipeline,
    CogVideoXTransformer3DModel,
    EulerDiscreteScheduler,
    FlowMatchEulerDiscreteScheduler,
    HunyuanVideo15ImageToVideoPipeline,
    HunyuanVideo15Transformer3DModel,
    LTX2ImageToVideoPipeline,
    LTX2VideoTransformer3DModel,
    LTXImageToVideoPipeline,
    LTXVideoTransformer3DModel,
    StableVideoDiffusionPipeline,
    UNetSpatioTemporalConditionModel,
    UniPCMultistepScheduler,
    WanImageToVideoPipeline,
    WanTransformer3DModel,
)
from diffusers.guiders import ClassifierFreeGuidance
from diffusers.pipelines.ltx2 import LTX2TextConnectors
from diffusers.pipelines.ltx2.vocoder import LTX2Vocoder

WORDS = ("waves", "gentle", "slow", "zoom", "in", "a", "cat", "looks", "up")
TEXT_WIDTH = 32


@dataclass(frozen=True)
class Toy:
    """A family. `build` makes its pipeline; `table` is the [diffusers] of its profile."""

    name: str
    build: Callable[[], object]
    table: str
    frames_multiple: int = 4
    steps: int = 4
    passes: int = 1
    honours: tuple[str, ...] = ("prompt",)
    sizes: tuple[str, ...] = ("64x64", "96x64")

    def save(self, folder: Path) -> Path:
        """Save the checkpoint in a folder of that name; returns it."""
        torch.manual_seed(0)
        path = folder / self.name
        self.build().save_pretrained(path)
        return path

    def profile(
        self,
        folder: Path,
        *,
        extra: str = "",
        table: tuple[str, str] | None = None,
        **changes: object,
    ) -> Path:
        """Write the profile next to the checkpoint; returns the file.

        `changes` replace keys of the profile; `table` replaces a text in its table by another, and
        `extra` is added to its end.
        """
        keys: dict[str, object] = {
            "name": self.name,
            "engine": "diffusers",
            "licence": "Apache-2.0",
            "steps": self.steps,
            "passes": self.passes,
            "min_frames": 1 + self.frames_multiple,
            "max_frames": 25,
            "default_frames": 9,
            "frames_multiple": self.frames_multiple,
            "frames_plus": 1,
            "min_fps": 8,
            "max_fps": 8,
            "default_fps": 8,
            "sizes": list(self.sizes),
            "default_size": 64,
            "honours": list(self.honours),
            "attempt_limit_s": 120.0,
            "stall_limit_s": 30.0,
        } | changes
        lines = [f"{key} = {_toml(value)}" for key, value in keys.items() if value is not None]
        own = f'[diffusers]\nfolder = "{self.name}"\nactivations_gib = 0.1\n{self.table}'
        if table is not None:
            assert table[0] in own
            own = own.replace(*table, 1)
        path = folder / f"{keys['name']}.toml"
        path.write_text("\n".join([*lines, "", own + extra]))
        return path


def _toml(value: object) -> str:
    if isinstance(value, list):
        return "[" + ", ".join(_toml(item) for item in value) + "]"
    return f'"{value}"' if isinstance(value, str) else str(value).lower()


# Parts that several families have.


def t5_tokenizer() -> transformers.T5Tokenizer:
    pieces = ["<pad>", "</s>", "<unk>", "▁", *(f"▁{word}" for word in WORDS)]
    letters = [chr(code) for code in range(ord("a"), ord("z") + 1)]
    vocabulary = [(piece, -float(n)) for n, piece in enumerate([*pieces, *letters])]
    return transformers.T5Tokenizer(vocab=vocabulary, extra_ids=0)


def t5_config(kind: type, width: int = TEXT_WIDTH) -> transformers.PretrainedConfig:
    return kind(
        vocab_size=64,
        d_model=width,
        d_kv=8,
        d_ff=37,
        num_layers=2,
        num_heads=4,
        decoder_start_token_id=0,
    )


def t5_encoder() -> transformers.T5EncoderModel:
    return transformers.T5EncoderModel(t5_config(transformers.T5Config))


def umt5_encoder() -> transformers.UMT5EncoderModel:
    return transformers.UMT5EncoderModel(t5_config(transformers.UMT5Config))


def clip_vision(cls: type, width: int = 16, side: int = 32) -> object:
    config = transformers.CLIPVisionConfig(
        hidden_size=width,
        projection_dim=32,
        num_hidden_layers=2,
        num_attention_heads=2,
        image_size=side,
        intermediate_size=37,
        patch_size=side // 4,
    )
    return cls(config)


def clip_processor() -> transformers.CLIPImageProcessor:
    return transformers.CLIPImageProcessor(
        crop_size={"height": 32, "width": 32}, size={"shortest_edge": 32}
    )


# Wan.


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


# LTX.


def ltx() -> LTXImageToVideoPipeline:
    transformer = LTXVideoTransformer3DModel(
        in_channels=8,
        out_channels=8,
        patch_size=1,
        patch_size_t=1,
        num_attention_heads=4,
        attention_head_dim=8,
        cross_attention_dim=32,
        num_layers=2,
        caption_channels=TEXT_WIDTH,
    )
    vae = AutoencoderKLLTXVideo(
        latent_channels=8,
        block_out_channels=(8, 8, 8, 8),
        decoder_block_out_channels=(8, 8, 8, 8),
        layers_per_block=(1, 1, 1, 1, 1),
        decoder_layers_per_block=(1, 1, 1, 1, 1),
        spatio_temporal_scaling=(True, True, True, False),
        decoder_spatio_temporal_scaling=(True, True, True, False),
        decoder_inject_noise=(False, False, False, False, False),
        upsample_residual=(False, False, False, False),
        upsample_factor=(1, 1, 1, 1),
        timestep_conditioning=False,
        patch_size=4,
        patch_size_t=1,
        encoder_causal=True,
        decoder_causal=False,
    )
    # As shipped with LTX-Video.
    scheduler = FlowMatchEulerDiscreteScheduler(
        use_dynamic_shifting=True, shift_terminal=0.1, base_shift=0.95, max_shift=2.05
    )
    return LTXImageToVideoPipeline(
        scheduler=scheduler,
        vae=vae,
        text_encoder=t5_encoder(),
        tokenizer=t5_tokenizer(),
        transformer=transformer,
    )


DISTILLED = "sigmas = [1.0, 0.99375, 0.9875, 0.98125, 0.975, 0.909375, 0.725, 0.421875]\n"


def gemma_tokenizer() -> transformers.GemmaTokenizer:
    pieces = ["<pad>", "<eos>", "<bos>", "<unk>", "▁", *(f"▁{word}" for word in WORDS)]
    letters = [chr(code) for code in range(ord("a"), ord("z") + 1)]
    vocabulary = {piece: number for number, piece in enumerate([*pieces, *letters])}
    tokenizer = transformers.GemmaTokenizer(vocab=vocabulary, merges=[])
    tokenizer.padding_side = "left"
    tokenizer.model_max_length = 128
    return tokenizer


def gemma() -> transformers.Gemma3ForConditionalGeneration:
    text = {
        "vocab_size": 64,
        "hidden_size": 32,
        "intermediate_size": 37,
        "num_hidden_layers": 2,
        "num_attention_heads": 4,
        "num_key_value_heads": 2,
        "head_dim": 8,
        "sliding_window": 16,
        "max_position_embeddings": 1024,
        "pad_token_id": 0,
    }
    vision = {
        "hidden_size": 16,
        "intermediate_size": 16,
        "num_hidden_layers": 1,
        "num_attention_heads": 2,
        "image_size": 32,
        "patch_size": 8,
    }
    config = transformers.Gemma3Config(
        text_config=text,
        vision_config=vision,
        mm_tokens_per_image=4,
        image_token_index=63,
        boi_token_index=62,
        eoi_token_index=61,
    )
    return transformers.Gemma3ForConditionalGeneration(config)


def ltx2() -> LTX2ImageToVideoPipeline:
    encoder = gemma()
    transformer = LTX2VideoTransformer3DModel(
        in_channels=4,
        out_channels=4,
        patch_size=1,
        patch_size_t=1,
        num_attention_heads=4,
        attention_head_dim=8,
        cross_attention_dim=32,
        audio_in_channels=4,
        audio_out_channels=4,
        audio_num_attention_heads=4,
        audio_attention_head_dim=4,
        audio_cross_attention_dim=16,
        num_layers=2,
        qk_norm="rms_norm_across_heads",
        caption_channels=32,
        rope_double_precision=False,
        rope_type="split",
    )
    connectors = LTX2TextConnectors(
        caption_channels=32,
        text_proj_in_factor=3,
        video_connector_num_attention_heads=4,
        video_connector_attention_head_dim=8,
        video_connector_num_layers=1,
        video_connector_num_learnable_registers=None,
        audio_connector_num_attention_heads=4,
        audio_connector_attention_head_dim=8,
        audio_connector_num_layers=1,
        audio_connector_num_learnable_registers=None,
        connector_rope_base_seq_len=32,
        rope_theta=10000.0,
        rope_double_precision=False,
        causal_temporal_positioning=False,
        rope_type="split",
    )
    vae = AutoencoderKLLTX2Video(
        in_channels=3,
        out_channels=3,
        latent_channels=4,
        block_out_channels=(8, 16, 32, 64),
        decoder_block_out_channels=(8, 16, 32),
        layers_per_block=(1, 1, 1, 1, 1),
        decoder_layers_per_block=(1, 1, 1, 1),
        spatio_temporal_scaling=(True, True, True, True),
        decoder_spatio_temporal_scaling=(True, True, True),
        decoder_inject_noise=(False, False, False, False),
        downsample_type=("spatial", "temporal", "spatiotemporal", "spatiotemporal"),
        upsample_residual=(True, True, True),
        upsample_factor=(2, 2, 2),
        timestep_conditioning=False,
        patch_size=4,
        patch_size_t=1,
        encoder_causal=True,
        decoder_causal=False,
        spatial_compression_ratio=32,
        temporal_compression_ratio=8,
    )
    audio_vae = AutoencoderKLLTX2Audio(
        base_channels=4,
        output_channels=2,
        ch_mult=(1,),
        num_res_blocks=1,
        attn_resolutions=None,
        in_channels=2,
        resolution=32,
        latent_channels=2,
        norm_type="pixel",
        causality_axis="height",
        dropout=0.0,
        mid_block_add_attention=False,
        sample_rate=16000,
        mel_hop_length=160,
        is_causal=True,
        mel_bins=8,
    )
    vocoder = LTX2Vocoder(
        in_channels=16,
        hidden_channels=32,
        out_channels=2,
        upsample_kernel_sizes=[4, 4],
        upsample_factors=[2, 2],
        resnet_kernel_sizes=[3],
        resnet_dilations=[[1, 3, 5]],
        leaky_relu_negative_slope=0.1,
        output_sampling_rate=16000,
    )
    return LTX2ImageToVideoPipeline(
        scheduler=FlowMatchEulerDiscreteScheduler(
            use_dynamic_shifting=True, shift_terminal=0.1, base_shift=0.95, max_shift=2.05
        ),
        vae=vae,
        audio_vae=audio_vae,
        text_encoder=encoder,
        tokenizer=gemma_tokenizer(),
        connectors=connectors,
        transformer=transformer,
        vocoder=vocoder,
    )


# Others.


def svd_scheduler() -> EulerDiscreteScheduler:
    """As shipped with SVD: EDM's noise levels, v-prediction."""
    return EulerDiscreteScheduler(
        beta_start=0.00085,
        beta_end=0.012,
        beta_schedule="scaled_linear",
        interpolation_type="linear",
        num_train_timesteps=1000,
        prediction_type="v_prediction",
        sigma_max=700.0,
        sigma_min=0.002,
        steps_offset=1,
        timestep_spacing="leading",
        timestep_type="continuous",
        use_karras_sigmas=True,
    )


def svd() -> StableVideoDiffusionPipeline:
    unet = UNetSpatioTemporalConditionModel(
        block_out_channels=(32, 64),
        layers_per_block=1,
        sample_size=8,
        in_channels=8,
        out_channels=4,
        down_block_types=("CrossAttnDownBlockSpatioTemporal", "DownBlockSpatioTemporal"),
        up_block_types=("UpBlockSpatioTemporal", "CrossAttnUpBlockSpatioTemporal"),
        cross_attention_dim=32,
        num_attention_heads=2,
        projection_class_embeddings_input_dim=96,
        addition_time_embed_dim=32,
        num_frames=9,
    )
    vae = AutoencoderKLTemporalDecoder(
        block_out_channels=[32, 32, 32, 32],
        in_channels=3,
        out_channels=3,
        down_block_types=["DownEncoderBlock2D"] * 4,
        latent_channels=4,
        force_upcast=False,
    )
    return StableVideoDiffusionPipeline(
        vae=vae,
        image_encoder=clip_vision(transformers.CLIPVisionModelWithProjection, 32, 224),
        unet=unet,
        scheduler=svd_scheduler(),
        feature_extractor=clip_processor(),
    )


def cogvideox() -> CogVideoXImageToVideoPipeline:
    transformer = CogVideoXTransformer3DModel(
        num_attention_heads=2,
        attention_head_dim=16,
        in_channels=8,
        out_channels=4,
        time_embed_dim=2,
        text_embed_dim=TEXT_WIDTH,
        num_layers=2,
        sample_width=8,
        sample_height=8,
        sample_frames=9,
        patch_size=2,
        temporal_compression_ratio=4,
        max_text_seq_length=16,
        use_rotary_positional_embeddings=True,
        use_learned_positional_embeddings=False,
    )
    blocks = 4
    vae = AutoencoderKLCogVideoX(
        in_channels=3,
        out_channels=3,
        down_block_types=("CogVideoXDownBlock3D",) * blocks,
        up_block_types=("CogVideoXUpBlock3D",) * blocks,
        block_out_channels=(8,) * blocks,
        latent_channels=4,
        layers_per_block=1,
        norm_num_groups=2,
        temporal_compression_ratio=4,
        sample_height=64,
        sample_width=64,
    )
    return CogVideoXImageToVideoPipeline(
        tokenizer=t5_tokenizer(),
        text_encoder=t5_encoder(),
        vae=vae,
        transformer=transformer,
        scheduler=CogVideoXDDIMScheduler(),
    )


def qwen_tokenizer() -> transformers.Qwen2Tokenizer:
    from transformers.convert_slow_tokenizer import bytes_to_unicode

    letters = list(bytes_to_unicode().values())
    vocabulary = {piece: number for number, piece in enumerate([*letters, "<|endoftext|>"])}
    tokenizer = transformers.Qwen2Tokenizer(vocab=vocabulary, merges=[])
    tokenizer.chat_template = "{% for message in messages %}{{ message['content'] }}{% endfor %}"
    return tokenizer


def hunyuan15() -> HunyuanVideo15ImageToVideoPipeline:
    transformer = HunyuanVideo15Transformer3DModel(
        in_channels=9,
        out_channels=4,
        num_attention_heads=2,
        attention_head_dim=8,
        num_layers=2,
        num_refiner_layers=1,
        mlp_ratio=2.0,
        patch_size=1,
        patch_size_t=1,
        text_embed_dim=16,
        text_embed_2_dim=TEXT_WIDTH,
        image_embed_dim=16,
        rope_axes_dim=(2, 2, 4),
        target_size=64,
        task_type="i2v",
    )
    vae = AutoencoderKLHunyuanVideo15(
        in_channels=3,
        out_channels=3,
        latent_channels=4,
        block_out_channels=(16, 16, 16, 16),
        layers_per_block=1,
        spatial_compression_ratio=8,
        temporal_compression_ratio=4,
        downsample_match_channel=False,
        upsample_match_channel=False,
    )
    qwen = transformers.Qwen2_5_VLTextModel(
        transformers.Qwen2_5_VLTextConfig(
            vocab_size=300,
            hidden_size=16,
            intermediate_size=16,
            num_hidden_layers=3,
            num_attention_heads=2,
            num_key_value_heads=2,
            rope_parameters={"mrope_section": [1, 1, 2], "rope_type": "default", "rope_theta": 1e6},
        )
    )
    siglip = transformers.SiglipVisionModel(
        transformers.SiglipVisionConfig(
            hidden_size=16,
            intermediate_size=16,
            num_hidden_layers=1,
            num_attention_heads=2,
            image_size=378,
            patch_size=14,
        )
    )
    byt5 = transformers.T5EncoderModel(
        transformers.T5Config(
            vocab_size=400, d_model=TEXT_WIDTH, d_kv=8, d_ff=37, num_layers=1, num_heads=4
        )
    )
    return HunyuanVideo15ImageToVideoPipeline(
        text_encoder=qwen,
        tokenizer=qwen_tokenizer(),
        transformer=transformer,
        vae=vae,
        scheduler=FlowMatchEulerDiscreteScheduler(shift=7.0),
        text_encoder_2=byt5,
        tokenizer_2=transformers.ByT5Tokenizer(),
        guider=ClassifierFreeGuidance(guidance_scale=1.0),
        image_encoder=siglip,
        feature_extractor=transformers.SiglipImageProcessor(size={"height": 378, "width": 378}),
    )


CALL = "\n[diffusers.call]\nguidance_scale = 1.0\n"

TOYS = {
    toy.name: toy
    for toy in (
        Toy(
            "wan22",
            wan22,
            f'{LIGHTNING}loop = "last_image"\n{CALL}max_sequence_length = 16\n',
            honours=("prompt", "loop"),
        ),
        Toy(
            "wan22-ti2v",
            wan22_ti2v,
            f'{TAUGHT}first_frame = "kept"\n\n[diffusers.call]\nguidance_scale = 5.0\n'
            'negative_prompt = "blurry"\nmax_sequence_length = 16\n',
            steps=3,
            passes=2,
        ),
        Toy("wan21", wan21, f"{LIGHTNING}{CALL}max_sequence_length = 16\n"),
        Toy(
            "ltx",
            ltx,
            'pipeline = "LTXImageToVideoPipeline"\ndtype = { default = "fp32" }\n'
            f'{DISTILLED}first_frame = "generated"\n{CALL}max_sequence_length = 16\n',
            steps=8,
            frames_multiple=8,
        ),
        Toy(
            "ltx-condition",
            ltx,
            'pipeline = "LTXConditionPipeline"\ndtype = { default = "fp32" }\n'
            f'{DISTILLED}first_frame = "generated"\nloop = "conditions"\n{CALL}'
            "image_cond_noise_scale = 0.0\nmax_sequence_length = 16\n",
            steps=8,
            frames_multiple=8,
            honours=("prompt", "loop"),
        ),
        Toy(
            "ltx2",
            ltx2,
            'pipeline = "LTX2ImageToVideoPipeline"\ndtype = { default = "fp32" }\n'
            f'{DISTILLED}first_frame = "generated"\n{CALL}'
            "stg_scale = 0.0\nmodality_scale = 1.0\naudio_guidance_scale = 1.0\n"
            "audio_stg_scale = 0.0\naudio_modality_scale = 1.0\nmax_sequence_length = 16\n",
            steps=8,
            frames_multiple=8,
        ),
        Toy(
            "svd",
            svd,
            'pipeline = "StableVideoDiffusionPipeline"\ndtype = { default = "fp32" }\n'
            'first_frame = "generated"\n'
            'motion = { argument = "motion_bucket_id", at_1 = 127, least = 1, most = 255 }\n'
            "\n[diffusers.call]\ndecode_chunk_size = 8\n",
            steps=3,
            passes=2,
            honours=("motion",),
        ),
        Toy(
            "hunyuan15",
            hunyuan15,
            'pipeline = "HunyuanVideo15ImageToVideoPipeline"\ndtype = { default = "fp32" }\n'
            "sigmas = [1.0, 0.95, 0.8, 0.5]\n"
            'first_frame = "generated"\n',
            sizes=("64x64",),
        ),
        Toy(
            "cogvideox",
            cogvideox,
            'pipeline = "CogVideoXImageToVideoPipeline"\ndtype = { default = "fp32" }\n'
            f'first_frame = "generated"\n{CALL}max_sequence_length = 16\n',
            sizes=("64x64",),
        ),
    )
}
