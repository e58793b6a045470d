"""The law of a sampler against what it draws."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Any, Protocol

import numpy as np
import torch
from torch import Tensor

from gnnfast.graph import Block, Dataset, MiniBatch
from gnnfast.kernels.reference.random import derive_seed
from gnnfast.nn import GNN
from gnnfast.verify.batches import column_positions
from gnnfast.verify.graphs import HUB_DEGREES
from gnnfast.verify.report import Row, Verdict
from gnnfast.verify.statistics import FALSE_ALARM, Deviations, binomial_p_values, chi_square_p_value
from gnnfast.verify.subject import Skip, Subject

_NUM_FEATURES = 3
_FEWEST = 100  # draws of a destination from which a mean of its own is judged
_NUM_BINS = 16
_NUM_HUBS = 5
_LARGEST_BIAS = 0.1  # of sums by estimated weights, as a share
_HUB_EDGES = 4000  # drawn edges of a hub from which their positions are judged


def statistic_row(check: str, outcomes: list[tuple[str, float, float]], larger_is_better: bool, what: str) -> Row:
    """The row of the worst outcome.

    Args:
        check: Its name.
        outcomes: For each graph its name, what was measured and the threshold.
        larger_is_better: Whether what is measured must not fall below the threshold; else it must not exceed it.
        what: What was measured, in a word.
    """
    sign = -1 if larger_is_better else 1
    graph, measured, threshold = max(outcomes, key=lambda outcome: sign * (outcome[1] - outcome[2]))
    is_right = measured >= threshold if larger_is_better else measured <= threshold
    relation = ">=" if larger_is_better else "<="
    verdict: Verdict = "passed" if is_right else "failed"
    return Row(check, verdict, f"{what} {measured:.2g}", f"{relation} {threshold:.2g}", graph)


class Collector(Protocol):
    """Takes from each mini-batch what a statistic needs."""

    def add(self, batch: MiniBatch) -> None: ...


class Inclusion:
    """How often each in-edge of the seeds stands in the last block, against its probability.

    Parallel edges are counted together.
    """

    def __init__(self, subject: Subject):
        graph, law = subject.dataset.graph, subject.law
        assert law.edge_inclusion is not None
        seeds = subject.distinct_seeds
        positions, columns = column_positions(graph, seeds)
        probability = law.edge_inclusion(subject.seeds)
        if probability.shape != positions.shape:
            raise ValueError(
                f"law.edge_inclusion must give one probability for each of the {positions.numel()} in-edges of the "
                f"distinct seeds, got {tuple(probability.shape)}"
            )
        self.num_nodes = graph.num_nodes
        self.distinct = law.distinct
        keys = seeds.numpy()[columns] * graph.num_nodes + graph.indices[positions].long().numpy()
        self.keys, group, size = np.unique(keys, return_inverse=True, return_counts=True)
        self.size = size
        self.probability = np.bincount(group, weights=probability.double().numpy(), minlength=self.keys.size)
        # What is drawn with replacement may stand there once, twice or as a parallel edge: none can be told apart.
        self.judged = (size == 1) | self.distinct
        in_column = np.arange(columns.size) - np.searchsorted(columns, columns)
        degree = np.bincount(columns, minlength=seeds.numel())[columns]
        place = 2 * (in_column + 0.5) / np.maximum(degree, 1) - 1
        self.place = np.bincount(group, weights=place, minlength=self.keys.size) / size
        self.counts = np.zeros(self.keys.size)
        self.parallel = Deviations(self.keys.size)
        self.whole = Deviations(2)
        self.num_draws = 0

    def add(self, batch: MiniBatch) -> None:
        block, ids = batch.blocks[-1], batch.node_ids.numpy()
        dst = ids[block.dst_index.numpy()]
        keys = dst * self.num_nodes + ids[block.indices.long().numpy()]
        found = np.minimum(np.searchsorted(self.keys, keys), self.keys.size - 1)
        # Blocks for all layers also have columns of other nodes.
        counts = np.bincount(found[self.keys[found] == keys], minlength=self.keys.size).astype(float)
        if not self.distinct:
            counts = np.minimum(counts, 1)
        self.counts += counts
        off = np.where(self.judged, counts - self.probability, 0)
        multiple = np.flatnonzero(self.judged & (self.size > 1))
        self.parallel.add(multiple, off[multiple], self.size[multiple])
        self.whole.add(np.arange(2), np.array([off.sum(), (off * self.place).sum()]))
        self.num_draws += 1

    def p_value(self) -> float:
        """Of the law, with Bonferroni's correction over edges, their total and their trend along the columns."""
        single = self.size == 1
        p_values = binomial_p_values(self.counts[single], self.num_draws, self.probability[single])
        errors = [
            deviations.standard_errors(np.full(deviations.num_cells, 1e-4), min_count=1)[0]
            for deviations in (self.parallel, self.whole)
        ]
        others = np.concatenate([error[~np.isnan(error)] for error in errors])
        num_tests = p_values.size + others.size
        # Bernstein's inequality, the other way round.
        bounds = 2 * np.exp(-(others**2) / 2)
        smallest = min([*p_values, *bounds], default=1.0)
        return float(min(1.0, smallest * num_tests))


