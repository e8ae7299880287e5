from __future__ import annotations

import errno
import os
import threading
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from supernet_world import SPACE, TINY, Rectangles, elastic, rand

from quatrain.supernet import prefix_cache as prefix_module
from quatrain.supernet.cost import full_subnet
from quatrain.supernet.evaluation import EvalSet, Evaluator
from quatrain.supernet.prefix_cache import Prefix, PrefixStore
from quatrain.supernet.space import Space

FULL, SOME = (96,), (24, 48, 96)
STREAM = np.arange(24, dtype=np.float32).reshape(2, 3, 4)
FILE_BYTES = STREAM.nbytes + 128


def space(*choices, removable=()):
    return Space(
        full=full_subnet(TINY).widths, choices=choices, removable=removable, drop_probability=(0.5,) * len(removable)
    )


SPACES = [
    space(FULL, SOME, SOME, SOME, removable=(1, 2)),
    space(FULL, (48,), SOME, SOME, removable=(2,)),
    space(FULL, (48,), SOME, SOME, removable=(3,)),
    space(SOME, SOME, SOME, SOME, removable=(1,)),
    space(SOME, SOME, SOME, SOME, removable=(0, 1)),
    space(FULL, FULL, FULL, FULL),
]


@pytest.fixture(scope="module")
def sam():
    return elastic()


@pytest.fixture(scope="module")
def eval_set():
    return EvalSet.of(Rectangles(), range(6), image_px=TINY.image_px, seed=7)


def store(folder, prefix="a", limit=10**6):
    return PrefixStore(folder=folder / "prefix", prefix=prefix, limit_bytes=limit)


@pytest.mark.parametrize(
    ("space", "widths", "attended"),
    [
        (SPACES[0], (96,), False),
        (SPACES[1], (96, 48), False),
        (SPACES[2], (96, 48), True),
        (SPACES[3], (), True),
        (SPACES[4], (), False),
        (SPACES[5], (96,) * 4, False),
    ],
)
def test_what_networks_share_ends_where_they_may_differ(space, widths, attended):
    assert Prefix.of(space) == Prefix(widths=widths, attended=attended)


@given(st.sampled_from(SPACES), st.integers(0, 10**6))
def test_every_network_of_a_space_has_its_prefix_and_goes_on_from_it_bit_by_bit(space, seed):
    encoder, subnet = elastic(seed=1).image_encoder, space.sample(np.random.default_rng(seed))
    shared = Prefix.of(space)
    image = rand(2, 3, TINY.image_px, TINY.image_px)

    with torch.inference_mode():
        whole, resumed = encoder(image, subnet), shared.finish(encoder, shared.run(encoder, image), subnet)

    assert shared.begins(subnet)
    assert torch.equal(whole, resumed)


def test_a_network_with_another_beginning_is_refused(sam):
    narrow = SPACE.smallest()
    shared = Prefix.of(SPACES[0])

    assert not shared.begins(narrow)
    with pytest.raises(ValueError, match=r"24-0-0-24 does not begin with Prefix\(widths=\(96,\)"):
        shared.finish(sam.image_encoder, torch.zeros(1, 4, 4, 24), narrow)


@pytest.mark.parametrize("space", SPACES, ids=lambda space: str(Prefix.of(space).widths))
def test_marks_are_the_same_to_the_bit_with_and_without_what_was_kept(sam, eval_set, tmp_path, space):
    shared = Prefix.of(space)
    kept = store(tmp_path, shared.fingerprint(sam.image_encoder))
    plain, quick = Evaluator(sam, eval_set), Evaluator(sam, eval_set, prefix=shared, store=kept)
    rng = np.random.default_rng(0)

    for subnet in [space.largest(), space.smallest(), *(space.sample(rng) for _ in range(3))]:
        assert quick.score(subnet) == plain.score(subnet)
    assert len(list((tmp_path / "prefix" / kept.prefix).iterdir())) == len(eval_set)


def test_what_networks_share_runs_once_an_image(sam, eval_set, tmp_path, monkeypatch):
    shared = Prefix.of(SPACES[0])
    runs = []
    monkeypatch.setattr(prefix_module.Prefix, "run", lambda *given, real=Prefix.run: (runs.append(1), real(*given))[1])
    quick = Evaluator(sam, eval_set, prefix=shared, store=store(tmp_path))

    for subnet in (SPACES[0].largest(), SPACES[0].smallest()):
        quick.score(subnet)
    Evaluator(sam, eval_set, prefix=shared, store=store(tmp_path)).score(SPACES[0].smallest())

    assert len(runs) == 1


def test_the_fingerprint_stands_for_the_weights_of_the_shared_part_and_no_other():
    shared = Prefix.of(SPACES[2])
    before = shared.fingerprint(elastic().image_encoder)

    assert before == shared.fingerprint(elastic().image_encoder)
    for name, changes in {
        "blocks.3.attn.qkv.weight": False,
        "neck.0.weight": False,
        "blocks.2.norm1.weight": True,
        "blocks.0.mlp.lin1.bias": True,
        "pos_embed": True,
        "patch_embed.proj.weight": True,
    }.items():
        encoder = elastic().image_encoder
        with torch.no_grad():
            encoder.get_parameter(name).view(-1)[0] += 1
        assert (shared.fingerprint(encoder) != before) == changes, name


