"""The seam to PyG."""

import pytest
import torch

from gnnfast.graph import Block, MiniBatch
from gnnfast.graph.pyg import minibatch_to_pyg


def redrawn_batch() -> MiniBatch:
    """Two hops to node 0 that drew different neighbors of it, one of them twice; weights tell the edges apart."""
    indptrs = [torch.tensor([0, 2, 3]), torch.tensor([0, 2])]
    indices = [torch.tensor(sources, dtype=torch.int32) for sources in ([2, 1, 0], [1, 1])]
    weights = [torch.tensor([2.0, 1.0, 3.0]), torch.tensor([1.0, 1.5])]
    sizes = [3, 2]
    blocks = [
        Block(indptr, sources, size, edge_weight=weight)
        for indptr, sources, size, weight in zip(indptrs, indices, sizes, weights, strict=True)
    ]
    return MiniBatch(seed_nodes=torch.tensor([7]), node_ids=torch.tensor([7, 5, 9]), blocks=blocks)


def test_an_edge_of_several_hops_comes_once_with_its_first_weight():
    data = minibatch_to_pyg(redrawn_batch())
    assert data.edge_index.tolist() == [[1, 2, 0], [0, 0, 1]]
    assert data.edge_weight.tolist() == [1, 2, 3]


@pytest.mark.gpu
def test_a_batch_on_a_gpu_gives_the_data_of_the_cpu():
    data = minibatch_to_pyg(redrawn_batch().to("cuda"))
    expected = minibatch_to_pyg(redrawn_batch())
    assert data.edge_index.is_cuda
    assert torch.equal(data.edge_index.cpu(), expected.edge_index)
    assert torch.equal(data.edge_weight.cpu(), expected.edge_weight)