class Estimates:
    """What a block's weights make of sums and means, against those over all in-edges."""

    def __init__(self, subject: Subject, aggregation: str):
        self.aggregation = aggregation
        self.graph = subject.graph
        num_nodes = self.graph.num_nodes
        self.x = _features(num_nodes, seed=9)
        block = self.graph.to_block()
        self.target = self._aggregate(block, np.arange(num_nodes))
        # Each pair of nodes with an edge, and what an estimate may lack where it was never drawn.
        edge = self._edge_weights(block)
        src, dst = self.graph.to_edge_index().numpy()
        self.pairs, pair = np.unique(dst * num_nodes + src, return_inverse=True)
        weight = np.bincount(pair, weights=np.abs(edge), minlength=self.pairs.size)
        self.share = weight[:, None] * np.abs(self.x[self.pairs % num_nodes])
        self.layers: list[_Layer] = []
        self.num_all = self.num_drawn = 0

    def add(self, batch: MiniBatch) -> None:
        ids = batch.node_ids.numpy()
        for number, block in enumerate(batch.blocks):
            if number == len(self.layers):
                self.layers.append(_Layer(self.graph.num_nodes, self.pairs.size))
            layer = self.layers[number]
            dst = ids[: block.num_dst]
            off = self._aggregate(block, ids) - self.target[dst]
            # Of a node with several rows one counts: its rows are drawn alike.
            dst, first = np.unique(dst, return_index=True)
            layer.add(dst, off[first], self._largest_terms(block, ids)[first])
            keys = ids[block.dst_index.numpy()] * self.graph.num_nodes + ids[block.indices.long().numpy()]
            layer.seen[np.minimum(np.searchsorted(self.pairs, keys), self.pairs.size - 1)] = True
            if block.inclusion_weight is not None and block.num_edges:
                layer.largest_weight = max(layer.largest_weight, float(block.inclusion_weight.max()))
            self.num_drawn += block.num_edges
            self.num_all += int(self.graph.in_degree[torch.from_numpy(dst)].sum())

    def standard_errors(self) -> tuple[float, float]:
        """The most that a mean is off, and how much is too much."""
        results = [layer.standard_errors(self._slack(layer)) for layer in self.layers]
        worst = max((float(np.nanmax(errors, initial=0)) for errors, _ in results), default=0.0)
        threshold = max((threshold for _, threshold in results), default=0.0)
        # Bonferroni over layers.
        return worst, float(np.sqrt(threshold**2 + 2 * np.log(max(len(self.layers), 1))))

    def relative_deviations(self) -> dict[str, float]:
        """How far sums of numbers that are not negative are off all in all, as a share: of hubs, and of all others.

        Over the destinations of each kind, and over all mini-batches, so that it shows what is wrong with weights in
        general and not the noise of each.
        """
        degree = self.graph.in_degree.numpy()
        is_hub = degree >= np.sort(degree)[-_NUM_HUBS]
        shares = {}
        for name, nodes in (("hubs", is_hub & (degree > 0)), ("other nodes", ~is_hub & (degree > 0))):
            off, expected = np.zeros(_NUM_FEATURES), np.zeros(_NUM_FEATURES)
            for layer in self.layers:
                sums = layer.deviations.sum[: degree.size * _NUM_FEATURES].reshape(-1, _NUM_FEATURES)
                off += sums[nodes].sum(0)
                expected += (self.target * layer.counts[:, None])[nodes].sum(0)
            positive = [0, 2]
            shares[name] = float((np.abs(off) / np.maximum(expected, 1e-9))[positive].max())
        return shares

    @property
    def is_complete(self) -> bool:
        """Whether every in-edge was always there, so that nothing was tested."""
        return self.num_drawn == self.num_all

    def _slack(self, layer: _Layer) -> np.ndarray:
        """What each mean may be off by rounding, and for edges too rare to have been drawn, `(num_nodes + 1, ...)`."""
        num_nodes = self.graph.num_nodes
        dst = self.pairs // num_nodes
        # Probabilities are at least about 1 / the largest weight; above this many draws, an edge that was never there
        # is no accident.
        enough = layer.largest_weight * np.log(max(self.pairs.size, 1) / FALSE_ALARM)
        may_be_rare = ~layer.seen & (layer.counts[dst] < enough)
        per_pair = self.share * (may_be_rare + 1e-5)[:, None]
        slack = np.column_stack(
            [np.bincount(dst, weights=per_pair[:, k], minlength=num_nodes) for k in range(_NUM_FEATURES)]
        )
        together = (slack * layer.counts[:, None]).sum(0) / max(layer.num_batches, 1)
        return np.vstack([slack, together]) + 1e-6

    def _edge_weights(self, block: Block) -> np.ndarray:
        """What each edge's source is multiplied with."""
        weight = np.ones(block.num_edges)
        if block.inclusion_weight is not None:
            weight = block.inclusion_weight.double().numpy()
        dst = block.dst_index.numpy()
        if self.aggregation == "mean":
            total = np.bincount(dst, weights=weight, minlength=block.num_dst)
            return np.asarray(weight / np.where(total > 0, total, 1)[dst])
        return weight if block.edge_weight is None else np.asarray(weight * block.edge_weight.double().numpy())

    def _largest_terms(self, block: Block, ids: np.ndarray) -> np.ndarray:
        """The largest of the terms that each destination's estimate is made of, `(num_dst, _NUM_FEATURES)`."""
        terms = np.abs(self._edge_weights(block)[:, None] * self.x[ids[block.indices.long().numpy()]])
        indptr = block.indptr.numpy()
        out = np.zeros((block.num_dst, _NUM_FEATURES))
        rows = np.flatnonzero(np.diff(indptr))
        if rows.size:
            out[rows] = np.maximum.reduceat(terms, indptr[rows])
        return out

    def _aggregate(self, block: Block, ids: np.ndarray) -> np.ndarray:
        """Weighted sums or means, float64 `(num_dst, _NUM_FEATURES)`."""
        weight = self._edge_weights(block)
        dst, src = block.dst_index.numpy(), ids[block.indices.long().numpy()]
        columns = [
            np.bincount(dst, weights=weight * self.x[src, k], minlength=block.num_dst) for k in range(_NUM_FEATURES)
        ]
        return np.column_stack(columns)


