"""The sides do the work that they are timed for."""

from __future__ import annotations

from dataclasses import asdict

import pytest
import torch

from gnnfast.benchmark import GraphFiles
from gnnfast.benchmark.peers import gnnfast, kernels
from gnnfast.benchmark.peers.products import seconds_outside_products
from gnnfast.sampler import NeighborSampler

CONVS = ["sage", "gcn", "gin", "gat"]


def called(prepared) -> dict:
    """The facts of a case, which has been called twice."""
    call, facts = prepared
    assert all(call(i) > 0 for i in range(2))
    return facts


@pytest.mark.parametrize("drawn", ["once", "layer"])
@pytest.mark.parametrize("stage", ["sampler", "loader"])
def test_our_mini_batches_are_those_of_the_sampler(request_for, tiny: GraphFiles, stage: str, drawn: str):
    request = request_for(stage, variant=drawn, num_workers=1)
    facts = called(gnnfast.prepare(asdict(request)))

    sampler = NeighborSampler(tiny.graph(), [3, 2], expand=drawn)
    batches = [sampler.sample(seeds, -i) for i, seeds in enumerate(request.seed_batches()[:3])]
    assert facts["nodes"] == pytest.approx(sum(batch.num_nodes for batch in batches) / 3)
    drawn_edges = [batch.blocks[0].num_edges if drawn == "once" else batch.num_edges for batch in batches]
    assert facts["edges"] == pytest.approx(sum(drawn_edges) / 3)
    assert facts["blocks"][1][0] == 64


@pytest.mark.parametrize("conv", CONVS)
def test_our_step_tells_how_much_of_it_is_no_product(request_for, conv: str):
    call, _ = gnnfast.prepare(asdict(request_for("step", variant="layer", conv=conv, precision="bf16-mixed")))
    seconds = [call(i) for i in range(5)]

    assert 0 < call.closing_facts()["seconds_outside_products"] < 10 * max(seconds)


def test_a_step_trains(request_for, tiny: GraphFiles):
    dataset = tiny.dataset()
    request = request_for("step", variant="layer", conv="sage")
    step = gnnfast.training_step(request, dataset)
    sampler = gnnfast.neighbor_sampler(request, dataset.graph)
    batch = sampler.sample(dataset.train_ids[:200], 0)
    batch.x, batch.y = dataset.features.gather(batch.node_ids), dataset.labels[batch.seed_nodes]

    losses = [float(step(batch)) for _ in range(30)]
    assert losses[-1] < losses[0] - 0.05


def test_products_are_not_outside_of_products():
    a = torch.randn(1024, 1024)

    def outside(step):
        return min(seconds_outside_products(step, a) for _ in range(5))

    assert outside(lambda b: b @ b) < 0.5 * outside(lambda b: [b.sin() for _ in range(20)])


