"""A checkpoint is there as a whole or not at all, and reading one executes nothing."""

from __future__ import annotations

import hashlib
import io
import pickle
import resource
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from gnnfast.training import RunFolder
from gnnfast.training.checkpoint import read_checkpoint, write_checkpoint

STATE = {
    "model": {"weight": torch.arange(6.0).view(2, 3), "half": torch.ones(3, dtype=torch.bfloat16)},
    "counters": {"steps": 7, "score": float("-inf")},
    "rows": [{"epoch": 0, "val_loss": None}],
    "random": torch.get_rng_state(),
}

executed: list[str] = []


def execute(what: str) -> dict[str, Any]:
    """What a stranger's checkpoint would have called."""
    executed.append(what)
    return {}


class Malicious:
    """Calls a function when it is unpickled."""

    def __init__(self, function: Any, *arguments: Any):
        self.call = function, arguments

    def __reduce__(self) -> Any:
        return self.call


def with_checksum(content: bytes) -> bytes:
    """A file whose checksum is right: whoever makes up a checkpoint can make that up too."""
    return content + b"gnnfast\n" + hashlib.sha256(content).digest()


def saved(value: Any, **options: Any) -> bytes:
    file = io.BytesIO()
    torch.save(value, file, **options)
    return file.getvalue()


