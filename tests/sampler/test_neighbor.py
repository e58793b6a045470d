from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from unittest import mock

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from gnnfast.graph import Block, CSCGraph, MiniBatch
from gnnfast.sampler import NeighborSampler, Sampler
from tests.chi_square import equal_cells_p_value, inclusion_p_value, independence_p_value, subset_counts
from tests.minibatches import digest, tree
from tests.strategies import csc_graphs

NUM_DRAWS = 100_000
all_fanouts = st.lists(st.sampled_from([-1, 1, 2, 3, 5]), min_size=1, max_size=3)
seeds = st.integers(0, 2**64 - 1)


def some_seeds(data: st.DataObject, graph: CSCGraph, unique: bool = False) -> Tensor:
    nodes = st.lists(st.integers(0, graph.num_nodes - 1), max_size=8, unique=unique)
    return torch.tensor(data.draw(nodes), dtype=torch.int64)


def ring(num_nodes: int, degree: int) -> CSCGraph:
    """Every node hears the `degree` nodes after it."""
    indices = (torch.arange(num_nodes)[:, None] + torch.arange(1, degree + 1)) % num_nodes
    return CSCGraph(degree * torch.arange(num_nodes + 1), indices.view(-1).int())


def drawn_positions(batch: MiniBatch, degree: int, layer: int = -1) -> np.ndarray:
    """Positions in their columns, `(num_dst, fanout)`, that a layer's destinations drew from a `ring`."""
    block = batch.blocks[layer]
    first_edge = degree * block.dst_nodes
    return (block.edge_ids.view(block.num_dst, -1) - first_edge[:, None]).numpy()


def weights(block: Block) -> Tensor:
    """What makes up for the edges left out, also where none are."""
    return torch.ones(block.num_edges) if block.inclusion_weight is None else block.inclusion_weight


@given(
    graph=csc_graphs(),
    fanouts=all_fanouts,
    replace=st.booleans(),
    expand=st.sampled_from(["layer", "once"]),
    seed=seeds,
    data=st.data(),
)
def test_every_drawn_edge_exists(
    graph: CSCGraph, fanouts: list[int], replace: bool, expand: str, seed: int, data: st.DataObject
):
    seed_nodes = some_seeds(data, graph)
    batch = NeighborSampler(graph, fanouts, replace, expand, edge_ids=True).sample(seed_nodes, seed)
    src, dst = graph.to_edge_index()
    # edge_ids are the caller's where the graph has them, else positions in `indices`.
    position_of = torch.arange(graph.num_edges) if graph.edge_ids is None else graph.edge_ids.argsort()
    assert len(batch.blocks) == len(fanouts)
    for block in batch.blocks:
        local_src, local_dst = block.edge_index
        positions = position_of[block.edge_ids]
        assert torch.equal(src[positions], block.src_nodes[local_src])
        assert torch.equal(dst[positions], block.dst_nodes[local_dst])
        assert (block.edge_weight is None) == (graph.edge_weight is None)
        assert graph.edge_weight is None or torch.equal(block.edge_weight, graph.edge_weight[positions])
        assert replace or block.edge_ids.unique().numel() == block.num_edges


@given(
    graph=csc_graphs(),
    fanouts=all_fanouts,
    replace=st.booleans(),
    expand=st.sampled_from(["layer", "once"]),
    data=st.data(),
)
def test_each_layer_feeds_the_next(
    graph: CSCGraph, fanouts: list[int], replace: bool, expand: str, data: st.DataObject
):
    seed_nodes = some_seeds(data, graph)
    batch = NeighborSampler(graph, fanouts, replace, expand).sample(seed_nodes, 3)
    distinct = list(dict.fromkeys(seed_nodes.tolist()))
    assert batch.node_ids.unique().numel() == batch.num_nodes
    assert torch.equal(batch.blocks[0].src_nodes, batch.node_ids)
    assert batch.blocks[-1].dst_nodes.tolist() == distinct
    for block, after in zip(batch.blocks, batch.blocks[1:], strict=False):
        assert torch.equal(block.dst_nodes, after.src_nodes)
    for block in batch.blocks:
        assert torch.equal(block.src_degree, graph.degree[block.src_nodes])
        assert (block.self_loop_weight is None) == (graph.self_loop_weight is None)
        assert graph.self_loop_weight is None or torch.equal(
            block.self_loop_weight, graph.self_loop_weight[block.src_nodes]
        )


