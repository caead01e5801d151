"""Shared context against stock diffusers, on small versions of its real networks."""

import copy

import pytest
import torch
from diffusers import DiffusionPipeline, EulerDiscreteScheduler
from diffusers.models import (
    UNet2DConditionModel,
    UNet3DConditionModel,
    UNetMotionModel,
    UNetSpatioTemporalConditionModel,
)
from diffusers.models.attention import BasicTransformerBlock, TemporalBasicTransformerBlock
from diffusers.models.attention_processor import Attention, AttnProcessor
from diffusers.models.unets.unet_i2vgen_xl import I2VGenXLUNet
from torch import nn

from workers.pipeline.attention import SharedContextProcessor, share_context

CLIPS, FRAMES, TOKENS, WIDTH, SIDE = 2, 3, 5, 16, 8
# Relative to the largest output: fp32 rounds in proportion to the values, and sharing the context
# changes the order of sums. Outputs of 3 differ by up to 1.05e-5 on some CPUs.
EXACT = 1e-5


def animate_diff(**options):
    return UNetMotionModel(
        sample_size=SIDE,
        down_block_types=("CrossAttnDownBlockMotion", "DownBlockMotion"),
        up_block_types=("UpBlockMotion", "CrossAttnUpBlockMotion"),
        block_out_channels=(8, 16),
        layers_per_block=1,
        norm_num_groups=4,
        cross_attention_dim=WIDTH,
        num_attention_heads=2,
        motion_num_attention_heads=2,
        **options,
    )


def svd():
    return UNetSpatioTemporalConditionModel(
        sample_size=SIDE,
        in_channels=8,
        down_block_types=("CrossAttnDownBlockSpatioTemporal", "DownBlockSpatioTemporal"),
        up_block_types=("UpBlockSpatioTemporal", "CrossAttnUpBlockSpatioTemporal"),
        block_out_channels=(32, 64),
        addition_time_embed_dim=4,
        projection_class_embeddings_input_dim=12,
        layers_per_block=1,
        cross_attention_dim=WIDTH,
        num_attention_heads=(2, 4),
        num_frames=FRAMES,
    )


def unet_3d(kind=UNet3DConditionModel):
    return kind(
        sample_size=SIDE,
        down_block_types=("CrossAttnDownBlock3D", "DownBlock3D"),
        up_block_types=("UpBlock3D", "CrossAttnUpBlock3D"),
        block_out_channels=(8, 16),
        layers_per_block=1,
        norm_num_groups=4,
        cross_attention_dim=WIDTH,
        attention_head_dim=4,
    )


def call_animate_diff(unet, tokens, repeat=True, clips=CLIPS):
    draw = torch.Generator().manual_seed(1)
    x = torch.randn(clips, 4, FRAMES, SIDE, SIDE, generator=draw)
    context = torch.randn(clips, tokens, WIDTH, generator=draw)
    return unet(x, 7, context.repeat_interleave(FRAMES, 0) if repeat else context).sample


def call_svd(unet, tokens):
    draw = torch.Generator().manual_seed(1)
    x = torch.randn(CLIPS, FRAMES, 8, SIDE, SIDE, generator=draw)
    context = torch.randn(CLIPS, tokens, WIDTH, generator=draw)
    return unet(x, 7, context, torch.tensor([[6.0, 127.0, 0.02]]).expand(CLIPS, -1)).sample


def call_3d(unet, tokens):
    draw = torch.Generator().manual_seed(1)
    x = torch.randn(CLIPS, 4, FRAMES, SIDE, SIDE, generator=draw)
    return unet(x, 7, torch.randn(CLIPS, tokens, WIDTH, generator=draw)).sample


def call_i2vgen(unet, tokens):
    draw = torch.Generator().manual_seed(1)
    x = torch.randn(CLIPS, 4, FRAMES, SIDE, SIDE, generator=draw)
    first = torch.randn(CLIPS, 1, WIDTH, generator=draw)
    context = torch.randn(CLIPS, tokens, WIDTH, generator=draw)
    return unet(x, 7, torch.full((CLIPS,), 8), x, first, context).sample


NETWORKS = {
    "UNetMotionModel": (animate_diff, call_animate_diff),
    "UNetSpatioTemporalConditionModel": (svd, call_svd),
    "UNet3DConditionModel": (unet_3d, call_3d),
    "I2VGenXLUNet": (lambda: unet_3d(I2VGenXLUNet), call_i2vgen),
}