def test_the_fingerprint_stands_for_the_prefix_and_the_arithmetic(monkeypatch):
    encoder = elastic().image_encoder
    shared = Prefix.of(SPACES[0])
    before = {shared.fingerprint(encoder), replace(shared, attended=True).fingerprint(encoder)}
    monkeypatch.setattr(torch, "get_num_threads", lambda: 77)

    assert len(before | {shared.fingerprint(encoder)}) == 3


def test_images_are_distinguished_by_their_content_and_not_by_their_names(eval_set):
    other = EvalSet.of(Rectangles(seed=1), range(6), image_px=TINY.image_px, seed=7)
    digests = {image.digest for image in (*eval_set.images, *other.images)}
    first = eval_set.images[0]

    assert len(digests) == 12
    assert replace(first, prepared=replace(first.prepared, name="other")).digest == first.digest
    assert replace(first, prepared=replace(first.prepared, valid_hw=(31, 32))).digest != first.digest


def test_a_stream_is_read_back_as_it_was_and_cannot_be_spoilt(tmp_path):
    kept = store(tmp_path)

    assert kept.read("x") is None
    assert kept.write("x", STREAM)
    kept.read("x")[:] = 0
    assert np.array_equal(kept.read("x"), STREAM)
    assert isinstance(kept.read("x"), np.memmap)


def test_the_folder_never_takes_more_than_its_limit(tmp_path):
    kept = store(tmp_path, limit=2 * FILE_BYTES)

    assert [kept.write(name, STREAM) for name in "xyz"] == [True, True, False]
    assert kept.write("x", STREAM)
    assert sum(file.stat().st_size for file in (tmp_path / "prefix" / "a").iterdir()) == 2 * FILE_BYTES


def test_streams_of_other_prefixes_are_removed_the_longest_unchanged_first(tmp_path):
    old, newer, now = (store(tmp_path, prefix, limit=3 * FILE_BYTES) for prefix in ("old", "newer", "now"))
    for age, kept in ((1000, old), (2000, newer)):
        kept.write("x", STREAM)
        os.utime(kept.folder / kept.prefix, (age, age))

    assert [now.write(name, STREAM) for name in "xy"] == [True, True]
    assert old.read("x") is None
    assert newer.read("x") is not None


def test_nothing_is_removed_for_a_stream_that_would_not_fit_anyway(tmp_path):
    store(tmp_path, "old", limit=FILE_BYTES).write("x", STREAM)

    assert not store(tmp_path, "now", limit=FILE_BYTES - 1).write("x", STREAM)
    assert store(tmp_path, "old").read("x") is not None


@pytest.mark.parametrize("torn", [b"", b"\x93NUMPY", b"\x93NUMPY\x01\x00v\x00{'descr': '<f4', 'fortran_order': False"])
def test_a_torn_file_counts_as_none_and_is_written_again(tmp_path, torn):
    kept = store(tmp_path)
    kept.write("x", STREAM)
    (tmp_path / "prefix" / "a" / "x.npy").write_bytes(torn)

    assert kept.read("x") is None
    assert kept.write("x", STREAM)
    assert np.array_equal(kept.read("x"), STREAM)


def test_a_full_disk_costs_the_cache_and_nothing_else(sam, eval_set, tmp_path, monkeypatch):
    def full(*_):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(prefix_module, "replacing", full)
    quick = Evaluator(sam, eval_set, prefix=Prefix.of(SPACES[0]), store=store(tmp_path))

    assert quick.score(SPACES[0].largest()) == Evaluator(sam, eval_set).score(SPACES[0].largest())


def test_other_trouble_with_the_disk_is_reported(tmp_path, monkeypatch):
    def broken(*_):
        raise OSError(errno.EIO, "Input/output error")

    monkeypatch.setattr(prefix_module, "replacing", broken)
    with pytest.raises(OSError, match="Input/output error"):
        store(tmp_path).write("x", STREAM)


def test_a_limit_below_zero_is_refused(tmp_path):
    with pytest.raises(ValueError, match="limit_bytes is -1; it must be at least 0"):
        store(tmp_path, limit=-1)


def test_many_workers_share_a_folder_within_its_limit(tmp_path):
    start = threading.Barrier(3)

    def write_all(_):
        kept = store(tmp_path, limit=20 * FILE_BYTES)
        start.wait()
        return sum(kept.write(str(number), STREAM + number) for number in range(40))

    with ThreadPoolExecutor(3) as workers:  # the lock tells open files apart, be they of processes or threads
        done = list(workers.map(write_all, range(3)))

    files = sorted((tmp_path / "prefix" / "a").iterdir())
    assert done == [20, 20, 20]
    assert len(files) == 20
    assert all(np.array_equal(np.load(file), STREAM + int(file.stem)) for file in files)
