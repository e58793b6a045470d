from __future__ import annotations

from itertools import pairwise

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch_geometric.data import Data
from torch_geometric.nn.conv.gcn_conv import gcn_norm
from torch_geometric.utils import to_undirected

from gnnfast.graph import CSCGraph
from gnnfast.graph.csc import index_dtype
from tests.strategies import csc_graphs, edge_lists, edge_weights


def columns(graph: CSCGraph) -> list[list[tuple]]:
    """(source, id, weight) of each node's in-edges, in order."""
    ids = [None] * graph.num_edges if graph.edge_ids is None else graph.edge_ids.tolist()
    weights = [None] * graph.num_edges if graph.edge_weight is None else graph.edge_weight.tolist()
    edges = list(zip(graph.indices.tolist(), ids, weights, strict=True))
    bounds = graph.indptr.tolist()
    return [edges[first:last] for first, last in pairwise(bounds)]


def dense(graph: CSCGraph) -> torch.Tensor:
    """Entry (v, u): the number of edges u -> v."""
    src, dst = graph.to_edge_index()
    return torch.zeros(graph.num_nodes, graph.num_nodes, dtype=torch.int64).index_put(
        (dst, src), torch.ones_like(src), accumulate=True
    )


@given(num_nodes=st.integers(1, 10), data=st.data())
def test_a_column_holds_the_nodes_in_edges_in_their_order(num_nodes: int, data: st.DataObject):
    edges = data.draw(edge_lists(num_nodes))
    weights = data.draw(edge_weights(len(edges)))
    edge_index = torch.tensor(edges, dtype=torch.int64).view(-1, 2).T
    graph = CSCGraph.from_edge_index(edge_index, num_nodes, torch.tensor(weights), keep_edge_ids=True)
    expected: list[list[tuple]] = [[] for _ in range(num_nodes)]
    for edge, ((src, dst), weight) in enumerate(zip(edges, weights, strict=True)):
        expected[dst].append((src, edge, weight))
    assert columns(graph) == expected
    assert graph.num_nodes == num_nodes
    assert graph.indices.dtype == torch.int32


def test_the_number_of_nodes_defaults_to_the_largest_id_plus_one():
    assert CSCGraph.from_edge_index(torch.tensor([[7, 0], [1, 2]])).num_nodes == 8
    assert CSCGraph.from_edge_index(torch.empty(2, 0, dtype=torch.int64)).num_nodes == 0


@given(graph=csc_graphs())
def test_a_graph_is_the_graph_of_its_edge_index(graph: CSCGraph):
    rebuilt = CSCGraph.from_edge_index(graph.to_edge_index(), graph.num_nodes, graph.edge_weight)
    assert torch.equal(rebuilt.indptr, graph.indptr)
    assert torch.equal(rebuilt.indices.long(), graph.indices.long())
    assert graph.edge_weight is None or torch.equal(rebuilt.edge_weight, graph.edge_weight)


@pytest.mark.parametrize(
    ("edge_index", "num_nodes", "message"),
    [
        ([[0, 3], [1, 2]], 3, "holds node 3, but the graph's 3 nodes are numbered 0 to 2"),
        ([[0, 1], [1, 3]], 3, "holds node 3"),
        ([[0, -1], [1, 2]], 3, "holds node -1"),
        ([[0, 1], [-2, 2]], None, "holds node -2"),
        ([[0, 1, 2]], 3, r"shape \(2, num_edges\)"),
        ([0, 1], 3, r"shape \(2, num_edges\)"),
        ([[0.0], [1.0]], 3, "must be integers"),
    ],
)
def test_a_bad_edge_list_is_refused(edge_index: list, num_nodes: int | None, message: str):
    with pytest.raises(ValueError, match=message):
        CSCGraph.from_edge_index(torch.tensor(edge_index), num_nodes)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"indptr": torch.tensor([0, 1, 2], dtype=torch.int32)}, "indptr must be int64"),
        ({"indptr": torch.tensor([], dtype=torch.int64)}, "indptr must be int64"),
        ({"indptr": torch.tensor([0, 1, 3])}, "indptr runs from 0 to 3 but indices holds 2 edges"),
        ({"indptr": torch.tensor([1, 1, 2])}, "indptr runs from 1"),
        ({"indptr": torch.tensor([0, 3, 1, 2])}, "never decrease"),
        ({"indices": torch.tensor([0.0, 1.0])}, "indices must be int32 or int64"),
        ({"indices": torch.tensor([0, 2])}, "indices holds node 2"),
        ({"indices": torch.tensor([0, -1])}, "indices holds node -1"),
        ({"edge_ids": torch.tensor([0])}, "edge_ids must have one entry per edge, 2"),
        ({"edge_weight": torch.ones(3)}, "edge_weight must have one entry per edge, 2"),
        ({"edge_weight": torch.tensor([1, 2])}, "edge_weight must be floating"),
    ],
)
def test_arrays_that_do_not_fit_together_are_refused(changes: dict, message: str):
    arrays = {"indptr": torch.tensor([0, 1, 2]), "indices": torch.tensor([1, 0])}
    assert CSCGraph(**arrays).num_edges == 2
    with pytest.raises(ValueError, match=message):
        CSCGraph(**arrays | changes)