@pytest.fixture(scope="module", params=NETWORKS)
def network(request):
    """(stock, shared, call): a network with random weights, and the same after share_context."""
    build, call = NETWORKS[request.param]
    torch.manual_seed(0)
    stock = build().eval()
    for weight in stock.parameters():  # zero-initialised outputs would hide every difference
        if weight.ndim > 1:
            nn.init.normal_(weight, std=0.2)
    shared = copy.deepcopy(stock)
    share_context(shared)
    return stock, shared, call


def assert_equal_to_rounding(got, expected):
    assert (got - expected).abs().max() <= EXACT * expected.abs().max()


def cross_attentions(unet):
    """Every layer that attends to the context, found by its shape rather than by our code."""
    return [
        block.attn2
        for block in unet.modules()
        if isinstance(block, BasicTransformerBlock | TemporalBasicTransformerBlock)
        and block.attn2 is not None
        and block.attn2.is_cross_attention
    ]


def projected_rows(unet, run):
    """How many rows of context each cross-attention projects to values (and to keys) in run()."""
    seen = {"k": [], "v": []}
    handles = [
        getattr(attn, f"to_{name}").register_forward_hook(
            lambda _module, args, _out, rows=seen[name]: rows.append(args[0].shape[0])
        )
        for attn in cross_attentions(unet)
        for name in seen
    ]
    run()
    for handle in handles:
        handle.remove()
    return seen


@pytest.mark.parametrize("tokens", [1, TOKENS])
@torch.inference_mode()
def test_it_computes_what_stock_diffusers_computes(network, tokens):
    stock, shared, call = network
    expected, got = call(stock, tokens), call(shared, tokens)
    assert expected.std() > 0.05
    assert_equal_to_rounding(got, expected)
    # The context matters, so a network that ignored it would fail.
    assert (call(stock, tokens) - call(stock, tokens + 2)).abs().max() > 1e-3


@torch.inference_mode()
def test_keys_and_values_are_projected_once_per_clip(network):
    stock, shared, call = network
    before = projected_rows(stock, lambda: call(stock, TOKENS))
    after = projected_rows(shared, lambda: call(shared, TOKENS))
    assert len(after["k"]) == len(after["v"]) == len(cross_attentions(shared)) >= 3
    assert min(before["k"]) >= CLIPS * FRAMES
    assert set(after["k"]) == set(after["v"]) == {CLIPS}


@pytest.mark.parametrize("name", [n for n in NETWORKS if n != "I2VGenXLUNet"])  # adds tokens
@torch.inference_mode()
def test_a_single_token_needs_no_keys(name):
    build, call = NETWORKS[name]
    shared = build().eval()
    share_context(shared)
    rows = projected_rows(shared, lambda: call(shared, 1))
    assert rows["k"] == []
    assert set(rows["v"]) == {CLIPS}


def test_gradients_are_those_of_the_stock_network(network):
    stock, shared, call = network
    gradients = []
    for unet in (stock, shared):
        unet.zero_grad()
        call(unet, TOKENS).square().mean().backward()
        gradients.append([attn.to_k.weight.grad for attn in cross_attentions(unet)])
    for expected, got in zip(*gradients, strict=True):
        assert torch.allclose(got, expected, atol=1e-6, rtol=1e-3)


def test_weights_keep_their_names_and_a_second_call_changes_nothing(network):
    stock, shared, _ = network
    assert list(stock.state_dict()) == list(shared.state_dict())
    hooks = sum(len(m._forward_pre_hooks) for m in shared.modules())
    assert share_context(shared) == 0
    assert sum(len(m._forward_pre_hooks) for m in shared.modules()) == hooks
    assert share_context(copy.deepcopy(stock)) == len(cross_attentions(stock))


@torch.inference_mode()
def test_a_motion_network_takes_its_context_unrepeated():
    torch.manual_seed(0)
    stock = animate_diff().eval()
    shared = copy.deepcopy(stock)
    share_context(shared)
    for clips in (1, 3):
        expected = call_animate_diff(stock, TOKENS, clips=clips)
        got = call_animate_diff(shared, TOKENS, repeat=False, clips=clips)
        assert_equal_to_rounding(got, expected)
    with pytest.raises(ValueError, match="4 contexts fit neither 2 clips nor their 3 frames"):
        shared(torch.zeros(2, 4, FRAMES, SIDE, SIDE), 7, torch.zeros(4, TOKENS, WIDTH))


