"""Sparse gradients of learned embeddings, summed over ranks."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
import torch.multiprocessing
from torch import Tensor

from gnnfast.nn import DotDecoder, LightGCN, LinkModel, NodeEmbedding
from gnnfast.sampler import LinkNeighborSampler
from gnnfast.training import RowAdam
from tests.training.link_graphs import easy_recommendations

EDGES = 24


def trained_rows(rank: int, world_size: int, store: str | None) -> Tensor:
    """The embedding after three steps, of which each rank makes its share."""
    torch.manual_seed(0)
    dataset = easy_recommendations()
    model: torch.nn.Module = LinkModel(LightGCN(4, 1), DotDecoder(), NodeEmbedding(70, 4, sparse=True))
    rows = model.embedding.weight  # type: ignore[union-attr]
    if store is not None:
        torch.distributed.init_process_group("gloo", init_method=f"file://{store}", rank=rank, world_size=world_size)
        model = torch.nn.parallel.DistributedDataParallel(model)
    optimizer = RowAdam(model.parameters(), lr=0.05)
    sampler = LinkNeighborSampler(dataset.graph, [-1], negatives="per_source", dst_range=(40, 69))
    for step in range(3):
        edges = dataset.train_edges[:, step * EDGES : (step + 1) * EDGES]
        batch = sampler.sample_edges(edges.tensor_split(world_size, dim=1)[rank].contiguous(), step)
        scores, _ = model(None, batch.blocks, batch.node_ids, batch.edge_rows)
        optimizer.zero_grad()
        losses = torch.nn.functional.binary_cross_entropy_with_logits(scores, batch.edge_labels, reduction="sum")
        (losses * world_size / EDGES).backward()
        optimizer.step()
    return rows.detach()  # type: ignore[operator,return-value]


def _rank(rank: int, world_size: int, folder: str) -> None:
    torch.save(trained_rows(rank, world_size, f"{folder}/store"), f"{folder}/{rank}.pt")
    torch.distributed.destroy_process_group()


@pytest.mark.slow
def test_two_ranks_make_the_steps_of_one(tmp_path: Path):
    torch.multiprocessing.spawn(_rank, (2, str(tmp_path)), nprocs=2)  # type: ignore[no-untyped-call]
    first, second = (torch.load(tmp_path / f"{rank}.pt") for rank in (0, 1))
    assert torch.equal(first, second)
    assert torch.allclose(first, trained_rows(0, 1, None), atol=1e-6)
