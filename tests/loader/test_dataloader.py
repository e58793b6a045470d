from __future__ import annotations

import gc
import json
import pickle
import threading
import time
import tracemalloc
from collections.abc import Callable, Iterator
from dataclasses import replace
from itertools import islice
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from gnnfast.graph import Block, CSCGraph, Dataset, FeatureStore, MiniBatch
from gnnfast.loader import DataLoader
from gnnfast.runtime.cores import available_cores
from gnnfast.sampler import NeighborSampler
from tests.minibatches import contents, digest, tree

NUM_NODES = 2000


def make_dataset(num_nodes: int = NUM_NODES, num_features: int = 33, dtype: torch.dtype = torch.float32) -> Dataset:
    generator = torch.Generator().manual_seed(0)
    edge_index = torch.randint(num_nodes, (2, 12 * num_nodes), generator=generator)
    nodes = torch.randperm(num_nodes, generator=generator)
    return Dataset(
        "random",
        CSCGraph.from_edge_index(edge_index, num_nodes, torch.rand(edge_index.shape[1], generator=generator)),
        FeatureStore(torch.randn(num_nodes, num_features, generator=generator).to(dtype)),
        torch.randint(5, (num_nodes,), generator=generator),
        train_ids=nodes[: num_nodes // 2],
        val_ids=nodes[num_nodes // 2 : 3 * num_nodes // 4],
        test_ids=nodes[3 * num_nodes // 4 :],
    )


DATASET = make_dataset()
SAMPLER = NeighborSampler(DATASET.graph, [5, 3], edge_ids=True)


def make(**changes: Any) -> DataLoader:
    return DataLoader(**{"dataset": DATASET, "sampler": SAMPLER, "batch_size": 150, "seed": 7} | changes)


class SamplerOfOne:
    """Only the seeds themselves; calls `then` before it answers."""

    def __init__(self, then: Callable[[Tensor], object] = lambda seed_nodes: None):
        self.then = then

    def sample(self, seed_nodes: Tensor, seed: int) -> MiniBatch:
        self.then(seed_nodes)
        block = Block(torch.zeros(seed_nodes.numel() + 1, dtype=torch.int64), torch.empty(0).int(), seed_nodes.numel())
        return MiniBatch(seed_nodes, seed_nodes, [block])


class InNeighborSampler:
    """A user's own, in plain torch: all in-neighbors, one layer."""

    num_layers = 1

    def __init__(self, graph: CSCGraph):
        self.edge_index = graph.to_edge_index()

    def sample(self, seed_nodes: Tensor, seed: int) -> MiniBatch:
        src, dst = self.edge_index
        sources = [src[dst == node] for node in seed_nodes]
        heard = torch.cat([seed_nodes, *sources]).unique()
        node_ids = torch.cat([seed_nodes, heard[~torch.isin(heard, seed_nodes)]])
        local = {node: row for row, node in enumerate(node_ids.tolist())}
        indices = torch.tensor([local[node] for column in sources for node in column.tolist()], dtype=torch.int32)
        indptr = torch.tensor([0] + [column.numel() for column in sources]).cumsum(0)
        return MiniBatch(seed_nodes, node_ids, [Block(indptr, indices, node_ids.numel(), src_nodes=node_ids)])


def wait_until(holds: Callable[[], bool]) -> bool:
    """Whether it comes to hold within ten seconds."""
    gc.collect()  # loaders of other tests, held by a cycle
    end = time.monotonic() + 10
    while time.monotonic() < end:
        if holds():
            return True
        time.sleep(0.005)
    return False


def loader_threads() -> list[threading.Thread]:
    return [thread for thread in threading.enumerate() if thread.name.startswith("gnnfast-loader")]


def test_features_and_labels_belong_to_the_nodes():
    for batch in make():
        assert torch.equal(batch.x, DATASET.features.rows[batch.node_ids])
        assert torch.equal(batch.y, DATASET.labels[batch.seed_nodes])
        assert batch.num_step_seeds == batch.num_seeds


@given(
    num_seeds=st.integers(0, 40),
    batch_size=st.integers(1, 50),
    drop_last=st.booleans(),
    shuffle=st.booleans(),
    world_size=st.sampled_from([1, 2, 4]),
)
def test_an_epoch_visits_every_seed_once(
    num_seeds: int, batch_size: int, drop_last: bool, shuffle: bool, world_size: int
):
    seeds = torch.arange(100, 100 + num_seeds)
    options = {"batch_size": batch_size, "drop_last": drop_last, "shuffle": shuffle, "num_threads": 0}
    loaders = [
        make(sampler=SamplerOfOne(), seeds=seeds, rank=rank, world_size=world_size, **options)
        for rank in range(world_size)
    ]
    steps = list(zip(*loaders, strict=True))
    assert {len(loader) for loader in loaders} == {len(steps)}
    sizes = [sum(share.num_seeds for share in step) for step in steps]
    full, rest = divmod(num_seeds, batch_size)
    assert sizes == [batch_size] * full + [rest] * (rest > 0 and not drop_last)
    assert all(share.num_step_seeds == size for step, size in zip(steps, sizes, strict=True) for share in step)
    visited = [node for step in steps for share in step for node in share.seed_nodes.tolist()]
    if shuffle:
        assert len(set(visited)) == len(visited)
        assert set(visited) <= set(seeds.tolist())
    else:
        assert visited == seeds[: len(visited)].tolist()


def test_ranks_share_a_step_evenly():
    loaders = [make(rank=rank, world_size=4, batch_size=150) for rank in range(4)]
    for step in zip(*loaders, strict=True):
        sizes = [share.num_seeds for share in step]
        assert max(sizes) - min(sizes) <= 1


@pytest.mark.parametrize("world_size", [2, 4])
def test_the_step_of_all_ranks_is_the_step_of_one(world_size: int):
    together = make(batch_size=50)
    shares = [make(batch_size=50, rank=rank, world_size=world_size) for rank in range(world_size)]
    for whole, *parts in islice(zip(together, *shares, strict=True), 3):
        assert torch.equal(torch.cat([part.seed_nodes for part in parts]), whole.seed_nodes)
        assert torch.equal(torch.cat([part.y for part in parts]), whole.y)
        trees = [tree(part, row) for part in parts for row in range(part.num_seeds)]
        assert trees == [tree(whole, row) for row in range(whole.num_seeds)]


def test_ranks_without_seeds_make_empty_batches():
    loaders = [make(seeds=torch.tensor([4, 9]), rank=rank, world_size=4) for rank in range(4)]
    (step,) = zip(*loaders, strict=True)
    assert [share.num_seeds for share in step] == [1, 1, 0, 0]
    assert [share.num_step_seeds for share in step] == [2] * 4
    assert step[3].x.shape == (0, DATASET.num_features)


@pytest.mark.parametrize("num_threads", [1, 2, 8])
@pytest.mark.parametrize("prefetch", [1, 2, 16])
def test_an_epoch_does_not_depend_on_threads_or_prefetch(num_threads: int, prefetch: int):
    alone = make(num_threads=0)
    threaded = make(num_threads=num_threads, prefetch=prefetch)
    for _ in range(2):
        assert digest(threaded) == digest(alone)


def test_every_epoch_has_an_order_and_draws_of_its_own():
    loader = make()
    epochs = [list(loader) for _ in range(3)]
    assert len({digest(epoch) for epoch in epochs}) == 3
    assert loader.epoch == 3
    in_order = make(shuffle=False)
    first, second = next(iter(in_order)), list(in_order) and next(iter(in_order))
    assert torch.equal(first.seed_nodes, second.seed_nodes)
    assert tree(first, 0) != tree(second, 0)


def test_another_seed_gives_other_epochs():
    # The orders of neighboring seeds and epochs are not one another's.
    orders = {
        tuple(torch.cat([batch.seed_nodes for batch in loader]).tolist())
        for seed in range(3)
        for loader in [make(sampler=SamplerOfOne(), seed=seed, num_threads=0)]
        for _ in range(3)
    }
    assert len(orders) == 9


def test_an_epoch_can_be_chosen():
    loader = make()
    epochs = [digest(loader) for _ in range(3)]
    loader.set_epoch(1)
    assert digest(loader) == epochs[1]
    assert loader.epoch == 2


def test_an_epoch_left_early_begins_anew():
    loader = make(num_threads=2)
    expected = digest(make())
    for _ in islice(loader, 3):
        pass
    assert loader.epoch == 0
    assert digest(loader) == expected


@pytest.mark.parametrize("num_threads", [0, 2])
@pytest.mark.parametrize("num_done", [0, 1, 3, 6, 7])
def test_a_restored_loader_goes_on_as_the_unbroken_one(num_threads: int, num_done: int):
    def from_epoch_two(loader: DataLoader) -> Iterator[MiniBatch]:
        for epoch in (2, 3):
            loader.set_epoch(epoch)
            yield from loader

    unbroken = list(from_epoch_two(make(num_threads=num_threads)))
    assert len(unbroken) == 14
    loader = make(num_threads=num_threads)
    running = from_epoch_two(loader)
    loader.set_epoch(2)
    done = list(islice(running, num_done))
    state = json.loads(json.dumps(loader.state_dict()))
    restored = make(num_threads=num_threads)
    restored.load_state_dict(state)
    assert digest([*done, *from_epoch_two(restored)]) == digest(unbroken)


def test_a_state_between_epochs_begins_the_next_one():
    loader = make()
    list(loader)
    restored = make()
    restored.load_state_dict(loader.state_dict())
    assert digest(restored) == digest(loader)


def test_a_restored_step_counts_once():
    loader = make()
    loader.load_state_dict({**make().state_dict(), "step": 5})
    assert len(list(loader)) == len(loader) - 5
    assert len(list(loader)) == len(loader)
    loader.load_state_dict({**make().state_dict(), "step": 5})
    loader.set_epoch(4)
    assert len(list(loader)) == len(loader)


@pytest.mark.parametrize(
    "wrong",
    [
        {"seed": 8},
        {"batch_size": 99},
        {"shuffle": False},
        {"drop_last": True},
        {"seeds_checksum": 0},
        {"step": 8},
        {"step": -1},
    ],
)
def test_the_state_of_another_loader_is_refused(wrong: dict[str, int]):
    with pytest.raises(ValueError, match=r"is not of this loader: .*, 7 steps an epoch"):
        make().load_state_dict({**make().state_dict(), **wrong})


def test_an_empty_epoch_has_no_batches():
    empty = make(seeds=torch.empty(0, dtype=torch.int64))
    assert len(empty) == 0
    assert list(empty) == []
    assert list(make(batch_size=1001, drop_last=True)) == []
    assert empty.epoch == 1


@pytest.mark.parametrize("num_threads", [0, 1, 4])
def test_a_row_kept_by_the_user_survives_a_hundred_batches(num_threads: int):
    dataset = make_dataset(num_features=256)
    loader = make(dataset=dataset, batch_size=100, num_threads=num_threads)
    batch = next(iter(loader))
    kept, node, ids = batch.x[5], int(batch.node_ids[5]), batch.blocks[-1].src_nodes[:40]
    expected_ids = ids.clone()
    del batch
    # The next batches do use that batch's other memory.
    addresses = [batch.x.data_ptr() for _ in range(11) for batch in loader]
    assert len(addresses) > 100
    assert len(set(addresses)) < 30
    assert torch.equal(kept, dataset.features.rows[node])
    assert torch.equal(ids, expected_ids)


def test_memory_is_flat_over_the_epochs():
    loader = make(dataset=make_dataset(num_features=256), batch_size=100, num_threads=2)
    for _ in range(2):
        sizes = [batch.num_nodes for batch in loader]
    tracemalloc.start()
    for _ in range(10):
        for batch in loader:
            assert batch.x is not None
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    # Threads may once have more batches under way than ever before; a hundred went by.
    assert peak < 8 * max(sizes) * 256 * 4


@pytest.mark.parametrize("stored", [torch.float16, torch.bfloat16, torch.float64])
@pytest.mark.parametrize("wanted", [None, torch.float32])
def test_features_come_in_the_type_asked_for(stored: torch.dtype, wanted: torch.dtype | None):
    dataset = make_dataset(dtype=stored)
    batch = next(iter(make(dataset=dataset, dtype=wanted)))
    assert batch.x.dtype == (wanted or stored)
    assert torch.equal(batch.x, dataset.features.rows[batch.node_ids].to(wanted or stored))


def test_rows_are_rounded_to_what_the_model_computes_in():
    loader = make()
    with loader.rounding_to(torch.bfloat16):
        batch = next(iter(loader))
    assert batch.x.dtype == torch.bfloat16
    assert torch.equal(batch.x, DATASET.features.rows[batch.node_ids].bfloat16())
    assert next(iter(loader)).x.dtype == torch.float32
    asked = make(dtype=torch.float64)
    with asked.rounding_to(torch.bfloat16):
        assert next(iter(asked)).x.dtype == torch.float64


def afresh(block: Block) -> Block:
    return Block(block.indptr, block.indices, block.num_src)


@pytest.mark.parametrize("num_threads", [0, 1])
def test_what_the_model_asks_of_a_block_is_made_ahead(num_threads: int):
    loader = make(sampler=NeighborSampler(DATASET.graph, [3, 3]), batch_size=10, num_threads=num_threads, prefetch=1)
    ahead = []
    for batch in loader:
        ahead.append(["transpose" in vars(block) for block in batch.blocks])
        assert all(map(torch.equal, batch.blocks[1].transpose, afresh(batch.blocks[1]).transpose))
    # The first ones are made before the model has seen any.
    assert ahead[0] == [False, False]
    assert ahead[-1] == [False, True]


def test_threads_are_those_of_the_machine_unless_told():
    assert make().num_threads == min(available_cores(), 4)
    assert make(num_threads=3).num_threads == 3
    with pytest.raises(ValueError, match="num_threads"):
        make(num_threads="many")


def test_a_batch_goes_to_the_device_as_a_whole():
    batch = next(iter(make(device="meta")))
    assert all(tensor.is_meta for name, tensor in contents(batch) if isinstance(tensor, Tensor) and tensor.dim())


@pytest.mark.parametrize("num_threads", [0, 2])
def test_a_failing_sampler_raises_in_the_loop_and_names_its_seeds(num_threads: int):
    seeds = torch.arange(40)

    def fail(seed_nodes: Tensor) -> None:
        if 22 in seed_nodes.tolist():
            raise RuntimeError("no luck")

    loader = make(sampler=SamplerOfOne(fail), seeds=seeds, shuffle=False, batch_size=10, num_threads=num_threads)
    batches = iter(loader)
    assert [batch.num_seeds for batch in islice(batches, 2)] == [10, 10]
    with pytest.raises(RuntimeError, match="no luck") as caught:
        next(batches)
    assert caught.value.__notes__ == [
        "while making step 2 of epoch 0, from seeds 20, 21, 22, 23, 24, 25, 26, 27 and 2 more"
    ]
    assert loader.state_dict()["step"] == 2
    # The loader is as good as new.
    loader.sampler.then = lambda seed_nodes: None
    assert len(list(loader)) == 4


def test_a_seed_outside_the_samplers_graph_raises_in_the_loop():
    loader = make(sampler=NeighborSampler(make_dataset(10).graph, [2]))
    with pytest.raises(ValueError, match="the sampler's graph numbers nodes 0 to 9"):
        next(iter(loader))


@pytest.mark.parametrize("prefetch", [1, 3])
def test_batches_are_made_while_one_is_in_use(prefetch: int):
    made: list[int] = []
    loader = make(
        sampler=SamplerOfOne(lambda seed_nodes: made.append(1)), batch_size=10, num_threads=1, prefetch=prefetch
    )
    batches = iter(loader)
    for num_used in (1, 2, 3):
        next(batches)
        assert wait_until(lambda expected=num_used + prefetch: len(made) == expected)
    batches.close()


def test_few_large_batches_are_made_ahead(monkeypatch: pytest.MonkeyPatch):
    made: list[int] = []
    loader = make(sampler=SamplerOfOne(lambda seed_nodes: made.append(1)), batch_size=10, num_threads=1, prefetch=8)
    batches = iter(loader)
    row_bytes = DATASET.features.rows.element_size() * DATASET.num_features
    monkeypatch.setattr("gnnfast.loader.dataloader._PREFETCHED_BYTES", 2 * 10 * row_bytes)
    for num_used in (1, 2):
        next(batches)
        assert wait_until(lambda expected=num_used + 2: len(made) == expected)
    time.sleep(0.05)
    assert len(made) == 4
    batches.close()


def test_an_epoch_left_early_makes_no_further_batches():
    made: list[int] = []
    gate = threading.Semaphore(1)

    def make_one(seed_nodes: Tensor) -> None:
        gate.acquire()
        made.append(1)

    loader = make(sampler=SamplerOfOne(make_one), batch_size=10, num_threads=1, prefetch=16)
    batches = iter(loader)
    next(batches)
    batches.close()
    gate.release(100)
    del loader, batches
    assert wait_until(lambda: not loader_threads())
    # The first one, and the one that was under way.
    assert len(made) <= 2


def test_threads_work_at_the_same_time():
    together = threading.Barrier(3, timeout=10)
    loader = make(sampler=SamplerOfOne(lambda seed_nodes: together.wait()), batch_size=50, num_threads=3)
    assert len(list(islice(loader, 3))) == 3
    together.abort()


@pytest.mark.parametrize("num_used", [1, 7])
def test_threads_end_with_their_loader(num_used: int):
    gc.collect()
    assert wait_until(lambda: not loader_threads())
    loader = make(num_threads=3)
    for _ in islice(loader, num_used):
        pass
    assert loader_threads()
    del loader
    assert wait_until(lambda: not loader_threads())


def test_no_thread_starts_without_being_asked_for():
    loader = make(num_threads=0)
    before = threading.active_count()
    next(iter(loader))
    assert threading.active_count() <= before


def test_stages_are_timed():
    loader = make(num_threads=2)
    list(loader)
    assert loader.stage_seconds["sample"] > 0
    assert loader.stage_seconds["gather"] > 0
    assert loader.stage_seconds["wait"] > 0


def test_a_split_is_called_by_its_name():
    assert torch.equal(make(seeds="val").seeds, DATASET.val_ids)
    assert torch.equal(make().seeds, DATASET.train_ids)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"batch_size": 0}, "batch_size=0"),
        ({"num_threads": -1}, "num_threads=-1"),
        ({"prefetch": 0}, "prefetch=0"),
        ({"rank": 2, "world_size": 2}, "rank=2, world_size=2"),
        ({"rank": -1}, "rank=-1"),
        ({"seeds": "training"}, "one of train, val, test, got 'training'"),
        ({"seeds": torch.tensor([1], dtype=torch.int32)}, "seeds must be int64"),
        ({"seeds": torch.tensor([[1]])}, "of one dimension"),
        ({"seeds": torch.tensor([NUM_NODES])}, f"seeds must be nodes, 0 to {NUM_NODES - 1}"),
        ({"seeds": torch.tensor([-1])}, "seeds must be nodes"),
    ],
)
def test_arguments_out_of_range_are_refused(changes: dict[str, Any], message: str):
    with pytest.raises(ValueError, match=message):
        make(**changes)