def test_an_edge_weight_of_the_wrong_length_is_refused():
    with pytest.raises(ValueError, match="one entry per edge, 2"):
        CSCGraph.from_edge_index(torch.tensor([[0, 1], [1, 0]]), 2, torch.ones(3))


def test_ids_are_int32_as_long_as_they_fit():
    assert index_dtype(2**31 - 1) == torch.int32
    assert index_dtype(2**31) == torch.int64


@given(graph=csc_graphs(weighted=False))
def test_making_a_graph_undirected_agrees_with_pyg(graph: CSCGraph):
    undirected = graph.to_undirected()
    expected = to_undirected(graph.to_edge_index(), num_nodes=graph.num_nodes)
    assert torch.equal(dense(undirected), dense(CSCGraph.from_edge_index(expected, graph.num_nodes)))


@given(graph=csc_graphs(weighted=True))
def test_an_undirected_weight_is_the_mean_over_both_directions(graph: CSCGraph):
    weights: dict[tuple[int, int], list[float]] = {}
    for (u, v), weight in zip(graph.to_edge_index().T.tolist(), graph.edge_weight.tolist(), strict=True):
        weights.setdefault((u, v), []).append(weight)
        weights.setdefault((v, u), []).append(weight)
    undirected = graph.to_undirected()
    edges = [tuple(edge) for edge in undirected.to_edge_index().T.tolist()]
    assert sorted(edges) == sorted(weights)
    assert undirected.edge_weight.tolist() == pytest.approx([sum(weights[e]) / len(weights[e]) for e in edges])


@given(graph=csc_graphs())
def test_making_a_graph_undirected_twice_changes_nothing(graph: CSCGraph):
    once = graph.to_undirected()
    twice = once.to_undirected()
    assert torch.equal(once.indptr, twice.indptr)
    assert torch.equal(once.indices, twice.indices)
    assert once.edge_weight is None or torch.equal(once.edge_weight, twice.edge_weight)
    assert all(column == sorted(column) for column in columns(CSCGraph(once.indptr, once.indices)))


@given(graph=csc_graphs())
def test_degree_and_self_loop_weight_are_what_gcn_normalizes_with(graph: CSCGraph):
    edge_index, weight = gcn_norm(graph.to_edge_index(), graph.edge_weight, graph.num_nodes)
    loop = torch.ones(graph.num_nodes) if graph.self_loop_weight is None else graph.self_loop_weight
    # PyG puts one self-loop per node last; its normalized weight is loop / (degree + loop).
    assert torch.equal(edge_index[0, -graph.num_nodes :], edge_index[1, -graph.num_nodes :])
    torch.testing.assert_close(weight[-graph.num_nodes :], loop / (graph.degree + loop))


@given(graph=csc_graphs())
def test_a_graph_without_self_loops_has_no_self_loop_weight(graph: CSCGraph):
    src, dst = graph.to_edge_index()
    assert (graph.self_loop_weight is None) == (not bool((src == dst).any()))


def test_degrees_of_double_weights_are_double_and_of_half_ones_float():
    edge_index = torch.tensor([[0, 1], [1, 0]])
    for dtype, expected in ((torch.float64, torch.float64), (torch.float16, torch.float32)):
        graph = CSCGraph.from_edge_index(edge_index, 2, torch.tensor([0.5, 2.0], dtype=dtype))
        assert graph.degree.dtype == expected
        assert graph.degree.tolist() == [2.0, 0.5]


