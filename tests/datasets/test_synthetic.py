import itertools
import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from gnnfast.datasets import synthetic
from gnnfast.datasets.synthetic import CommunityLaw, bayes_log_posteriors
from gnnfast.graph import CSCGraph

laws = st.builds(
    CommunityLaw,
    num_nodes=st.integers(20, 300),
    num_edges=st.integers(0, 380),
    num_classes=st.integers(1, 10),
    homophily=st.sampled_from([0.0, 0.3, 1.0]),
    power_law_exponent=st.sampled_from([2.1, 2.5, 4.0]),
    undirected=st.booleans(),
)


@given(law=laws, seed=st.integers(0, 2**63))
@settings(max_examples=50)
def test_graphs_are_simple_sorted_and_repeat_themselves(law: CommunityLaw, seed: int):
    graph, communities = law.draw(seed)
    again, same = law.draw(seed)
    assert torch.equal(graph.indptr, again.indptr)
    assert torch.equal(graph.indices, again.indices)
    assert torch.equal(communities, same)
    src, dst = graph.to_edge_index()
    keys = dst * graph.num_nodes + src
    assert bool((keys[1:] > keys[:-1]).all()), "columns ascend, so no edge comes twice"
    assert bool((src != dst).all())
    assert not keys.numel() or 0 <= int(src.min()) <= int(src.max()) < law.num_nodes
    if law.undirected:
        assert torch.equal((src * graph.num_nodes + dst).sort().values, keys)
    sizes = communities.bincount(minlength=law.num_classes)
    assert int(sizes.max()) - int(sizes.min()) <= 1


def test_another_seed_gives_another_graph():
    law = CommunityLaw(100, 400, 4, 0.5, 2.5)
    assert not torch.equal(law.draw(0)[0].indices[:300], law.draw(1)[0].indices[:300])


@pytest.mark.parametrize("undirected", [True, False])
@pytest.mark.parametrize("homophily", [0.0, 0.25, 0.7])
def test_edges_stay_in_their_community_with_the_probability_asked_for(homophily: float, undirected: bool):
    law = CommunityLaw(20_000, 200_000, 5, homophily, 3.0, undirected=undirected)
    graph, communities = law.draw(3)
    src, dst = communities[graph.to_edge_index()]
    counts = torch.bincount(dst * 5 + src, minlength=25).view(5, 5).double()
    expected = torch.full((5, 5), (1 - homophily) / 4).fill_diagonal_(homophily).double()
    # 40,000 edges a row: five standard deviations, and half a percent for the edges that were merged.
    assert bool(((counts / counts.sum(1, keepdim=True)) - expected).abs().max() < 5 * 0.5 / math.sqrt(40_000) + 0.005)


@pytest.mark.parametrize("undirected", [True, False])
def test_degrees_follow_the_power_law_up_to_the_largest_one_asked_for(undirected: bool):
    law = CommunityLaw(50_000, 500_000, 5, 0.5, 2.5, max_degree=400, undirected=undirected)
    graph, _ = law.draw(0)
    degrees = graph.in_degree.double().sort(descending=True).values
    assert abs(float(degrees.mean()) - 10) < 0.2
    assert 300 < float(degrees[0]) < 500
    # Nodes of degree above d are a share proportional to d ** (1 - exponent), far below the cut-off.
    above = [float((degrees > degree).double().mean()) for degree in (12.5, 50.5)]
    assert abs(math.log(above[0] / above[1]) / math.log(50.5 / 12.5) - 1.5) < 0.15


def test_features_are_normal_around_the_mean_of_their_community():
    dataset = synthetic(num_features=7, num_classes=4, feature_signal=3.0, label_noise=0.0, attainable_hops=0)
    noise = []
    for label in range(4):
        rows = dataset.features.rows[dataset.labels == label]
        assert abs(float(rows.mean(0).norm()) - 3) < 0.1
        noise.append(rows - rows.mean(0))
    noise = torch.cat(noise)
    assert bool((noise.T.cov() - torch.eye(7)).abs().max() < 0.04)
    quantiles = torch.quantile(noise[:, 0], torch.tensor([0.0228, 0.1587, 0.8413, 0.9772]))
    torch.testing.assert_close(quantiles, torch.tensor([-2.0, -1.0, 1.0, 2.0]), atol=0.08, rtol=0)


