"""The builder of BCCD, on two made-up images always and on a real copy where there is one."""

import shutil
import urllib.request

import numpy as np
import pytest

from kzoo.data import named
from kzoo.data.readers import read

pytest.importorskip("tensorflow_datasets", reason="tensorflow-datasets is not installed")


@pytest.fixture(scope="module")
def bccd():
    return named.module("bccd")


@pytest.fixture
def dummy(voc, voc_split, bccd, monkeypatch, tmp_path):
    """Three images in the archive's layout, one with a box of no area; the builder is told to expect just these."""
    voc("BloodImage_1", [("RBC", (1, 1, 20, 30)), ("WBC", (30, 30, 70, 60)), ("RBC", (5, 5, 5, 5))])
    voc("BloodImage_2", [("Platelets", (4, 4, 12, 12))])
    root = voc("BloodImage_3", [("WBC", (4, 4, 12, 12))])
    for split, number in (("train", 1), ("val", 2), ("test", 3)):
        voc_split(split, [f"BloodImage_{number}"])
    archive = tmp_path / "BCCD_Dataset" / "BCCD"
    archive.parent.mkdir()
    root.rename(archive)
    monkeypatch.setattr(bccd, "CONTENT", bccd.content_digest(archive))
    monkeypatch.setenv("KZOO_BCCD_DIR", str(archive.parent))
    return archive.parent


def test_boxes_survive_and_the_one_without_area_is_reported(dummy, tmp_path):
    annotations = read("bccd", "train", data_dir=tmp_path / "kept")
    assert annotations.class_names == ["Platelets", "RBC", "WBC"]
    (sample,) = annotations.samples
    np.testing.assert_allclose(sample.boxes, [[0, 0, 20, 30], [29, 29, 70, 60]], atol=1e-4)
    assert sample.labels.tolist() == [1, 2]
    assert (dummy / "BCCD" / "JPEGImages" / "BloodImage_1.jpg").read_bytes() == sample.pixels.tobytes()
    (fault,) = annotations.faults
    assert (fault.kind, fault.action) == ("zero area", "box left out")
    assert "Annotations/BloodImage_1.xml, line 6" in fault.detail


def test_a_zip_archive_will_do(dummy, monkeypatch, tmp_path):
    archive = shutil.make_archive(str(tmp_path / "archive"), "zip", dummy.parent, dummy.name)
    monkeypatch.setenv("KZOO_BCCD_DIR", archive)
    assert len(read("bccd", "test", data_dir=tmp_path / "kept").samples) == 1


@pytest.mark.parametrize("damage", ["changed annotation", "missing image", "moved to another split"])
def test_any_other_content_is_refused(dummy, tmp_path, damage):
    root = dummy / "BCCD"
    if damage == "changed annotation":
        path = root / "Annotations" / "BloodImage_2.xml"
        path.write_text(path.read_text().replace("<xmax>12", "<xmax>13"))
    elif damage == "missing image":
        (root / "JPEGImages" / "BloodImage_3.jpg").unlink()
    else:
        (root / "ImageSets" / "Main" / "train.txt").write_text("BloodImage_1\nBloodImage_3\n")
    with pytest.raises(ValueError, match="is not the BCCD data set of commit d272fb1"):
        read("bccd", "train", data_dir=tmp_path / "kept")


def test_a_folder_that_is_something_else_is_named(monkeypatch, tmp_path):
    monkeypatch.setenv("KZOO_BCCD_DIR", str(tmp_path))
    with pytest.raises(ValueError, match=f"{tmp_path} holds no BCCD data set: expected JPEGImages/"):
        read("bccd", "train", data_dir=tmp_path / "kept")


def test_without_a_network_the_remedy_is_told(monkeypatch, tmp_path):
    def refuse(*args, **kwargs):
        raise OSError("no network")

    monkeypatch.delenv("KZOO_BCCD_DIR", raising=False)
    monkeypatch.setattr(urllib.request, "urlopen", refuse)
    with pytest.raises(ValueError, match=r"could not be downloaded.*set KZOO_BCCD_DIR") as error:
        read("bccd", "train", data_dir=tmp_path)
    assert "\n" not in str(error.value)


def test_the_real_data_set_is_built_like_its_folder_reads(shared_data, monkeypatch, tmp_path):
    folder = shared_data("bccd")
    monkeypatch.setenv("KZOO_BCCD_DIR", str(folder))
    faults = []
    for split, count in (("train", 205), ("val", 87), ("test", 72)):
        built, straight = read("bccd", split, data_dir=tmp_path), read(folder, split)
        assert built.class_names == straight.class_names
        assert len(built.samples) == count
        expected = {sample.name: sample for sample in straight.samples}
        for sample in built.samples:
            other = expected.pop(sample.name.removeprefix(f"{split}/"))
            np.testing.assert_allclose(sample.boxes, other.boxes, atol=1e-4)
            np.testing.assert_array_equal(sample.labels, other.labels)
        assert not expected
        faults += [fault.kind for fault in built.faults]
    assert faults == ["zero area"] * 2
