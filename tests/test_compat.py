from __future__ import annotations

import importlib.util
import os
import subprocess
import sys
import textwrap

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from quatrain import compat

# boxes on a grid of integers: their overlaps are exact in any floating type


@st.composite
def boxes(draw):
    corner, side = st.integers(0, 20), st.integers(1, 12)
    drawn = draw(st.lists(st.tuples(corner, corner, side, side, st.integers(0, 9)), max_size=12))
    boxes_N4 = torch.tensor([[x, y, x + w, y + h] for x, y, w, h, _ in drawn], dtype=torch.float32).reshape(-1, 4)
    return boxes_N4, torch.tensor([score / 10 for *_, score in drawn], dtype=torch.float32)


def overlap(one, other):
    width = min(one[2], other[2]) - max(one[0], other[0])
    height = min(one[3], other[3]) - max(one[1], other[1])
    shared = max(0, width) * max(0, height)
    areas = [(box[2] - box[0]) * (box[3] - box[1]) for box in (one, other)]
    return shared / (sum(areas) - shared)


def by_brute_force(boxes_N4, scores_N, threshold):
    rows = boxes_N4.tolist()
    kept = []
    for index in sorted(range(len(rows)), key=lambda i: (-scores_N[i].item(), i)):
        if all(overlap(rows[index], rows[better]) <= threshold for better in kept):
            kept.append(index)
    return kept


def in_a_new_process(code, *paths):
    """Run `code` in a fresh interpreter that sees `paths` first; return what it prints."""
    search = os.pathsep.join([*map(str, paths), *filter(None, [os.environ.get("PYTHONPATH")])])
    environment = {**os.environ, "PYTHONPATH": search, "OMP_NUM_THREADS": "1"}
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(code)], env=environment, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.split()


@given(boxes(), st.sampled_from([0.0, 0.15, 0.35, 0.5, 0.77]))
def test_nms_keeps_what_plain_greedy_suppression_keeps_best_first(found, threshold):
    boxes_N4, scores_N = found

    kept = compat.nms(boxes_N4, scores_N, threshold)

    assert kept.dtype == torch.int64
    assert kept.tolist() == by_brute_force(boxes_N4, scores_N, threshold)


def test_a_box_falls_above_the_threshold_and_not_at_it():
    boxes_N4 = torch.tensor([[0.0, 0, 4, 4], [0, 0, 4, 2]])  # half of it is shared

    assert compat.nms(boxes_N4, torch.tensor([0.9, 0.8]), 0.5).tolist() == [0, 1]
    assert compat.nms(boxes_N4, torch.tensor([0.9, 0.8]), 0.49).tolist() == [0]


def test_boxes_without_area_all_stay():
    assert len(compat.nms(torch.zeros(3, 4), torch.ones(3), 0.5)) == 3


def test_no_boxes_leave_no_boxes():
    assert compat.nms(torch.zeros(0, 4), torch.zeros(0), 0.5).shape == (0,)


def test_nms_agrees_with_torchvision_s_own_where_that_one_loads():
    compat.torchvision_ops()
    from torchvision.extension import _has_ops

    if not _has_ops():
        pytest.skip("torchvision's compiled operators do not load with this torch")
    from torchvision.ops import nms

    generator = torch.Generator().manual_seed(0)
    for _ in range(50):
        corners_N4 = torch.rand(30, 4, generator=generator) * 100
        boxes_N4 = torch.cat([corners_N4[:, :2], corners_N4[:, :2] + corners_N4[:, 2:] + 1], dim=1)
        scores_N = torch.rand(30, generator=generator)
        assert compat.nms(boxes_N4, scores_N, 0.5).tolist() == nms(boxes_N4, scores_N, 0.5).tolist()


def test_torchvision_s_functions_that_sam_uses_work_after_the_stand_in():
    compat.torchvision_ops()
    from torchvision.ops.boxes import batched_nms, box_area

    boxes_N4 = torch.tensor([[0.0, 0, 4, 4], [0, 0, 4, 3.9], [0, 0, 4, 4]])

    assert batched_nms(boxes_N4, torch.tensor([0.5, 0.9, 0.1]), torch.tensor([0, 0, 1]), 0.7).tolist() == [1, 2]
    assert box_area(boxes_N4)[0] == 16


