"""Files that claim what they do not hold, or would run code; and two processes that want the same ones."""

from __future__ import annotations

import io
import logging
import os
import pickle
import subprocess
import sys
import zipfile
from contextlib import suppress
from pathlib import Path

import numpy as np
import pytest
import scipy.sparse
import torch

from gnnfast.datasets import raw_files
from gnnfast.datasets.raw_files import extract_zip, read_npz
from gnnfast.datasets.unpickling import load_arrays, only_tensors
from gnnfast.graph import CSCGraph, FeatureStore
from gnnfast.runtime import reading
from gnnfast.runtime.npy import load_npy, map_npy
from tests.datasets.fuzz.formats import FORMATS
from tests.datasets.fuzz.fuzzing import check_right

# PyG itself warns while it is imported and while it processes.
pytestmark = pytest.mark.filterwarnings("ignore")


class Attack:
    def __init__(self, path: Path):
        self.path = path

    def __reduce__(self) -> tuple:
        return os.system, (f"touch {self.path}",)


def as_npy(attack: Attack) -> bytes:
    buffer = io.BytesIO()
    np.save(buffer, np.array([attack], dtype=object), allow_pickle=True)
    return buffer.getvalue()


def as_torch(attack: Attack) -> bytes:
    buffer = io.BytesIO()
    torch.save(attack, buffer)
    return buffer.getvalue()


def poison(path: Path, attack: Attack) -> None:
    """Puts the attack wherever a reader might unpickle it."""
    if path.suffix in (".npz", ".zip"):
        with zipfile.ZipFile(path) as archive:
            members = {name: archive.read(name) for name in archive.namelist()}
        with zipfile.ZipFile(path, "w") as archive:
            for name, content in members.items():
                inner = as_npy(attack) if name.endswith(".npy") else content
                if name.endswith(".npz"):
                    (path.parent / "inner.npz").write_bytes(content)
                    poison(path.parent / "inner.npz", attack)
                    inner = (path.parent / "inner.npz").read_bytes()
                archive.writestr(name, inner)
    elif path.suffix == ".npy":
        path.write_bytes(as_npy(attack))
    elif path.suffix == ".pt":
        path.write_bytes(as_torch(attack))
    else:
        path.write_bytes(pickle.dumps(attack, protocol=2))


@pytest.mark.parametrize("name", FORMATS)
def test_no_format_runs_what_a_file_holds(name: str, tmp_path: Path, tmp_path_factory: pytest.TempPathFactory):
    form = FORMATS[name]
    form.write(tmp_path, form.arrays)
    attack = Attack(tmp_path_factory.mktemp("target") / "was_here")
    for path in sorted(path for path in tmp_path.rglob("*") if path.is_file() and path.parent.name != "split"):
        before = path.read_bytes()
        poison(path, attack)
        with suppress(*form.refusals):
            form.load(tmp_path)
        assert not attack.path.exists(), f"{path} ran code"
        for extra in tmp_path.rglob("inner.npz"):
            extra.unlink()
        path.write_bytes(before)


def test_the_attack_would_work_elsewhere(tmp_path: Path):
    pickle.loads(pickle.dumps(Attack(tmp_path / "was_here")))
    assert (tmp_path / "was_here").exists()


def test_pickles_are_refused_in_the_block_alone(tmp_path: Path):
    attack = pickle.dumps(Attack(tmp_path / "was_here"))
    with pytest.raises(pickle.UnpicklingError, match="has no business"), only_tensors():
        pickle.loads(attack)
    with pytest.raises(pickle.UnpicklingError, match="has no business"), only_tensors():
        pickle.Unpickler(io.BytesIO(attack)).load()
    assert not (tmp_path / "was_here").exists()
    assert pickle.loads(pickle.dumps(Path("a"))) == Path("a")
    assert "TORCH_FORCE_WEIGHTS_ONLY_LOAD" not in os.environ


