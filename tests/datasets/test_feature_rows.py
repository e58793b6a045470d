import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as npst

from gnnfast.datasets.feature_rows import check_finite, densify, normalize_rows

matrices = npst.arrays(np.float32, st.tuples(st.integers(1, 9), st.integers(1, 9)), elements=st.integers(0, 5))


@given(matrix=matrices, normalize=st.booleans(), feature_dtype=st.sampled_from(["float32", "float16", "bfloat16"]))
def test_dense_rows_are_the_sparse_ones(matrix: np.ndarray, normalize: bool, feature_dtype: str):
    from scipy.sparse import csr_matrix

    sparse = csr_matrix(matrix)
    dense = densify("graph", sparse.data, sparse.indices, sparse.indptr, sparse.shape, feature_dtype, normalize)
    expected = torch.from_numpy(matrix)
    if normalize:
        expected = expected / expected.sum(1, keepdim=True).clamp(min=1)
    assert torch.equal(dense, expected.to(getattr(torch, feature_dtype)))


@pytest.mark.filterwarnings("ignore")
@given(matrix=matrices)
def test_normalized_rows_are_those_of_pyg(matrix: np.ndarray):
    from torch_geometric.data import Data
    from torch_geometric.transforms import NormalizeFeatures

    expected = NormalizeFeatures()(Data(x=torch.from_numpy(matrix.copy()))).x
    torch.testing.assert_close(normalize_rows(torch.from_numpy(matrix.copy())), expected)


@pytest.mark.parametrize("bad", [float("nan"), float("inf"), float("-inf")])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16])
def test_the_node_of_a_feature_that_is_not_finite_is_named(bad: float, dtype: torch.dtype):
    rows = torch.zeros(70_000, 3, dtype=dtype)
    rows[66_666, 2] = bad
    with pytest.raises(ValueError, match=f"graph: feature 2 of node 66666 is {bad}"):
        check_finite("graph", rows)


def test_an_unknown_type_lists_the_known_ones():
    with pytest.raises(ValueError, match="float32, float16, bfloat16"):
        densify("graph", np.empty(0), np.empty(0, np.int32), np.zeros(2, np.int32), (1, 1), "int8")
