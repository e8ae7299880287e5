from __future__ import annotations

import json

import numpy as np
import pytest
from PIL import Image

from quatrain.data.coco import coco_images
from quatrain.data.sample import LoggedImages, read_unreadable
from quatrain.errors import UsageError

SQUARE = [2, 2, 12, 2, 12, 12, 2, 12]


def image(number, name, **more):
    return {"id": number, "file_name": name, "height": 20, "width": 30, **more}


def annotation(number, **more):
    return {"id": number * 100, "image_id": number, "iscrowd": 0, "segmentation": [SQUARE], **more}


def write(source, images, annotations, folder=None):
    """Write the JSON, and a picture for every well-formed image of it."""
    source.parent.mkdir(parents=True, exist_ok=True)
    source.write_text(json.dumps({"images": images, "annotations": annotations}))
    for one in images:
        file = (folder or source.parent) / one["file_name"]
        file.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(np.full((20, 30, 3), 77, np.uint8)).save(file)
    return source


def test_images_and_their_objects_are_read(tmp_path, capfd):
    smaller = [2, 2, 4, 2, 4, 4, 2, 4]
    source = write(
        tmp_path / "a.json",
        [image(1, "one.png"), image(2, "two.png")],
        [annotation(2), annotation(1), annotation(1, segmentation=[smaller], id=5)],
    )

    images = coco_images(source)

    assert images.names == ("one.png", "two.png")
    assert [int(mask.sum()) for mask in images.read(0).masks_NHW] == [100, 4]
    assert (images.read(1).image_HWC == 77).all()
    assert capfd.readouterr() == ("", "")


def test_crowds_are_left_out(tmp_path):
    crowd = annotation(1, iscrowd=1, segmentation={"size": [20, 30], "counts": [0, 600]})
    source = write(
        tmp_path / "a.json", [image(1, "one.png"), image(2, "two.png")], [annotation(1), crowd, crowd | {"image_id": 2}]
    )

    images = coco_images(source)

    assert len(images.read(0).masks_NHW) == 1
    assert [(one.name, one.reason) for one in images.skipped] == [
        ("a.json", "1 crowds (iscrowd is 1) are left out"),
        ("two.png", "all its annotations (1) are crowds: set iscrowd to 0 if each is one object"),
    ]


@pytest.mark.parametrize(
    ("source", "folder"),
    [
        ("a.json", "."),
        ("a.json", "images"),
        ("annotations/a.json", "images"),
        ("instances_val2017.json", "val2017"),
        ("annotations/instances_val2017.json", "val2017"),
        ("annotations/instances_val2017.json", "images/val2017"),
    ],
)
def test_images_are_found_in_the_usual_places(tmp_path, source, folder):
    write(tmp_path / source, [image(1, "one.jpg")], [annotation(1)], tmp_path / folder)

    assert coco_images(tmp_path / source).read(0).name == "one.jpg"


def test_images_can_lie_in_a_folder_that_is_given(tmp_path):
    source = write(tmp_path / "a.json", [image(1, "sub/one.png")], [annotation(1)], tmp_path / "far away")

    assert coco_images(source, tmp_path / "far away").read(0).name == "sub/one.png"


def test_missing_images_and_damaged_entries_are_skipped_with_the_reason(tmp_path):
    source = write(tmp_path / "a.json", [image(1, "one.png"), image(2, "gone.png")], [annotation(1), annotation(2)])
    content = json.loads(source.read_text())
    content["images"] += [7, {"id": 3}, image(4, "../four.png"), image(5, "/etc/five.png"), image(1, "one.png")]
    content["annotations"] += ["x", {"id": 9}, annotation(99)]
    source.write_text(json.dumps(content))
    (tmp_path / "gone.png").unlink()

    images = coco_images(source)

    assert images.names == ("one.png",)
    assert {one.name: one.reason for one in images.skipped} == {
        "image entry 2": "it has no id or no file_name",
        "image entry 3": "it has no id or no file_name",
        "../four.png": "its file name leads out of the folder",
        "/etc/five.png": "its file name leads out of the folder",
        "image entry 6": "its id 1 is that of 'one.png' too",
        "annotation entry 2": "it has no image_id",
        "annotation 9": "it has no image_id",
        "a.json": "1 annotations are of images that it does not list, such as id 99",
        "gone.png": f"there is no such file in {str(tmp_path)!r}",
    }