def test_what_a_pickle_says_of_a_type_does_not_reach_numpy(tmp_path: Path):
    """With these flags NumPy takes numbers for pointers to objects, and ends the process."""
    content = pickle.dumps(np.arange(3, dtype=np.int32), protocol=2)
    wrong = content.replace(b"J\xff\xff\xff\xffJ\xff\xff\xff\xffK\x00t", b"J\xff\xff\xff\xffJ\xff\xff\xff\xffK\x3ft")
    assert wrong != content
    (tmp_path / "a").write_bytes(wrong)
    assert load_arrays(tmp_path / "a").tolist() == [0, 1, 2]


def test_a_big_endian_array_is_read_as_such(tmp_path: Path):
    (tmp_path / "a").write_bytes(pickle.dumps([np.arange(3, dtype=">i4"), np.arange(2, dtype=">i4")], protocol=2))
    assert [array.tolist() for array in load_arrays(tmp_path / "a")] == [[0, 1, 2], [0, 1]]


def test_a_pickled_matrix_with_columns_out_of_range_is_refused(tmp_path: Path):
    matrix = scipy.sparse.csr_matrix(np.eye(3, dtype=np.float32))
    matrix.indices[1] = 1 << 28
    (tmp_path / "a").write_bytes(pickle.dumps(matrix, protocol=2))
    with pytest.raises(ValueError, match=r"a is not a whole file of this data set: .*indices"):
        load_arrays(tmp_path / "a")


def test_a_memo_of_billions_of_entries_is_not_made(tmp_path: Path):
    (tmp_path / "a").write_bytes(b"\x80\x02]r\xff\xff\xff\x3f.")
    assert load_arrays(tmp_path / "a") == []


def npy_bytes(header: str) -> bytes:
    text = header.ljust(117).encode() + b"\n"
    return b"\x93NUMPY\x01\x00" + len(text).to_bytes(2, "little") + text


@pytest.mark.parametrize(
    "header",
    [
        "{'descr': '<f4', 'fortran_order': False, 'shape': (1000000000000000, 4), }",
        "{'descr': '<f4', 'fortran_order': False, 'shape': (-1, 4), }",
        "{'descr': '|S0', 'fortran_order': False, 'shape': (1000000000000000,), }",
        "{'descr': '<f4', 'fortran_order': False, 'shape': (4000000000, 4000000000, 4000000000), }",
        "{'descr': '|O', 'fortran_order': False, 'shape': (1,), }",
        "(" * 100,
    ],
)
def test_a_header_is_believed_only_as_far_as_the_file_is_long(header: str, tmp_path: Path):
    path = tmp_path / "x.npy"
    path.write_bytes(npy_bytes(header) + b"\x00" * 64)
    for read in (load_npy, map_npy, FeatureStore.from_npy):
        with pytest.raises(ValueError, match=r"x\.npy is not a whole \.npy file") as error:
            read(path)
        assert "\n" not in str(error.value)


def test_an_entry_that_unpacks_to_more_than_there_is_memory_is_refused(tmp_path: Path, monkeypatch):
    np.savez_compressed(tmp_path / "x.npz", data=np.zeros(1_000_000))
    monkeypatch.setattr(reading, "available_memory_bytes", lambda: 1_000_000)
    with pytest.raises(ValueError, match=r"array data would take 0\.008 GB of memory, but 0\.0 GB are free"):
        read_npz(tmp_path / "x.npz", ["data"], "x.npz")
    monkeypatch.setattr("shutil.disk_usage", lambda path: type("Usage", (), {"free": 1_000_000})())
    with pytest.raises(ValueError, match=r"which has 0\.0 GB free"):
        extract_zip(tmp_path / "x.npz", tmp_path / "out")


def test_features_without_rows_can_be_mapped(tmp_path: Path):
    np.save(tmp_path / "x.npy", np.empty((0, 4)))
    assert FeatureStore.from_npy(tmp_path / "x.npy").num_rows == 0