def test_label_noise_moves_that_share_of_labels_to_all_other_classes():
    clean, noisy = (synthetic(label_noise=noise, attainable_hops=0).labels for noise in (0.0, 0.3))
    steps = ((noisy - clean) % 8).bincount(minlength=8).double() / clean.numel()
    torch.testing.assert_close(steps, torch.tensor([0.7] + [0.3 / 7] * 7).double(), atol=0.01, rtol=0)


@given(data=st.data(), num_hops=st.integers(0, 2), num_classes=st.integers(2, 3), undirected=st.booleans())
@settings(max_examples=60)
def test_bayes_rule_is_exact_on_trees(data: st.DataObject, num_hops: int, num_classes: int, undirected: bool):
    parents = [data.draw(st.integers(0, node - 1)) for node in range(1, 7)]
    edges = [(child, parent) for child, parent in enumerate(parents, start=1)]
    if undirected:
        edges += [(parent, child) for child, parent in enumerate(parents, start=1)]
    graph = CSCGraph.from_edge_index(torch.tensor(edges).T, 7)
    generator = torch.Generator().manual_seed(data.draw(st.integers(0, 1000)))
    x, means = torch.randn(7, 2, generator=generator), torch.randn(num_classes, 2, generator=generator)
    homophily = data.draw(st.sampled_from([0.0, 0.2, 0.9]))

    computed = bayes_log_posteriors(graph, x, means, homophily, torch.arange(7), num_hops, undirected)
    for node in range(7):
        expected = enumerated_posterior(graph, x, means, homophily, node, num_hops)
        torch.testing.assert_close(computed[node].softmax(0).double(), expected, atol=1e-4, rtol=1e-3)


def enumerated_posterior(
    graph: CSCGraph, x: torch.Tensor, means: torch.Tensor, homophily: float, node: int, num_hops: int
) -> torch.Tensor:
    """By summing over all communities of the nodes within `num_hops` in-hops of a tree's node."""
    num_classes = means.shape[0]
    affinity = np.full((num_classes, num_classes), (1 - homophily) / (num_classes - 1))
    np.fill_diagonal(affinity, homophily)
    likelihood = torch.exp(-torch.cdist(x, means).square() / 2).numpy()
    tree, links, frontier = [node], [], [node]
    for _ in range(num_hops):
        reached = []
        for heard in frontier:
            sources = graph.indices[graph.indptr[heard] : graph.indptr[heard + 1]].tolist()
            reached += [source for source in sources if source not in tree]
            links += [(source, heard) for source in sources if source not in tree]
        tree += reached
        frontier = reached
    posterior = np.zeros(num_classes)
    for classes in itertools.product(range(num_classes), repeat=len(tree)):
        of = dict(zip(tree, classes, strict=True))
        weight = math.prod(likelihood[u, of[u]] for u in tree)
        posterior[of[node]] += weight * math.prod(affinity[of[heard], of[source]] for source, heard in links)
    return torch.from_numpy(posterior / posterior.sum())


def test_each_hop_raises_the_attainable_accuracy_of_the_default_graph():
    near, far = (synthetic(attainable_hops=hops).attainable["accuracy"] for hops in (1, 2))
    assert near + 0.05 < far
    assert 0.85 < far < 0.95


def test_the_posterior_knows_how_often_it_is_right():
    graph, communities = CommunityLaw(20_000, 200_000, 4, 0.6, 2.5).draw(1)
    means = torch.eye(4) * 1.2
    x = means[communities] + torch.randn(20_000, 4, generator=torch.Generator().manual_seed(0))
    for hops in (0, 1, 2):
        posteriors = bayes_log_posteriors(graph, x, means, 0.6, torch.arange(20_000), hops, True).softmax(1)
        confidence, guesses = posteriors.max(1)
        # Two hops are not quite a tree: what is counted twice makes the rule a little too sure.
        assert abs(float(confidence.mean()) - float((guesses == communities).float().mean())) < 0.01 + 0.01 * hops


def test_nothing_is_computed_where_nothing_is_asked():
    assert synthetic(num_nodes=100, num_edges=300, attainable_hops=0).attainable == {}


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"num_nodes": 10}, "each class needs two nodes"),
        ({"num_nodes": 100, "num_edges": 10_000}, "no room for 10000 edges"),
        ({"homophily": 1.5}, "homophily must be a probability"),
        ({"power_law_exponent": 2.0}, "must be above 2"),
        ({"attainable_hops": 3}, "must be 0, 1 or 2"),
        ({"label_noise": 0.9}, "likeliest"),
    ],
)
def test_what_makes_no_sense_is_refused(arguments: dict, message: str):
    with pytest.raises(ValueError, match=message):
        synthetic(**arguments)