@pytest.mark.parametrize(("own", "others"), [("{}", "{}"), ("{}", 1), (1, "{}"), (1.0, 1), ("img-{}", "img-{}")])
def test_ids_may_be_texts_and_numbers(tmp_path, own, others):
    def number(form, n):
        return form.format(n) if isinstance(form, str) else type(form)(n)

    listed = [image(number(own, n), f"i{n}.png") for n in (1, 2)]
    marked = [annotation(1, image_id=number(others, 2)), annotation(2, id="x", image_id=number(others, 1))]

    images = coco_images(write(tmp_path / "a.json", listed, marked))

    assert images.names == ("i1.png", "i2.png")
    assert [one[0]["id"] for one in images.annotations] == ["x", 100]
    assert images.skipped == ()


@pytest.mark.parametrize("bad", [None, True, "", [1], {}, float("nan")])
def test_an_id_that_is_not_a_number_or_a_text_is_named(tmp_path, bad):
    source = write(tmp_path / "a.json", [image(1, "one.png"), image(bad, "two.png")], [annotation(1)])

    assert coco_images(source).skipped[0].reason == "it has no id or no file_name"


@pytest.mark.parametrize(
    "written",
    [
        "images\\i{}.png",
        ".\\images\\i{}.png",
        "images/i{}.PNG",
        "IMAGES/I{}.png",
        "/srv/data/images/i{}.png",
        "/srv/other/i{}.png",
        "C:\\data\\i{}.png",
        "C:/data/i{}.png",
        "../images/i{}.png",
        "train/i{}.png",
        "i{}.png",
    ],
)
def test_file_names_of_other_programs_are_found(tmp_path, written):
    source = tmp_path / "a.json"
    write(source, [image(n, f"images/i{n}.png") for n in (1, 2)], [annotation(1), annotation(2)])
    source.write_text(
        json.dumps(
            {"images": [image(n, written.format(n)) for n in (1, 2)], "annotations": [annotation(1), annotation(2)]}
        )
    )

    images = coco_images(source)

    assert [images.folder / name for name in images.names] == [tmp_path / f"images/i{n}.png" for n in (1, 2)]
    assert [one[0]["image_id"] for one in images.annotations] == [1, 2]


def test_accents_may_be_composed_or_not(tmp_path):
    source = write(tmp_path / "a.json", [image(1, "u\u0308.png")], [annotation(1)])
    source.write_text(json.dumps({"images": [image(1, "\u00fc.png")], "annotations": [annotation(1)]}))

    assert coco_images(source).names == ("u\u0308.png",)


def test_a_file_that_fits_two_names_is_given_to_neither(tmp_path):
    source = write(tmp_path / "a.json", [image(1, "one.png"), image(2, "two.png")], [annotation(1)])
    listed = [image(1, "ONE.png"), image(2, "One.png"), image(3, "two.png"), image(4, "TWO.png")]
    source.write_text(json.dumps({"images": listed, "annotations": [annotation(n) for n in (1, 2, 3, 4)]}))

    images = coco_images(source)

    assert images.names == ("two.png",)
    assert images.annotations[0][0]["image_id"] == 3
    assert {one.name for one in images.skipped} == {"ONE.png", "One.png", "TWO.png"}


def test_names_in_two_folders_are_never_taken_for_one_file(tmp_path):
    source = write(tmp_path / "a.json", [image(1, "one.png")], [annotation(1)])
    listed = [image(1, "/a/one.png"), image(2, "/b/one.png")]
    source.write_text(json.dumps({"images": listed, "annotations": [annotation(1), annotation(2)]}))

    with pytest.raises(UsageError, match=r"such as '/a/one\.png', are in none of"):
        coco_images(source)


