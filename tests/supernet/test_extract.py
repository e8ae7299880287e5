from __future__ import annotations

import dataclasses

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from supernet_world import TINY, elastic, rand, stirred

import quatrain
from quatrain import checkpoint
from quatrain.errors import UsageError
from quatrain.sam.build import build, plain_encoder
from quatrain.sam.official import ImageEncoderViT, Sam, SamAutomaticMaskGenerator, SamPredictor
from quatrain.sam.registry import SHAPES
from quatrain.supernet.cost import encoder_parameters, full_subnet
from quatrain.supernet.elastic import ElasticEncoder
from quatrain.supernet.extract import extract, save, slice_weights
from quatrain.supernet.space import Subnet

SIDE = TINY.image_px
IMAGES = rand(2, 3, SIDE, SIDE, seed=9)
NET = Subnet(widths=(48, 0, 96, 24))

subnets = (
    st.lists(st.one_of(st.just(0), st.integers(1, 96)), min_size=4, max_size=4)
    .filter(any)
    .map(lambda widths: Subnet(widths=tuple(widths)))
)


@pytest.fixture(scope="module")
def sam():
    return elastic()


@pytest.fixture
def payload(sam):
    """What a file of an extracted net holds."""
    alone = extract(sam, sam.image_encoder, NET)
    return {
        "format": "quatrain-sam-1",
        "shape": dataclasses.asdict(TINY),
        "widths": list(NET.widths),
        "model": dict(alone.state_dict()),
    }


def refused(tmp_path, payload):
    """The message with which a file of this payload is refused."""
    checkpoint.save(tmp_path / "net.pth", payload)
    with pytest.raises(UsageError) as caught:
        quatrain.load_sam(tmp_path / "net.pth")
    assert "\n" not in str(caught.value)
    assert "net.pth" in str(caught.value)
    return str(caught.value)


@settings(max_examples=10, deadline=None, derandomize=True)
@given(subnets)
def test_an_extracted_encoder_computes_what_the_supernet_does(tmp_path_factory, sam, subnet):
    path = tmp_path_factory.mktemp("extracted") / "net.pth"
    alone = extract(sam, sam.image_encoder, subnet)
    with torch.no_grad():
        expected, ours = sam.image_encoder(IMAGES, subnet), alone.image_encoder(IMAGES)

        save(path, alone, TINY, subnet)
        loaded = quatrain.load_sam(path)
        again = loaded.image_encoder(IMAGES)

    assert type(alone.image_encoder) is ImageEncoderViT
    assert (ours - expected).abs().max() <= 1e-6 * expected.abs().max()
    assert torch.equal(again, ours)
    assert all(torch.equal(value, alone.state_dict()[name]) for name, value in loaded.state_dict().items())


@settings(max_examples=30, deadline=None, derandomize=True)
@given(subnets)
def test_the_parameters_of_an_extracted_encoder_are_those_counted(subnet):
    encoder = plain_encoder(TINY, subnet.widths)

    assert sum(parameter.numel() for parameter in encoder.parameters()) == encoder_parameters(TINY, subnet)