@torch.inference_mode()
def test_a_middle_block_without_motion_shares_too():
    torch.manual_seed(0)
    stock = animate_diff(use_motion_mid_block=False).eval()
    shared = copy.deepcopy(stock)
    assert share_context(shared) == len(cross_attentions(stock))
    expected = call_animate_diff(stock, TOKENS)
    for repeat in (True, False):
        assert_equal_to_rounding(call_animate_diff(shared, TOKENS, repeat), expected)


@torch.inference_mode()
def test_prompts_that_differ_between_frames_are_left_alone():
    """FreeNoise changes prompts over the clip, so nothing can be shared."""
    torch.manual_seed(0)
    stock = animate_diff().eval()
    shared = copy.deepcopy(stock)
    share_context(shared)
    x, context = torch.randn(2, 4, FRAMES, SIDE, SIDE), torch.randn(2 * FRAMES, TOKENS, WIDTH)
    assert_equal_to_rounding(shared(x, 7, context).sample, stock(x, 7, context).sample)


class TinyPipeline(DiffusionPipeline):
    """Like AnimateDiff's pipeline, repeats the prompt per frame and calls the network."""

    def __init__(self, unet, scheduler):
        super().__init__()
        self.register_modules(unet=unet, scheduler=scheduler)

    @torch.inference_mode()
    def __call__(self, x, prompt, steps):
        self.scheduler.set_timesteps(steps)
        for t in self.scheduler.timesteps:
            context = prompt.repeat_interleave(FRAMES, 0)
            v = self.unet(self.scheduler.scale_model_input(x, t), t, encoder_hidden_states=context)
            x = self.scheduler.step(v.sample, t, x).prev_sample
        return x


def test_one_call_changes_a_pipeline_that_was_loaded_from_disk(tmp_path):
    torch.manual_seed(0)
    TinyPipeline(animate_diff(), EulerDiscreteScheduler()).save_pretrained(tmp_path)
    pipeline = TinyPipeline.from_pretrained(tmp_path)
    x = torch.randn(CLIPS, 4, FRAMES, SIDE, SIDE)
    prompt = torch.randn(CLIPS, TOKENS, WIDTH)
    expected = pipeline(x, prompt, 3)
    assert share_context(pipeline) == len(cross_attentions(pipeline.unet))
    got = pipeline(x, prompt, 3)
    assert_equal_to_rounding(got, expected)
    rows = projected_rows(pipeline.unet, lambda: pipeline(x, prompt, 1))
    assert set(rows["k"]) == {CLIPS}


def test_a_pipeline_without_repeated_context_is_refused_unchanged():
    plain = UNet2DConditionModel(
        block_out_channels=(8,),
        down_block_types=("CrossAttnDownBlock2D",),
        up_block_types=("CrossAttnUpBlock2D",),
        norm_num_groups=4,
        cross_attention_dim=WIDTH,
        layers_per_block=1,
    )
    for target in (plain, nn.Linear(2, 2), object()):
        with pytest.raises(ValueError, match=r"contains no network .* UNetMotionModel"):
            share_context(target)
    attentions = [m for m in plain.modules() if isinstance(m, Attention)]
    assert not any(isinstance(a.processor, SharedContextProcessor) for a in attentions)


def test_a_layer_with_a_processor_of_its_own_is_refused_before_anything_is_changed():
    unet = animate_diff()
    layers = cross_attentions(unet)
    layers[-1].set_processor(AttnProcessor())
    with pytest.raises(ValueError, match="the processor AttnProcessor;"):
        share_context(unet)
    assert not any(isinstance(a.processor, SharedContextProcessor) for a in layers)
    assert not any(m._forward_pre_hooks for m in unet.modules())


def test_rows_and_masks_that_do_not_fit_are_refused():
    attn = Attention(8, cross_attention_dim=WIDTH, heads=2, dim_head=4)
    attn.set_processor(SharedContextProcessor())
    with pytest.raises(ValueError, match="5 rows cannot share 2 contexts"):
        attn(torch.zeros(5, 4, 8), torch.zeros(2, TOKENS, WIDTH))
    with pytest.raises(ValueError, match="mask"):
        attn(torch.zeros(4, 4, 8), torch.zeros(2, TOKENS, WIDTH), torch.zeros(2, TOKENS))
