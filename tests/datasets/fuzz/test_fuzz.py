"""Every format, with everything that may be wrong with it."""

from pathlib import Path

import numpy as np
import pytest

from tests.datasets.fuzz.formats import FORMATS
from tests.datasets.fuzz.fuzzing import check, fuzz, fuzz_long

# PyG itself warns while it is imported and while it processes.
pytestmark = pytest.mark.filterwarnings("ignore")


@pytest.mark.parametrize("name", FORMATS)
def test_what_is_right_is_read(name: str, tmp_path: Path):
    form = FORMATS[name]
    form.write(tmp_path, form.arrays)
    form.load(tmp_path)


@pytest.mark.parametrize("name", FORMATS)
def test_what_is_wrong_is_one_clear_line(name: str):
    fuzz(FORMATS[name])


@pytest.mark.slow
@pytest.mark.parametrize("name", FORMATS)
def test_nothing_is_found_in_a_while(name: str):
    fuzz_long(FORMATS[name])


@pytest.mark.parametrize("value", [np.nan, 1e300])
@pytest.mark.parametrize("name", ["ogb_mapped", "ogb_compressed"])
def test_features_of_nodes_outside_the_splits_are_finite_too(name: str, value: float, tmp_path: Path):
    form = FORMATS[name]
    *test, outside = form.arrays["test"]
    features = form.arrays["features"].astype(np.float64)
    features[outside, 1] = value
    form.write(tmp_path, form.arrays | {"features": features, "test": np.array(test)})
    with pytest.raises(ValueError, match=f"feature 1 of node {outside} is .* must be finite"):
        form.load(tmp_path)


def test_the_check_finds_what_is_wrong(tmp_path: Path):
    """A reader that lets everything through must not pass."""
    from dataclasses import replace

    def careless(folder: Path) -> None:
        raise KeyError("x")

    with pytest.raises(KeyError):
        check(replace(FORMATS["npy"], load=careless), tmp_path)