def test_a_loader_stays_in_its_process():
    with pytest.raises(TypeError, match="make a new one in the other process"):
        pickle.dumps(make())


@settings(max_examples=20)
@given(num_threads=st.integers(0, 2), batch_size=st.integers(1, 40))
def test_a_users_own_sampler_feeds_like_any_other(num_threads: int, batch_size: int):
    seeds = torch.arange(0, NUM_NODES, 100)
    options = {"seeds": seeds, "batch_size": batch_size, "num_threads": num_threads}
    own = make(sampler=InNeighborSampler(DATASET.graph), **options)
    native = make(sampler=NeighborSampler(DATASET.graph, [-1]), **options)
    for batch, expected in zip(own, native, strict=True):
        assert torch.equal(batch.x, DATASET.features.rows[batch.node_ids])
        assert [tree(batch, row) for row in range(batch.num_seeds)] == [
            tree(expected, row) for row in range(batch.num_seeds)
        ]


class Broken:
    """A sampler that gets one thing wrong."""

    def __init__(self, change: Callable[[MiniBatch], Any]):
        self.right = make().sampler
        self.change = change

    def sample(self, seed_nodes: Tensor, seed: int) -> Any:
        return self.change(self.right.sample(seed_nodes, seed))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda batch: None, r"Broken\.sample must return a MiniBatch, got NoneType"),
        (lambda batch: replace(batch, node_ids=batch.node_ids + 100_000), r"Broken\.sample returned node 10\d{4}"),
        (lambda batch: replace(batch, node_ids=batch.node_ids[1:]), "one int64 node id per source of the first block"),
        (lambda batch: replace(batch, seed_nodes=batch.seed_nodes[:5]), r"Broken\.sample returned 5 seeds of \d+"),
    ],
)
def test_a_mini_batch_that_would_be_misread_is_refused(change: Callable[[MiniBatch], Any], message: str):
    with pytest.raises((TypeError, ValueError), match=message):
        next(iter(make(sampler=Broken(change))))