class _Layer:
    """The deviations of one layer: of every destination by itself, and of all of them together."""

    def __init__(self, num_nodes: int, num_pairs: int):
        self.deviations = Deviations((num_nodes + 1) * _NUM_FEATURES)
        self.num_nodes = num_nodes
        self.seen = np.zeros(num_pairs, bool)
        self.largest_weight = 1.0
        self.num_batches = 0

    def add(self, dst: np.ndarray, off: np.ndarray, terms: np.ndarray) -> None:
        features = np.arange(_NUM_FEATURES)
        self.deviations.add((dst[:, None] * _NUM_FEATURES + features).ravel(), off.ravel(), terms.ravel())
        self.deviations.add(self.num_nodes * _NUM_FEATURES + features, off.sum(0), terms.max(0, initial=0))
        self.num_batches += 1

    @property
    def counts(self) -> np.ndarray:
        """How often each node was a destination, float64 `(num_nodes,)`."""
        return self.deviations.count[: self.num_nodes * _NUM_FEATURES : _NUM_FEATURES]

    def standard_errors(self, slack: np.ndarray) -> tuple[np.ndarray, float]:
        return self.deviations.standard_errors(slack.ravel(), min_count=_FEWEST)


def _features(num_nodes: int, seed: int) -> np.ndarray:
    """Ones, numbers of both signs, and positive ones some of which are large; float64 `(num_nodes, _NUM_FEATURES)`."""
    generator = torch.Generator().manual_seed(seed)
    normal = torch.randn(num_nodes, 2, generator=generator, dtype=torch.float64).numpy()
    return np.column_stack([np.ones(num_nodes), normal[:, 0], np.exp(normal[:, 1])])


