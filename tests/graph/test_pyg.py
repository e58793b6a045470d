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


def test_weights_of_the_sampler_have_pygs_names():
    batch = redrawn_batch()
    data = minibatch_to_pyg(batch)
    assert "edge_norm" not in data
    assert "node_norm" not in data
    batch.blocks[0].inclusion_weight = torch.tensor([4.0, 5.0, 6.0])
    batch.seed_weight = torch.tensor([0.5])
    data = minibatch_to_pyg(batch)
    assert data.edge_index.tolist() == [[1, 2, 0], [0, 0, 1]]
    assert data.edge_norm.tolist() == [5, 4, 6]
    assert data.node_norm.tolist() == [0.5]
    # Of layers where only some weigh their edges, the others weigh them with 1.
    batch.blocks[0].inclusion_weight, batch.blocks[1].inclusion_weight = None, torch.tensor([7.0, 8.0])
    assert minibatch_to_pyg(batch).edge_norm.tolist() == [1, 1, 1]


def test_weights_of_seeds_follow_them_to_the_front():
    block = Block(torch.tensor([0, 1, 1, 2]), torch.tensor([1, 0]), 3, inclusion_weight=torch.tensor([2.0, 3.0]))
    rows = torch.tensor([2, 1, 2])
    nodes, weight = torch.tensor([7, 5, 9]), torch.tensor([0.2, 0.1, 0.2])
    data = minibatch_to_pyg(MiniBatch(nodes[rows], nodes, [block], seed_rows=rows, seed_weight=weight))
    assert data.input_id.tolist() == [5, 9]
    assert data.node_norm.tolist() == pytest.approx([0.1, 0.2])
    assert data.n_id[data.edge_index].T.tolist() == [[5, 7], [7, 9]]
    assert data.edge_norm.tolist() == [2, 3]


@pytest.mark.gpu
def test_a_batch_on_a_gpu_gives_the_data_of_the_cpu():
    data = minibatch_to_pyg(redrawn_batch().to("cuda"))
    expected = minibatch_to_pyg(redrawn_batch())
    assert data.edge_index.is_cuda
    assert torch.equal(data.edge_index.cpu(), expected.edge_index)
    assert torch.equal(data.edge_weight.cpu(), expected.edge_weight)
