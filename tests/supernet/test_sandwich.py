from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from test_elastic import TINY, stock

from quatrain.supernet.elastic import ElasticEncoder
from quatrain.supernet.sandwich import sandwich_backward
from quatrain.supernet.space import Subnet

IMAGE = torch.randn(2, 3, 96, 96, generator=torch.Generator().manual_seed(1))
TARGET = torch.randn(2, 16, 6, 6, generator=torch.Generator().manual_seed(2))
NETS = [Subnet.parse(key) for key in ("128-128-128-128", "32-0-64-32", "128-64-0-128", "32-128-64-96")]


@pytest.fixture
def encoder():
    return ElasticEncoder(stock(TINY), TINY)


def loss(index, subnet, embedding):
    return (index + 1) * (embedding - TARGET).square().mean()


def gradients(encoder):
    return {name: p.grad.clone() for name, p in encoder.named_parameters() if p.grad is not None}


def apart(encoder, subnets):
    encoder.zero_grad()
    losses = [loss(i, subnet, encoder(IMAGE, subnet)) for i, subnet in enumerate(subnets)]
    for value in losses:
        value.backward()
    return [float(value.detach()) for value in losses], gradients(encoder)


def together(encoder, subnets, loss=loss):
    encoder.zero_grad()
    losses = sandwich_backward(encoder, IMAGE, subnets, loss)
    return losses, gradients(encoder)


widths = st.sampled_from([0, 32, 64, 128])
nets = st.lists(st.tuples(widths, widths, widths, widths).map(lambda w: Subnet(widths=w)), min_size=1, max_size=5)


@settings(max_examples=30, deadline=None)
@given(nets)
def test_the_gradients_are_the_sum_of_those_of_the_networks_apart(subnets):
    encoder = ElasticEncoder(stock(TINY).double(), TINY)
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(globals(), "IMAGE", IMAGE.double())
        expected, ours = apart(encoder, subnets), together(encoder, subnets)

    torch.testing.assert_close(ours, expected, rtol=1e-8, atol=1e-10)


def test_gradients_add_to_those_that_are_there(encoder):
    _, once = together(encoder, NETS)
    sandwich_backward(encoder, IMAGE, NETS, loss)

    torch.testing.assert_close(gradients(encoder), {name: 2 * grad for name, grad in once.items()})


def test_the_first_network_runs_first_and_every_one_once(encoder):
    seen = []

    def noting(index, subnet, embedding):
        seen.append((index, subnet.key))
        return embedding.mean()

    together(encoder, NETS, noting)

    assert seen[0] == (0, NETS[0].key)
    assert sorted(seen) == [(i, net.key) for i, net in enumerate(NETS)]


def test_others_can_be_distilled_from_the_first(encoder):
    teacher = []

    def distilling(index, subnet, embedding):
        if index == 0:
            teacher.append(embedding.detach())
            return embedding.mean()
        return (embedding - teacher[0]).square().mean()

    losses, _ = together(encoder, [NETS[0], NETS[1], NETS[0]], distilling)

    assert losses[1] > 0
    assert losses[2] == 0


def test_what_the_loss_runs_gathers_gradients_too(encoder):
    head = torch.nn.Conv2d(16, 1, 1)

    together(encoder, NETS, lambda *seen: head(seen[-1]).mean())

    assert torch.allclose(head.bias.grad, torch.tensor([float(len(NETS))]))


def test_the_shared_blocks_run_once(encoder):
    passes = []
    encoder.blocks[0].attn.proj.register_forward_hook(lambda *_: passes.append(0))
    encoder.blocks[3].attn.proj.register_forward_hook(lambda *_: passes.append(3))

    together(encoder, NETS)

    assert passes.count(0) == 1
    assert passes.count(3) == len(NETS)


def test_gradient_checkpointing_changes_no_gradient(encoder):
    plain = together(encoder, NETS)
    encoder.checkpointing = True

    torch.testing.assert_close(together(encoder, NETS), plain)


def test_it_works_under_bf16_autocast(encoder):
    _, exact = together(encoder, NETS)

    with torch.autocast("cpu", torch.bfloat16):
        _, rough = together(encoder, NETS)

    for name, grad in rough.items():
        assert grad.dtype == torch.float32
        assert (grad - exact[name]).norm() <= 0.1 * exact[name].norm() + 1e-4, name


def test_frozen_leading_parts_stay_without_gradient(encoder):
    for part in (encoder.patch_embed, encoder.blocks[0]):
        part.requires_grad_(False)
    encoder.pos_embed.requires_grad_(False)

    _, ours = together(encoder, NETS)

    assert not any(name.startswith(("patch_embed", "pos_embed", "blocks.0.")) for name in ours)
    expected = {n: g for n, g in apart(encoder, NETS)[1].items() if n in ours}
    torch.testing.assert_close(ours, expected)


def test_a_step_without_networks_is_refused(encoder):
    with pytest.raises(ValueError, match="subnets is empty; a step takes at least one network"):
        sandwich_backward(encoder, IMAGE, [], loss)


def test_a_network_that_does_not_fit_is_refused_before_any_gradient(encoder):
    with pytest.raises(ValueError, match="subnet is 64-64"):
        sandwich_backward(encoder, IMAGE, [NETS[0], Subnet.parse("64-64")], loss)

    assert gradients(encoder) == {}
