"""The layered network: rigid output, shapes, and a start from other weights."""

import pytest
import torch

from workers.pipeline.affine import to_fields, to_path
from workers.pipeline.compile import build_graph
from workers.pipeline.layer_state import AFFINE, SOFT
from workers.pipeline.layered_denoiser import LayeredDenoiser, RigidPass, outline
from workers.pipeline.loader import TEACHER, load_config, load_network, save_config, save_weights
from workers.pipeline.text import PIECES
from workers.training.train import model_config, network_config

TOY = network_config(toy=True)


def network(config=TOY, seed=0):
    torch.manual_seed(seed)
    made = LayeredDenoiser(config)
    torch.nn.init.normal_(made.paths.out.weight, std=0.1)  # it starts at zero
    return made.eval()


def inputs(config=TOY, rows=2):
    draw = torch.Generator().manual_seed(1)
    picture = torch.randn(rows, 4, config.picture, config.picture, generator=draw)
    picture[:, 3] = 0
    picture[:, 3, 20:50, 10:40] = 1
    tokens = torch.zeros(rows, config.caption_length, PIECES, dtype=torch.int64)
    tokens[:, 0, :4] = torch.randint(1, config.buckets, (rows, 4), generator=draw)
    x = torch.randn(rows, 8, config.frames, config.grid, config.grid, generator=draw)
    x[:, AFFINE] = to_fields(to_path(x[:, AFFINE].unflatten(1, (2, 2))), config.grid).flatten(1, 2)
    return x, torch.tensor([0.3, 0.9][:rows]), picture, tokens


@torch.inference_mode()
def test_what_the_network_says_of_camera_and_body_is_affine():
    x, time, picture, tokens = inputs()
    v = network()(x, time, picture, tokens)
    assert v.shape == x.shape
    affine = v[:, AFFINE].unflatten(1, (2, 2))
    assert affine.abs().max() > 0.01
    assert torch.allclose(to_fields(to_path(affine), TOY.grid), affine, atol=1e-5)


@torch.inference_mode()
def test_its_graph_computes_the_same():
    made = network()
    x, time, picture, tokens = inputs()
    static = made.static_features(picture)
    sample = torch.cat([x, static[:, :, None].expand(-1, -1, x.shape[2], -1, -1)], 1)
    arguments = (sample, time, *made.text(tokens))
    graph = build_graph(made.one_pass(repeat=True).eval(), "torchscript", arguments)
    assert graph.kind == "torchscript"
    assert torch.allclose(graph(*arguments), made(x, time, picture, tokens), atol=1e-4)


@torch.inference_mode()
def test_paths_are_the_same_without_the_unet():
    made = network()
    x, time, picture, tokens = inputs()
    static = made.static_features(picture)
    sample = torch.cat([x, static[:, :, None].expand(-1, -1, x.shape[2], -1, -1)], 1)
    arguments = (sample, time, *made.text(tokens))
    rigid, whole = RigidPass(made)(*arguments), made.one_pass(repeat=True)(*arguments)
    assert torch.equal(rigid[:, AFFINE], whole[:, AFFINE])
    assert not rigid[:, SOFT].any() and rigid.shape == whole.shape


@torch.inference_mode()
def test_softness_is_asked_of_picture_and_prompt():
    made = network()
    _, _, picture, tokens = inputs()
    static, pooled = made.static_features(picture), made.text(tokens)[1]
    logits = made.softness(static, pooled)
    assert logits.shape == (2, 2, TOY.grid, TOY.grid)
    assert not torch.allclose(logits, made.softness(static.flip(0), pooled))
    assert not torch.allclose(logits, made.softness(static, pooled + 1))


def test_an_outline_tells_where_the_subject_is():
    matte = torch.zeros(1, 16, 16)
    matte[0, 8:12, 2:6] = 1
    there, x, y, share, *rest = outline(matte)[0].tolist()
    assert (there, x, y, share) == (1, -0.5, 0.25, pytest.approx(1 / 16))
    assert rest == [*[0] * 2, *[1] * 4, *[0] * 10, *[0] * 8, *[1] * 4, *[0] * 4]
    assert not outline(0 * matte).any()


def test_a_saved_network_loads(tmp_path):
    config = model_config(toy=True)
    save_config(tmp_path, config)
    save_weights(tmp_path, TEACHER, network().state_dict())
    assert load_config(tmp_path) == config
    loaded = load_network(tmp_path, TEACHER, load_config(tmp_path), torch.float32, "cpu")
    assert isinstance(loaded, LayeredDenoiser)
