from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from gnnfast.training.link_metrics import Ranker, Ranking, is_link_metric, pair_metric

# Two sources; candidates are nodes 2 to 6.
SCORES = torch.tensor([[0.9, 0.8, 0.7, 0.6, 0.5], [0.1, 0.2, 0.3, 0.4, 0.5]])
PAIRS = torch.tensor([[1, 0, 0], [3, 4, 5]])
KNOWN = torch.tensor([[0, 6], [2, 1]])


def ranking(scores: Tensor = SCORES, num_rows: int = 2) -> Ranking:
    ranker = Ranker(PAIRS, KNOWN, (2, 7), 7)
    assert ranker.sources.tolist() == [0, 1]
    for first in range(0, 2, num_rows):
        ranker.add(first, scores[first : first + num_rows].clone())
    return ranker.finish()


@pytest.mark.parametrize("num_rows", [1, 2])
def test_ranks_are_among_what_the_source_has_not_known(num_rows: int):
    # Node 2 is known to source 0, node 6 to source 1, although the pair was given the other way around.
    ranks = ranking(num_rows=num_rows)
    assert ranks.source.tolist() == [0, 0, 1]
    assert ranks.rank.tolist() == [2, 3, 3]
    assert ranks.fellows.tolist() == [0, 1, 0]


def test_metrics_by_hand():
    ranks = ranking()
    assert ranks.metric("mrr") == pytest.approx((1 / 2 + 1 / 2 + 1 / 3) / 3)
    assert ranks.metric("hits@2") == pytest.approx(2 / 3)
    assert ranks.metric("recall@2") == pytest.approx((1 / 2 + 0) / 2)
    assert ranks.metric("recall@3") == 1
    second, third = 1 / math.log2(3), 1 / math.log2(4)
    assert ranks.metric("ndcg@3") == pytest.approx(((second + third) / (1 + second) + third) / 2)
    # Of one place only one hit can fill it: the best possible gain is 1.
    assert ranks.metric("ndcg@1") == 0


def test_scores_that_are_all_alike_rank_in_the_middle():
    ranks = ranking(torch.zeros(2, 5))
    assert ranks.rank.tolist() == [2.5, 2.5, 2.5]
    assert ranks.metric("recall@2") == 0


def test_what_is_no_number_ranks_last():
    scores = SCORES.clone()
    scores[0, 2] = torch.nan
    assert ranking(scores).rank[0] > 4


def test_against_sorting():
    generator = torch.Generator().manual_seed(0)
    scores = torch.rand(30, 50, generator=generator)
    is_pair = torch.rand(30, 50, generator=generator) < 0.1
    is_known = (torch.rand(30, 50, generator=generator) < 0.2) & ~is_pair
    pairs, known = (mask.nonzero().T + torch.tensor([[0], [30]]) for mask in (is_pair, is_known))
    ranker = Ranker(pairs, known, (30, 80), 80)
    ranker.add(0, scores[ranker.sources].clone())
    recalls, gains = [], []
    for row, mask, hidden in zip(scores, is_pair, is_known, strict=True):
        if not mask.any():
            continue
        best = row.masked_fill(hidden, -1).topk(10).indices
        hits = mask[best].double()
        recalls.append(hits.sum() / mask.sum())
        discount = 1 / torch.log2(torch.arange(2, 12).double())
        gains.append((hits * discount).sum() / discount[: int(mask.sum())].sum())
    ranks = ranker.finish()
    assert ranks.metric("recall@10") == pytest.approx(float(torch.stack(recalls).mean()))
    assert ranks.metric("ndcg@10") == pytest.approx(float(torch.stack(gains).mean()))


def test_partners_by_pairs_that_are_turned_around_are_no_competitors():
    # Node 2 is a partner of 0 as much as node 1 is, and scores higher; only the pair (0, 1) has 0 as its source.
    ranker = Ranker(torch.tensor([[0, 2], [1, 0]]), torch.empty(2, 0, dtype=torch.int64), (0, 3), 3)
    ranker.add(0, torch.tensor([[0.0, 0.5, 0.9], [0.9, 0.5, 0.0]]))
    ranks = ranker.finish()
    assert ranks.metric("mrr") == 1
    assert ranks.metric("hits@1") == 1
    assert ranks.metric("recall@1") == 1


def test_a_pair_that_is_given_both_ways_is_ranked_both_ways():
    ranker = Ranker(torch.tensor([[0, 1], [1, 0]]), torch.empty(2, 0, dtype=torch.int64), (0, 3), 3)
    ranker.add(0, torch.tensor([[0.0, 0.5, 0.9], [0.9, 0.0, 0.5]]))
    assert ranker.finish().rank.tolist() == [2, 1]


def test_what_a_ranking_left_that_was_broken_off_does_not_enter_the_next():
    ranker = Ranker(PAIRS, KNOWN, (2, 7), 7)
    ranker.add(0, SCORES[1:].clone())
    for first in range(2):
        ranker.add(first, SCORES[first : first + 1].clone())
    assert torch.equal(ranker.finish().rank, ranking().rank)


def test_pair_metrics():
    positive, negative = torch.tensor([3.0, 1.0]), torch.tensor([2.0, 0.0])
    assert pair_metric("roc_auc", positive, negative) == pytest.approx(0.75)
    assert pair_metric("average_precision", positive, negative) == pytest.approx(1 / 2 + (2 / 3) / 2)
    assert pair_metric("roc_auc", positive, positive) == pytest.approx(0.5)


@pytest.mark.parametrize(
    ("name", "is_one"),
    [("mrr", True), ("recall@7", True), ("hits@100", True), ("recall@0", False), ("recall", False), ("auc", False)],
)
def test_names(name: str, is_one: bool):
    assert is_link_metric(name) == is_one
