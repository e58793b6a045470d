from __future__ import annotations

import logging
import os
from collections.abc import Iterator
from pathlib import Path
from unittest import mock

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from gnnfast.graph import CSCGraph
from gnnfast.kernels.reference.partition import count_cut_edges
from gnnfast.partition import METHODS, Partition, partition_graph
from tests.strategies import csc_graphs


@pytest.fixture(autouse=True, scope="module")
def _own_cache(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    with mock.patch.dict(os.environ, {"XDG_CACHE_HOME": str(tmp_path_factory.mktemp("cache"))}):
        yield


def communities(num_communities: int = 8, size: int = 40, seed: int = 0) -> CSCGraph:
    """Ten edges per node to its own community, one to any node."""
    generator = torch.Generator().manual_seed(seed)
    num_nodes = num_communities * size
    dst = torch.arange(num_nodes).repeat(11)
    inside = dst // size * size + torch.randint(0, size, dst.shape, generator=generator)
    anywhere = torch.randint(0, num_nodes, dst.shape, generator=generator)
    return CSCGraph.from_edge_index(
        torch.stack([torch.where(torch.arange(dst.numel()) < num_nodes, anywhere, inside), dst])
    )


@pytest.mark.parametrize("method", METHODS)
@given(graph=csc_graphs(), seed=st.integers(0, 2**64 - 1), data=st.data())
def test_every_node_of_any_graph_has_a_part_and_no_part_is_empty(
    method: str, graph: CSCGraph, seed: int, data: st.DataObject
):
    num_parts = data.draw(st.integers(1, graph.num_nodes))
    partition = partition_graph(graph, num_parts, method, seed)
    assert partition.part_of.dtype == torch.int64
    assert partition.part_of.shape == (graph.num_nodes,)
    assert sorted(partition.part_of.unique().tolist()) == list(range(num_parts))
    assert partition.sizes.tolist() == torch.bincount(partition.part_of).tolist()
    num_cut, num_proper = count_cut_edges(graph.indptr, graph.indices, partition.part_of)
    assert partition.cut_share == num_cut / max(num_proper, 1)


@given(graph=csc_graphs(), data=st.data())
def test_the_nodes_of_parts_come_in_the_order_asked_for(graph: CSCGraph, data: st.DataObject):
    partition = partition_graph(graph, data.draw(st.integers(1, graph.num_nodes)), "random")
    parts = torch.tensor(data.draw(st.lists(st.integers(0, partition.num_parts - 1))), dtype=torch.int64)
    expected = [node for part in parts.tolist() for node in (partition.part_of == part).nonzero().view(-1).tolist()]
    assert partition.nodes_of(parts).tolist() == expected


@pytest.mark.parametrize(("method", "most"), [("metis", 0.1), ("grow", 0.1), ("random", 1), ("block", 0.1)])
def test_communities_are_found(method: str, most: float):
    # An edge to any node, of eleven, seven eighths of which leave the community: 0.08.
    partition = partition_graph(communities(), 8, method)
    assert partition.cut_share < most
    assert (method == "random") == (partition.cut_share > 0.8)


@pytest.mark.parametrize(("method", "most"), [("metis", 0.031), ("grow", 0.11), ("random", 0.01), ("block", 0.01)])
def test_parts_keep_their_bounds(method: str, most: float):
    partition = partition_graph(communities(16, 50), 8, method)
    assert partition.imbalance <= most
    assert partition.imbalance == partition.sizes.max() * 8 / 800 - 1


def test_an_edge_counts_as_often_as_it_is_there():
    # A path of four pairs; the edges inside the pairs are single, those between them tenfold.
    path = torch.tensor([[0, 1, 2, 3, 4, 5, 6], [1, 2, 3, 4, 5, 6, 7]])
    heavy = path[:, 1::2].repeat(1, 9)
    graph = CSCGraph.from_edge_index(torch.cat([path, heavy], 1), 8)
    for method in ("metis", "grow"):
        part_of = partition_graph(graph, 4, method).part_of
        cut = part_of[graph.to_edge_index()[0]] != part_of[graph.to_edge_index()[1]]
        assert int(cut.sum()) <= 13


@pytest.mark.parametrize("method", ["metis", "grow", "random"])
def test_parts_are_a_function_of_the_seed(method: str, tmp_path: Path):
    graph = communities(20, 30)
    parts = [
        partition_graph(graph, 33, method, seed, tmp_path / str(run)).part_of for run, seed in enumerate((0, 1, 0, 2))
    ]
    assert torch.equal(parts[0], parts[2])
    assert not torch.equal(parts[0], parts[1])
    assert not torch.equal(parts[1], parts[3])


@pytest.mark.parametrize("method", ["metis", "grow"])
def test_kept_parts_serve_the_same_graph_and_parameters_only(method: str, tmp_path: Path):
    def computed(graph: CSCGraph, num_parts: int = 5, seed: int = 0) -> bool:
        before = partition_graph(graph, num_parts, method, seed, tmp_path / "elsewhere")
        name = f"gnnfast.partition.partitioner.{method}"
        with mock.patch(name, side_effect=lambda *_: before.part_of.numpy().copy()) as partitioner:
            partition = partition_graph(graph, num_parts, method, seed, tmp_path / "kept")
        assert torch.equal(partition.part_of, before.part_of)
        assert partition.cut_share == before.cut_share
        return bool(partitioner.called)

    graph, other = communities(), communities(seed=1)
    assert computed(graph)
    assert not computed(graph)
    assert computed(other)
    assert computed(graph, num_parts=6)
    assert computed(graph, seed=1)
    assert not computed(graph)

    files = list((tmp_path / "kept").iterdir())
    assert len(files) == 4
    for file in files:
        file.write_bytes(file.read_bytes()[:-40])
    assert computed(graph)
    assert not computed(graph)


def test_another_version_of_the_library_computes_anew(tmp_path: Path):
    graph = communities()
    partition_graph(graph, 5, "metis", 0, tmp_path)
    with mock.patch("gnnfast.partition.partitioner.metadata.version", return_value="0.0"):
        partition_graph(graph, 5, "metis", 0, tmp_path)
    assert len(list(tmp_path.iterdir())) == 2


def test_without_metis_auto_warns_in_a_line_and_grows(caplog: pytest.LogCaptureFixture):
    graph = communities()
    assert partition_graph(graph, 5).method == "metis"
    with mock.patch("gnnfast.partition.partitioner.util.find_spec", return_value=None):
        with caplog.at_level(logging.WARNING):
            assert partition_graph(graph, 5).method == "grow"
        with pytest.raises(ModuleNotFoundError, match="pip install 'gnnfast\\[partition\\]'"):
            partition_graph(graph, 5, "metis")
    assert [record.getMessage().count("\n") for record in caplog.records] == [0]
    assert "METIS is not installed" in caplog.text


@pytest.mark.parametrize("num_parts", [0, 4])
def test_parts_that_would_be_empty_are_refused(num_parts: int):
    graph = CSCGraph.from_edge_index(torch.tensor([[0], [1]]), 3)
    with pytest.raises(ValueError, match=f"from 1 to the 3 nodes of the graph, got {num_parts}"):
        partition_graph(graph, num_parts)


def test_another_method_is_refused():
    with pytest.raises(ValueError, match="method must be one of auto, metis, grow, random, block, got 'best'"):
        partition_graph(communities(), 2, "best")


def test_a_partition_says_what_it_is():
    partition = Partition(torch.tensor([0, 1, 1]), 2, 0.25, "metis")
    assert repr(partition) == "Partition(num_parts=2, method='metis', cut_share=0.250, imbalance=0.333)"


def test_a_part_that_the_library_leaves_empty_gets_a_node():
    graph = communities()
    with mock.patch("gnnfast.partition.partitioner.grow", return_value=np.zeros(graph.num_nodes, np.int64)):
        partition = partition_graph(graph, 7, "grow", seed=123)
    assert partition.sizes.tolist() == [graph.num_nodes - 6, 1, 1, 1, 1, 1, 1]