def test_our_epoch_has_all_steps(request_for, tiny: GraphFiles):
    call, facts = gnnfast.prepare(asdict(request_for("epoch", variant="layer", conv="gcn", num_workers=1)))

    assert call(0) > 0
    assert facts["steps"] == -(-tiny.facts["num_training_nodes"] // 64)


def test_memory_is_told_apart(request_for, tiny: GraphFiles):
    _, facts = gnnfast.prepare(asdict(request_for("memory", variant="layer", conv="gcn")))

    assert facts["graph_bytes"] == 8 * 3001 + 4 * tiny.facts["num_edges"]
    assert facts["feature_bytes"] == 4 * 3000 * 16
    assert facts["training_bytes"] > facts["graph_bytes"] + facts["feature_bytes"]
    assert facts["inference_bytes"] > 0


@pytest.fixture(scope="module")
def pyg():
    pytest.importorskip("torch_sparse")
    from gnnfast.benchmark.peers import pyg

    return pyg


@pytest.mark.parametrize("stage", ["sampler", "loader"])
def test_pyg_draws_as_much_as_we_do(request_for, pyg, stage: str):
    ours = called(gnnfast.prepare(asdict(request_for(stage, variant="once"))))
    theirs = called(pyg.prepare(asdict(request_for(stage, system="torch_sparse"))))

    assert theirs["nodes"] == pytest.approx(ours["nodes"], rel=0.1)
    assert theirs["edges"] == pytest.approx(ours["edges"], rel=0.1)


def training_step(pyg, request, data):
    return pyg._training_step(request, pyg._make_model(request, data))


@pytest.mark.filterwarnings("ignore:Sparse :UserWarning")
@pytest.mark.parametrize("conv", CONVS)
def test_pyg_computes_the_same_trimmed_or_not(request_for, pyg, conv: str):
    requests = {
        variant: request_for("step", system="torch_sparse", conv=conv, variant=variant)
        for variant in ("plain", "trimmed", "trimmed, adj_t")
    }
    call, _ = pyg.prepare(asdict(requests["trimmed, adj_t"]))
    assert call(0) > 0

    loader = pyg._neighbor_loader(requests["plain"], requests["plain"].seed_batches().flatten(), 64)
    batch = loader(torch.arange(64))
    plain, trimmed, sparse = (
        float(training_step(pyg, request, loader.data)(pyg._with_variant(batch.clone(), request)))
        for request in requests.values()
    )
    assert sparse == pytest.approx(trimmed, rel=1e-5)
    # PyG's GCN counts degrees on the edges that it is given.
    assert conv == "gcn" or trimmed == pytest.approx(plain, rel=1e-5)


def test_hops_are_counted_from_the_edges(pyg):
    # Two seeds; node 2 is reached first, node 1 reaches nobody new, node 3 is reached by 2.
    edge_index = torch.tensor([[2, 1, 0, 3, 0], [0, 0, 1, 2, 2]])

    assert pyg.hop_sizes(edge_index, 2, 2) == ([2, 1, 1], [3, 2])
    assert pyg.hop_sizes(edge_index[:, :0], 2, 2) == ([2, 0, 0], [0, 0])


@pytest.mark.filterwarnings("ignore:.*os.fork:DeprecationWarning")
def test_pyg_has_an_epoch_of_its_own(request_for, pyg, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(pyg, "_WORKERS", (0,))
    call, facts = pyg.prepare(asdict(request_for("epoch", system="torch_sparse", conv="sage", variant="trimmed")))

    assert call(0) > 0
    assert facts == {"steps": 24, "workers": 0}


def test_a_library_that_is_not_there_is_named(pyg):
    with pytest.raises(ImportError, match="no_such_library cannot be imported"):
        pyg._sample_by("no_such_library")


@pytest.mark.parametrize("direction", ["forward", "backward"])
@pytest.mark.parametrize("operation", ["sum", "mean", "max", "attention"])
def test_all_libraries_compute_the_same(request_for, operation: str, direction: str):
    libraries = ["gnnfast", "pyg"] if operation == "attention" else ["gnnfast", "pyg", "torch", "torch_sparse"]
    if "torch_sparse" in libraries:
        pytest.importorskip("torch_sparse")
    subject = kernels._subject(request_for("kernel"))
    results = []
    for library in libraries:
        make = kernels._attention(library, subject) if operation == "attention" else None
        function = make or kernels._segment(operation, library, subject)
        result = kernels._differentiable(function, subject, direction)()
        results.append(result[0] if direction == "backward" else result.flatten(1))

    for result in results[1:]:
        torch.testing.assert_close(result.view_as(results[0]), results[0], rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("library", ["gnnfast", "torch"])
@pytest.mark.parametrize("operation", ["gather", "relabel", "transpose", "sum forward"])
def test_operations_can_be_called(request_for, operation: str, library: str):
    facts = called(kernels.prepare(asdict(request_for("kernel", conv=operation, system=library))))

    assert facts["channels"] == 8
    assert facts["block"][0] <= facts["block"][1]