@given(graph=csc_graphs())
def test_a_graph_survives_the_way_through_pyg(graph: CSCGraph):
    data = Data(edge_index=graph.to_edge_index(), edge_weight=graph.edge_weight, num_nodes=graph.num_nodes)
    back = CSCGraph.from_pyg(data, keep_edge_ids=True)
    assert torch.equal(back.indptr, graph.indptr)
    assert torch.equal(back.indices.long(), graph.indices.long())
    assert torch.equal(back.edge_ids, torch.arange(graph.num_edges))
    assert (back.edge_weight is None) == (graph.edge_weight is None)
    assert graph.edge_weight is None or torch.equal(back.edge_weight, graph.edge_weight)


@given(graph=csc_graphs())
def test_a_graph_survives_the_way_through_torch_sparse(graph: CSCGraph):
    pytest.importorskip("torch_sparse")
    adj_t = graph.to_sparse_tensor()
    assert adj_t.sparse_sizes() == (graph.num_nodes, graph.num_nodes)
    for back in (CSCGraph.from_sparse_tensor(adj_t), CSCGraph.from_pyg(Data(adj_t=adj_t))):
        assert torch.equal(back.indptr, graph.indptr)
        assert torch.equal(back.indices.long(), graph.indices.long())
        assert graph.edge_weight is None or torch.equal(back.edge_weight, graph.edge_weight)


@pytest.mark.filterwarnings("ignore:Sparse CSR tensor support is in beta")
@given(graph=csc_graphs(weighted=True))
def test_an_adjacency_may_be_a_sparse_torch_tensor(graph: CSCGraph):
    size = (graph.num_nodes, graph.num_nodes)
    adj_t = torch.sparse_csr_tensor(graph.indptr, graph.indices.long(), graph.edge_weight, size, check_invariants=False)
    back = CSCGraph.from_pyg(Data(adj_t=adj_t))
    assert columns(back) == columns(CSCGraph(graph.indptr, graph.indices, edge_weight=graph.edge_weight))


def test_an_adjacency_that_is_not_square_is_refused():
    torch_sparse = pytest.importorskip("torch_sparse")
    adj_t = torch_sparse.SparseTensor(row=torch.tensor([0, 1]), col=torch.tensor([5, 0]))
    with pytest.raises(ValueError, match="must be square, got 2 x 6"):
        CSCGraph.from_sparse_tensor(adj_t)


def test_pyg_data_without_edges_is_refused():
    with pytest.raises(ValueError, match="neither edge_index nor adj_t"):
        CSCGraph.from_pyg(Data(x=torch.ones(2, 1)))


def test_a_heterogeneous_graph_is_refused():
    from torch_geometric.data import HeteroData

    with pytest.raises(TypeError, match="heterogeneous"):
        CSCGraph.from_pyg(HeteroData())


@given(graph=csc_graphs(weighted=True, edge_ids=True))
def test_a_whole_graph_is_a_block_from_its_nodes_to_its_nodes(graph: CSCGraph):
    block = graph.to_block()
    assert (block.num_src, block.num_dst, block.num_edges) == (graph.num_nodes, graph.num_nodes, graph.num_edges)
    assert torch.equal(block.edge_index, graph.to_edge_index())
    for name in ("indptr", "indices", "edge_ids", "edge_weight"):
        assert getattr(block, name) is getattr(graph, name)
    assert torch.equal(block.src_degree, graph.degree)


@given(graph=csc_graphs())
def test_merged_edges_are_the_distinct_ones_with_their_mean_weights(graph: CSCGraph):
    merged = graph.merge_parallel_edges()
    weights: dict[tuple[int, ...], list[float]] = {}
    values = [1.0] * graph.num_edges if graph.edge_weight is None else graph.edge_weight.tolist()
    for edge, value in zip(graph.to_edge_index().T.tolist(), values, strict=True):
        weights.setdefault(tuple(edge), []).append(value)
    edges = [tuple(edge) for edge in merged.to_edge_index().T.tolist()]
    assert edges == sorted(weights, key=lambda edge: edge[::-1])
    if merged.edge_weight is not None:
        means = [sum(weights[edge]) / len(weights[edge]) for edge in edges]
        torch.testing.assert_close(merged.edge_weight, torch.tensor(means, dtype=merged.edge_weight.dtype))
