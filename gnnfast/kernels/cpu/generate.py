"""Drawing a community graph with its features, and guessing its classes back by Bayes' rule."""

import math

import numpy as np

from gnnfast.kernels.cpu.compile import inline, kernel, prefetch
from gnnfast.kernels.cpu.random import node_key, random_below, random_bits

_AHEAD = 16
_UNIT = 2.0**-53  # what a step of 53 random bits is worth in [0, 1)


@inline
def random_unit(key, draw):
    """A uniform number in [0, 1) for draw 0, 1, 2, ... of a stream."""
    return (random_bits(key, draw) >> np.uint64(11)) * _UNIT


@kernel
def shuffle(key, out):
    """Fills `out`, integers (num_nodes,), with a random order of 0 to num_nodes - 1 (Fisher and Yates)."""
    for i in range(out.size):
        j = random_below(key, i, i + 1)
        out[i] = out[j]
        out[j] = i


@kernel
def round_randomly(key, expected, out):
    """out[v] = expected[v] rounded up or down, so that it is right on average; floats and integers (num_nodes,)."""
    for v in range(expected.size):
        out[v] = np.int64(expected[v] + random_unit(key, v))


@kernel
def draw_sources(key, indptr, places, node_at, num_classes, homophily, low, high, exponent, offset, out_indices):
    """Draws the source of each edge: first its class, then one of that class by weight.

    Place p of a node means class p % num_classes and rank p // num_classes; rank r is drawn with the weight that
    the inverse of a power law's distribution, (low + uniform * (high - low)) ** exponent - offset, has in
    [r, r + 1). A destination is never its own source.

    key          uint64; draws are keyed by (key, node, draw)
    indptr       int64 (num_nodes + 1,)
    places       int32 (num_nodes,)      place of each node
    node_at      int32 (num_nodes,)      node of each place
    homophily    probability that source and destination share their class; the others are equally likely
    out_indices  int32 (num_edges,)      filled
    """
    num_nodes = places.size
    for v in range(num_nodes):
        stream = node_key(key, v)
        own_class = np.int64(places[v]) % num_classes
        draw = 0
        for e in range(indptr[v], indptr[v + 1]):
            source = np.int64(v)
            while source == v:
                uniform = random_unit(stream, draw)
                if uniform < homophily or num_classes == 1:
                    other = own_class
                else:
                    step = np.int64((uniform - homophily) / (1.0 - homophily) * (num_classes - 1))
                    other = (own_class + 1 + min(step, num_classes - 2)) % num_classes
                rank = np.int64((low + random_unit(stream, draw + 1) * (high - low)) ** exponent - offset)
                place = max(rank, 0) * num_classes + other
                draw += 2
                # The last rank is not complete in every class.
                if place < num_nodes:
                    source = np.int64(node_at[place])
            out_indices[e] = source


@kernel
def flip_labels(key, probability, num_classes, labels):
    """Moves each label, with a probability, to one of the other classes, all equally likely; int64 (num_nodes,)."""
    for v in range(labels.size):
        uniform = random_unit(key, v)
        if uniform < probability:
            step = np.int64(uniform / probability * (num_classes - 1))
            labels[v] = (labels[v] + 1 + min(step, num_classes - 2)) % num_classes


@kernel
def draw_features(key, classes, means, out):
    """out[v] = means[classes[v]] + standard normal noise (Box and Muller, 1958), keyed by (key, node, column).

    classes  integers (num_nodes,)
    means    float32 (num_classes, num_features)
    out      float32 (num_nodes, num_features)
    """
    num_features = out.shape[1]
    for v in range(out.shape[0]):
        stream = node_key(key, v)
        mean = means[classes[v]]
        for f in range(0, num_features, 2):
            radius = math.sqrt(-2.0 * math.log(1.0 - random_unit(stream, f)))
            angle = 2.0 * math.pi * random_unit(stream, f + 1)
            out[v, f] = mean[f] + radius * math.cos(angle)
            if f + 1 < num_features:
                out[v, f + 1] = mean[f + 1] + radius * math.sin(angle)


@inline
def add_message(evidence, spared, homophily, total):
    """Adds to `total` what a neighbor of this evidence says: log sum_b P(b | a) exp(evidence[b] - spared[b]).

    Up to a constant, which no comparison of classes a sees. evidence, spared, total: floats (num_classes,); an empty
    `spared` counts as zeros.
    """
    num_classes = evidence.size
    highest = -np.inf
    for b in range(num_classes):
        highest = max(highest, evidence[b] - (spared[b] if spared.size else 0.0))
    all_classes = 0.0
    for b in range(num_classes):
        all_classes += math.exp(evidence[b] - (spared[b] if spared.size else 0.0) - highest)
    elsewhere = (1.0 - homophily) / max(num_classes - 1, 1)
    for a in range(num_classes):
        own_class = math.exp(evidence[a] - (spared[a] if spared.size else 0.0) - highest)
        share = elsewhere + (homophily - elsewhere) * own_class / all_classes
        total[a] += math.log(max(share, 1e-300))


@kernel
def first_messages(evidence, homophily, out):
    """What each node says to its neighbors about their class, by its own evidence alone.

    evidence  float32 (num_nodes, num_classes)   log-likelihood of a node's features under each class
    out       float32 (num_nodes, num_classes)   filled
    """
    nothing = np.empty(0, evidence.dtype)
    total = np.empty(evidence.shape[1], np.float64)
    for v in range(evidence.shape[0]):
        total[:] = 0.0
        add_message(evidence[v], nothing, homophily, total)
        out[v] = total


@kernel
def gather_messages(indptr, indices, evidence, messages, out):
    """out[v] = evidence[v] + the sum of messages[u] over the in-neighbors u of v.

    evidence, messages, out  float32 (num_nodes, num_classes)
    """
    num_edges = indptr[-1]
    total = np.empty(evidence.shape[1], np.float64)
    for v in range(evidence.shape[0]):
        total[:] = evidence[v]
        for e in range(indptr[v], indptr[v + 1]):
            if e + _AHEAD < num_edges:
                prefetch(messages, indices[e + _AHEAD] * messages.shape[1])
            for a in range(total.size):
                total[a] += messages[indices[e], a]
        out[v] = total


@kernel
def gather_second_messages(indptr, indices, nodes, evidence, beliefs, messages, undirected, homophily, out):
    """out[i] = evidence of nodes[i] + what its in-neighbors say, each of them having heard its own in-neighbors.

    In an undirected graph a neighbor has heard the node itself, too: that message is taken out of its belief.

    nodes     int64 (num_chosen,)
    evidence  float32 (num_nodes, num_classes)
    beliefs   float32 (num_nodes, num_classes)    as `gather_messages` left them
    messages  float32 (num_nodes, num_classes)    as `first_messages` left them
    out       float32 (num_chosen, num_classes)   filled
    """
    nothing = messages[0, :0]
    total = np.empty(evidence.shape[1], np.float64)
    for i in range(nodes.size):
        v = nodes[i]
        total[:] = evidence[v]
        for e in range(indptr[v], indptr[v + 1]):
            add_message(beliefs[indices[e]], messages[v] if undirected else nothing, homophily, total)
        out[i] = total
