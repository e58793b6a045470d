from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from gnnfast.graph import Block, CSCGraph
from tests.strategies import csc_graphs


def full_block(graph: CSCGraph) -> Block:
    """A block with every optional part."""
    return Block(
        graph.indptr,
        graph.indices,
        graph.num_nodes,
        src_nodes=torch.arange(graph.num_nodes) + 100,
        edge_ids=torch.arange(graph.num_edges),
        edge_weight=torch.rand(graph.num_edges),
        inclusion_weight=torch.rand(graph.num_edges),
        src_degree=graph.degree,
        self_loop_weight=torch.ones(graph.num_nodes),
    )


@given(graph=csc_graphs(), num_extra=st.integers(0, 3))
def test_the_transpose_holds_every_edge_by_source(graph: CSCGraph, num_extra: int):
    block = Block(graph.indptr, graph.indices, graph.num_nodes + num_extra)
    indptr, dst, edges = block.transpose
    src = torch.repeat_interleave(torch.arange(block.num_src), indptr[1:] - indptr[:-1])
    assert indptr.numel() == block.num_src + 1
    assert torch.equal(torch.stack([src, dst.long()]), block.edge_index[:, edges])
    assert edges.sort().values.tolist() == list(range(block.num_edges))
    assert dst.dtype == edges.dtype == block.indices.dtype


@given(graph=csc_graphs(weighted=True))
def test_the_sparse_tensor_holds_the_blocks_edges(graph: CSCGraph):
    pytest.importorskip("torch_sparse")
    block = Block(graph.indptr, graph.indices, graph.num_nodes + 2, edge_weight=graph.edge_weight)
    dst, src, weight = block.adj_t.coo()
    assert block.adj_t.sparse_sizes() == (block.num_dst, block.num_src)
    assert torch.equal(torch.stack([src, dst]), block.edge_index)
    assert torch.equal(weight, graph.edge_weight)


def test_the_first_sources_are_the_destinations():
    block = Block(
        torch.tensor([0, 1, 2]),
        torch.tensor([2, 2]),
        3,
        src_nodes=torch.tensor([7, 5, 9]),
        src_degree=torch.tensor([1.0, 2.0, 3.0]),
    )
    assert block.dst_nodes.tolist() == [7, 5]
    assert block.dst_degree.tolist() == [1.0, 2.0]


def test_more_destinations_than_sources_are_refused():
    with pytest.raises(ValueError, match="num_src=1 < 2"):
        Block(torch.tensor([0, 0, 0]), torch.empty(0, dtype=torch.int32), 1)


@given(graph=csc_graphs())
def test_moving_a_block_takes_every_tensor_along(graph: CSCGraph):
    block = full_block(graph)
    moved = block.to("meta")
    assert repr(moved) == repr(block)
    tensors = {name: value for name, value in vars(block).items() if isinstance(value, torch.Tensor)}
    assert len(tensors) == 8
    assert all(getattr(moved, name).is_meta for name in tensors)
    assert block.to("cpu") is block