def test_an_id_of_two_images_costs_both_since_their_annotations_are_mixed(tmp_path):
    listed = [image(1, "a.png"), image(1, "b.png"), image(2, "c.png")]
    source = write(tmp_path / "a.json", listed, [annotation(1), annotation(2)])

    images = coco_images(source)

    assert images.names == ("c.png",)
    assert {one.name: one.reason for one in images.skipped} == {
        "a.png": "its id 1 is that of 'b.png' too",
        "image entry 1": "its id 1 is that of 'a.png' too",
    }


def test_an_image_that_is_listed_under_two_ids_has_the_objects_of_both(tmp_path):
    other = [12, 12, 18, 12, 18, 18, 12, 18]
    source = write(
        tmp_path / "a.json",
        [image(1, "a.png"), image(2, "a.png")],
        [annotation(1), annotation(2, segmentation=[other])],
    )

    assert len(coco_images(source).read(0).masks_NHW) == 2


def test_an_annotation_that_is_repeated_is_read_once_and_one_that_shares_its_id_only_is_kept(tmp_path):
    other = annotation(1, segmentation=[[12, 12, 18, 12, 18, 18, 12, 18]])
    source = write(tmp_path / "a.json", [image(1, "a.png")], [annotation(1), annotation(1), other])

    images = coco_images(source)

    assert len(images.annotations[0]) == 2
    assert [one.reason for one in images.skipped] == ["it is in the JSON twice"]


def test_categories_do_not_matter(tmp_path):
    annotations = [annotation(1, category_id=90), annotation(2, category_id=None)]
    source = write(tmp_path / "a.json", [image(1, "a.png"), image(2, "b.png")], annotations)

    assert coco_images(source).names == ("a.png", "b.png")


@pytest.mark.parametrize("damaged", [{"segmentation": []}, {"segmentation": [[64.0, 48.0]]}, {"segmentation": None}])
def test_a_damaged_annotation_costs_that_annotation_alone(tmp_path, damaged):
    bad = annotation(1, id=11, bbox=[1, 1, 20, 20], **damaged)
    source = write(tmp_path / "a.json", [image(1, "one.png"), image(2, "two.png")], [annotation(1), bad, annotation(2)])

    images = coco_images(source)

    assert images.names == ("one.png", "two.png")
    assert [int(mask.sum()) for mask in images.read(0).masks_NHW] == [100]
    assert [one.name for one in images.skipped] == ["one.png, annotation 11"]


def test_an_annotation_that_is_found_damaged_with_its_image_is_written_once(tmp_path):
    bad = annotation(1, id=11, segmentation=[[1, 2, float("nan"), 4, 5, 6]])
    source = write(tmp_path / "a.json", [image(1, "one.png")], [annotation(1), bad])
    images = LoggedImages(images=coco_images(source), path=tmp_path / "unreadable.jsonl")

    assert len(images.read(0).masks_NHW) == len(images.read(0).masks_NHW) == 1
    assert len((tmp_path / "unreadable.jsonl").read_text().splitlines()) == 1
    assert [one.name for one in read_unreadable(tmp_path / "unreadable.jsonl")] == ["one.png, annotation 11"]


@pytest.mark.parametrize("hw", [(40, 60), (30, 20), (20, 31)])
def test_an_image_of_another_size_than_the_json_says_is_refused(tmp_path, hw):
    source = write(tmp_path / "a.json", [image(1, "one.png", height=hw[0], width=hw[1])], [annotation(1)])

    with pytest.raises(UsageError, match=f"the JSON says {hw[1]} x {hw[0]} pixels, the image has 30 x 20"):
        coco_images(source).read(0)


