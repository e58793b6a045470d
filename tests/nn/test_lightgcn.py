import pytest
import torch
import torch_geometric.nn

from gnnfast.graph import CSCGraph, FeatureStore
from gnnfast.nn import LGConv, LightGCN
from gnnfast.sampler import NeighborSampler
from gnnfast.training import LayerwiseInference


def undirected(num_nodes: int = 30, num_edges: int = 80, weighted: bool = False) -> CSCGraph:
    generator = torch.Generator().manual_seed(4)
    src = torch.randint(0, num_nodes - 3, (num_edges,), generator=generator)
    dst = (src + torch.randint(1, num_nodes - 3, (num_edges,), generator=generator)) % (num_nodes - 3)
    weight = torch.rand(num_edges, generator=generator) + 0.1 if weighted else None
    return CSCGraph.from_edge_index(torch.stack([src, dst]), num_nodes, weight).to_undirected()


@pytest.mark.parametrize("weighted", [False, True])
def test_a_layer_is_that_of_pyg(weighted: bool):
    graph = undirected(weighted=weighted)
    x = torch.randn(graph.num_nodes, 5)
    expected = torch_geometric.nn.LGConv()(x, graph.to_edge_index(), graph.edge_weight)
    assert torch.allclose(LGConv()(x, graph.to_block()), expected, atol=1e-6)


def test_the_model_is_that_of_pyg():
    graph = undirected()
    theirs = torch_geometric.nn.LightGCN(graph.num_nodes, 6, num_layers=3)
    expected = theirs.get_embedding(graph.to_edge_index())
    assert torch.allclose(LightGCN(6, 3)(theirs.embedding.weight, graph.to_block()), expected, atol=1e-6)


def test_mini_batches_of_all_neighbors_and_layerwise_inference_equal_the_full_graph():
    graph = undirected()
    x = torch.randn(graph.num_nodes, 6)
    model = LightGCN(6, 2)
    full = model(x, graph.to_block())
    seeds = torch.tensor([3, 29, 7])
    batch = NeighborSampler(graph, [-1, -1]).sample(seeds, 0)
    assert torch.allclose(model(x[batch.node_ids], batch.blocks), full[seeds], atol=1e-6)
    nodes = torch.tensor([5, 0, 5, 28])
    inference = LayerwiseInference(graph, FeatureStore(x), nodes, 2, chunk_bytes=4096)
    assert torch.allclose(inference(model), full[nodes], atol=1e-6)  # type: ignore[arg-type]


def test_a_sampled_layer_is_unbiased():
    graph = undirected(12, 60)
    x = torch.randn(12, 3)
    sampler, seeds = NeighborSampler(graph, [2]), torch.arange(12)
    conv = LGConv()
    outputs = []
    for seed in range(1200):
        batch = sampler.sample(seeds, seed)
        outputs.append(conv(x[batch.node_ids], batch.blocks[0]))
    stacked = torch.stack(outputs)
    error = (stacked.mean(0) - conv(x, graph.to_block())).abs()
    assert bool((error < 5 * stacked.std(0) / 1200**0.5 + 1e-5).all())


def test_what_it_cannot_do_is_refused():
    with pytest.raises(ValueError, match="keeps the width of its inputs, 8, but 3"):
        LightGCN(8, 2, out_channels=3)
    with pytest.raises(ValueError, match="at least 1"):
        LightGCN(8, 0)
    loops = CSCGraph.from_edge_index(torch.tensor([[0, 1], [0, 0]]), 2)
    with pytest.raises(ValueError, match="has self-loops"):
        LGConv()(torch.ones(2, 1), loops.to_block())
    batch = NeighborSampler(undirected(), [2, 2, 2]).sample(torch.tensor([0]), 0)
    with pytest.raises(ValueError, match="2 layers but the mini-batch has 3 blocks"):
        LightGCN(1, 2)(torch.ones(batch.num_nodes, 1), batch.blocks)
