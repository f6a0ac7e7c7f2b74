"""Fixtures for all tests: real data where it is at hand, and a quiet TensorFlow."""

import gc
import os
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
gc.set_threshold(50_000, 10, 10)  # tracing makes millions of objects that stay: looking at them is a fifth of the time

SHARED = Path(os.environ.get("KZOO_TEST_DATA", Path(__file__).parents[2] / "shared" / "data"))


@pytest.fixture(scope="session")
def shared_data() -> Callable[[str], Path]:
    """Returns a function: name of a real data set -> its folder; it skips the test where the data is missing."""

    def find(name: str) -> Path:
        if not (SHARED / name).exists():
            pytest.skip(f"real data {name!r} is not at {SHARED} (set KZOO_TEST_DATA)")
        return SHARED / name

    return find


@pytest.fixture
def unfilled() -> Iterator[None]:
    """The test builds its models without filling their weights: millions of numbers that are only counted."""
    import keras

    with keras.StatelessScope(initialize_variables=False):
        yield
    keras.utils.clear_session()  # or Keras would fill them at the end of its next scope
