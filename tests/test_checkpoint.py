from __future__ import annotations

import hashlib
import io
import os
import pickle
import resource

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from quatrain import checkpoint
from quatrain.errors import UsageError

PAYLOAD = {"model": {"weight": torch.arange(6.0).reshape(2, 3)}, "step": 7, "name": "vit_mini", "shapes": [(1, 2)]}
PROTOCOL = "ignore:Detected pickle protocol:UserWarning"  # torch's remark on bytes that are no pickle


def written(payload, **options):
    buffer = io.BytesIO()
    torch.save(payload, buffer, **options)
    return buffer.getvalue()


ZIPPED = written(PAYLOAD)
LEGACY = written(PAYLOAD, _use_new_zipfile_serialization=False)


@pytest.fixture
def path(tmp_path):
    return tmp_path / "checkpoints" / "last.pth"


@pytest.fixture(scope="module")
def broken(tmp_path_factory):
    return tmp_path_factory.mktemp("broken") / "broken.pth"


def refusal(path):
    with pytest.raises(UsageError) as caught:
        checkpoint.load(path)
    assert str(path) in str(caught.value)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_a_checkpoint_comes_back_as_it_was_saved(path):
    checkpoint.save(path, PAYLOAD)

    loaded = checkpoint.load(path)
    torch.testing.assert_close(loaded.pop("model"), PAYLOAD["model"], rtol=0, atol=0)
    assert loaded == {key: value for key, value in PAYLOAD.items() if key != "model"}


def test_a_save_that_fails_leaves_the_last_checkpoint_and_no_other_file(path):
    checkpoint.save(path, {"step": 1})

    with pytest.raises((pickle.PicklingError, AttributeError)):
        checkpoint.save(path, {"step": 2, "weights": torch.zeros(1000), "function": lambda: None})

    assert checkpoint.load(path) == {"step": 1}
    assert os.listdir(path.parent) == ["last.pth"]


def test_a_checkpoint_that_is_not_there_is_named(tmp_path):
    assert "there is no checkpoint" in refusal(tmp_path / "sam_vit_b.pth")


def test_a_folder_is_no_checkpoint(tmp_path):
    assert "not a checkpoint" in refusal(tmp_path)


def test_weights_without_names_are_no_checkpoint(path):
    checkpoint.save(path, [torch.zeros(1)])

    assert "holds a list" in refusal(path)


def test_code_in_a_checkpoint_is_never_run(path, tmp_path):
    class Trap:
        def __reduce__(self):
            return (os.mkdir, (str(tmp_path / "sprung"),))

    checkpoint.save(path, {"trap": Trap()})

    assert "not a checkpoint that can be read safely" in refusal(path)
    assert not (tmp_path / "sprung").exists()


@pytest.mark.filterwarnings(PROTOCOL)
@pytest.mark.parametrize("content", [b"", b"hello\n", b"\x89PNG\r\n\x1a\n", b"PK\x03\x04", b"{}", b"(.", b"\x80\x02."])
def test_a_file_of_another_kind_is_answered_with_one_line(broken, content):
    broken.write_bytes(content)

    assert "not a checkpoint" in refusal(broken)


@pytest.mark.filterwarnings(PROTOCOL)
@given(content=st.binary(min_size=1, max_size=40))
def test_no_bytes_whatever_end_in_a_traceback(broken, content):
    broken.write_bytes(content)

    refusal(broken)


@pytest.mark.filterwarnings(PROTOCOL)
@pytest.mark.parametrize("whole", [ZIPPED, LEGACY], ids=["zipped", "legacy"])
@pytest.mark.parametrize("share", [0.02, 0.2, 0.5, 0.9, 0.99])
def test_a_torn_checkpoint_is_answered_with_one_line(broken, whole, share):
    broken.write_bytes(whole[: int(share * len(whole))])

    assert "not a checkpoint" in refusal(broken)


@pytest.mark.parametrize("size", [0, 1, 1 << 20, (1 << 20) + 1])
def test_the_digest_is_that_of_the_whole_file(tmp_path, size):
    content = bytes(size - 1) + b"x" if size else b""
    (tmp_path / "weights.pth").write_bytes(content)

    assert checkpoint.sha256(tmp_path / "weights.pth") == hashlib.sha256(content).hexdigest()


@pytest.mark.parametrize("room", [0, 3000, 5000])
def test_a_disk_that_takes_no_more_is_reported_in_a_line_and_leaves_the_old_file(tmp_path, room):
    path = tmp_path / "state.pt"
    checkpoint.save(path, {"step": 1})
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (room, limits[1]))  # the kernel refuses what goes beyond
    try:
        with pytest.raises(UsageError, match=r"state\.pt' cannot be written: File too large"):
            checkpoint.save(path, {"step": 2, "weight": torch.zeros(4096)})
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)

    assert checkpoint.load(path) == {"step": 1}
    assert [file.name for file in tmp_path.iterdir()] == ["state.pt"]
