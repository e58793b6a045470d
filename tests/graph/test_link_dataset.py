import pytest
import torch

from gnnfast.graph import CSCGraph, FeatureStore, LinkDataset


def pairs(*ends: tuple[int, int]) -> torch.Tensor:
    return torch.tensor(ends, dtype=torch.int64).view(-1, 2).T.contiguous()


def small(**changes: object) -> LinkDataset:
    graph = CSCGraph.from_edge_index(pairs((0, 3), (3, 0), (1, 4), (4, 1)), 5)
    arguments: dict[str, object] = {
        "name": "small",
        "graph": graph,
        "train_edges": pairs((0, 3), (1, 4)),
        "val_edges": pairs((0, 4)),
        "test_edges": pairs(),
        "src_range": (0, 2),
        "dst_range": (2, 5),
    }
    return LinkDataset(**{**arguments, **changes})  # type: ignore[arg-type]


def test_what_it_says_of_itself():
    dataset = small()
    assert (dataset.task, dataset.num_nodes, dataset.num_features) == ("link", 5, 0)
    assert (dataset.sources, dataset.destinations) == ((0, 2), (2, 5))
    assert [edges.shape[1] for edges in dataset.split_ids.values()] == [2, 1, 0]
    assert "no features, train/val/test pairs 2/1/0" in repr(dataset)


def test_without_ranges_any_node_may_be_at_either_end():
    dataset = small(src_range=None, dst_range=None, features=FeatureStore(torch.zeros(5, 7)), val_edges=pairs((4, 0)))
    assert (dataset.sources, dataset.destinations, dataset.num_features) == ((0, 5), (0, 5), 7)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"features": FeatureStore(torch.zeros(4, 2))}, "features have 4 rows but the graph has 5 nodes"),
        ({"src_range": (0, 6)}, "src_range"),
        ({"dst_range": (3, 3)}, "dst_range"),
        ({"val_edges": pairs((2, 4))}, "val_edges has source 2, but sources are numbered 0 to 1"),
        ({"test_edges": pairs((0, 1))}, "test_edges has destination 1, but destinations are numbered 2 to 4"),
        ({"test_negatives": pairs((0, 5))}, "test_negatives has destination 5"),
        ({"train_edges": torch.zeros(2, 3)}, "train_edges must be int64"),
        ({"train_edges": torch.zeros(3, 2, dtype=torch.int64)}, r"\(2, num_pairs\)"),
    ],
)
def test_what_does_not_fit_is_refused(changes: dict[str, object], message: str):
    with pytest.raises(ValueError, match=message):
        small(**changes)
