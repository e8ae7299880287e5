from __future__ import annotations

import pytest
import torch
from supernet_world import TINY, elastic, rand, stirred

from quatrain.sam.batched_decoder import decode, normalise, predict, upsample
from quatrain.sam.build import build

SIDE = TINY.image_px


@pytest.fixture(scope="module")
def sam():
    return stirred(build(TINY, 3)).eval()


def points(images, prompts):
    return torch.randint(0, SIDE, (images, prompts, 2), generator=torch.Generator().manual_seed(4)).float()


@pytest.mark.parametrize(("images", "prompts"), [(1, 1), (1, 3), (3, 1), (2, 4)])
def test_predictions_equal_the_mask_decoders_image_by_image(sam, images, prompts):
    embedding = rand(images, 16, 4, 4)
    sparse, dense = rand(images * prompts, 2, 16, seed=1), rand(images, 16, 4, 4, seed=2)
    position = sam.prompt_encoder.get_dense_pe()

    logits, iou = predict(sam.mask_decoder, embedding, position, sparse, dense)

    for image in range(images):
        own = slice(image * prompts, (image + 1) * prompts)
        same = dense[image].expand(prompts, -1, -1, -1)
        expected = sam.mask_decoder.predict_masks(embedding[image : image + 1], position, sparse[own], same)
        torch.testing.assert_close((logits[own], iou[own]), expected, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("several", [False, True])
def test_masks_equal_those_of_the_stock_forward(sam, several):
    image = 255 * torch.rand(2, 3, SIDE, SIDE, generator=torch.Generator().manual_seed(1))
    coordinates = points(2, 3)
    records = [
        {
            "image": image[i],
            "original_size": (SIDE, SIDE),
            "point_coords": coordinates[i][:, None],
            "point_labels": torch.ones(3, 1, dtype=torch.int32),
        }
        for i in range(2)
    ]

    logits, iou = decode(sam, sam.image_encoder(normalise(sam, image, torch.tensor([[SIDE, SIDE]] * 2))), coordinates)

    tokens = slice(1, None) if several else slice(0, 1)
    for i, expected in enumerate(sam(records, multimask_output=several)):
        torch.testing.assert_close(logits[i, :, tokens], expected["low_res_logits"], rtol=1e-4, atol=1e-4)
        torch.testing.assert_close(iou[i, :, tokens], expected["iou_predictions"], rtol=1e-4, atol=1e-4)


def test_the_axes_are_images_prompts_and_four_masks(sam):
    logits, iou = decode(sam, rand(2, 16, 4, 4), points(2, 5))

    assert logits.shape == (2, 5, 4, 16, 16)
    assert iou.shape == (2, 5, 4)


@pytest.mark.parametrize("size", [(SIDE, SIDE), (20, SIDE), (SIDE, 9), (1, SIDE)])
def test_normalising_equals_preprocess_and_leaves_padding_at_zero(sam, size):
    height, width = size
    padded = torch.zeros(1, 3, SIDE, SIDE)
    padded[:, :, :height, :width] = 255 * torch.rand(1, 3, height, width)

    normal = normalise(sam, padded, torch.tensor([size]))

    assert torch.equal(normal[0], sam.preprocess(padded[0, :, :height, :width]))
    assert normal[0, :, height:].abs().sum() == normal[0, :, :, width:].abs().sum() == 0


def test_every_image_of_a_batch_has_its_own_padding(sam):
    image = torch.full((2, 3, SIDE, SIDE), 200.0)

    normal = normalise(sam, image, torch.tensor([[10, SIDE], [SIDE, 7]]))

    assert [bool(normal[i, :, y, x].any()) for i, y, x in ((0, 9, 31), (0, 10, 0), (1, 31, 6), (1, 0, 7))] == [
        True,
        False,
        True,
        False,
    ]


def test_upsampling_equals_the_stock_postprocessing(sam):
    logits = rand(2, 3, 4, 16, 16)

    large = upsample(logits, SIDE)

    for i in range(2):
        expected = sam.postprocess_masks(logits[i], (SIDE, SIDE), (SIDE, SIDE))
        torch.testing.assert_close(large[i], expected, rtol=1e-5, atol=1e-6)


def test_gradients_reach_every_weight_of_encoder_and_decoder():
    sam = elastic()
    sam.prompt_encoder.requires_grad_(False)

    logits, iou = decode(sam, sam.image_encoder(rand(2, 3, SIDE, SIDE)), points(2, 2))
    (logits.square().mean() + iou.square().mean()).backward()

    for part in (sam.image_encoder, sam.mask_decoder):
        for name, parameter in part.named_parameters():
            assert parameter.grad is not None, name
            assert parameter.grad.isfinite().all(), name
    assert all(parameter.grad is None for parameter in sam.prompt_encoder.parameters())
