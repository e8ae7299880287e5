from __future__ import annotations

import dataclasses

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from supernet_world import TINY, elastic, rand

from quatrain.supernet.channel_importance import channel_importance, channel_order, permute_channels
from quatrain.supernet.space import Subnet

SIDE = TINY.image_px
IMAGES = rand(2, 3, SIDE, SIDE, seed=9)


@pytest.fixture
def encoder():
    return elastic().image_encoder


def orders(channels, depth, seed):
    generator = torch.Generator().manual_seed(seed)
    return [torch.randperm(channels, generator=generator) for _ in range(depth)]


def difference(one, other):
    return float((one - other).abs().max() / other.abs().max())


shapes = st.builds(
    lambda depth, heads, ratio, window: dataclasses.replace(
        TINY,
        depth=depth,
        embed_dim=8 * heads,
        heads=heads,
        mlp_ratio=ratio,
        window=window,
        global_blocks=tuple(range(1, depth, 2)),
    ),
    st.integers(1, 4),
    st.integers(1, 4),
    st.integers(1, 4),
    st.integers(2, 4),
)


@settings(max_examples=15, deadline=None, derandomize=True)
@given(shapes, st.integers(0, 2**31))
def test_the_full_network_computes_what_it_did_before(shape, seed):
    encoder = elastic(shape).image_encoder
    with torch.no_grad():
        before = encoder(IMAGES)
        permute_channels(encoder, orders(shape.hidden, shape.depth, seed))
        after = encoder(IMAGES)

    assert difference(after, before) < 1e-5


def test_it_does_permute(encoder):
    narrow = Subnet(widths=(24,) * 4)
    with torch.no_grad():
        before = encoder(IMAGES, narrow)
        permute_channels(encoder, orders(96, 4, 0))
        after = encoder(IMAGES, narrow)

    assert difference(after, before) > 1e-3


def test_rows_of_the_first_layer_move_with_columns_of_the_second(encoder):
    mlp = encoder.blocks[1].mlp
    first, bias, second = mlp.lin1.weight.clone(), mlp.lin1.bias.clone(), mlp.lin2.weight.clone()
    last = mlp.lin2.bias.clone()
    wanted = orders(96, 4, 1)

    permute_channels(encoder, wanted)

    assert torch.equal(mlp.lin1.weight, first[wanted[1]])
    assert torch.equal(mlp.lin1.bias, bias[wanted[1]])
    assert torch.equal(mlp.lin2.weight, second[:, wanted[1]])
    assert torch.equal(mlp.lin2.bias, last)


def inputs(encoder, images):
    """What the first layer (tokens x d) and the second (tokens x m) of every MLP see."""
    seen = {}
    x = encoder.embed(images)
    for index, block in enumerate(encoder.blocks):
        x = encoder.attend(index, x)
        first = block.norm2(x).flatten(0, 2)
        second = torch.nn.functional.gelu(block.mlp.lin1(first))
        seen[index] = first, second
        (x,) = encoder.mlp(index, x, (encoder.shape.hidden,))
    return seen


def formula(mlp, batches):
    """The score of every channel by plain loops over the formula."""
    first, second = mlp.lin1.weight.tolist(), mlp.lin2.weight.tolist()
    scores = []
    for j in range(len(first)):
        rows, columns = [], []
        for x, h in batches:
            norms = [float(torch.linalg.vector_norm(x[:, i].double())) for i in range(x.shape[1])]
            rows.append(sum(abs(first[j][i]) * norms[i] for i in range(x.shape[1])))
            length = float(torch.linalg.vector_norm(h[:, j].double()))
            columns.append(length * sum(abs(second[o][j]) for o in range(len(second))))
        scores.append((sum(rows) / len(rows) + sum(columns) / len(columns)) / 2)
    return scores


@torch.no_grad()
def test_scores_equal_the_formula(encoder):
    batches = [rand(2, 3, SIDE, SIDE, seed=seed) for seed in (1, 2)]

    scores = channel_importance(encoder, iter(batches))

    seen = [inputs(encoder, images) for images in batches]
    for index in (0, 3):
        expected = formula(encoder.blocks[index].mlp, [one[index] for one in seen])
        assert scores[index].dtype == torch.float64
        assert scores[index].tolist() == pytest.approx(expected, rel=1e-5)


def test_signs_of_weights_do_not_matter(encoder):
    before = channel_importance(encoder, [IMAGES])[3]
    with torch.no_grad():
        encoder.blocks[3].mlp.lin2.weight.neg_()

    torch.testing.assert_close(channel_importance(encoder, [IMAGES])[3], before)


def test_scoring_twice_gives_the_same_scores(encoder):
    first, second = channel_importance(encoder, [IMAGES]), channel_importance(encoder, [IMAGES])

    assert all(torch.equal(*pair) for pair in zip(first, second, strict=True))


def test_standardised_parts_weigh_the_same(encoder):
    with torch.no_grad():
        encoder.blocks[0].mlp.lin2.weight.mul_(1000)

    (score, *_), (alone, *_) = (
        channel_importance(encoder, [IMAGES], standardise=standard) for standard in (True, False)
    )

    x, _ = inputs(encoder, IMAGES)[0]
    rows = encoder.blocks[0].mlp.lin1.weight.double().abs() @ x.double().norm(dim=0)
    assert score.mean().item() == pytest.approx(0, abs=1e-9)
    assert torch.corrcoef(torch.stack([score, rows]))[0, 1] > torch.corrcoef(torch.stack([alone, rows]))[0, 1] + 0.1


@pytest.mark.parametrize("standardise", [False, True])
def test_a_dead_channel_comes_last(encoder, standardise):
    for index, block in enumerate(encoder.blocks):
        with torch.no_grad():
            block.mlp.lin1.weight[10 * index] = 0
            block.mlp.lin1.bias[10 * index] = 0
            block.mlp.lin2.weight[:, 10 * index] = 0

    order = channel_order(channel_importance(encoder, [IMAGES], standardise=standardise), "importance", seed=0)

    assert [int(channels[-1]) for channels in order] == [0, 10, 20, 30]


def test_sorted_channels_have_falling_scores(encoder):
    permute_channels(encoder, channel_order(channel_importance(encoder, [IMAGES]), "importance", seed=0))

    first = channel_importance(encoder, [IMAGES])[0]
    assert (first.diff() <= 1e-9).all()


def test_channels_can_stay_as_they_are():
    orders = channel_order([rand(4), rand(3)], "none", seed=0)

    assert [order.tolist() for order in orders] == [[0, 1, 2, 3], [0, 1, 2]]


def test_a_random_order_belongs_to_the_seed_and_differs_by_block():
    scores = [rand(40)] * 2

    once, again, other = (channel_order(scores, "random", seed=seed) for seed in (1, 1, 2))

    assert all(sorted(order.tolist()) == list(range(40)) for order in once)
    assert all(torch.equal(*pair) for pair in zip(once, again, strict=True))
    assert not torch.equal(once[0], once[1])
    assert not torch.equal(once[0], other[0])


def test_no_calibration_batch_is_refused(encoder):
    with pytest.raises(ValueError, match="there is no calibration batch; channel scores need at least one"):
        channel_importance(encoder, [])
