from __future__ import annotations

import numpy as np
import torch
from hypothesis import given
from hypothesis import strategies as st

from gnnfast.graph import CSCGraph
from gnnfast.kernels.cpu import relabel as cpu
from gnnfast.kernels.reference import relabel as reference
from tests.strategies import csc_graphs


@st.composite
def seeds_and_edges(draw: st.DrawFn) -> tuple[CSCGraph, torch.Tensor, torch.Tensor]:
    """A graph, seeds with duplicates, positions of edges with duplicates."""
    graph = draw(csc_graphs())
    seeds = draw(st.lists(st.integers(0, graph.num_nodes - 1), max_size=10))
    edges = draw(st.lists(st.integers(0, graph.num_edges - 1), max_size=30)) if graph.num_edges else []
    return graph, torch.tensor(seeds, dtype=torch.int64), torch.tensor(edges, dtype=torch.int64)


@given(case=seeds_and_edges())
def test_a_dense_map_numbers_like_the_reference_and_forgets(case):
    graph, seeds, edges = case
    local_of = np.full(graph.num_nodes, -1, np.int32)
    nodes, rows = np.empty(seeds.numel() + edges.numel(), np.int64), np.empty(seeds.numel(), np.int64)
    local = np.empty(edges.numel(), np.int32)
    num_seeds = cpu.relabel_seeds_dense(seeds.numpy(), local_of, nodes, rows)
    count = cpu.relabel_dense(graph.indices.numpy(), edges.numpy(), local_of, nodes, num_seeds, local)
    check(case, num_seeds, nodes[:count], rows, local)
    cpu.forget_dense(nodes[:count], local_of)
    assert (local_of == -1).all()


@given(case=seeds_and_edges())
def test_a_hash_map_numbers_like_the_reference(case):
    graph, seeds, edges = case
    num_slots = 64
    keys, values = np.full(num_slots, -1, np.int64), np.empty(num_slots, np.int32)
    nodes, rows = np.empty(seeds.numel() + edges.numel(), np.int64), np.empty(seeds.numel(), np.int64)
    local = np.empty(edges.numel(), np.int32)
    num_seeds = cpu.relabel_seeds_hashed(seeds.numpy(), keys, values, nodes, rows)
    # Half-way to another table, as where it has grown too small.
    keys, values = np.full(2 * num_slots, -1, np.int64), np.empty(2 * num_slots, np.int32)
    cpu.rehash(nodes[:num_seeds], keys, values)
    count = cpu.relabel_hashed(graph.indices.numpy(), edges.numpy(), keys, values, nodes, num_seeds, local)
    check(case, num_seeds, nodes[:count], rows, local)


def check(case, num_seeds: int, nodes: np.ndarray, rows: np.ndarray, local: np.ndarray) -> None:
    graph, seeds, edges = case
    expected_seeds, expected_rows = reference.relabel_seeds(seeds)
    expected_nodes, expected_local = reference.relabel(graph.indices, edges, expected_seeds)
    assert num_seeds == expected_seeds.numel()
    assert rows.tolist() == expected_rows.tolist()
    assert nodes.tolist() == expected_nodes.tolist()
    assert local.tolist() == expected_local.tolist()
