from __future__ import annotations

import os
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from unittest import mock

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from gnnfast.graph import CSCGraph
from gnnfast.sampler import EpochSampler, GASSampler
from tests.minibatches import digest
from tests.strategies import csc_graphs


@pytest.fixture(autouse=True, scope="module")
def _own_cache(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    with mock.patch.dict(os.environ, {"XDG_CACHE_HOME": str(tmp_path_factory.mktemp("cache"))}):
        yield


@given(graph=csc_graphs(), seed=st.integers(0, 2**64 - 1), data=st.data())
def test_mini_batches_have_every_node_once_with_all_its_in_edges_and_no_node_too_many(
    graph: CSCGraph, seed: int, data: st.DataObject
):
    num_parts = data.draw(st.integers(1, graph.num_nodes))
    sampler = GASSampler(graph, num_parts, data.draw(st.integers(1, num_parts)), "grow", edge_ids=True)
    src, dst = graph.to_edge_index()
    position_of = torch.arange(graph.num_edges) if graph.edge_ids is None else graph.edge_ids.argsort()
    nodes = []
    for number in range(sampler.num_batches):
        batch = sampler.sample_batch(number, seed)
        (block,) = batch.blocks
        assert torch.equal(batch.seed_nodes, batch.node_ids[: block.num_dst])
        assert torch.equal(block.src_nodes, batch.node_ids)
        assert batch.seed_rows is None
        assert block.inclusion_weight is None
        nodes.append(batch.seed_nodes)
        positions = position_of[block.edge_ids]
        is_in_edge = torch.isin(dst, batch.seed_nodes)
        assert torch.equal(positions.sort().values, is_in_edge.nonzero().view(-1))
        local_src, local_dst = block.edge_index
        assert torch.equal(src[positions], batch.node_ids[local_src])
        assert torch.equal(dst[positions], batch.node_ids[local_dst])
        # The halo: whom they hear and are not themselves.
        halo = set(src[is_in_edge].tolist()) - set(batch.seed_nodes.tolist())
        assert sorted(batch.node_ids[block.num_dst :].tolist()) == sorted(halo)
        assert torch.equal(block.src_degree, graph.degree[batch.node_ids])
        assert graph.edge_weight is None or torch.equal(block.edge_weight, graph.edge_weight[positions])
    assert torch.cat(nodes).sort().values.tolist() == list(range(graph.num_nodes))


def ring(num_nodes: int) -> CSCGraph:
    return CSCGraph.from_edge_index(torch.stack([torch.arange(num_nodes), (torch.arange(num_nodes) + 1) % num_nodes]))


def test_an_epoch_is_a_function_of_its_seed_on_any_threads():
    sampler = GASSampler(ring(300), 20, 3)

    def epoch(seed: int) -> str:
        return digest(sampler.sample_batch(batch, seed) for batch in range(sampler.num_batches))

    alone = [epoch(seed) for seed in range(20)]
    assert len(set(alone)) == 20
    with ThreadPoolExecutor(8) as threads:
        assert list(threads.map(epoch, range(20))) == alone


def test_parts_keep_the_halo_small():
    sizes = {
        method: sum(GASSampler(ring(300), 20, 2, method).sample_batch(batch, 0).num_nodes for batch in range(10))
        for method in ("auto", "grow", "random")
    }
    # Twenty arcs with a node before each; an arc that the built-in partitioner ends elsewhere has more.
    assert sizes["auto"] <= 300 + 30
    assert sizes["grow"] <= 300 + 40
    assert sizes["random"] > 500


def test_it_keeps_the_protocol_and_declares_its_bias():
    sampler = GASSampler(ring(300), 20, 3)
    assert isinstance(sampler, EpochSampler)
    assert sampler.needs_history
    assert sampler.num_batches == 7
    assert sampler.law.node_inclusion().tolist() == [1 / 7] * 300
    assert "earlier weights" in sampler.law.bias
    assert not sampler.law.exact
    assert 0 < sampler.cut_share < 0.2


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"num_parts": 5, "parts_per_batch": 6}, "parts_per_batch must be from 1 to num_parts, 5; got 6"),
        ({"num_parts": 31}, "num_parts must be from 1 to the 30 nodes of the graph, got 31"),
        ({"history_dtype": "int8"}, "history_dtype must be float32, float16 or bfloat16, got 'int8'"),
    ],
)
def test_settings_that_make_no_epoch_are_refused(settings: dict[str, object], message: str):
    with pytest.raises(ValueError, match=message):
        GASSampler(ring(30), **settings)  # type: ignore[arg-type]