@given(graph=csc_graphs(), fanouts=all_fanouts, replace=st.booleans(), data=st.data())
def test_a_node_gets_as_many_edges_as_its_fanout_says(
    graph: CSCGraph, fanouts: list[int], replace: bool, data: st.DataObject
):
    batch = NeighborSampler(graph, fanouts, replace).sample(some_seeds(data, graph), 3)
    for block, fanout in zip(batch.blocks, reversed(fanouts), strict=True):
        degree = graph.in_degree[block.dst_nodes]
        count = block.indptr[1:] - block.indptr[:-1]
        if fanout == -1:
            assert torch.equal(count, degree)
        else:
            assert torch.equal(count, torch.where(degree > 0, fanout, 0) if replace else degree.clamp(max=fanout))
        assert torch.equal(weights(block), torch.repeat_interleave((degree / count).float(), count))


@given(graph=csc_graphs(), data=st.data())
def test_outputs_at_seeds_follow_the_order_asked_for(graph: CSCGraph, data: st.DataObject):
    seed_nodes = some_seeds(data, graph)
    batch = NeighborSampler(graph, [2]).sample(seed_nodes, 3)
    block = batch.blocks[-1]
    assert torch.equal(batch.at_seeds(block.dst_nodes), seed_nodes)
    assert (batch.seed_rows is None) == (seed_nodes.unique().numel() == seed_nodes.numel())
    assert torch.equal(batch.seed_nodes, seed_nodes)


@pytest.mark.parametrize("expand", ["layer", "once"])
@given(
    graph=csc_graphs(max_nodes=8, max_edges=60),
    fanout=st.integers(1, 4),
    num_layers=st.integers(1, 3),
    replace=st.booleans(),
    data=st.data(),
)
def test_a_seeds_tree_is_the_same_alone_and_in_any_batch(
    expand: str, graph: CSCGraph, fanout: int, num_layers: int, replace: bool, data: st.DataObject
):
    sampler = NeighborSampler(graph, [fanout] * num_layers, replace, expand)
    batch = sampler.sample(some_seeds(data, graph, unique=True), 11)
    for row, seed_node in enumerate(batch.seed_nodes):
        assert tree(batch, row) == tree(sampler.sample(seed_node[None], 11), 0)


@given(graph=csc_graphs(max_nodes=8, max_edges=60), fanouts=all_fanouts, data=st.data())
def test_layers_with_fanouts_of_their_own_keep_a_seeds_tree(graph: CSCGraph, fanouts: list[int], data: st.DataObject):
    sampler = NeighborSampler(graph, fanouts)
    batch = sampler.sample(some_seeds(data, graph, unique=True), 11)
    for row, seed_node in enumerate(batch.seed_nodes):
        assert tree(batch, row) == tree(sampler.sample(seed_node[None], 11), 0)


@given(graph=csc_graphs(), fanouts=all_fanouts, replace=st.booleans(), data=st.data())
def test_blocks_expanded_once_are_prefixes_of_the_widest(
    graph: CSCGraph, fanouts: list[int], replace: bool, data: st.DataObject
):
    batch = NeighborSampler(graph, fanouts, replace, "once", edge_ids=True).sample(some_seeds(data, graph), 3)
    widest = batch.blocks[0]
    for block in batch.blocks:
        assert torch.equal(block.indptr, widest.indptr[: block.num_dst + 1])
        assert torch.equal(block.indices, widest.indices[: block.num_edges])
        assert torch.equal(block.edge_ids, widest.edge_ids[: block.num_edges])
        assert torch.equal(weights(block), weights(widest)[: block.num_edges])


