from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import chi2
from torch import Tensor

from gnnfast.graph import CSCGraph, Dataset, FeatureStore
from gnnfast.loader import DataLoader
from gnnfast.loader.seed_weights import WeightedDraws, class_balancing_weights
from gnnfast.loader.steps import SeedSteps
from gnnfast.sampler import LinkNeighborSampler, NeighborSampler, RandomNodeSampler


def unbalanced(num_nodes: int = 1200) -> Dataset:
    """Classes of 1000, 180 and 20 nodes, all of them training nodes."""
    labels = torch.tensor([0] * 1000 + [1] * 180 + [2] * 20)
    graph = CSCGraph.from_edge_index(torch.stack([torch.arange(num_nodes), torch.arange(num_nodes).roll(1)]))
    ids = torch.arange(num_nodes)
    none = ids[:0]
    return Dataset("unbalanced", graph, FeatureStore(torch.ones(num_nodes, 2)), labels, ids, none, none)


def loader(**arguments: object) -> DataLoader:
    dataset = unbalanced()
    options = {"batch_size": 100, "num_threads": 0, "class_balanced": True} | arguments
    return DataLoader(dataset, NeighborSampler(dataset.graph, [2]), **options)


@given(
    weights=st.lists(st.sampled_from([0.0, 1.0, 1e-9, 3e7]), min_size=1, max_size=20).filter(any),
    seed=st.integers(0, 99),
)
def test_positions_of_weight_zero_are_never_drawn(weights: list[float], seed: int):
    positions = WeightedDraws(torch.tensor(weights)).draw(50, seed)
    assert positions.dtype == torch.int64
    assert all(weights[position] > 0 for position in positions.tolist())


def test_draws_follow_the_weights():
    weights = torch.tensor([1.0, 0.0, 2.5, 4.0, 0.1])
    counts = np.bincount(WeightedDraws(weights).draw(200_000, 3), minlength=5)
    expected = 200_000 * (weights / weights.sum()).double().numpy()
    possible = expected > 0
    assert chi2.sf(((counts - expected)[possible] ** 2 / expected[possible]).sum(), 3) > 1e-4


def test_more_positions_than_multinomial_takes_are_all_within_reach():
    # torch.multinomial refuses more than 2**24 categories.
    num_weights = 2**24 + 1000
    draws = WeightedDraws(torch.ones(num_weights)).draw(20_000, 5)
    halves = np.bincount((16 * draws // num_weights).numpy(), minlength=16)
    assert chi2.sf(((halves - 1250) ** 2 / 1250).sum(), 15) > 1e-4


def test_classes_come_alike():
    classes = torch.tensor([0] * 90 + [1] * 9 + [3])
    weights = class_balancing_weights(classes)
    assert [float(weights[classes == c].sum()) for c in (0, 1, 3)] == pytest.approx([1, 1, 1])


def test_an_epoch_of_balanced_seeds_has_as_many_of_each_class():
    labels = torch.cat([batch.y for batch in loader()])
    assert labels.numel() == 1200
    counts = torch.bincount(labels)
    assert chi2.sf(float(((counts - 400) ** 2 / 400).sum()), 2) > 1e-4


def test_seeds_of_given_weights_are_drawn_anew_each_epoch():
    weights = torch.zeros(1200)
    weights[[3, 700]] = torch.tensor([1.0, 2.0])
    weighted = loader(class_balanced=False, seed_weights=weights)
    epochs = [torch.cat([batch.seed_nodes for batch in weighted]) for _ in range(2)]
    assert set(epochs[0].tolist()) == {3, 700}
    assert (epochs[0] == 700).float().mean() == pytest.approx(2 / 3, abs=0.07)
    assert not torch.equal(*epochs)
    weighted.set_epoch(0)
    assert torch.equal(torch.cat([batch.seed_nodes for batch in weighted]), epochs[0])


def test_ranks_share_the_seeds_drawn():
    whole = [batch.seed_nodes for batch in loader()]
    shares = [[batch.seed_nodes for batch in loader(rank=rank, world_size=3)] for rank in range(3)]
    assert all(torch.equal(torch.cat(parts), step) for step, *parts in zip(whole, *shares, strict=True))


def test_a_state_is_not_of_a_loader_with_other_weights():
    state = loader().state_dict()
    loader().load_state_dict(state)
    for other in (loader(class_balanced=False), loader(class_balanced=False, seed_weights=torch.ones(1200))):
        with pytest.raises(ValueError, match="is not of this loader"):
            other.load_state_dict(state)
        with pytest.raises(ValueError, match="is not of this loader"):
            loader().load_state_dict(other.state_dict())


def test_pairs_may_have_weights():
    pairs = torch.tensor([[0, 5, 9], [1, 6, 8]])
    sampler = LinkNeighborSampler(unbalanced().graph, [1], num_negatives=0)
    draws = WeightedDraws(torch.tensor([0.0, 1.0, 0.0]))
    steps = SeedSteps(sampler, pairs, 1200, 2, 0, True, False, 0, 1, draws)
    assert steps.start(0).tolist() == [[5] * 3, [6] * 3]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"seed_weights": torch.ones(1200)}, "either class_balanced or seed_weights"),
        ({"shuffle": False}, "shuffle"),
        ({"class_balanced": False, "seed_weights": torch.ones(3)}, "one number per seed, 1200, got"),
        ({"class_balanced": False, "seed_weights": -torch.ones(1200)}, "at least 0"),
        ({"class_balanced": False, "seed_weights": torch.zeros(1200)}, "not all 0"),
    ],
)
def test_weights_that_say_nothing_are_refused(arguments: dict[str, Tensor], message: str):
    with pytest.raises(ValueError, match=message):
        loader(**arguments)


def test_samplers_that_choose_their_nodes_take_no_weights():
    dataset = unbalanced()
    with pytest.raises(ValueError, match="RandomNodeSampler chooses its own nodes"):
        DataLoader(dataset, RandomNodeSampler(dataset.graph, 4), class_balanced=True)
