"""PyG's samplers in our loader and training, our samplers in PyG's loaders."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch_geometric.data import Data
from torch_geometric.loader import LinkLoader, NodeLoader
from torch_geometric.nn import GraphSAGE
from torch_geometric.sampler import BaseSampler, NodeSamplerInput, SamplerOutput

from gnnfast.graph import CSCGraph
from gnnfast.loader import DataLoader, PyGSampler, to_pyg_sampler
from gnnfast.nn import GNN
from gnnfast.sampler import LaborSampler, NeighborSampler, ShadowSampler
from gnnfast.training import TrainingSettings, train
from tests.loader.pyg_graphs import assert_cut_from, edge_pairs, small_data
from tests.training.graphs import easy_dataset

pytestmark = pytest.mark.filterwarnings("ignore:Using 'NeighborSampler' without a 'pyg-lib'")


class TwoHops(BaseSampler):
    """A sampler as a user of PyG writes one: all in-neighbors but a random one, with counts or without."""

    def __init__(self, data: Data, counts: bool = True, reverse: bool = False):
        self.edge_index, self.counts, self.reverse = data.edge_index, counts, reverse

    def sample_from_nodes(self, index: NodeSamplerInput, **kwargs: Any) -> SamplerOutput:
        nodes, row, col, edges = index.node.tolist(), [], [], []
        num_nodes, num_edges, first = [len(nodes)], [], 0
        for _ in range(2):
            last, before = len(nodes), len(edges)
            for dst in range(first, last):
                found = (self.edge_index[1] == nodes[dst]).nonzero().view(-1)
                found = found[torch.randperm(found.numel())][1:] if found.numel() > 1 else found
                for edge in found.tolist():
                    src = int(self.edge_index[0, edge])
                    if src not in nodes:
                        nodes.append(src)
                    row.append(nodes.index(src))
                    col.append(dst)
                    edges.append(edge)
            first = last
            num_nodes.append(len(nodes) - last)
            num_edges.append(len(edges) - before)
        order = slice(None, None, -1) if self.reverse else slice(None)
        output = SamplerOutput(
            torch.tensor(nodes),
            torch.tensor(row[order], dtype=torch.int64),
            torch.tensor(col[order], dtype=torch.int64),
            torch.tensor(edges[order], dtype=torch.int64),
            metadata=(index.input_id, index.time),
        )
        if self.counts:
            output.num_sampled_nodes, output.num_sampled_edges = num_nodes, num_edges
        return output

    def sample_from_edges(self, *args: Any, **kwargs: Any) -> SamplerOutput:
        raise NotImplementedError


@pytest.mark.parametrize(("counts", "reverse"), [(True, False), (False, False), (False, True)])
def test_a_pyg_sampler_makes_blocks_of_the_graphs_edges(counts: bool, reverse: bool):
    data = small_data()
    graph = CSCGraph.from_pyg(data, keep_edge_ids=True)
    sampler = PyGSampler(TwoHops(data, counts, reverse), graph)
    seeds = torch.tensor([9, 4, 9, 0])
    batch = sampler.sample(seeds, 5)
    assert len(batch.blocks) == (2 if counts else 1)
    assert torch.equal(batch.node_ids[batch.seed_rows], seeds)
    assert batch.node_ids[:3].tolist() == [9, 4, 0]
    assert batch.blocks[0].num_src == batch.num_nodes
    for block in batch.blocks:
        assert torch.equal(batch.node_ids[block.edge_index], data.edge_index[:, block.edge_ids])
        assert torch.equal(block.edge_weight, data.edge_weight[block.edge_ids])
        assert torch.equal(block.src_degree, graph.degree[batch.node_ids[: block.num_src]])
        assert torch.equal(block.self_loop_weight, graph.self_loop_weight[batch.node_ids[: block.num_src]])
    if counts:
        assert batch.blocks[1].num_dst == 3
        assert batch.blocks[1].num_src == batch.blocks[0].num_dst
    again, other = sampler.sample(seeds, 5), sampler.sample(seeds, 6)
    assert torch.equal(again.blocks[0].edge_ids, batch.blocks[0].edge_ids)
    assert not torch.equal(other.blocks[0].edge_ids, batch.blocks[0].edge_ids)


def test_drawing_with_a_pyg_sampler_leaves_torchs_generator_as_it_was():
    data = small_data()
    torch.manual_seed(0)
    expected = torch.rand(3)
    torch.manual_seed(0)
    PyGSampler(TwoHops(data)).sample(torch.arange(4), 5)
    assert torch.equal(torch.rand(3), expected)


def test_models_give_on_trimmed_blocks_what_they_give_on_all_edges():
    data = small_data()
    model = GNN(7, 8, 2, 3, conv="sage").eval()
    outputs = []
    for counts in (True, False):
        batch = PyGSampler(TwoHops(data, counts)).sample(torch.arange(6), 3)
        blocks = batch.blocks if counts else batch.blocks * 2
        outputs.append(model(data.x[batch.node_ids], blocks)[:6])
    assert torch.allclose(*outputs, atol=1e-6)


def test_training_learns_on_a_pyg_sampler():
    pytest.importorskip("torch_sparse")
    from torch_geometric.sampler import NeighborSampler as PyGNeighborSampler

    dataset = easy_dataset()
    sampler = PyGSampler(PyGNeighborSampler(dataset.to_pyg(), [5, 5]), dataset.graph)
    loader = DataLoader(dataset, sampler, batch_size=32, num_threads=0)
    batch = next(iter(loader))
    assert torch.equal(batch.x, dataset.features.rows[batch.node_ids])
    assert len(batch.blocks) == 1  # torch_sparse counts no hops
    torch.manual_seed(0)
    model = GNN(dataset.num_features, 16, 2, dataset.num_classes, conv="gcn")
    optimizer = torch.optim.Adam(model.parameters(), lr=0.01)
    result = train(model, loader, optimizer, TrainingSettings(epochs=10, accelerator="cpu"))
    assert result.test["accuracy"] > 0.8


SAMPLERS = {
    "once": lambda graph: NeighborSampler(graph, [3, 2], expand="once", edge_ids=True),
    "layers": lambda graph: NeighborSampler(graph, [3, 2], edge_ids=True),
    "labor": lambda graph: LaborSampler(graph, [3, 2], edge_ids=True),
    "shadow": lambda graph: ShadowSampler(graph, edge_ids=True),
}


@pytest.mark.parametrize("name", SAMPLERS)
def test_pygs_node_loader_takes_our_samplers(name: str):
    data = small_data()
    sampler = to_pyg_sampler(SAMPLERS[name](CSCGraph.from_pyg(data, keep_edge_ids=True)))
    assert isinstance(sampler, BaseSampler)
    seeds = torch.tensor([5, 9, 5, 30, 31])
    model = GraphSAGE(7, 8, num_layers=2, out_channels=3)
    for batch in NodeLoader(data, sampler, input_nodes=seeds, batch_size=3):
        assert_cut_from(batch, data)
        assert torch.equal(batch.n_id[: batch.batch_size], seeds[batch.input_id])
        assert ("num_sampled_nodes" in batch) == (name == "once")
        assert model(batch.x, batch.edge_index)[: batch.batch_size].shape == (batch.batch_size, 3)
        if name == "once":
            assert sum(batch.num_sampled_nodes) == batch.num_nodes
            assert sum(batch.num_sampled_edges) == batch.num_edges
        assert torch.stack([batch.e_id, batch.edge_index[1]]).unique(dim=1).shape[1] == batch.num_edges


def test_layers_that_drew_an_edge_twice_hand_it_over_once():
    data = small_data()
    graph = CSCGraph.from_pyg(data)
    for edge_ids in (True, False):
        sampler = to_pyg_sampler(NeighborSampler(graph, [2, -1], edge_ids=edge_ids))
        batch = next(iter(NodeLoader(data, sampler, input_nodes=torch.arange(5), batch_size=5)))
        pairs = edge_pairs(batch)
        kept = data.edge_index[:, (data.edge_index[1][:, None] == batch.n_id[batch.edge_index[1].unique()]).any(dim=1)]
        expected = sorted(map(tuple, kept.T.tolist()))
        # Without ids parallel edges cannot be told apart.
        assert pairs == (expected if edge_ids else sorted(set(expected)))


def test_pygs_link_loader_takes_our_samplers():
    data = small_data()
    sampler = to_pyg_sampler(SAMPLERS["once"](CSCGraph.from_pyg(data, keep_edge_ids=True)))
    for batch in LinkLoader(data, sampler, data.edge_index, neg_sampling="binary", batch_size=50):
        assert_cut_from(batch, data)
        num_links = batch.input_id.numel()
        assert torch.equal(batch.n_id[batch.edge_label_index[:, :num_links]], data.edge_index[:, batch.input_id])
        assert batch.edge_label.tolist() == [1.0] * num_links + [0.0] * num_links


def test_a_sampler_there_and_back_draws_the_same_blocks():
    data = small_data()
    graph = CSCGraph.from_pyg(data, keep_edge_ids=True)
    ours = NeighborSampler(graph, [-1, -1], expand="once", edge_ids=True)
    seeds = torch.tensor([3, 8, 21])
    there_and_back = PyGSampler(to_pyg_sampler(ours), graph).sample(seeds, 1)
    expected = ours.sample(seeds, 1)
    assert torch.equal(there_and_back.node_ids, expected.node_ids)
    for block, wanted in zip(there_and_back.blocks, expected.blocks, strict=True):
        for name in ("indptr", "indices", "edge_ids", "edge_weight", "src_degree", "self_loop_weight", "src_nodes"):
            assert torch.equal(getattr(block, name), getattr(wanted, name)), name


def test_what_does_not_fit_is_refused():
    data = small_data()
    with pytest.raises(ValueError, match="edge_ids"):
        PyGSampler(TwoHops(data), CSCGraph.from_pyg(data))
    with pytest.raises(TypeError, match="no seed sampler"):
        to_pyg_sampler(data)
    sampler = to_pyg_sampler(NeighborSampler(CSCGraph.from_pyg(data), [2]))
    with pytest.raises(NotImplementedError, match="time"):
        sampler.sample_from_nodes(NodeSamplerInput(None, torch.arange(3), time=torch.arange(3)))
