from __future__ import annotations

import pytest
import torch

from gnnfast.loader import DataLoader
from tests.loader.test_dataloader import make
from tests.minibatches import digest


@pytest.mark.gpu
@pytest.mark.parametrize("num_threads", [0, 4])
def test_overlapped_copies_arrive_whole(num_threads: int):
    def epoch(loader: DataLoader) -> str:
        return digest(batch.to("cpu") for batch in loader)

    assert epoch(make(device="cuda", num_threads=num_threads)) == epoch(make())


@pytest.mark.gpu
def test_a_batch_in_use_is_not_overwritten_by_the_next_copies():
    kept = []
    for batch in make(device="cuda", num_threads=4):
        torch.cuda._sleep(10_000_000)  # the stream that uses the batch falls behind
        kept.append((batch.x * 1.0, batch.node_ids))
    expected = make().dataset.features.rows
    assert all(torch.equal(x.cpu(), expected[ids.cpu()]) for x, ids in kept)
