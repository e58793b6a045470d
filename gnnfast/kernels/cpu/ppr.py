"""Personalized PageRank: which nodes a node hears most, by walks against the direction of its in-edges.

A walk at v ends with probability alpha, or else moves on to one of v's in-neighbors, each edge alike; where there is
none it stays. pi_s(u), the influence of u on s, is the probability that a walk from s ends at u.
"""

import numpy as np

from gnnfast.kernels.cpu.compile import inline, kernel, prefetch
from gnnfast.kernels.cpu.random import GOLDEN

_TINY = 5e-324  # the least positive number
_NODE, _NUMBER = 0, 1  # of a slot of the table; number -1: empty
_REST, _LIMIT = 0, 1  # of a node's state: what is not yet walked, and from where on it is


@kernel
def push_ppr(indptr, indices, start_nodes, alpha, eps, top_k, out_ptr, out_nodes, out_scores):
    """Finds for each start the `top_k` other nodes of largest approximate influence.

    Andersen, Chung and Lang, Local Graph Partitioning using PageRank Vectors, 2006: probability not yet walked, r, is
    moved on from any node with r(u) >= eps * in-degree(u). Nodes in that state are taken first come, first served.
    What is found is below pi_s, at u by the sum over v of r(v) pi_v(u), and r(v) <= eps * in-degree(v): where every
    edge has its reverse, by at most eps * degree(u). Cost and memory: at most 1 / (alpha * eps) edges per start.

    indptr       int64 (num_nodes + 1,)
    indices      integers (num_edges,)
    start_nodes  int64 (num_starts,)
    out_ptr      int64 (num_starts + 1,)          filled
    out_nodes    int64 (num_starts * top_k,)      filled: those of start i are out_nodes[out_ptr[i]:out_ptr[i + 1]],
                                                  by falling influence, then by the order of discovery
    out_scores   float64 (num_starts * top_k,)    their influence, likewise
    """
    # Nodes get local numbers as they are reached; all arrays but the table are by local number.
    room = 64
    table = _empty_table(room)
    nodes = np.empty(room, np.int64)
    state = np.empty((room, 2), np.float64)
    found = np.empty(room, np.float64)
    queue = np.empty(room, np.int64)
    heap_score, heap_number = np.empty(top_k, np.float64), np.empty(top_k, np.int64)
    out_ptr[0] = 0
    for i in range(start_nodes.size):
        count = 1
        _enter(table, nodes, state, found, start_nodes[i], 0, indptr, eps)
        state[0, _REST] = 1.0
        queue[0] = 0
        head, num_queued = 0, 1
        while num_queued > 0:
            u = queue[head]
            head = head + 1 if head + 1 < room else 0
            num_queued -= 1
            amount = state[u, _REST]
            state[u, _REST] = 0.0
            first, last = indptr[nodes[u]], indptr[nodes[u] + 1]
            if first == last:
                found[u] += amount
                continue
            found[u] += alpha * amount
            share = (1.0 - alpha) * amount / (last - first)
            for e in range(first, last):
                node = indices[e]
                w = table[_find_slot(table, node), _NUMBER]
                if w < 0:
                    if count == room:
                        nodes, found = _grown(nodes), _grown(found)
                        grown = np.empty((2 * room, 2), np.float64)
                        grown[:room] = state
                        state = grown
                        # The ring is straightened out as it moves.
                        queue = _grown_ring(queue, head, num_queued)
                        head = 0
                        room *= 2
                        table = _empty_table(room)
                        for k in range(count):
                            _set_number(table, nodes[k], k)
                    w = count
                    _enter(table, nodes, state, found, node, w, indptr, eps)
                    count += 1
                before = state[w, _REST]
                state[w, _REST] = before + share
                # At or above its limit it is in the queue already.
                if before < state[w, _LIMIT] <= before + share:
                    tail = head + num_queued
                    queue[tail if tail < room else tail - room] = w
                    num_queued += 1
        out_ptr[i + 1] = _keep_largest(nodes, found, count, heap_score, heap_number, out_ptr[i], out_nodes, out_scores)
        # Backwards: so no entry is hidden behind a slot already emptied.
        for k in range(count - 1, -1, -1):
            table[_find_slot(table, nodes[k]), _NUMBER] = -1


@inline
def _empty_table(room):
    return np.full((4 * room, 2), -1, np.int64)


@inline
def _find_slot(table, node):
    """The slot of a node, or the empty one where it belongs: Fibonacci hashing."""
    mask = table.shape[0] - 1
    slot = np.int64((np.uint64(node) * GOLDEN) >> np.uint64(32)) & mask
    while table[slot, _NUMBER] >= 0 and table[slot, _NODE] != node:
        slot = (slot + 1) & mask
    return slot


@inline
def _set_number(table, node, number):
    slot = _find_slot(table, node)
    table[slot, _NODE] = node
    table[slot, _NUMBER] = number


@inline
def _enter(table, nodes, state, found, node, number, indptr, eps):
    _set_number(table, node, number)
    nodes[number] = node
    found[number] = 0.0
    state[number, _REST] = 0.0
    # A node without in-edges is walked on from whatever reaches it.
    state[number, _LIMIT] = max(eps * (indptr[node + 1] - indptr[node]), _TINY)