class NodeInclusion:
    """How often each node is an output of a mini-batch."""

    def __init__(self, subject: Subject):
        self.counts = np.zeros(subject.num_nodes)
        self.num_nodes = 0
        self.num_draws = 0

    def add(self, batch: MiniBatch) -> None:
        self.counts[np.unique(batch.seed_nodes.numpy())] += 1
        self.num_nodes += batch.num_outputs
        self.num_draws += 1


class LossWeights:
    """Weighted sums over a mini-batch's seeds, against those over all nodes."""

    def __init__(self, subject: Subject):
        # Nodes that are never sampled have no part in the sums.
        self.is_sampled = subject.is_sampled.numpy()
        self.x = _features(subject.num_nodes, seed=8) * self.is_sampled[:, None]
        self.deviations = Deviations(_NUM_FEATURES)
        self.by_node = Deviations(subject.num_nodes)
        self.seen = np.zeros(subject.num_nodes, bool)
        self.largest_weight = 1.0
        self.has_weights = False

    def add(self, batch: MiniBatch) -> None:
        if batch.seed_weight is None:
            return
        self.has_weights = True
        seeds, weight = batch.seed_nodes.numpy(), batch.seed_weight.double().numpy()
        self.deviations.add(np.arange(_NUM_FEATURES), weight @ self.x[seeds] - self.x.sum(0))
        by_node = np.bincount(seeds, weights=weight, minlength=self.x.shape[0])
        self.by_node.add(np.arange(by_node.size), by_node - self.is_sampled, by_node)
        self.seen[seeds] = True
        self.largest_weight = max(self.largest_weight, float(weight.max(initial=0)))

    def slack(self) -> tuple[np.ndarray, np.ndarray]:
        """What sums, and nodes, may be off by rounding, and for nodes too rare to have been drawn."""
        enough = self.largest_weight * np.log(self.seen.size / FALSE_ALARM)
        may_be_rare = ~self.seen & self.is_sampled & (self.by_node.count < enough)
        per_node = may_be_rare + 1e-5
        return per_node @ np.abs(self.x), per_node


@dataclass
class Draws:
    """One pass over many mini-batches, from which all statistics are taken."""

    subject: Subject
    num_draws: int

    @cached_property
    def _collected(self) -> tuple[Inclusion | None, dict[str, Estimates], NodeInclusion, LossWeights]:
        subject = self.subject
        inclusion = Inclusion(subject) if subject.law.edge_inclusion is not None and subject.kind == "seed" else None
        aggregations = dict.fromkeys([*subject.law.unbiased, *(["sum"] if subject.has_estimated_weights else [])])
        estimates = {aggregation: Estimates(subject, aggregation) for aggregation in aggregations}
        nodes, losses = NodeInclusion(subject), LossWeights(subject)
        collectors: list[Collector] = [*([inclusion] if inclusion else []), *estimates.values()]
        if subject.kind == "epoch":
            collectors += [nodes, losses]
        for number in range(self.num_draws if collectors else 0):
            batch = subject.draw_as_loaded(number)
            for collector in collectors:
                collector.add(batch)
        if subject.kind == "seed":
            # Single seeds: most destinations are then at the rim of what is sampled.
            for number in range(self.num_draws if estimates else 0):
                batch = subject.draw_as_loaded(self.num_draws + number, torch.tensor([number % subject.num_nodes]))
                for estimate in estimates.values():
                    estimate.add(batch)
        return inclusion, estimates, nodes, losses

    @property
    def inclusion(self) -> Inclusion | None:
        return self._collected[0]

    @property
    def estimates(self) -> dict[str, Estimates]:
        return self._collected[1]

    @property
    def nodes(self) -> NodeInclusion:
        return self._collected[2]

    @property
    def losses(self) -> LossWeights:
        return self._collected[3]


def check_edge_inclusion(draws: list[Draws]) -> Row:
    """In-edges of the seeds stand in the last block as often as the law says."""
    if draws[0].subject.kind != "seed":
        raise Skip("probabilities of edges are those of given seeds")
    draws = [drawn for drawn in draws if drawn.subject.law.edge_inclusion is not None]
    if not draws:
        raise Skip("the law names no probabilities of edges (edge_inclusion)")
    outcomes = []
    always = True
    for drawn in draws:
        assert drawn.inclusion is not None
        outcomes.append((drawn.subject.name, drawn.inclusion.p_value(), FALSE_ALARM))
        always &= bool((drawn.inclusion.probability >= drawn.inclusion.size).all())
    row = statistic_row("edge inclusion", outcomes, True, "p")
    return _noted(row, "every edge always, at these settings" if always else "")


