import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from gnnfast.datasets.splitting import choose_split

LABELS = torch.arange(300) % 3


@given(seed=st.integers(0, 2**32), num_unknown=st.integers(0, 100))
def test_a_random_split_divides_the_labelled_nodes(seed: int, num_unknown: int):
    labels = LABELS.clone()
    labels[:num_unknown] = -1
    parts = choose_split("graph", labels, "random", split_seed=seed)
    assert torch.equal(torch.cat(parts).sort().values, torch.arange(num_unknown, 300))
    again = choose_split("graph", labels, "random", split_seed=seed)
    assert all(torch.equal(part, same) for part, same in zip(parts, again, strict=True))


def test_per_class_takes_that_many_of_each_class():
    train, val, test = choose_split("graph", LABELS, "random", per_class=20)
    assert [LABELS[part].bincount().tolist() for part in (train, val, test)] == [[20] * 3, [30] * 3, [50] * 3]


def test_nodes_without_any_known_label_are_in_no_random_split_of_many_labels():
    labels = torch.zeros(10, 2)
    labels[3] = torch.nan
    labels[4, 0] = torch.nan
    parts = choose_split("graph", labels, "random")
    assert sorted(torch.cat(parts).tolist()) == [0, 1, 2, 4, 5, 6, 7, 8, 9]


@pytest.mark.parametrize("word", ["public", "official"])
def test_public_and_official_are_the_given_split(word: str):
    given_split = (torch.tensor([0]), torch.tensor([1]), torch.tensor([2]))
    assert choose_split("graph", LABELS, word, given=given_split) is given_split


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"split": "public"}, "ships without a split"),
        ({"split": "other"}, "must be public, official or random"),
        ({"split": "random", "fractions": (0, 0.5, 0.5)}, "the training split is empty"),
        ({"split": "random", "fractions": (0.9, 0.9, 0.9)}, "at most 1"),
        ({"split": "random", "per_class": 90}, "too few"),
    ],
)
def test_what_cannot_be_is_refused(arguments: dict, message: str):
    with pytest.raises(ValueError, match=message):
        choose_split("graph", LABELS, **arguments)


@pytest.mark.parametrize(
    ("train", "val", "test", "message"),
    [
        ([], [1], [2], "the training split is empty"),
        ([0, 5], [1], [2, 5], "node 5 is in the training and in the test split"),
        ([0, 5], [5], [2], "node 5 is in the training and in the validation split"),
        ([0, 1, 0], [5], [2], "the training split names node 0 twice"),
    ],
)
def test_a_given_split_must_divide(train: list[int], val: list[int], test: list[int], message: str):
    parts = tuple(torch.tensor(part, dtype=torch.int64) for part in (train, val, test))
    with pytest.raises(ValueError, match=message):
        choose_split("graph", LABELS, "public", given=parts)


def test_per_class_beside_a_given_split_is_not_ignored():
    with pytest.raises(ValueError, match="belongs to split=random"):
        choose_split("graph", LABELS, "public", per_class=20, given=(LABELS, LABELS, LABELS))
