"""A script's `--output`: its folder is made, and what cannot be written is said before the training."""

import argparse

import pytest

from kzoo.training import output_name


def test_the_folder_is_made_and_left_empty(tmp_path):
    name = str(tmp_path / "runs" / "first")
    assert output_name(name) == name
    assert list((tmp_path / "runs").iterdir()) == []


@pytest.mark.parametrize("ending", [".keras", ".weights.h5", ".tflite"])
def test_an_ending_is_not_doubled(tmp_path, ending):
    assert output_name(f"{tmp_path}/first.of.two{ending}") == f"{tmp_path}/first.of.two"


@pytest.mark.parametrize("name", ["", "runs/", ".keras"])
def test_what_names_no_file_is_refused(tmp_path, monkeypatch, name):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(argparse.ArgumentTypeError, match="no name of a file"):
        output_name(name)


def test_a_folder_that_cannot_be_is_named(tmp_path):
    (tmp_path / "file").write_text("here already")
    with pytest.raises(argparse.ArgumentTypeError, match=r"nothing can be written to .*file \("):
        output_name(str(tmp_path / "file" / "first"))
    assert (tmp_path / "file").read_text() == "here already"