def check_hub_inclusion(subject: Subject, hubs: Dataset) -> Row:
    """No part of a long column is favored."""
    if subject.kind != "seed":
        raise Skip("probabilities of edges are those of given seeds")
    if subject.law.edge_inclusion is None:
        raise Skip("the law names no probabilities of edges (edge_inclusion)")
    subject = subject.on(hubs)
    seeds = torch.arange(len(HUB_DEGREES))
    assert subject.law.edge_inclusion is not None
    probability = subject.law.edge_inclusion(seeds).double().numpy()
    hub = np.repeat(np.arange(seeds.numel()), HUB_DEGREES)
    place = np.concatenate([np.arange(degree) / degree for degree in HUB_DEGREES])
    bins = hub * _NUM_BINS + (place * _NUM_BINS).astype(int)
    num_cells = seeds.numel() * _NUM_BINS
    expected = np.bincount(bins, weights=probability, minlength=num_cells)
    variance = np.bincount(bins, weights=probability * (1 - probability), minlength=num_cells)
    if variance.sum() < 1e-6:
        raise Skip("every edge stands always in the last block, or never")
    per_draw = min(expected[hub_cells].sum() for hub_cells in np.arange(num_cells).reshape(seeds.numel(), -1))
    num_draws = int(np.clip(np.ceil(_HUB_EDGES / max(per_draw, 1)), 10, 400))
    counts = np.zeros(num_cells)
    for number in range(num_draws):
        batch = subject.draw(number, seeds)
        block, ids = batch.blocks[-1], batch.node_ids.numpy()
        dst = ids[block.dst_index.numpy()]
        at_hub = dst < seeds.numel()
        position = ids[block.indices.long().numpy()] - len(HUB_DEGREES)
        where = position[at_hub] * _NUM_BINS // np.array(HUB_DEGREES)[dst[at_hub]]
        counts += np.bincount(dst[at_hub] * _NUM_BINS + where, minlength=num_cells)
    p_value = chi_square_p_value(counts, num_draws * expected, num_draws * variance)
    degrees = " and ".join(f"{degree:,}" for degree in HUB_DEGREES)
    outcome = (f"degrees {degrees}, {num_draws} draws", p_value, FALSE_ALARM)
    return statistic_row("hub inclusion", [outcome], True, "p")


def check_node_inclusion(draws: list[Draws]) -> Row:
    """Nodes are outputs of a mini-batch as often as the law says."""
    if draws[0].subject.kind != "epoch":
        raise Skip("the sampler is given its seeds")
    draws = [drawn for drawn in draws if drawn.subject.law.node_inclusion is not None]
    if not draws:
        raise Skip("the law names no probabilities of nodes (node_inclusion)")
    outcomes = []
    for drawn in draws:
        assert drawn.subject.law.node_inclusion is not None
        probability = drawn.subject.law.node_inclusion().double().numpy()
        if probability.shape != drawn.nodes.counts.shape:
            raise ValueError(f"law.node_inclusion must give {drawn.nodes.counts.size} numbers, got {probability.shape}")
        p_values = binomial_p_values(drawn.nodes.counts, drawn.nodes.num_draws, probability)
        outcomes.append((drawn.subject.name, min(1.0, float(p_values.min() * p_values.size)), FALSE_ALARM))
    return statistic_row("node inclusion", outcomes, True, "p")


def check_unbiased(draws: list[Draws], aggregation: str) -> Row:
    """What the law says comes right on average does, at every destination of every block."""
    biases = dict.fromkeys(drawn.subject.law.bias for drawn in draws if drawn.subject.law.bias)
    draws = [drawn for drawn in draws if aggregation in drawn.subject.law.unbiased]
    if not draws:
        raise Skip(f"not claimed: {'; '.join(biases)}" if biases else "not claimed")
    outcomes = []
    complete = True
    for drawn in draws:
        estimates = drawn.estimates[aggregation]
        outcomes.append((drawn.subject.name, *estimates.standard_errors()))
        complete &= estimates.is_complete
    row = statistic_row(f"unbiased {aggregation}", outcomes, False, "s.e.")
    return _noted(row, "nothing was left out, at these settings" if complete else "")


