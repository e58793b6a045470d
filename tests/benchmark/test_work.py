from __future__ import annotations

import pytest

from gnnfast.benchmark.work import model_work, operation_bytes, sampled_lines

BLOCKS = [[10, 40, 100], [2, 10, 12]]


def test_products_of_a_gcn_are_counted_layer_by_layer():
    # The first aggregates before its product, of 10 x 3 by 3 x 5; the second, which narrows, after: 10 x 5 by 5 x 4.
    forward = 2 * (10 * 3 * 5 + 10 * 5 * 4)
    # Training adds the gradient of the weights, and where rows are learned that of the rows.
    training = 2 * (2 * 10 * 3 * 5 + 3 * 10 * 5 * 4)

    assert model_work("gcn", BLOCKS, [3, 5, 4], 1, 4, training=False).flops == forward
    assert model_work("gcn", BLOCKS, [3, 5, 4], 1, 4, training=True).flops == training


def test_bytes_of_a_gcn_forward():
    first = 4 * 3 * (100 + 10) + 4 * 100 + 4 * 5 * 10 * 2
    second = 4 * 4 * (12 + 2) + 4 * 12

    assert model_work("gcn", BLOCKS, [3, 5, 4], 1, 4, training=False).num_bytes == first + second


def test_a_sage_multiplies_own_rows_too():
    gcn, sage = (model_work(conv, BLOCKS, [3, 5, 4], 1, 4, training=False) for conv in ("gcn", "sage"))

    assert sage.flops - gcn.flops == 2 * (10 * 3 * 5 + 2 * 5 * 4)


@pytest.mark.parametrize("conv", ["sage", "gcn", "gin", "gat"])
def test_training_moves_and_computes_more_than_inference(conv: str):
    inference, training = (model_work(conv, BLOCKS, [3, 4, 4], 2, 4, training=way) for way in (False, True))

    assert training.num_bytes > inference.num_bytes
    assert 2 * inference.flops <= training.flops <= 3 * inference.flops


def test_half_precision_moves_less():
    half, single = (model_work("sage", BLOCKS, [3, 5, 4], 1, size, training=True) for size in (2, 4))

    assert half.num_bytes < single.num_bytes
    assert half.flops == single.flops


def test_lines_are_of_what_was_drawn():
    assert sampled_lines(BLOCKS, is_nested=False) == 10 + 2 * 100 + 2 + 2 * 12
    assert sampled_lines(BLOCKS, is_nested=True) == 10 + 2 * 100


def test_bytes_of_single_operations():
    assert operation_bytes("sum forward", [2, 10, 12], 8, 1) == 4 * 8 * (12 + 2) + 4 * 12
    assert operation_bytes("mean backward", [2, 10, 12], 8, 1) == 4 * 8 * (12 + 10) + 4 * 12
    assert operation_bytes("gather", [2, 10, 12], 8, 1) == 2 * 4 * 8 * 10
    for operation in ("max forward", "max backward", "attention forward", "attention backward", "relabel", "transpose"):
        assert operation_bytes(operation, [2, 10, 12], 8, 2) > 0
