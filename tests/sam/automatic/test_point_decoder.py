from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from quatrain.sam.automatic.point_decoder import PointDecoder
from quatrain.sam.build import load_mini
from quatrain.sam.official import MaskDecoder, PromptEncoder, Sam, TwoWayTransformer


def _stir(module, seed, strength):
    """Move every parameter off its initial value: biases and norms that start alike would hide mistakes."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in module.parameters():
            parameter.add_(strength * torch.randn(parameter.shape, generator=generator))
    return module.eval()


def _sam(*, channels, heads, depth, grid, seed, strength=0.3):
    """A Sam of segment_anything's classes without an image encoder."""
    torch.manual_seed(seed)
    transformer = TwoWayTransformer(depth=depth, embedding_dim=channels, num_heads=heads, mlp_dim=24)
    decoder = MaskDecoder(transformer_dim=channels, transformer=transformer, iou_head_hidden_dim=16)
    prompts = PromptEncoder(channels, (grid, grid), (8 * grid, 8 * grid), mask_in_chans=4)
    return _stir(Sam(torch.nn.Identity(), prompts, decoder), seed, strength)


def _stock(model, embedding, point_Q2):
    labels = torch.ones(len(point_Q2), 1, dtype=torch.int)
    sparse, dense = model.prompt_encoder(points=(point_Q2[:, None], labels), boxes=None, masks=None)
    return model.mask_decoder(
        image_embeddings=embedding,
        image_pe=model.prompt_encoder.get_dense_pe(),
        sparse_prompt_embeddings=sparse,
        dense_prompt_embeddings=dense,
        multimask_output=True,
    )


def _both(model, embedding, point_Q2):
    with torch.no_grad():
        decoder = PointDecoder(model, embedding)
        answer = decoder.read(point_Q2)
        ours = decoder.draw(answer, torch.arange(len(point_Q2))), answer.iou_QM
        return ours, _stock(model, embedding, point_Q2)


@given(
    heads=st.sampled_from([1, 2, 4]),
    depth=st.integers(1, 3),
    grid=st.integers(1, 5),
    points=st.integers(1, 7),
    seed=st.integers(0, 99),
)
def test_logits_and_iou_equal_the_stock_decoder_for_any_shape(heads, depth, grid, points, seed):
    model = _sam(channels=16, heads=heads, depth=depth, grid=grid, seed=seed)

    ours, stock = _both(model, torch.randn(1, 16, grid, grid), 8 * grid * torch.rand(points, 2))

    for mine, theirs in zip(ours, stock, strict=True):
        assert (mine - theirs).abs().max() <= 1e-4 * max(1, theirs.abs().max())


def test_logits_of_the_trained_miniature_are_equal_in_single_precision():
    model = load_mini()

    ours, stock = _both(model, torch.randn(1, 64, 16, 16), 256 * torch.rand(40, 2))

    assert (ours[0] - stock[0]).abs().max() < 1e-4
    assert (ours[1] - stock[1]).abs().max() < 1e-5


def test_logits_at_the_size_of_vit_b_are_equal_in_single_precision():
    model = _sam(channels=256, heads=8, depth=2, grid=64, seed=1, strength=0.02)

    ours, stock = _both(model, torch.randn(1, 256, 64, 64), 1024 * torch.rand(2, 2))

    assert stock[0].abs().max() > 0.5
    assert (ours[0] - stock[0]).abs().max() < 1e-4


def test_only_the_points_asked_for_are_drawn():
    model, embedding = load_mini(), torch.randn(1, 64, 16, 16)
    point_Q2 = 256 * torch.rand(9, 2)
    with torch.no_grad():
        decoder = PointDecoder(model, embedding)
        answer = decoder.read(point_Q2)

        drawn = decoder.draw(answer, torch.tensor([7, 2]))

        torch.testing.assert_close(drawn, decoder.draw(answer, torch.arange(9))[[7, 2]], rtol=0, atol=1e-5)
        assert decoder.draw(answer, torch.tensor([], dtype=torch.int64)).shape == (0, 3, 64, 64)


def test_the_model_stays_as_it_was():
    model = load_mini()
    before = {name: value.clone() for name, value in model.state_dict().items()}

    _both(model, torch.randn(1, 64, 16, 16), 256 * torch.rand(3, 2))

    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
    assert all(parameter.grad is None for parameter in model.parameters())


def test_a_transformer_of_another_kind_is_refused():
    model = load_mini()
    model.mask_decoder.transformer = torch.nn.Identity()

    with pytest.raises(TypeError, match="transformer is a Identity"):
        PointDecoder(model, torch.randn(1, 64, 16, 16))