@given(graph=csc_graphs(), num_layers=st.integers(1, 3), data=st.data())
def test_all_neighbors_are_the_same_however_expanded(graph: CSCGraph, num_layers: int, data: st.DataObject):
    seed_nodes = some_seeds(data, graph)
    by_layer, once = (
        NeighborSampler(graph, [-1] * num_layers, expand=expand, edge_ids=True).sample(seed_nodes, 3)
        for expand in ("layer", "once")
    )
    assert digest([by_layer]) == digest([once])
    assert all(block.inclusion_weight is None for block in once.blocks)


@given(
    graph=csc_graphs(),
    fanouts=all_fanouts,
    replace=st.booleans(),
    expand=st.sampled_from(["layer", "once"]),
    data=st.data(),
)
def test_dense_and_hashed_node_maps_give_the_same_mini_batch(
    graph: CSCGraph, fanouts: list[int], replace: bool, expand: str, data: st.DataObject
):
    def sample_two() -> str:
        sampler = NeighborSampler(graph, fanouts, replace, expand, edge_ids=True)
        return digest([sampler.sample(first, 1), sampler.sample(second, 2)])

    first, second = some_seeds(data, graph), some_seeds(data, graph)
    dense = sample_two()
    with mock.patch("gnnfast.sampler.node_map.DENSE_LIMIT", -1):
        assert sample_two() == dense


def test_a_hashed_node_map_grows_with_the_mini_batch():
    graph = ring(3000, 12)
    small, large = torch.tensor([5]), torch.arange(0, 3000, 3)
    dense = NeighborSampler(graph, [10, 10])
    with mock.patch("gnnfast.sampler.node_map.DENSE_LIMIT", -1):
        hashed = NeighborSampler(graph, [10, 10])
    for seed_nodes in (small, large, small):
        assert digest([hashed.sample(seed_nodes, 4)]) == digest([dense.sample(seed_nodes, 4)])


def test_a_mini_batch_is_a_function_of_its_seed():
    sampler = NeighborSampler(ring(2000, 40), [10, 5])
    seed_nodes = torch.arange(100)
    digests = [digest([sampler.sample(seed_nodes, seed)]) for seed in (1, 2, 1)]
    assert digests[0] == digests[2] != digests[1]


def test_threads_sampling_at_once_give_the_mini_batches_of_one():
    sampler = NeighborSampler(ring(2000, 40), [10, 35], edge_ids=True)

    def sample(seed: int) -> str:
        return digest([sampler.sample(torch.arange(seed, seed + 200), seed)])

    alone = [sample(seed) for seed in range(40)]
    with ThreadPoolExecutor(8) as threads:
        assert list(threads.map(sample, range(40))) == alone


@pytest.mark.parametrize("expand", ["layer", "once"])
def test_no_seeds_give_empty_layers(expand: str):
    batch = NeighborSampler(ring(10, 3), [2, 2], expand=expand).sample(torch.empty(0, dtype=torch.int64), 0)
    assert batch.num_nodes == batch.num_edges == batch.num_seeds == 0
    assert [block.num_dst for block in batch.blocks] == [0, 0]


@pytest.mark.parametrize("replace", [False, True])
@pytest.mark.parametrize("expand", ["layer", "once"])
def test_isolated_seeds_hear_nobody(replace: bool, expand: str):
    graph = CSCGraph.from_edge_index(torch.tensor([[0], [1]]), 4)
    batch = NeighborSampler(graph, [2, -1], replace, expand).sample(torch.tensor([3, 0]), 0)
    assert batch.node_ids.tolist() == [3, 0]
    assert batch.num_edges == 0


@pytest.mark.parametrize("fanouts", [[], [0], [5, -2]])
def test_fanouts_that_draw_nothing_are_refused(fanouts: list[int]):
    with pytest.raises(ValueError, match="fanouts must be positive, or -1"):
        NeighborSampler(ring(5, 2), fanouts)


