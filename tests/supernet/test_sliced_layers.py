from __future__ import annotations

import pytest
import torch
from torch import nn
from torch.nn import functional

from quatrain.supernet.sliced_layers import gelu_linear, norm_linear


@pytest.fixture
def layers():
    torch.manual_seed(0)
    norm, linear, back = nn.LayerNorm(6).double(), nn.Linear(6, 8).double(), nn.Linear(8, 6).double()
    nn.init.normal_(norm.weight)
    nn.init.normal_(norm.bias)
    return norm, linear, back


def test_a_prefix_of_a_normalised_layer_equals_torch_with_its_gradients(layers):
    norm, linear, _ = layers
    x = torch.randn(2, 3, 6, dtype=torch.float64, requires_grad=True)
    inputs = [x, norm.weight, norm.bias, linear.weight, linear.bias]
    ours, theirs = norm_linear(x, norm, linear, 5), linear(norm(x))[..., :5]

    torch.testing.assert_close(ours, theirs)
    weight = torch.randn_like(ours)
    torch.testing.assert_close(torch.autograd.grad(ours, inputs, weight), torch.autograd.grad(theirs, inputs, weight))


@pytest.mark.parametrize("widths", [(8,), (3,), (2, 5, 8), (1, 2)])
def test_nested_widths_equal_torch_on_each_prefix_with_their_gradients(layers, widths):
    _, _, back = layers
    hidden = torch.randn(2, 3, widths[-1], dtype=torch.float64, requires_grad=True)
    inputs = [hidden, back.weight, back.bias]
    ours = gelu_linear(hidden, back, widths)
    theirs = [functional.linear(functional.gelu(hidden[..., :k]), back.weight[:, :k], back.bias) for k in widths]

    torch.testing.assert_close(list(ours), theirs)
    weights = [torch.randn_like(out) for out in ours]
    torch.testing.assert_close(torch.autograd.grad(ours, inputs, weights), torch.autograd.grad(theirs, inputs, weights))


def test_a_width_of_which_nothing_is_used_adds_no_gradient(layers):
    _, _, back = layers
    hidden = torch.randn(3, 8, dtype=torch.float64, requires_grad=True)

    narrow, _ = gelu_linear(hidden, back, (4, 8))
    narrow.sum().backward()

    assert hidden.grad[:, 4:].abs().max() == 0
    assert back.weight.grad[:, 4:].abs().max() == 0
