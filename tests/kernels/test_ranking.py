import numpy as np
import torch
from hypothesis import given
from hypothesis import strategies as st

from gnnfast.kernels.cpu import ranking as cpu
from gnnfast.kernels.reference import ranking as reference


@given(
    seed=st.integers(0, 2**16), num_rows=st.integers(1, 5), num_candidates=st.integers(1, 9), offset=st.integers(0, 3)
)
def test_equals_the_reference(seed: int, num_rows: int, num_candidates: int, offset: int):
    generator = np.random.default_rng(seed)
    num_nodes = offset + num_candidates + 2
    # Few values: ties are common.
    scores = torch.from_numpy(generator.integers(0, 4, (num_rows, num_candidates)).astype(np.float32))
    sources = torch.from_numpy(generator.integers(0, num_nodes, num_rows))
    known_counts = generator.integers(0, 3, num_nodes)
    known_indptr = torch.from_numpy(np.concatenate([[0], known_counts.cumsum()]))
    known = torch.from_numpy(generator.integers(0, num_nodes, int(known_indptr[-1])).astype(np.int32))
    counts = generator.integers(1, num_candidates + 1, num_rows)
    own = [generator.choice(num_candidates, count, replace=False) + offset for count in counts]
    pair_indptr = torch.from_numpy(np.concatenate([[0], counts.cumsum()]))
    pair_dst = torch.from_numpy(np.concatenate(own))

    rank, fellows = torch.empty(2, pair_dst.numel(), dtype=torch.float64)
    tensors = (sources, known_indptr, known, pair_indptr, pair_dst, rank, fellows)
    arrays = [tensor.numpy() for tensor in tensors]
    cpu.rank_destinations(0, num_rows, scores.clone().numpy(), arrays[0], offset, *arrays[1:])

    expected = reference.rank_destinations(scores, sources, offset, known_indptr, known, pair_indptr, pair_dst)
    assert rank.tolist() == expected[0].tolist()
    assert fellows.tolist() == expected[1].tolist()


def test_by_hand():
    scores = torch.tensor([[5.0, 4.0, 3.0, 3.0, 9.0]])
    # Candidates are nodes 1 to 5; node 5 (score 9) is known, and node 1 (5.0) is the source itself.
    expected = reference.rank_destinations(
        scores,
        torch.tensor([1]),
        1,
        torch.tensor([0, 0, 1, 1, 1, 1, 1]),
        torch.tensor([5]),
        torch.tensor([0, 2]),
        torch.tensor([4, 2]),
    )
    # Of 4, 3, 3: the pair to node 4 shares the ranks 2 and 3.
    assert expected[0].tolist() == [2.5, 1.0]
    assert expected[1].tolist() == [1.0, 0.0]
