from __future__ import annotations

import copy
import gc
import pickle
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from gnnfast.runtime.buffers import BufferPool, pooling_from

LARGE = (300, 200)  # 240 kB of float32: pooled


@given(
    shape=st.lists(st.integers(0, 60), max_size=3),
    dtype=st.sampled_from([torch.uint8, torch.bfloat16, torch.float32, torch.int64]),
)
def test_a_buffer_has_the_shape_asked_for(shape: list[int], dtype: torch.dtype):
    tensor = BufferPool().empty(shape, dtype)
    assert list(tensor.shape) == shape
    assert tensor.dtype == dtype
    assert tensor.is_contiguous()
    tensor.fill_(1)
    assert bool((tensor == 1).all())


def test_small_memory_goes_round_while_it_is_asked_to():
    pool = BufferPool()
    with pooling_from(1) as reuse:
        pool.empty((3,), torch.float32)
        assert (reuse.leased, reuse.again) == (1, 0)
        pool.empty((3,), torch.float32)
        assert (reuse.leased, reuse.again) == (2, 1)
    pool.empty((3,), torch.float32)
    assert reuse.leased == 2


def test_memory_goes_round():
    pool = BufferPool()
    address = pool.empty(LARGE, torch.float32).data_ptr()
    # The next batch is a little smaller and of another type.
    again = pool.empty((299 * 200,), torch.int32)
    assert again.data_ptr() == address
    assert pool.free_bytes == 0


@given(num_bytes=st.integers(1 << 16, 1 << 22))
def test_at_most_a_quarter_of_a_buffer_is_padding(num_bytes: int):
    held = BufferPool().empty((num_bytes,), torch.uint8).untyped_storage().nbytes()
    assert num_bytes <= held <= 1.25 * num_bytes


@pytest.mark.parametrize(
    "view_of",
    [
        lambda tensor: tensor[7],
        lambda tensor: tensor[3:5, ::2],
        lambda tensor: tensor.T.unsqueeze(0),
        lambda tensor: tensor.view(torch.int32)[-1:],
        lambda tensor: tensor.detach(),
        lambda tensor: tensor.untyped_storage(),
        lambda tensor: tensor.numpy(),
        lambda tensor: tensor.numpy()[5:, 1:][2],
        lambda tensor: memoryview(tensor.numpy()),
        lambda tensor: torch.from_numpy(tensor.numpy()[4]),
        lambda tensor: torch.from_dlpack(tensor),
        lambda tensor: torch.nn.Parameter(tensor),
        lambda tensor: (tensor.requires_grad_() * 2).grad_fn,
        lambda tensor: (tensor.requires_grad_() ** 2).grad_fn,
    ],
)
def test_memory_stays_away_as_long_as_anything_views_it(view_of: Callable[[torch.Tensor], Any]):
    pool = BufferPool()
    view = view_of(pool.empty(LARGE, torch.float32))
    assert pool.free_bytes == 0
    del view
    gc.collect()
    assert pool.free_bytes > 0


def test_a_view_outlives_its_pool():
    pool = BufferPool()
    row = pool.empty(LARGE, torch.float32).fill_(3)[5]
    del pool
    gc.collect()
    others = [torch.zeros(LARGE) for _ in range(20)]
    assert (row == 3).all()
    assert len(others) == 20


def test_free_memory_is_capped():
    pool = BufferPool(max_free_bytes=1 << 20)
    tensors = [pool.empty((1 << 19,), torch.uint8) for _ in range(10)]
    del tensors
    assert pool.free_bytes == 1 << 20


def test_small_tensors_are_not_pooled():
    pool = BufferPool()
    pool.empty((10, 10), torch.float32)
    assert pool.free_bytes == 0


def test_threads_never_share_memory():
    pool = BufferPool(max_free_bytes=1 << 22)

    def work(thread: int) -> bool:
        rng = np.random.default_rng(thread)
        held: list[tuple[int, torch.Tensor]] = []
        right = True
        for step in range(400):
            mark = 1000 * thread + step
            tensor = pool.empty((int(rng.integers(1, 40)) * 1000,), torch.int64).fill_(mark)
            cycle = [tensor]
            cycle.append(cycle)  # given back by the garbage collector, at any moment
            held.append((mark, tensor[::97]))
            if len(held) > 5:
                kept_mark, kept = held.pop(int(rng.integers(len(held))))
                right = right and bool((kept == kept_mark).all())
        return right and all(bool((kept == mark).all()) for mark, kept in held)

    with ThreadPoolExecutor(8) as threads:
        assert all(threads.map(work, range(8)))
    gc.collect()
    free = [raw for buffers in pool._free.values() for raw in buffers]
    assert sum(raw.nbytes for raw in free) == pool.free_bytes
    assert len({raw.ctypes.data for raw in free}) == len(free)


@pytest.mark.parametrize("duplicate", [copy.deepcopy, copy.copy, lambda pool: pickle.loads(pickle.dumps(pool))])
def test_a_copy_of_a_pool_lends_memory_of_its_own(duplicate: Callable[[BufferPool], BufferPool]):
    pool = BufferPool(max_free_bytes=1 << 20)
    pool.empty(LARGE, torch.float32)
    gc.collect()
    assert pool.free_bytes > 0
    twin = duplicate(pool)
    assert twin.max_free_bytes == 1 << 20
    assert twin.free_bytes == 0
    held = twin.empty(LARGE, torch.float32).fill_(1)
    pool.empty(LARGE, torch.float32).fill_(2)
    assert bool((held == 1).all())