@pytest.mark.parametrize("dtype", [torch.uint16, torch.uint32, torch.uint64, torch.int8])
def test_edges_of_any_whole_numbers_are_taken(dtype: torch.dtype):
    graph = CSCGraph.from_edge_index(torch.tensor([[0, 1], [1, 2]]).to(dtype), 3)
    assert graph.to_edge_index().tolist() == [[0, 1], [1, 2]]


@pytest.mark.parametrize("name", ["npy", "csv", "ogb_csv"])
def test_duplicate_and_unsorted_edges_a_hub_and_no_edges_are_right(name: str, tmp_path: Path):
    form = FORMATS[name]
    hub = np.stack([np.arange(1_000_000) % 24, np.zeros(1_000_000, np.int64)]) if name == "npy" else None
    for number, edges in enumerate([np.array([[3, 3, 0, 3], [1, 1, 2, 0]]), hub, np.empty((2, 0), np.int64)]):
        if edges is None or (edges.size == 0 and name != "npy"):
            continue
        folder = tmp_path / str(number)
        folder.mkdir()
        form.write(folder, {key: value for key, value in form.arrays.items() if key != "weights"} | {"edges": edges})
        dataset = form.load(folder)
        check_right(dataset)
        assert dataset.graph.num_edges in (edges.shape[1], 6)


TWO_AT_ONCE = """
import logging, sys
from pathlib import Path
logging.disable()
sys.path.insert(0, {tree!r})
from tests.datasets.fuzz.formats import FORMATS
dataset = FORMATS[{name!r}].load(Path({folder!r}))
print(getattr(dataset, "num_nodes", None))
"""


@pytest.mark.parametrize(
    "name",
    ["ogb_zip", *(pytest.param(name, marks=pytest.mark.slow) for name in ("ogb_compressed", "pyg_raw", "partition"))],
)
def test_several_processes_may_prepare_the_same_data_set_at_once(name: str, tmp_path: Path):
    FORMATS[name].write(tmp_path, FORMATS[name].arrays)
    code = TWO_AT_ONCE.format(tree=str(Path(__file__).parents[2]), name=name, folder=str(tmp_path))
    processes = [
        subprocess.Popen([sys.executable, "-W", "ignore", "-c", code], stdout=subprocess.PIPE, text=True)
        for _ in range(2)
    ]
    answers = [process.communicate()[0] for process in processes]
    assert [process.returncode for process in processes] == [0, 0]
    assert answers[0] == answers[1]
    left = [path.name for path in tmp_path.rglob("*") if path.suffix in (".part", ".tmp", ".lock")]
    assert left == []


def test_a_folder_is_locked_against_others_alone(tmp_path: Path):
    with raw_files.one_at_a_time(tmp_path):
        code = f"import fcntl, os; fcntl.flock(os.open({str(tmp_path)!r}, os.O_RDONLY), fcntl.LOCK_EX | fcntl.LOCK_NB)"
        assert subprocess.run([sys.executable, "-c", code], capture_output=True).returncode != 0
    assert subprocess.run([sys.executable, "-c", code], capture_output=True).returncode == 0
    assert list(tmp_path.iterdir()) == []


def test_an_unpacked_array_that_is_cut_short_is_unpacked_anew(tmp_path: Path, caplog: pytest.LogCaptureFixture):
    from gnnfast.datasets.ogb import map_npz_array

    np.savez_compressed(tmp_path / "data.npz", x=np.arange(100))
    assert map_npz_array(tmp_path / "data.npz", "x").tolist() == list(range(100))
    (unpacked,) = tmp_path.glob("data-x-*.npy")
    unpacked.write_bytes(unpacked.read_bytes()[:50])
    with caplog.at_level(logging.WARNING):
        assert map_npz_array(tmp_path / "data.npz", "x").tolist() == list(range(100))
    assert "unpacking it anew" in caplog.text
    np.savez_compressed(tmp_path / "data.npz", x=np.arange(7))
    assert map_npz_array(tmp_path / "data.npz", "x").tolist() == list(range(7))
