from __future__ import annotations

import pytest
import torch

from gnnfast.graph import Block, CSCGraph, MiniBatch


def two_layers(seed_rows: torch.Tensor | None = None) -> MiniBatch:
    """Seeds 8 and 6; node 8 hears 6, twice, and 4; node 6 hears 4 in one layer and 5 in the other."""
    node_ids = torch.tensor([8, 6, 4, 5])
    last = Block(torch.tensor([0, 3, 4]), torch.tensor([1, 1, 2, 2], dtype=torch.int32), 3, src_nodes=node_ids[:3])
    first = Block(torch.tensor([0, 1, 2, 2]), torch.tensor([1, 3], dtype=torch.int32), 4, src_nodes=node_ids)
    seeds = node_ids[:2] if seed_rows is None else node_ids[seed_rows]
    y = torch.arange(100)[seeds]
    return MiniBatch(seeds, node_ids, [first, last], seed_rows, x=torch.rand(4, 3), y=y)


def test_outputs_are_read_in_the_order_of_the_seeds():
    output = torch.tensor([[80.0], [60.0]])
    assert two_layers().at_seeds(output).tolist() == [[80.0], [60.0]]
    assert two_layers(torch.tensor([1, 0, 1])).at_seeds(output).tolist() == [[60.0], [80.0], [60.0]]


def test_edges_are_counted_over_all_layers():
    assert two_layers().num_edges == 6


def test_a_block_that_serves_several_layers_stays_one_when_moved():
    batch = two_layers(torch.tensor([1, 0, 1]))
    batch.blocks = [batch.blocks[0], batch.blocks[1], batch.blocks[0]]
    moved = batch.to("meta")
    assert moved.blocks[0] is moved.blocks[2]
    assert moved.blocks[0] is not moved.blocks[1]


def test_moving_a_batch_takes_every_tensor_along():
    batch = two_layers(torch.tensor([1, 0, 1]))
    batch.num_step_seeds = 12
    moved = batch.to("meta")
    tensors = {name: value for name, value in vars(moved).items() if isinstance(value, torch.Tensor)}
    assert set(tensors) == {"seed_nodes", "node_ids", "seed_rows", "x", "y"}
    assert all(tensor.is_meta for tensor in tensors.values())
    assert all(block.indices.is_meta for block in moved.blocks)
    assert moved.num_step_seeds == 12


def test_pyg_sees_every_pair_of_all_layers_once():
    data = two_layers().to_pyg()
    assert sorted(data.edge_index.T.tolist()) == [[1, 0], [2, 0], [2, 1], [3, 1]]
    assert data.n_id.tolist() == [8, 6, 4, 5]
    assert data.input_id.tolist() == [8, 6]
    assert data.y.tolist() == [8, 6]
    assert data.batch_size == 2
    assert data.num_nodes == 4


def test_pyg_sees_the_weights_of_the_edges_it_sees():
    batch = two_layers()
    for block in batch.blocks:
        src, dst = batch.node_ids[block.edge_index]
        block.edge_weight = (10 * src + dst).float()
    data = batch.to_pyg()
    src, dst = batch.node_ids[data.edge_index]
    assert torch.equal(data.edge_weight, (10 * src + dst).float())


def test_pyg_sees_parallel_edges_of_layers_that_share_their_draws():
    graph = CSCGraph.from_edge_index(torch.tensor([[1, 1, 0], [0, 0, 1]]), 2, torch.tensor([1.0, 2.0, 3.0]))
    block = graph.to_block()
    prefix = Block(block.indptr[:2], block.indices[:2], 2, edge_weight=block.edge_weight[:2])
    data = MiniBatch(torch.tensor([0]), torch.tensor([0, 1]), [block, prefix]).to_pyg()
    assert data.edge_index.tolist() == [[1, 1, 0], [0, 0, 1]]
    assert data.edge_weight.tolist() == [1.0, 2.0, 3.0]


@pytest.mark.parametrize("with_labels", [True, False])
def test_pyg_sees_a_seed_that_came_twice_once(with_labels: bool):
    batch = two_layers(torch.tensor([1, 0, 1]))
    batch.y = batch.y if with_labels else None
    data = batch.to_pyg()
    assert data.batch_size == 2
    assert data.input_id.tolist() == [8, 6]
    assert data.y is None or data.y.tolist() == [8, 6]


def test_seeds_inside_a_subgraph_come_first_in_pygs_data():
    graph = CSCGraph.from_edge_index(torch.tensor([[0, 1, 2, 3], [1, 2, 3, 0]]))
    batch = MiniBatch(
        torch.tensor([30, 10, 30]),
        torch.tensor([0, 10, 20, 30]),
        [graph.to_block()],
        seed_rows=torch.tensor([3, 1, 3]),
        x=torch.tensor([[0.0], [1.0], [2.0], [3.0]]),
        y=torch.tensor([7, 8, 7]),
    )
    data = batch.to_pyg()
    assert data.n_id.tolist() == [10, 30, 0, 20]
    assert data.input_id.tolist() == [10, 30]
    assert data.batch_size == 2
    assert data.y.tolist() == [8, 7]
    assert data.x.view(-1).tolist() == [1, 3, 0, 2]
    assert sorted(data.n_id[data.edge_index].T.tolist()) == [[0, 10], [10, 20], [20, 30], [30, 0]]