def test_images_are_turned_as_exif_says_before_their_size_is_compared(tmp_path):
    pixels = np.zeros((30, 20, 3), np.uint8)
    pixels[2:12, 2:12] = 255
    exif = Image.Exif()
    exif[0x0112] = 6
    source = write(tmp_path / "a.json", [image(1, "one.jpg", height=30, width=20)], [annotation(1)])
    Image.fromarray(np.ascontiguousarray(np.rot90(pixels))).save(tmp_path / "one.jpg", exif=exif, quality=95)

    sample = coco_images(source).read(0)

    assert sample.image_HWC.shape == (30, 20, 3)
    assert sample.image_HWC[sample.masks_NHW[0]].mean() > 200


@pytest.mark.parametrize("crowd", [1, True, "1", 1.0])
def test_an_image_whose_annotations_are_all_crowds_says_so(tmp_path, crowd):  # cvat-ai/cvat issue 7030
    source = write(tmp_path / "a.json", [image(1, "one.png")], [annotation(1, iscrowd=crowd)])

    with pytest.raises(UsageError, match=r"all its annotations \(1\) are crowds: set iscrowd to 0"):
        coco_images(source)


@pytest.mark.parametrize("crowd", [0, False, "0", None, 0.0])
def test_an_object_is_no_crowd(tmp_path, crowd):
    source = write(tmp_path / "a.json", [image(1, "one.png")], [annotation(1, iscrowd=crowd)])

    assert len(coco_images(source)) == 1


def test_images_that_are_nowhere_are_an_error_that_says_where_they_were_sought(tmp_path):
    source = write(tmp_path / "a.json", [image(1, "one.png")], [annotation(1)], tmp_path / "elsewhere")

    with pytest.raises(UsageError, match=r"such as 'one\.png', are in none of .*images"):
        coco_images(source)


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        ("", "is not JSON"),
        ("{", "is not JSON"),
        ("[" * 100_000, "is not JSON"),
        ("[]", "holds a list: it needs the lists"),
        ('{"images": []}', "needs the lists"),
        ('{"images": 3, "annotations": []}', "needs the lists"),
        ('{"images": [], "annotations": []}', r"a\.json"),
    ],
)
def test_a_json_that_holds_no_instances_is_named(tmp_path, content, reason):
    (tmp_path / "a.json").write_text(content)

    with pytest.raises(UsageError, match=reason):
        coco_images(tmp_path / "a.json")


def test_a_json_that_is_missing_is_named(tmp_path):
    with pytest.raises(UsageError, match=r"a\.json' cannot be used: No such file"):
        coco_images(tmp_path / "a.json")


def test_a_json_without_any_object_is_an_error(tmp_path):
    source = write(tmp_path / "a.json", [image(1, "one.png")], [])

    with pytest.raises(UsageError, match=r"1 skipped: one\.png: it has no annotation"):
        coco_images(source)


def test_a_segmentation_that_is_damaged_is_named_when_it_is_read(tmp_path):
    source = write(
        tmp_path / "a.json", [image(1, "one.png")], [annotation(1, segmentation=[[1, 2, 3, 4, 5, float("nan")]])]
    )

    with pytest.raises(UsageError, match=r"a\.json' does not fit 'one\.png': none .*annotation 100: a polygon has"):
        coco_images(source).read(0)


def test_an_image_that_is_damaged_is_named_when_it_is_read(tmp_path):
    source = write(tmp_path / "a.json", [image(1, "one.png")], [annotation(1)])
    (tmp_path / "one.png").write_bytes(b"torn")

    with pytest.raises(UsageError, match=r"one\.png' cannot be used: it is not an image"):
        coco_images(source).read(0)


def test_an_image_of_another_size_than_its_runs_is_named(tmp_path):
    source = write(
        tmp_path / "a.json",
        [image(1, "one.png")],
        [annotation(1, segmentation={"size": [30, 20], "counts": [0, 600]})],
    )

    with pytest.raises(UsageError, match="its run lengths are for 20 x 30 pixels, the image has 30 x 20"):
        coco_images(source).read(0)
