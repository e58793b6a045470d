from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest

from gnnfast.runtime import cached_file
from gnnfast.runtime.cached_file import Input, cached_arrays

INPUTS: dict[str, Input] = {"edges": np.arange(5), "size": 3, "weight": None, "coverage": 50.0, "name": "a"}


class Counter:
    """Computes, and remembers how often it was asked to."""

    def __init__(self) -> None:
        self.calls = 0

    def __call__(self) -> dict[str, np.ndarray]:
        self.calls += 1
        return {"counts": np.arange(1000), "total": np.array(7)}


def calls(inputs: dict[str, Input], folder: Path, name: str = "counts") -> int:
    """How often asking for these inputs computes: 0 or 1."""
    compute = Counter()
    arrays = cached_arrays(name, inputs, compute, folder)
    assert arrays.keys() == {"counts", "total"}
    np.testing.assert_array_equal(arrays["counts"], np.arange(1000))
    assert int(arrays["total"]) == 7
    return compute.calls


def test_equal_inputs_are_computed_once(tmp_path: Path):
    assert calls(INPUTS, tmp_path) == 1
    assert calls(dict(reversed(INPUTS.items())), tmp_path) == 0
    assert [path.suffix for path in tmp_path.iterdir()] == [".npz"]


@pytest.mark.parametrize(
    "change",
    [
        {"edges": np.array([0, 1, 2, 4, 3])},
        {"edges": np.arange(5, dtype=np.int32)},
        {"edges": np.arange(5).reshape(5, 1)},
        {"edges": None},
        {"size": 4},
        {"size": "3"},
        {"size": 3.0},
        {"weight": np.ones(2)},
        {"coverage": 50.000001},
        {"name": "b"},
        {"more": 0},
    ],
    ids=str,
)
def test_any_change_of_an_input_is_computed_anew(change: dict[str, Input], tmp_path: Path):
    assert calls(INPUTS, tmp_path) == 1
    assert calls({**INPUTS, **change}, tmp_path) == 1
    assert calls(INPUTS, tmp_path) == 0


def test_results_of_different_names_are_kept_apart(tmp_path: Path):
    assert calls(INPUTS, tmp_path, "counts") == 1
    assert calls(INPUTS, tmp_path, "parts") == 1


@pytest.mark.parametrize("damage", ["empty", "cut", "flipped", "pickled", "words"])
def test_a_damaged_file_is_computed_anew_and_replaced(damage: str, tmp_path: Path):
    assert calls(INPUTS, tmp_path) == 1
    (path,) = tmp_path.iterdir()
    content = bytearray(path.read_bytes())
    if damage == "pickled":
        with path.open("wb") as file:
            np.savez(file, counts=np.array([{}], dtype=object))
    else:
        content[len(content) // 2] ^= 0xFF
        damaged = {"empty": b"", "cut": content[: len(content) // 2], "flipped": content, "words": b"no archive"}
        path.write_bytes(bytes(damaged[damage]))
    assert calls(INPUTS, tmp_path) == 1
    assert calls(INPUTS, tmp_path) == 0


def test_no_flipped_bit_of_a_file_goes_unnoticed(tmp_path: Path):
    def compute() -> dict[str, np.ndarray]:
        return {"counts": np.arange(3), "total": np.array(7)}

    cached_arrays("counts", INPUTS, compute, tmp_path)
    (path,) = tmp_path.iterdir()
    content = path.read_bytes()
    assert len(content) < 1000
    computed: list[int] = []
    for place in range(8 * len(content)):
        damaged = bytearray(content)
        damaged[place // 8] ^= 1 << place % 8
        # Read alone: computing and writing anew would take seconds.
        path.write_bytes(damaged)
        arrays = cached_file._read(path, path.stem.removeprefix("counts-"))
        computed += [place] if arrays is None else []
    assert len(computed) == 8 * len(content)


def test_numpy_reads_what_is_kept(tmp_path: Path):
    assert calls(INPUTS, tmp_path) == 1
    (path,) = tmp_path.iterdir()
    with np.load(path) as stored:
        assert set(stored.files) == {"counts", "total"}
        np.testing.assert_array_equal(stored["counts"], np.arange(1000))


def test_a_file_of_other_content_than_its_name_says_is_not_taken(tmp_path: Path):
    assert calls(INPUTS, tmp_path) == 1
    (path,) = tmp_path.iterdir()
    other = {**INPUTS, "size": 9}
    assert calls(other, tmp_path) == 1
    (other_path,) = set(tmp_path.iterdir()) - {path}
    os.replace(path, other_path)
    assert calls(other, tmp_path) == 1


def test_where_nothing_can_be_written_nothing_is_kept(tmp_path: Path):
    (tmp_path / "file").write_text("in the way")
    assert calls(INPUTS, tmp_path / "file" / "folder") == 1
    assert calls(INPUTS, tmp_path / "file" / "folder") == 1


def test_the_default_folder_is_the_users_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    compute = Counter()
    for _ in range(2):
        cached_arrays("counts", INPUTS, compute)
    assert compute.calls == 1
    assert [path.parent.name for path in tmp_path.rglob("*.npz")] == ["gnnfast"]
    monkeypatch.setenv("XDG_CACHE_HOME", "relative")
    cached_arrays("counts", INPUTS, compute)
    assert compute.calls == 2


def test_damage_and_folders_that_cannot_be_written_to_are_warned_of(tmp_path: Path, caplog: pytest.LogCaptureFixture):
    assert calls(INPUTS, tmp_path) == 1
    assert not caplog.records
    (path,) = tmp_path.iterdir()
    path.write_bytes(b"damaged")
    assert calls(INPUTS, tmp_path) == 1
    assert f"{path} cannot be used and is made anew" in caplog.text
    caplog.clear()
    for _ in range(2):
        assert calls(INPUTS, path / "folder") == 1
    assert caplog.text.count("is not kept for later runs") == 1


def test_a_failed_computation_leaves_nothing(tmp_path: Path):
    def fail() -> dict[str, np.ndarray]:
        raise RuntimeError("out of luck")

    with pytest.raises(RuntimeError, match="out of luck"):
        cached_arrays("counts", INPUTS, fail, tmp_path)
    assert not list(tmp_path.iterdir())
