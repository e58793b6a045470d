import pytest
import torch

from gnnfast.graph import CSCGraph
from gnnfast.sampler import FullGraphSampler, LinkNeighborSampler
from tests.training.link_graphs import easy_recommendations


def test_every_mini_batch_has_the_whole_graph_as_one_block():
    graph = easy_recommendations().graph
    sampler = FullGraphSampler(graph, 3, negatives="per_source", dst_range=(40, 69))
    edges = torch.tensor([[0, 1, 0], [40, 41, 42]])
    batches = [sampler.sample_edges(edges, seed) for seed in (0, 0, 1)]
    for batch in batches:
        (block,) = batch.blocks
        assert block is batches[0].blocks[0]
        assert torch.equal(block.indptr, graph.indptr)
        assert torch.equal(block.indices, graph.indices)
        assert batch.node_ids.tolist() == list(range(graph.num_nodes))
        assert batch.edge_rows is not None
        assert batch.seed_edges is not None
        # Every row is a node: the rows of the pairs are their ends.
        assert torch.equal(batch.edge_rows, batch.seed_edges)
        assert torch.equal(batch.seed_edges[:, :3], edges)
        negatives = batch.seed_edges[:, 3:].view(2, 3, 3)
        assert torch.equal(negatives[0], edges[0][:, None].expand(3, 3))
        assert int(negatives[1].min()) >= 40
    assert torch.equal(batches[0].seed_edges, batches[1].seed_edges)  # type: ignore[arg-type]
    assert not torch.equal(batches[0].seed_edges, batches[2].seed_edges)  # type: ignore[arg-type]


def test_seed_nodes_may_come_in_any_order_and_twice():
    graph = easy_recommendations().graph
    batch = FullGraphSampler(graph).sample(torch.tensor([5, 2, 5]), 0)
    assert batch.at_seeds(torch.arange(graph.num_nodes)).tolist() == [5, 2, 5]
    assert not hasattr(FullGraphSampler(graph), "num_layers")


def test_it_serves_models_of_any_depth_and_link_samplers_those_of_their_own():
    graph = CSCGraph.from_edge_index(torch.tensor([[0, 1], [1, 2]]), 3)
    assert not hasattr(FullGraphSampler(graph), "num_layers")
    assert LinkNeighborSampler(graph, [2, 3]).num_layers == 2


@pytest.mark.parametrize("node", [-1, 10**6])
def test_seeds_outside_the_graph_are_refused(node: int):
    with pytest.raises(ValueError, match=f"node {node}"):
        FullGraphSampler(easy_recommendations().graph).sample(torch.tensor([1, node]), 0)
