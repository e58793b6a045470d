"""A layer over sampled neighbors is right on average."""

import pytest
import torch
from torch import Tensor

from gnnfast.graph import CSCGraph
from gnnfast.nn import GCNConv, GINConv, SAGEConv
from gnnfast.sampler import NeighborSampler

NUM_HUBS = 6


@pytest.fixture(scope="module")
def graph() -> CSCGraph:
    """Six hubs with 20 to 120 in-edges, weighted, some parallel, some from themselves; degrees vary among sources."""
    generator = torch.Generator().manual_seed(0)
    degrees = 20 * torch.arange(1, NUM_HUBS + 1)
    to_hubs = torch.stack(
        [
            torch.randint(0, 200, (int(degrees.sum()),), generator=generator),
            torch.arange(NUM_HUBS).repeat_interleave(degrees),
        ]
    )
    skewed = (200 * torch.rand(600, generator=generator).square()).long()
    others = torch.stack([torch.randint(0, 200, (600,), generator=generator), skewed.clamp(min=NUM_HUBS)])
    edge_index = torch.cat([to_hubs, torch.zeros(2, 1, dtype=torch.int64), others], dim=1)
    weight = torch.rand(edge_index.shape[1], generator=generator, dtype=torch.float64) + 0.1
    return CSCGraph.from_edge_index(edge_index, 200, weight)


def deviations(conv: torch.nn.Module, graph: CSCGraph, num_draws: int) -> Tensor:
    """(mean of sampled outputs - full output) / standard error, by hub."""
    generator = torch.Generator().manual_seed(1)
    x = torch.randn(200, 3, dtype=torch.float64, generator=generator) + 1
    conv = conv.double()
    sampler, hubs = NeighborSampler(graph, [5]), torch.arange(NUM_HUBS)
    with torch.no_grad():
        full = conv(x, graph.to_block())[hubs, 0]
        batches = (sampler.sample(hubs, seed) for seed in range(num_draws))
        draws = torch.stack([conv(x[batch.node_ids], batch.blocks[0])[:, 0] for batch in batches])
    return (draws.mean(0) - full) / (draws.std(0) / num_draws**0.5)


@pytest.mark.parametrize(
    "make_conv",
    [
        lambda: GCNConv(3, 1),
        lambda: GINConv(torch.nn.Linear(3, 1)),
        lambda: SAGEConv(3, 1),
        lambda: SAGEConv(3, 1, aggr="sum"),
    ],
    ids=["gcn", "gin", "sage-mean", "sage-sum"],
)
def test_sampled_layer_is_unbiased(make_conv, graph: CSCGraph):
    torch.manual_seed(0)
    assert deviations(make_conv(), graph, num_draws=1500).abs().max() < 3


def test_gcn_normalized_by_the_batch_is_biased_in_training_alone(graph: CSCGraph):
    torch.manual_seed(0)
    conv = GCNConv(3, 1, normalization="batch")
    assert deviations(conv, graph, num_draws=300).abs().min() > 5
    assert deviations(conv.eval(), graph, num_draws=1500).abs().max() < 3
