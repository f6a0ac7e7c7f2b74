"""The builder of ISBI 2012's stack, on made-up slices always and on the real ones where they are at hand."""

import hashlib
import io
import shutil
import urllib.request

import numpy as np
import pytest
from PIL import Image

import kzoo
from kzoo.data import named, sources
from kzoo.data.readers import read
from kzoo.data.readers.masks import labels_of
from kzoo.images import read_image

pytest.importorskip("tensorflow_datasets", reason="tensorflow-datasets is not installed")


@pytest.fixture(scope="module")
def isbi():
    return named.module("isbi2012")


@pytest.fixture
def stack():
    """30 slices, told apart by their grey, with a membrane whose place is the slice's number."""
    image, label = np.zeros((30, 512, 512), np.uint8), np.full((30, 512, 512), 255, np.uint8)
    for number in range(30):
        image[number] = number + 1
        label[number, 10 * number : 10 * number + 3] = 0
    return {"image": image, "label": label}


def write_stacks(folder, stack, names=None):
    folder.mkdir(parents=True, exist_ok=True)
    for kind, name in (names or {"image": "train-volume.tif", "label": "train-labels.tif"}).items():
        first, *others = [Image.fromarray(page) for page in stack[kind]]
        first.save(folder / name, save_all=True, append_images=others)
    return folder


def write_slices(folder, stack):
    for kind, pages in stack.items():
        (folder / kind).mkdir(parents=True)
        for number, page in enumerate(pages):
            Image.fromarray(page).save(folder / kind / f"{number}.png")
    return folder