@contextmanager
def largest_file(num_bytes: int) -> Iterator[None]:
    """Meanwhile no file of this process can grow beyond that."""
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (num_bytes, limits[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    path = tmp_path_factory.mktemp("checkpoint") / "whole.pt"
    write_checkpoint(path, STATE)
    return path.read_bytes()


def test_a_checkpoint_is_read_as_it_was_written(tmp_path: Path):
    write_checkpoint(tmp_path / "step-7.pt", STATE)

    assert [path.name for path in tmp_path.iterdir()] == ["step-7.pt"]
    for state in (
        read_checkpoint(tmp_path / "step-7.pt"),
        torch.load(tmp_path / "step-7.pt", weights_only=True),
    ):
        assert torch.equal(state["model"]["weight"], STATE["model"]["weight"])
        assert state["model"]["half"].dtype == torch.bfloat16
        assert state["counters"] == STATE["counters"]
        assert state["rows"] == STATE["rows"]
        assert torch.equal(state["random"], STATE["random"])


@given(share=st.floats(0, 1, exclude_max=True))
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_a_truncated_file_is_noticed(share: float, whole: bytes, tmp_path: Path):
    path = tmp_path / "step-1.pt"
    path.write_bytes(whole[: int(share * len(whole))])
    with pytest.raises(ValueError, match=r"step-1\.pt is not a whole checkpoint: "):
        read_checkpoint(path)


@given(data=st.data(), flip=st.integers(1, 255), num_flips=st.integers(1, 5))
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_flipped_bytes_are_noticed(data: st.DataObject, flip: int, num_flips: int, whole: bytes, tmp_path: Path):
    damaged = bytearray(whole)
    for place in data.draw(st.sets(st.integers(0, len(whole) - 1), min_size=num_flips, max_size=num_flips)):
        damaged[place] ^= flip
    path = tmp_path / "step-1.pt"
    path.write_bytes(bytes(damaged))
    with pytest.raises(ValueError, match=r"step-1\.pt is not a whole checkpoint: "):
        read_checkpoint(path)


@given(content=st.binary(max_size=2000), has_checksum=st.booleans())
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_what_is_no_checkpoint_is_refused(content: bytes, has_checksum: bool, tmp_path: Path):
    path = tmp_path / "step-1.pt"
    path.write_bytes(with_checksum(content) if has_checksum else content)
    with pytest.raises(ValueError, match=r"step-1\.pt is not a"):
        read_checkpoint(path)


@given(data=st.data(), flip=st.integers(1, 255))
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_damage_before_the_checksum_was_made_ends_in_an_error_or_in_plain_values(
    data: st.DataObject, flip: int, whole: bytes, tmp_path: Path
):
    damaged = bytearray(whole[:-40])
    damaged[data.draw(st.integers(0, len(damaged) - 1))] ^= flip
    path = tmp_path / "step-1.pt"
    path.write_bytes(with_checksum(bytes(damaged)))
    with suppress(ValueError):
        assert "model" in read_checkpoint(path)


@pytest.mark.parametrize("old_format", [False, True])
@pytest.mark.parametrize(
    "value",
    [
        {"model": Malicious(execute, "call")},
        {
            "model": {},
            "rows": [Malicious(eval, "__import__('tests.training.test_checkpoint').executed.append('eval')")],
        },
        Malicious(execute, "call"),
        {"model": Malicious(torch.load, "other.pt")},
        {"model": Malicious(open, "written", "w")},
    ],
    ids=["function", "eval", "root", "torch", "open"],
)
def test_a_checkpoint_of_a_strangers_executes_nothing(
    value: Any, old_format: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "checkpoints").mkdir()
    path = tmp_path / "checkpoints" / "step-3.pt"
    path.write_bytes(with_checksum(saved(value, _use_new_zipfile_serialization=not old_format)))

    with pytest.raises(ValueError, match=r"step-3\.pt is not a whole checkpoint"):
        read_checkpoint(path)
    with pytest.raises(ValueError, match=r"no checkpoint in .* is whole"):
        RunFolder(tmp_path).load_newest()
    path.write_bytes(with_checksum(pickle.dumps(value)))
    with pytest.raises(ValueError, match=r"step-3\.pt is not a whole checkpoint"):
        read_checkpoint(path)
    assert executed == []
    assert not (tmp_path / "written").exists()


@pytest.mark.parametrize("value", [[1, 2], {"weights": {}}, torch.ones(2)])
def test_plain_values_that_are_no_checkpoint_are_refused(value: Any, tmp_path: Path):
    path = tmp_path / "step-1.pt"
    path.write_bytes(with_checksum(saved(value)))
    with pytest.raises(ValueError, match="is not a checkpoint of gnnfast: it holds no model"):
        read_checkpoint(path)


@pytest.mark.parametrize("limit", [0, 1000, 100_000])
def test_where_a_file_cannot_be_written_the_old_one_survives(limit: int, tmp_path: Path):
    folder = RunFolder(tmp_path)
    folder.save_step(1, STATE, keep=1)
    folder.save_checkpoint("best", STATE)
    large = STATE | {"model": {"weight": torch.zeros(100_000)}}

    with largest_file(limit):
        for write in (lambda: folder.save_step(2, large, keep=1), lambda: folder.save_checkpoint("best", large)):
            with pytest.raises(OSError, match=r"cannot write .*\.pt: File too large; what was in its folder before is"):
                write()

    assert sorted(path.name for path in (tmp_path / "checkpoints").iterdir()) == ["best.pt", "step-1.pt"]
    assert folder.load_checkpoint("best")["counters"] == STATE["counters"]
    assert folder.load_checkpoint("last")["counters"] == STATE["counters"]


def test_what_a_killed_process_left_half_written_is_passed_over(tmp_path: Path):
    folder = RunFolder(tmp_path)
    folder.save_step(1, STATE, keep=2)
    (tmp_path / "checkpoints" / "step-2.pt.tmp").write_bytes(b"PK\x03\x04")

    assert folder.steps() == [1]
    assert folder.load_checkpoint("last")["counters"] == STATE["counters"]
    folder.save_step(2, STATE, keep=2)
    assert folder.steps() == [1, 2]
    assert not (tmp_path / "checkpoints" / "step-2.pt.tmp").exists()


def test_a_writer_that_fails_leaves_nothing(tmp_path: Path):
    with pytest.raises(AttributeError, match="pickle"):
        write_checkpoint(tmp_path / "step-1.pt", {"model": lambda: None})
    assert list(tmp_path.iterdir()) == []