def test_another_way_to_expand_is_refused():
    with pytest.raises(ValueError, match="expand must be 'layer' or 'once', got 'twice'"):
        NeighborSampler(ring(5, 2), [2], expand="twice")  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("seed_nodes", "message"),
    [
        (torch.tensor([0, 5]), "holds node 5, but the sampler's graph numbers nodes 0 to 4"),
        (torch.tensor([-1]), "holds node -1"),
        (torch.tensor([1], dtype=torch.int32), "must be int64"),
        (torch.tensor([[1]]), "one dimension"),
    ],
)
def test_seeds_that_are_no_nodes_are_refused(seed_nodes: Tensor, message: str):
    sampler = NeighborSampler(ring(5, 2), [2])
    with pytest.raises(ValueError, match=message):
        sampler.sample(seed_nodes, 0)
    assert sampler.sample(torch.tensor([0]), 0).num_nodes == 3


def test_a_sampler_keeps_the_protocol():
    sampler = NeighborSampler(ring(5, 2), [2, 2, 2])
    assert isinstance(sampler, Sampler)
    assert sampler.num_layers == 3


@pytest.mark.parametrize("expand", ["layer", "once"])
@pytest.mark.parametrize("layer", [-1, -2])
def test_every_subset_is_equally_likely_in_every_layer(expand: str, layer: int):
    sampler = NeighborSampler(ring(NUM_DRAWS, 5), [2, 2], expand=expand, edge_ids=True)
    positions = drawn_positions(sampler.sample(torch.arange(NUM_DRAWS), 3), 5, layer)
    assert positions.shape == (NUM_DRAWS, 2)
    assert equal_cells_p_value(subset_counts(positions, 5)) > 1e-4


def test_every_subset_is_equally_likely_from_seed_to_seed():
    sampler = NeighborSampler(ring(6, 5), [2], edge_ids=True)
    node = torch.tensor([4])
    positions = np.concatenate([drawn_positions(sampler.sample(node, seed), 5) for seed in range(10_000)])
    assert equal_cells_p_value(subset_counts(positions, 5)) > 1e-4


@pytest.mark.parametrize(("degree", "fanout"), [(10, 3), (1_000, 40)])
def test_every_neighbor_is_drawn_equally_often(degree: int, fanout: int):
    sampler = NeighborSampler(ring(NUM_DRAWS // 10, degree), [fanout], edge_ids=True)
    counts = np.zeros(degree, np.int64)
    for seed in range(10):
        positions = drawn_positions(sampler.sample(torch.arange(NUM_DRAWS // 10), seed), degree)
        counts += np.bincount(positions.ravel(), minlength=degree)
    assert inclusion_p_value(counts, fanout) > 1e-4


def test_draws_of_two_layers_are_independent():
    sampler = NeighborSampler(ring(NUM_DRAWS, 16), [1, 1], edge_ids=True)
    batch = sampler.sample(torch.arange(NUM_DRAWS), 3)
    first, last = (drawn_positions(batch, 16, layer).ravel() for layer in (0, 1))
    assert independence_p_value(first, last, 16) > 1e-4


@pytest.mark.parametrize("replace", [False, True])
@pytest.mark.parametrize("expand", ["layer", "once"])
def test_inclusion_weights_keep_weighted_sums_unbiased(replace: bool, expand: str):
    # Every node hears the values 0, 1, 4, ... 64 in the order of its column.
    degree, fanout = 9, 4
    sampler = NeighborSampler(ring(NUM_DRAWS, degree), [fanout], replace, expand, edge_ids=True)
    batch = sampler.sample(torch.arange(NUM_DRAWS), 3)
    values = drawn_positions(batch, degree).astype(float) ** 2
    sums = (values * weights(batch.blocks[0]).view(NUM_DRAWS, fanout).numpy()).sum(axis=1)
    standard_error = sums.std() / np.sqrt(NUM_DRAWS)
    assert abs(sums.mean() - sum(i**2 for i in range(degree))) < 4 * standard_error