@pytest.mark.parametrize("layout", ["stacks", "stacks of the repository, zipped", "slices"])
def test_slices_keep_their_order_and_membranes_are_class_0(stack, monkeypatch, tmp_path, layout):
    if layout == "slices":
        source = write_slices(tmp_path / "slices", stack)
    elif layout == "stacks":
        source = write_stacks(tmp_path / "stacks", stack)
    else:
        write_stacks(tmp_path / "all" / "isbi-2012-238a567" / "data", stack)
        source = shutil.make_archive(str(tmp_path / "archive"), "zip", tmp_path / "all")
    monkeypatch.setenv("KZOO_ISBI2012_DIR", str(source))
    for split, numbers in (("train", range(24)), ("test", range(24, 30))):
        found = read("isbi2012", split, data_dir=tmp_path / "kept")
        assert (found.class_names, found.faults) == (["membrane", "cell"], [])
        assert [sample.name for sample in found.samples] == [f"{split}/slice {number}" for number in numbers]
        for number, sample in zip(numbers, found.samples, strict=True):
            assert (read_image(io.BytesIO(sample.pixels)) == number + 1).all()
            np.testing.assert_array_equal(labels_of(found, sample), stack["label"][number] // 255)


def test_it_is_loaded_for_segmentation_with_weights_of_borders(stack, monkeypatch, tmp_path):
    monkeypatch.setenv("KZOO_ISBI2012_DIR", str(write_stacks(tmp_path / "stacks", stack)))
    options = {"image_size": 64, "fit": "crop", "weights": True, "data_dir": tmp_path / "kept"}
    data = kzoo.data.load("isbi2012", "test", batch_size=3, **options)
    images, targets = next(iter(data))
    assert (images.shape, data.num_classes) == ((3, 64, 64, 3), 2)
    assert set(np.unique(targets["masks"])) <= {0, 1}
    assert targets["weights"].shape == (3, 64, 64)


def test_what_is_not_the_stack_is_refused(stack, isbi, tmp_path):
    def refused(folder):
        with pytest.raises(ValueError, match=str(folder)) as error:
            isbi.of_folder(folder)
        assert "\n" not in str(error.value)
        return str(error.value)

    short = {kind: pages[:29] for kind, pages in stack.items()}
    assert "expected 30 slices of 512 x 512 bytes, found 29 slices." in refused(write_stacks(tmp_path / "short", short))
    small = stack | {"label": stack["label"][:, :500]}
    assert "one of shape (500, 512) and uint8" in refused(write_stacks(tmp_path / "small", small))
    grey = stack | {"label": stack["label"] // 2}
    assert "expected labels 0 and 255 only" in refused(write_stacks(tmp_path / "grey", grey))
    cut = write_stacks(tmp_path / "cut", stack) / "train-labels.tif"
    cut.write_bytes(cut.read_bytes()[:1000])
    assert f"{cut}: not a readable image" in refused(cut.parent)
    slices = write_slices(tmp_path / "slices", stack)
    (slices / "label" / "7.png").rename(slices / "label" / "seven.png")
    assert "different names" in refused(slices)
    for path in [*slices.glob("*/*.png")]:
        path.unlink()
    assert "found 0 slices" in refused(slices)
    assert "expected train-volume.tif and train-labels.tif, or image/ and label/ in it" in refused(tmp_path)


def test_git_names_a_file_by_its_content(tmp_path):
    (tmp_path / "empty").touch()  # the name of an empty file is known to every repository
    assert sources.git_blob_id(tmp_path / "empty") == "e69de29bb2d1d6434b8b29ae775ad8c2e48c5391"
    (tmp_path / "greeting").write_text("hello\n")
    assert sources.git_blob_id(tmp_path / "greeting") == "ce013625030ba8dba906f756967f9e9ca394464a"


def test_a_download_is_taken_only_if_git_names_it_so(stack, isbi, monkeypatch, tmp_path):
    folder, asked = write_stacks(tmp_path / "web", stack), []

    class Downloads:
        def download(self, url):
            asked.append(url)
            return folder / url.rpartition("/")[2]

    class Answer:
        close = staticmethod(lambda: None)

    monkeypatch.setattr(urllib.request, "urlopen", lambda request, timeout: Answer)
    with pytest.raises(ValueError, match=r"train-volume.tif is not train-volume.tif as of commit 238a567. Delete it"):
        isbi.downloaded(Downloads())
    for kind, name in isbi.STACKS.items():
        content = (folder / name).read_bytes()
        blob = hashlib.sha1(b"blob " + str(len(content)).encode() + b"\0" + content).hexdigest()
        monkeypatch.setitem(isbi.BLOBS, kind, blob)
    found = isbi.downloaded(Downloads())
    assert asked[-1].endswith("/238a567ae843f7c03e5cc5d3f233cd3f93f0da17/data/train-labels.tif")
    for kind, pages in stack.items():
        np.testing.assert_array_equal(found[kind], pages)


def test_without_a_network_the_remedy_is_told(monkeypatch, tmp_path):
    def refuse(*args, **kwargs):
        raise OSError("no network")

    monkeypatch.delenv("KZOO_ISBI2012_DIR", raising=False)
    monkeypatch.setattr(urllib.request, "urlopen", refuse)
    with pytest.raises(ValueError, match=r"could not be downloaded.*set KZOO_ISBI2012_DIR to a folder") as error:
        read("isbi2012", data_dir=tmp_path)
    assert "\n" not in str(error.value)


def test_the_real_slices_are_built_as_they_are(shared_data, isbi, monkeypatch, tmp_path):
    folder = shared_data("isbi2012")
    monkeypatch.setenv("KZOO_ISBI2012_DIR", str(folder))
    built = read("isbi2012", data_dir=tmp_path / "kept")
    assert len(built.samples) == 30
    for number, sample in enumerate(built.samples):
        image, label = (np.asarray(Image.open(folder / kind / f"{number}.png")) for kind in ("image", "label"))
        np.testing.assert_array_equal(np.asarray(Image.open(io.BytesIO(sample.pixels))), image)
        np.testing.assert_array_equal(labels_of(built, sample), label == 255)
    slices = isbi.of_folder(folder)
    stacked = isbi.of_folder(write_stacks(tmp_path / "stacks", slices))
    for kind in slices:
        np.testing.assert_array_equal(stacked[kind], slices[kind])