@inline
def _grown(values):
    grown = np.empty(2 * values.size, values.dtype)
    grown[: values.size] = values
    return grown


@inline
def _grown_ring(queue, head, num_queued):
    grown = np.empty(2 * queue.size, queue.dtype)
    for k in range(num_queued):
        position = head + k
        grown[k] = queue[position if position < queue.size else position - queue.size]
    return grown


@inline
def _keep_largest(nodes, found, count, heap_score, heap_number, first, out_nodes, out_scores):
    """Writes the nodes with the largest `found`, local number 0 left out, and returns where they end."""
    top_k = heap_score.size
    size = 0
    for u in range(1, count):
        score = found[u]
        if score <= 0.0 or (size == top_k and score <= heap_score[0]):
            continue
        if size < top_k:
            # Sift up; the root is the entry to go next: least score, latest discovery.
            k = size
            size += 1
            while k > 0 and _goes_before(score, u, heap_score[(k - 1) // 2], heap_number[(k - 1) // 2]):
                heap_score[k], heap_number[k] = heap_score[(k - 1) // 2], heap_number[(k - 1) // 2]
                k = (k - 1) // 2
        else:
            k = _sink(heap_score, heap_number, size, score, u)
        heap_score[k], heap_number[k] = score, u
    last = first + size
    for k in range(last - 1, first - 1, -1):
        out_nodes[k], out_scores[k] = nodes[heap_number[0]], heap_score[0]
        size -= 1
        score, u = heap_score[size], heap_number[size]
        position = _sink(heap_score, heap_number, size, score, u)
        heap_score[position], heap_number[position] = score, u
    return last


@inline
def _sink(heap_score, heap_number, size, score, u):
    """Moves entries up from the root until (score, u) has its place; returns it."""
    k = 0
    while True:
        child = 2 * k + 1
        if child >= size:
            return k
        if child + 1 < size and _goes_before(
            heap_score[child + 1], heap_number[child + 1], heap_score[child], heap_number[child]
        ):
            child += 1
        if not _goes_before(heap_score[child], heap_number[child], score, u):
            return k
        heap_score[k], heap_number[k] = heap_score[child], heap_number[child]
        k = child


@inline
def _goes_before(score, u, other_score, other):
    return score < other_score or (score == other_score and u > other)


@kernel
def iterate_ppr(indptr, indices, start_nodes, alpha, num_rounds, out_score):
    """The influence of every node on a set of nodes together, by power iteration.

    x <- (1 - alpha) * (x moved on by one step) + alpha * (uniform on the set), from uniform on the set; what is missing
    after `num_rounds` rounds is at most (1 - alpha) ** num_rounds in all.

    indptr       int64 (num_nodes + 1,)
    indices      integers (num_edges,)
    start_nodes  int64 (num_starts,)    distinct
    out_score    float64 (num_nodes,)   filled; sums to 1
    """
    num_nodes = indptr.size - 1
    x, moved = out_score, np.empty(num_nodes, np.float64)
    x[:] = 0.0
    for i in range(start_nodes.size):
        x[start_nodes[i]] = 1.0 / start_nodes.size
    for _ in range(num_rounds):
        moved[:] = 0.0
        for v in range(num_nodes):
            if x[v] == 0.0:
                continue
            first, last = indptr[v], indptr[v + 1]
            if first == last:
                moved[v] += (1.0 - alpha) * x[v]
                continue
            share = (1.0 - alpha) * x[v] / (last - first)
            for e in range(first, last):
                if e + 16 < last:
                    prefetch(moved, indices[e + 16])
                moved[indices[e]] += share
        for i in range(start_nodes.size):
            moved[start_nodes[i]] += alpha / start_nodes.size
        x[:] = moved


@kernel
def merge_pairs(first, second, max_size, group_of):
    """Merges groups pair by pair, as long as no group has more than `max_size` members.

    first, second  int64 (num_pairs,)     members, the pair to be merged first in front
    max_size       at least 1
    group_of       int64 (num_members,)   filled: one member of each one's group, the same for all in it
    """
    size = np.ones(group_of.size, np.int64)
    for i in range(group_of.size):
        group_of[i] = i
    for k in range(first.size):
        a, b = _root(group_of, first[k]), _root(group_of, second[k])
        if a != b and size[a] + size[b] <= max_size:
            if size[a] < size[b]:
                a, b = b, a
            group_of[b] = a
            size[a] += size[b]
    for i in range(group_of.size):
        group_of[i] = _root(group_of, i)


@inline
def _root(group_of, i):
    while group_of[i] != i:
        group_of[i] = group_of[group_of[i]]
        i = group_of[i]
    return i


@kernel
def pack_groups(sizes, max_size, out_batch):
    """Puts groups, taken in their order, into batches of at most `max_size` members: a new one when the next is full.

    sizes      int64 (num_groups,)   none above max_size
    out_batch  int64 (num_groups,)   filled

    Returns the number of batches.
    """
    batch = -1
    room = 0
    for group in range(sizes.size):
        if batch < 0 or sizes[group] > room:
            batch += 1
            room = max_size
        room -= sizes[group]
        out_batch[group] = batch
    return batch + 1
