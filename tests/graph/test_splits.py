from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from gnnfast.graph import per_class_split, random_split

seeds = st.integers(0, 2**64 - 1)


@st.composite
def fractions(draw: st.DrawFn) -> list[float]:
    shares = [draw(st.integers(0, 10)) for _ in range(4)]
    return [share / max(sum(shares), 1) for share in shares[:3]]


@given(nodes=st.sets(st.integers(0, 1000), max_size=60), fractions=fractions(), seed=seeds)
def test_a_random_split_gives_disjoint_shares_of_the_right_size(nodes: set[int], fractions: list[float], seed: int):
    labelled = torch.tensor(sorted(nodes), dtype=torch.int64)
    split = random_split(labelled, fractions, seed)
    drawn = torch.cat(split).tolist()
    assert len(set(drawn)) == len(drawn)
    assert set(drawn) <= nodes
    for ids, fraction in zip(split, fractions, strict=True):
        assert abs(ids.numel() - fraction * len(nodes)) <= 1
        assert ids.tolist() == sorted(ids.tolist())


@given(nodes=st.sets(st.integers(0, 1000), max_size=60), seed=seeds)
def test_shares_of_one_in_all_use_every_node(nodes: set[int], seed: int):
    labelled = torch.tensor(sorted(nodes), dtype=torch.int64)
    assert set(torch.cat(random_split(labelled, [0.7, 0.2, 0.1], seed)).tolist()) == nodes


@pytest.mark.parametrize("fractions", [[0.5, 0.5], [0.6, 0.3, 0.2], [1.2, -0.1, -0.1], [0.25] * 4])
def test_shares_that_make_no_split_are_refused(fractions: list[float]):
    with pytest.raises(ValueError, match="three shares of at most 1"):
        random_split(torch.arange(10), fractions, 0)


@given(
    class_sizes=st.lists(st.integers(6, 12), min_size=1, max_size=4),
    num_unlabelled=st.integers(0, 5),
    num_train=st.integers(1, 3),
    num_val=st.integers(0, 2),
    seed=seeds,
)
def test_a_split_by_class_draws_as_many_of_each(
    class_sizes: list[int], num_unlabelled: int, num_train: int, num_val: int, seed: int
):
    labels = torch.cat([torch.full((size,), label) for label, size in enumerate(class_sizes)])
    labels = torch.cat([labels, torch.full((num_unlabelled,), -1)])
    labels = labels[torch.randperm(labels.numel(), generator=torch.Generator().manual_seed(0))]
    train, val, test = per_class_split(labels, num_train, num_val, seed)
    num_classes = len(class_sizes)
    assert labels[train].bincount(minlength=num_classes).tolist() == [num_train] * num_classes
    assert labels[val].bincount(minlength=num_classes).tolist() == [num_val] * num_classes
    assert torch.cat([train, val, test]).sort().values.tolist() == (labels >= 0).nonzero().view(-1).tolist()


def test_a_class_without_a_node_left_for_testing_is_refused():
    with pytest.raises(ValueError, match="class 1 has 5 nodes, too few for 3 training and 2 validation nodes"):
        per_class_split(torch.tensor([0] * 6 + [1] * 5), 3, 2, 0)


def test_a_split_is_a_function_of_its_seed():
    labels = torch.arange(100) % 4
    for split in (
        lambda seed: random_split(torch.arange(100), [0.5, 0.2, 0.3], seed),
        lambda seed: per_class_split(labels, 5, 5, seed),
    ):
        assert torch.equal(torch.cat(split(1)), torch.cat(split(1)))
        assert not torch.equal(split(1)[0], split(2)[0])