def test_a_new_process_gets_a_segment_anything_that_makes_masks():
    printed = in_a_new_process(
        """
        from quatrain.sam import SamAutomaticMaskGenerator, SamPredictor, sam_model_registry
        import dataclasses, numpy as np
        from quatrain.sam.build import build
        from quatrain.sam.registry import SHAPES

        tiny = dict(image_px=64, embed_dim=32, depth=1, heads=2, global_blocks=(0,), window=2, prompt_dim=32)
        sam = build(dataclasses.replace(SHAPES["vit_mini"], decoder_mlp=32, **tiny), seed=0)
        image_HWC = np.random.default_rng(0).integers(0, 255, (64, 48, 3), dtype=np.uint8)
        options = dict(pred_iou_thresh=-1e9, stability_score_thresh=-1e9, box_nms_thresh=1.0)
        found = SamAutomaticMaskGenerator(sam, points_per_side=2, **options).generate(image_HWC)
        print(len(found) > 0, found[0]["segmentation"].shape == (64, 48), sorted(sam_model_registry))
        """
    )

    assert printed[:2] == ["True", "True"]


@pytest.mark.skipif(importlib.util.find_spec("dgl") is None, reason="DGL is not installed")
def test_dgl_is_imported_without_graphbolt_and_says_so_when_it_is_used():
    printed = in_a_new_process(
        """
        import os, warnings
        warnings.simplefilter("ignore")
        from quatrain.compat import dgl_graphbolt
        dgl_graphbolt()
        import dgl, dgl.distributed
        graph = dgl.graph(([0, 1], [1, 2]))
        print(graph.num_nodes(), os.environ["DGLBACKEND"], hasattr(dgl.distributed, "DistGraph"))
        try:
            from dgl import graphbolt
            dgl.graphbolt.ItemSet(1)
            print("works")
        except ImportError as error:
            print("refused", *str(error).split()[:1])
        """
    )

    assert printed[:3] == ["3", "pytorch", "True"]
    assert printed[3:] in (["works"], ["refused", "dgl.graphbolt.ItemSet:"])


def test_libraries_that_load_are_left_as_they_are(tmp_path):
    write(tmp_path / "dgl" / "__init__.py", "from dgl import graphbolt\nloads = ['once']\n")
    write(tmp_path / "dgl" / "graphbolt.py", "ItemSet = 'the real one'\n")
    write(tmp_path / "torchvision" / "__init__.py", "from torchvision import extension\n")
    write(tmp_path / "torchvision" / "extension.py", "def _assert_has_ops():\n    return 'the real one'\n")

    printed = in_a_new_process(
        """
        from quatrain import compat
        compat.dgl_graphbolt()
        compat.torchvision_ops()
        import dgl, torchvision
        dgl.loads.append("twice?")
        compat.dgl_graphbolt()
        compat.torchvision_ops()
        import dgl as again
        print(dgl.graphbolt.ItemSet == "the real one", type(dgl.graphbolt).__name__, again.loads == dgl.loads)
        print(torchvision.extension._assert_has_ops() == "the real one", compat._registered)
        """,
        tmp_path,
    )

    assert printed == ["True", "module", "True", "True", "[]"]


def test_a_library_that_is_not_installed_is_still_missing(monkeypatch):
    for name in ("dgl", "torchvision"):
        for module in [module for module in sys.modules if module.partition(".")[0] == name]:
            monkeypatch.delitem(sys.modules, module)
    monkeypatch.setattr(sys, "path", [])
    monkeypatch.setenv("DGLBACKEND", "pytorch")

    with pytest.raises(ModuleNotFoundError, match="dgl"):
        compat.dgl_graphbolt()
    with pytest.raises(ModuleNotFoundError, match="torchvision"):
        compat.torchvision_ops()
    assert "dgl.graphbolt" not in sys.modules


def write(path, text):
    path.parent.mkdir(exist_ok=True)
    path.write_text(text)