def check_estimated_weights(draws: list[Draws]) -> Row:
    """Weights that were counted make sums about right all in all, at hubs and elsewhere, though not exactly so."""
    draws = [drawn for drawn in draws if drawn.subject.has_estimated_weights]
    if not draws:
        raise Skip("no weights are estimated (normalization='estimated')")
    outcomes = []
    for drawn in draws:
        for nodes, share in drawn.estimates["sum"].relative_deviations().items():
            outcomes.append((f"{drawn.subject.name}: {nodes}", share, _LARGEST_BIAS))
    return statistic_row("estimated weights", outcomes, False, "share")


def check_loss_weights(draws: list[Draws]) -> Row:
    """Weighted sums over the seeds of a mini-batch have the sum over all nodes that are sampled as their mean."""
    if draws[0].subject.kind != "epoch":
        raise Skip("the sampler is given its seeds")
    if not draws[0].losses.has_weights:
        raise Skip("mini-batches carry no seed_weight")
    outcomes = []
    for drawn in draws:
        losses = drawn.losses
        sum_slack, node_slack = losses.slack()
        sums, threshold = losses.deviations.standard_errors(sum_slack)
        nodes, node_threshold = losses.by_node.standard_errors(node_slack)
        name, widening = drawn.subject.name, _widening(drawn)
        outcomes.append((name, float(sums.max()), threshold * widening))
        outcomes.append((name, float(nodes.max()), node_threshold * widening))
    return statistic_row("loss weights", outcomes, False, "s.e.")


def _widening(drawn: Draws) -> float:
    """What the noise of weights adds that were counted in some mini-batches instead of computed.

    Of R mini-batches drawn alike, their mean is off as much as that of R draws: sqrt(1 + draws / R) in all.
    """
    sampler = drawn.subject.sampler
    if not drawn.subject.has_estimated_weights:
        return 1.0
    nodes_per_batch = drawn.nodes.num_nodes / drawn.nodes.num_draws
    num_counted = sampler.coverage * int(drawn.subject.is_sampled.sum()) / nodes_per_batch
    return float(np.sqrt(1 + drawn.num_draws / num_counted))


def check_exact(subjects: list[Subject]) -> Row:
    """Outputs at the seeds are those of the full graph, in float64, for GCN, GraphSAGE, GIN and GAT."""
    subjects = [subject for subject in subjects if subject.law.exact]
    if not subjects:
        raise Skip("not claimed")
    outcomes = []
    for subject in subjects:
        batch = subject.draw(0)
        num_layers = _num_layers(subject.sampler, batch)
        graph = subject.dataset.graph
        x = torch.randn(graph.num_nodes, 4, dtype=torch.float64, generator=torch.Generator().manual_seed(3))
        for conv in ("gcn", "sage", "gin", "gat"):
            with torch.random.fork_rng(devices=[]):
                torch.manual_seed(derive_seed(subject.seed, 1) % 2**63)
                model = GNN(4, 8, num_layers, 3, conv=conv).double().eval()
            with torch.no_grad():
                blocks: list[Block] | Block = batch.blocks if len(batch.blocks) > 1 else batch.blocks[0]
                sampled = batch.at_seeds(model(x[batch.node_ids], blocks))
                full: Tensor = model(x, graph.to_block())[batch.seed_nodes]
            difference = float((sampled - full).abs().max() / full.abs().max().clamp(min=1)) if full.numel() else 0.0
            outcomes.append((f"{subject.name}: {conv}", difference, 1e-6))
    return statistic_row("exact outputs", outcomes, False, "difference")


def _num_layers(sampler: Any, batch: MiniBatch) -> int:
    """Layers of a model whose outputs must be exact.

    A subgraph serves models of several layers: up to its depth, or where it says neither this nor `num_layers`, any.
    """
    if len(batch.blocks) > 1:
        return len(batch.blocks)
    (block,) = batch.blocks
    is_subgraph = block.num_src == block.num_dst
    num_layers: int = getattr(sampler, "depth", getattr(sampler, "num_layers", 2 if is_subgraph else 1))
    return num_layers


def _noted(row: Row, note: str) -> Row:
    return Row(row.check, row.verdict, row.measured, row.threshold, note) if note and row.verdict == "passed" else row
