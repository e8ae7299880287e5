from __future__ import annotations

import pickle

import pytest
import torch
from supernet_world import TINY, Rectangles
from torch.utils.data import DataLoader

from quatrain.errors import UsageError
from quatrain.supernet import dataset as items_module
from quatrain.supernet.dataset import TrainingItems


def stream(images=None, indices=None, **changes):
    images = images or Rectangles()
    settings = {"image_px": TINY.image_px, "logits_px": 4 * TINY.grid, "prompts": 3, "seed": 1}
    chosen = range(len(images)) if indices is None else indices
    return TrainingItems(images=images, indices=chosen, **settings | changes)


def same(one, other):
    return one.keys() == other.keys() and all(torch.equal(one[name], other[name]) for name in one)


class Noting:
    """Images that note which of them is read."""

    def __init__(self, images):
        self._images, self.read_ones = images, []

    def __len__(self):
        return len(self._images)

    def read(self, index):
        self.read_ones.append(index)
        return self._images.read(index)


@pytest.fixture
def noting(monkeypatch):
    """Sets of images that note every look at an image."""
    monkeypatch.setattr(items_module, "CACHED_IMAGES", 0)
    return lambda **settings: Noting(Rectangles(**settings))


def test_an_item_does_not_depend_on_the_order_of_access():
    forwards = stream()
    backwards = stream()
    wanted = [forwards[position] for position in range(15)]

    assert all(same(wanted[position], backwards[position]) for position in reversed(range(15)))
    assert same(forwards[4], wanted[4])


def test_an_item_survives_pickling():
    ours = stream()
    _ = ours[0]

    theirs = pickle.loads(pickle.dumps(ours))

    assert same(theirs[7], ours[7])


def test_an_item_is_the_same_in_a_loading_process():
    ours = stream()
    loader = DataLoader(ours, batch_size=None, sampler=[3, 9], num_workers=1, multiprocessing_context="fork")

    assert all(same(theirs, ours[position]) for theirs, position in zip(loader, (3, 9), strict=True))


def test_positions_and_seeds_differ():
    assert not same(stream()[0], stream()[6])
    assert not same(stream()[0], stream(seed=2)[0])


def test_every_epoch_visits_every_image_once_in_an_order_of_its_own(noting):
    images = noting(objects=(1,) * 9)
    ours = stream(images)

    for position in range(27):
        _ = ours[position]

    epochs = [tuple(images.read_ones[start : start + 9]) for start in (0, 9, 18)]
    assert all(sorted(epoch) == list(range(9)) for epoch in epochs)
    assert len(set(epochs)) == 3


def test_only_the_given_images_are_visited(noting):
    images = noting()
    ours = stream(images, indices=[4, 1])

    for position in range(6):
        _ = ours[position]

    assert sorted(images.read_ones) == [1, 1, 1, 4, 4, 4]


def test_an_image_without_objects_is_passed_over_for_the_next():
    ours = stream(Rectangles(objects=(0, 2, 0)))

    items = [ours[position] for position in range(9)]

    assert all((item["truth"].amax(dim=(1, 2)) > 0).all() for item in items)


class Damaged(Rectangles):
    """Rectangles of which one image went bad after it was listed."""

    def read(self, index):
        if index == 1:
            raise UsageError("'1.json' cannot be used: it is cut off")
        return super().read(index)


def test_an_image_that_went_bad_is_named_and_passed_over_for_the_next(caplog):
    ours = stream(Damaged(objects=(2, 2, 2)))

    items = [ours[position] for position in range(9)]

    assert len(items) == 9
    assert [record.getMessage() for record in caplog.records] == [
        f"image {ours.images.names[1]} is skipped: '1.json' cannot be used: it is cut off"
    ]


def test_a_set_without_any_object_is_refused():
    with pytest.raises(UsageError, match="none of the 2 training images can be read and has an object"):
        stream(Rectangles(objects=(0, 0)))[0]


def test_a_small_set_is_decoded_once():
    images = Noting(Rectangles())
    ours = stream(images)

    for position in range(18):
        _ = ours[position]

    assert sorted(images.read_ones) == list(range(6))


@pytest.mark.parametrize("fit", ["pad", "squash"])
def test_points_lie_on_the_object_that_they_prompt(fit):
    ours = stream(Rectangles(size=(24, 48)), fit=fit)

    for position in range(12):
        item = ours[position]
        x, y = (item["points"] // 2).long().T
        assert (item["truth"][torch.arange(3), y, x] > 0).all()


def test_what_an_item_holds():
    item = stream(Rectangles(size=(16, 32)), prompts=5)[0]

    assert item["image"].shape == (3, 32, 32)
    assert item["image"].dtype == torch.float32
    assert item["image"].max() > 1
    assert sorted(item["valid"].tolist()) == [16, 32]
    assert item["points"].shape == (5, 2)
    assert item["truth"].shape == (5, 16, 16)
    assert 0 <= item["truth"].min() < item["truth"].max() <= 1


def test_padding_holds_neither_image_nor_truth():
    for position in range(6):
        item = stream(Rectangles(size=(16, 32)))[position]
        height, width = item["valid"].tolist()

        assert not item["image"][:, height:].any()
        assert not item["image"][:, :, width:].any()
        assert not item["truth"][:, (height + 1) // 2 :].any()
        assert not item["truth"][:, :, (width + 1) // 2 :].any()


def test_an_image_with_enough_objects_is_asked_about_different_ones():
    ours = stream(Rectangles(objects=(4,), seed=3), prompts=2)

    for position in range(8):
        first, second = ours[position]["truth"]
        assert not torch.equal(first, second)