@pytest.mark.parametrize("name", ["vit_b", "vit_l", "vit_h"])
def test_the_parameters_of_official_encoders_are_those_counted(name):
    shape = SHAPES[name]
    widths = tuple(0 if i % 5 == 2 else shape.hidden // (1 + i % 3) for i in range(shape.depth))
    with torch.device("meta"):
        encoder = plain_encoder(shape, widths)

    counted = encoder_parameters(shape, Subnet(widths=widths))
    assert sum(parameter.numel() for parameter in encoder.parameters()) == counted


def test_a_sub_network_of_vit_b_computes_what_the_supernet_does():
    shape = dataclasses.replace(SHAPES["vit_b"], image_px=224)
    subnet = Subnet(widths=(3072, 0, 0, 768, 1020, 0, 0, 1536, 768, 0, 2304, 768))
    # in double precision: through seven wide blocks the stock attention and the fused one round apart by 2e-6 in single
    encoder = ElasticEncoder(build(shape, seed=1).image_encoder, shape).double()
    with torch.device("meta"):
        alone = plain_encoder(shape, subnet.widths)
    alone.load_state_dict(slice_weights(encoder, subnet), assign=True)
    image = rand(1, 3, 224, 224).double()
    with torch.no_grad():
        expected, ours = encoder(image, subnet), alone(image)

    assert (ours - expected).abs().max() <= 1e-10 * expected.abs().max()


def test_an_extracted_net_has_the_prompt_encoder_and_decoder_that_were_trained(sam):
    alone = extract(sam, sam.image_encoder, NET)

    for part in ("prompt_encoder", "mask_decoder"):
        ours = getattr(alone, part).state_dict()
        assert all(torch.equal(ours[name], value) for name, value in getattr(sam, part).state_dict().items())


def test_an_extracted_net_shares_no_weight_with_the_supernet():
    sam = elastic()
    alone = extract(sam, sam.image_encoder, full_subnet(TINY))
    before = {name: value.clone() for name, value in alone.state_dict().items()}

    stirred(sam, seed=5)

    assert all(torch.equal(value, before[name]) for name, value in alone.state_dict().items())


def test_a_sub_network_that_does_not_fit_is_refused(sam):
    with pytest.raises(ValueError, match="subnet is 97-0-96-24; tiny takes 4 widths of at most 96"):
        extract(sam, sam.image_encoder, Subnet(widths=(97, 0, 96, 24)))


def test_the_stock_predictor_drives_it(tmp_path, sam):
    save(tmp_path / "net.pth", extract(sam, sam.image_encoder, NET), TINY, NET)
    model = quatrain.load_sam(tmp_path / "net.pth")
    predictor = SamPredictor(model)
    predictor.set_image(np.random.default_rng(0).integers(0, 256, (40, 60, 3), np.uint8))

    masks, iou, _ = predictor.predict(np.array([[30, 20]]), np.array([1]))

    assert isinstance(model, Sam)
    assert not model.training
    assert masks.shape == (3, 40, 60)
    assert iou.shape == (3,)


def test_the_stock_mask_generator_drives_it(tmp_path, sam):
    save(tmp_path / "net.pth", extract(sam, sam.image_encoder, NET), TINY, NET)
    generator = SamAutomaticMaskGenerator(
        quatrain.load_sam(tmp_path / "net.pth"), points_per_side=2, pred_iou_thresh=0, stability_score_thresh=0
    )

    found = generator.generate(np.random.default_rng(0).integers(0, 256, (40, 60, 3), np.uint8))

    assert found
    assert all(mask["segmentation"].shape == (40, 60) for mask in found)


def test_a_missing_file_is_refused(tmp_path):
    with pytest.raises(UsageError, match=r"there is no checkpoint '.*absent.pth'"):
        quatrain.load_sam(tmp_path / "absent.pth")


@pytest.mark.parametrize("content", [b"", b"not weights", b"PK\x03\x04 torn"])
def test_a_file_that_is_no_checkpoint_is_refused(tmp_path, content):
    (tmp_path / "net.pth").write_bytes(content)

    with pytest.raises(UsageError, match=r"net.pth' is not a checkpoint that can be read safely") as caught:
        quatrain.load_sam(tmp_path / "net.pth")
    assert "\n" not in str(caught.value)


def test_weights_without_an_architecture_are_no_extracted_net(tmp_path):
    message = refused(tmp_path, dict(build(TINY, 0).state_dict()))

    assert "is not an extracted sub-network: its format is not 'quatrain-sam-1'" in message


@pytest.mark.parametrize("key", ["shape", "widths"])
def test_a_file_without_its_architecture_is_refused(tmp_path, payload, key):
    del payload[key]

    assert f"describes no valid architecture: '{key}'" in refused(tmp_path, payload)


@pytest.mark.parametrize("weights", [None, "none", [1, 2]])
def test_a_file_without_weights_is_refused(tmp_path, payload, weights):
    payload["model"] = weights

    assert f"holds no weights: its 'model' is a {type(weights).__name__}" in refused(tmp_path, payload)


def test_a_file_whose_weights_are_missing_is_refused(tmp_path, payload):
    del payload["model"]

    assert "holds no weights" in refused(tmp_path, payload)


@pytest.mark.parametrize(
    "widths", [[48, 0, 96], [48, 0, 96, 24, 24], [48, 0, 96, 10**12], [48, 0, 96, -1], ["wide"], 48, []]
)
def test_widths_that_do_not_fit_the_shape_are_refused(tmp_path, payload, widths):
    payload["widths"] = widths

    assert "describes no valid architecture" in refused(tmp_path, payload)


def test_a_shape_that_is_none_is_refused(tmp_path, payload):
    payload["shape"] = {"name": "tiny", "image_px": "large"}

    assert "describes no valid architecture" in refused(tmp_path, payload)


def test_a_missing_weight_is_named(tmp_path, payload):
    del payload["model"]["image_encoder.blocks.1.mlp.lin1.bias"]

    message = refused(tmp_path, payload)

    assert "is not a checkpoint of tiny 48-0-96-24: it lacks 'image_encoder.blocks.1.mlp.lin1.bias'" in message


def test_a_weight_of_another_width_is_named(tmp_path, payload):
    payload["widths"][3] = 32

    assert "'image_encoder.blocks.2.mlp.lin1.bias' is (24,), not (32,)" in refused(tmp_path, payload)
