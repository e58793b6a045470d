"""How well edges are predicted, in [0, 1]."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from gnnfast.distributed import World
from gnnfast.graph import CSCGraph
from gnnfast.kernels.cpu.parallel import run_by_range
from gnnfast.kernels.cpu.ranking import rank_destinations

LINK_METRICS = ("roc_auc", "average_precision", "mrr", "hits@10", "recall@20", "ndcg@20")

_AT_K = re.compile(r"(hits|recall|ndcg)@([1-9][0-9]*)")


def is_link_metric(name: str) -> bool:
    """Whether there is such a metric: `LINK_METRICS`, and hits, recall and ndcg at any other number."""
    return name in ("roc_auc", "average_precision", "mrr") or _AT_K.fullmatch(name) is not None


def is_ranking_metric(name: str) -> bool:
    """Whether the metric is one of a ranking of all destinations."""
    return name not in ("roc_auc", "average_precision")


def pair_metric(name: str, positive_scores: Tensor, negative_scores: Tensor) -> float:
    """ROC AUC or average precision of scores that should be high and others that should be low.

    Args:
        name: "roc_auc" or "average_precision".
        positive_scores, negative_scores: Floating, one dimension, at least one each.
    """
    # torchmetrics would take the sigmoid of scores, which makes large ones equal.
    from sklearn.metrics import average_precision_score, roc_auc_score

    scores = torch.cat([positive_scores, negative_scores]).double().numpy()
    labels = torch.cat([torch.ones(positive_scores.numel()), torch.zeros(negative_scores.numel())]).numpy()
    score = roc_auc_score if name == "roc_auc" else average_precision_score
    return float(score(labels, scores))


@dataclass
class Ranking:
    """Where pairs stand in the rankings of their sources.

    Args:
        source: Of each pair, int64, `(num_pairs,)`.
        rank: Among all destinations that the source has not known before, from 1, float64, `(num_pairs,)`; equal scores
            share the middle of their ranks.
        fellows: How many of the source's other pairs stand before it, float64, `(num_pairs,)`.
    """

    source: Tensor
    rank: Tensor
    fellows: Tensor

    def metric(self, name: str) -> float:
        """A metric of rankings.

        "mrr" and "hits@k" are means over pairs of 1 / rank and of rank <= k, among destinations that are no other pair
        of the source (Bordes et al., Translating Embeddings for Modeling Multi-relational Data, 2013: "filtered").
        "recall@k" and "ndcg@k" are means over sources of the share of its pairs that are among its first k, and of the
        discounted gain of those, relative to the best possible, as in He et al., LightGCN, 2020.
        """
        filtered = self.rank - self.fellows
        if name == "mrr":
            return float((1 / filtered).mean())
        matched = _AT_K.fullmatch(name)
        assert matched is not None, name
        kind, k = matched[1], int(matched[2])
        if kind == "hits":
            return float((filtered <= k).double().mean())
        _, group, num_pairs = self.source.unique(return_inverse=True, return_counts=True)
        is_hit = self.rank <= k
        if kind == "recall":
            gain, best = is_hit.double(), num_pairs.double()
        else:
            gain = is_hit / torch.log2(self.rank + 1)
            discounts = 1 / torch.log2(torch.arange(2, k + 2, dtype=torch.float64))
            best = discounts.cumsum(0)[num_pairs.clamp(max=k) - 1]
        gained = torch.zeros(num_pairs.numel(), dtype=torch.float64).index_add_(0, group, gain)
        return float((gained / best).mean())


class Ranker:
    """Ranks the destinations of pairs among all.

    Args:
        pairs: Global ids, int64, `(2, num_pairs)`. The relation has no direction: the source of a pair is no candidate
            of its destination, where that is a source as well, unless the pair is given both ways.
        known: Pairs that are known, whose destinations are no candidates, `(2, num_known)`; in both directions.
        destinations: First candidate and the one after the last.
        num_nodes: Of the graph.
    """

    def __init__(self, pairs: Tensor, known: Tensor, destinations: tuple[int, int], num_nodes: int):
        order = torch.argsort(pairs[0], stable=True)
        self.pairs = pairs[:, order]
        self.destinations = destinations
        self.sources, counts = torch.unique_consecutive(self.pairs[0], return_counts=True)
        self._indptr = torch.cat([torch.zeros(1, dtype=torch.int64), counts.cumsum(0)])
        hidden = torch.cat([known, known.flip(0), self._turned_partners(num_nodes)], dim=1)
        self._known = CSCGraph.from_edge_index(hidden, num_nodes)
        self._ranks = self._new_ranks()

    def _turned_partners(self, num_nodes: int) -> Tensor:
        """Partners that a source has by pairs that name it as their destination: partners above sources."""
        src, dst = self.pairs
        is_turned = torch.isin(dst, self.sources) & ~torch.isin(dst * num_nodes + src, src * num_nodes + dst)
        return self.pairs[:, is_turned]

    def _new_ranks(self) -> Tensor:
        """Room for ranks and fellows of all pairs."""
        return torch.empty(2, self.pairs.shape[1], dtype=torch.float64)

    def add(self, first: int, scores: Tensor) -> None:
        """Ranks the pairs of some sources; call it with all of them, or all of a rank's share, then `finish`.

        Args:
            first: Which of `sources` the first row is.
            scores: Floating, contiguous, `(num_rows, num_candidates)`, on the CPU; overwritten.
        """
        indptr = self._indptr[first : first + scores.shape[0] + 1]
        # By position: what an evaluation left that was broken off is written over by the next.
        rank, fellows = self._ranks[:, indptr[0] : indptr[-1]]
        run_by_range(
            rank_destinations,
            torch.get_num_threads(),
            scores.shape[0],
            scores.nbytes,
            scores.numpy(),
            self.sources[first : first + scores.shape[0]].numpy(),
            self.destinations[0],
            self._known.indptr.numpy(),
            self._known.indices.numpy(),
            (indptr - indptr[0]).numpy(),
            self.pairs[1, indptr[0] : indptr[-1]].contiguous().numpy(),
            rank.numpy(),
            fellows.numpy(),
        )

    def finish(self, world: World | None = None, bounds: Sequence[int] = ()) -> Ranking:
        """The ranks of all pairs, by source.

        Args:
            world: Who else has ranked pairs; nobody if None.
            bounds: Where each one's share of `sources` begins.
        """
        ranks, self._ranks = self._ranks, self._new_ranks()
        if world is not None and world.size > 1:
            shares = self._indptr[torch.tensor(bounds)].tolist()
            for row in ranks:
                world.exchange(row, shares)
        return Ranking(self.pairs[0], *ranks)
