"""gnnfast.loader.LinkNeighborLoader beside PyG's."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch_geometric.data import Data
from torch_geometric.sampler import NegativeSampling

from gnnfast.loader import LinkNeighborLoader
from tests.loader.pyg_graphs import assert_cut_from, edge_pairs, kinds, needs_data, pubmed, small_data

pytestmark = pytest.mark.filterwarnings("ignore:Using 'NeighborSampler' without a 'pyg-lib'")

HOPS = ("num_sampled_nodes", "num_sampled_edges")


@pytest.fixture(params=["small", pytest.param("pubmed", marks=needs_data)])
def data(request: pytest.FixtureRequest) -> Data:
    return small_data() if request.param == "small" else pubmed()


def pygs(*args: Any, **kwargs: Any) -> Any:
    pytest.importorskip("torch_sparse")
    from torch_geometric.loader import LinkNeighborLoader as Loader

    return Loader(*args, **kwargs)


@pytest.mark.parametrize(
    "kwargs",
    [
        {},
        {"edge_label": torch.arange(40) % 3},
        {"neg_sampling": "binary"},
        {"neg_sampling_ratio": 1.5},
        {"neg_sampling": "binary", "edge_label": torch.arange(40) % 3},
        {"neg_sampling": {"mode": "triplet", "amount": 2}},
        {"neg_sampling": NegativeSampling("triplet", 1)},
    ],
)
def test_a_batch_has_pygs_attributes(data: Data, kwargs: dict[str, Any]):
    links = data.edge_index[:, :40]
    loaders = [kind(data, [3, 2], links, batch_size=16, **kwargs) for kind in (LinkNeighborLoader, pygs)]
    assert len(loaders[0]) == len(loaders[1]) == 3
    for ours, theirs in zip(*loaders, strict=True):
        assert kinds(ours, HOPS) == kinds(theirs)
        assert torch.equal(ours.input_id, theirs.input_id)
        assert_cut_from(ours, data)
        for key in ("edge_label_index", "edge_label", "src_index", "dst_pos_index", "dst_neg_index"):
            assert (key in ours) == (key in theirs)
            if key in ours:
                assert ours[key].shape == theirs[key].shape
        if "edge_label" in ours:
            assert torch.equal(ours.edge_label, theirs.edge_label)
        num_links = ours.input_id.numel()
        expected = links[:, ours.input_id]
        if "src_index" in ours:
            assert torch.equal(ours.n_id[torch.stack([ours.src_index, ours.dst_pos_index])], expected)
        else:
            assert torch.equal(ours.n_id[ours.edge_label_index[:, :num_links]], expected)
        assert sum(ours.num_sampled_nodes) == ours.num_nodes
        assert ours.n_id.unique().numel() == ours.num_nodes


@pytest.mark.parametrize("label", [[-0.5, 0.3, 1.0], [0.4, 0.3, 1.0], [0.0, 0.3, 1.0], [True, False, True]], ids=str)
def test_only_labels_that_begin_at_zero_are_moved(label: list[Any]):
    data = small_data()
    links = data.edge_index[:, :3]
    kwargs = {"edge_label": torch.tensor(label), "neg_sampling": "binary", "batch_size": 3}
    batches = [next(iter(kind(data, [1], links, **kwargs))) for kind in (LinkNeighborLoader, pygs)]
    assert torch.equal(batches[0].edge_label, batches[1].edge_label)
    assert batches[0].edge_label.dtype == batches[1].edge_label.dtype


def test_all_neighbors_make_pygs_batch(data: Data):
    links = data.edge_index[:, :40]
    for ours, theirs in zip(
        LinkNeighborLoader(data, [-1, -1], links, batch_size=16),
        pygs(data, [-1, -1], links, batch_size=16),
        strict=True,
    ):
        assert torch.equal(ours.n_id.sort().values, theirs.n_id.sort().values)
        assert edge_pairs(ours) == edge_pairs(theirs)


def test_without_links_all_edges_are_gone_through():
    data = small_data()
    loader = LinkNeighborLoader(data, [2], batch_size=60, shuffle=True)
    ids = torch.cat([batch.input_id for batch in loader])
    assert torch.equal(ids.sort().values, torch.arange(240))


def test_binary_negatives_are_uniform_pairs():
    data = small_data()
    loader = LinkNeighborLoader(data, [1], batch_size=240, neg_sampling_ratio=50.0)
    batch = next(iter(loader))
    src, dst = batch.n_id[batch.edge_label_index[:, 240:]]
    for ends in (src, dst):
        counts = torch.bincount(ends, minlength=60)
        assert float(((counts - 200) ** 2 / 200).sum()) < 120  # chi-square, 59 degrees of freedom
    assert (batch.edge_label[:240] == 1).all()
    assert (batch.edge_label[240:] == 0).all()


def test_weights_decide_which_nodes_are_negatives():
    data = small_data()
    weight = torch.zeros(60)
    weight[[3, 50]] = torch.tensor([1.0, 3.0])
    sampling = NegativeSampling("triplet", 10, dst_weight=weight)
    batch = next(iter(LinkNeighborLoader(data, [1], batch_size=240, neg_sampling=sampling)))
    assert batch.dst_neg_index.shape == (240, 10)
    negatives = batch.n_id[batch.dst_neg_index]
    assert set(negatives.view(-1).tolist()) == {3, 50}
    assert 0.72 < float((negatives == 50).float().mean()) < 0.78


def test_batches_repeat_under_a_seed_on_any_number_of_workers():
    data = small_data()

    def run(num_workers: int) -> list[dict[str, Any]]:
        torch.manual_seed(1)
        kwargs = {"batch_size": 30, "shuffle": True, "neg_sampling": "binary", "num_workers": num_workers}
        return [batch.to_dict() for batch in LinkNeighborLoader(data, [2, 2], **kwargs)]

    alone = run(0)
    for num_workers in (0, 3):
        for one, two in zip(alone, run(num_workers), strict=True):
            assert torch.equal(one["n_id"], two["n_id"])
            assert torch.equal(one["e_id"], two["e_id"])
            assert torch.equal(one["edge_label_index"], two["edge_label_index"])


def test_what_cannot_be_done_says_what_can():
    data = small_data()
    with pytest.raises(NotImplementedError, match=r"torch_geometric\.loader\.LinkNeighborLoader"):
        LinkNeighborLoader(data, [2], edge_label_time=torch.zeros(240), time_attr="time")
    with pytest.raises(ValueError, match="triplets have no labels"):
        LinkNeighborLoader(data, [2], edge_label=torch.zeros(240), neg_sampling="triplet")
    with pytest.raises(ValueError, match="one weight per node"):
        LinkNeighborLoader(data, [2], neg_sampling=NegativeSampling("binary", 1, dst_weight=torch.ones(3)))
    weight = torch.ones(60)
    weight[7] = float("nan")
    for bad in (weight, weight.nan_to_num(float("inf")), weight.nan_to_num(-1)):
        with pytest.raises(ValueError, match="one weight per node"):
            LinkNeighborLoader(data, [2], neg_sampling=NegativeSampling("binary", 1, src_weight=bad))
    with pytest.raises(ValueError, match="one entry per link, 240"):
        LinkNeighborLoader(data, [2], edge_label=torch.zeros(239))
    for links, message in (
        ([[0.5], [1]], "whole numbers"),
        ([[0], [60]], "node 60"),
        ([[-1], [3]], "node -1"),
        ([[0], [1], [2]], "shape"),
        (torch.arange(4), "shape"),
    ):
        with pytest.raises(ValueError, match=f"edge_label_index .*{message}"):
            LinkNeighborLoader(data, [2], links)


def test_a_sparse_tensor_names_no_edges_to_go_through():
    SparseTensor = pytest.importorskip("torch_sparse").SparseTensor
    src, dst = torch.tensor([[0, 1, 2], [1, 2, 3]])
    data = Data(x=torch.rand(4, 2), adj_t=SparseTensor(row=dst, col=src, sparse_sizes=(4, 4)))
    with pytest.raises(ValueError, match="pass edge_label_index"):
        LinkNeighborLoader(data, [2])
    batch = next(iter(LinkNeighborLoader(data, [2], torch.stack([src, dst]), batch_size=3)))
    assert torch.equal(batch.n_id[batch.edge_label_index], torch.stack([src, dst]))


@pytest.mark.parametrize("kind", [torch.Tensor.tolist, torch.Tensor.numpy, torch.Tensor.int, list])
def test_links_and_labels_may_be_lists_and_arrays(kind: Any):
    data = small_data()
    links, labels = data.edge_index[:, :20], torch.arange(20)
    loader = LinkNeighborLoader(data, [2], kind(links), kind(labels), neg_sampling="binary", batch_size=20)
    batch = next(iter(loader))
    assert torch.equal(batch.n_id[batch.edge_label_index[:, :20]], links)
    assert torch.equal(batch.edge_label, torch.cat([labels + 1, torch.zeros(20, dtype=torch.int64)]))


def test_no_links_make_no_batches():
    loader = LinkNeighborLoader(small_data(), [2], [[], []], torch.empty(0), neg_sampling="binary")
    assert list(loader) == []