def test_what_cannot_sample_is_refused():
    with pytest.raises(TypeError, match="object is no sampler"):
        make(sampler=object())


def test_a_step_sampler_is_told_the_step_and_the_seed_of_its_epoch():
    class Recorder(SamplerOfOne):
        def sample_step(self, seed_nodes: Tensor, epoch_seed: int, step: int) -> MiniBatch:
            told.append((epoch_seed, step))
            return self.sample(seed_nodes, 0)

    told: list[tuple[int, int]] = []
    loader = make(sampler=Recorder(), batch_size=500, num_threads=0)
    list(loader), list(loader)
    assert [step for _, step in told] == 2 * list(range(len(loader)))
    assert len(set(told)) == len(told)
    assert len({epoch_seed for epoch_seed, _ in told}) == 2


def test_a_sampler_gets_a_seed_that_comes_twice_once():
    given: list[list[int]] = []
    sampler = SamplerOfOne(lambda seed_nodes: given.append(seed_nodes.tolist()))
    seeds = torch.tensor([5, 3, 5, 9, 3])
    (batch,) = make(sampler=sampler, seeds=seeds, shuffle=False, num_threads=0)
    assert given == [[5, 3, 9]]
    assert torch.equal(batch.seed_nodes, seeds)
    assert batch.node_ids[batch.seed_rows].tolist() == seeds.tolist()
    assert torch.equal(batch.y, DATASET.labels[seeds])
    assert batch.num_step_seeds == 5
