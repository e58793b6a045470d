"""Which nodes a layer needs, and the columns it sums over."""

import numpy as np

from gnnfast.kernels.cpu.compile import kernel, prefetch


@kernel
def mark_in_neighbors(indptr, indices, nodes, marked):
    """Marks the nodes and all their in-neighbors.

    indptr   int64 (num_nodes + 1,)
    indices  integers (num_edges,)
    nodes    int64 (num_given,)
    marked   bool (num_nodes,)       updated
    """
    for i in range(nodes.size):
        node = nodes[i]
        marked[node] = True
        last = indptr[node + 1]
        for e in range(indptr[node], last):
            if e + 16 < last:
                prefetch(marked, indices[e + 16])
            marked[indices[e]] = True


@kernel
def join_columns(first, last, out_indptr, indptr, nodes, values, out):
    """Copies the columns of some nodes, one after another, for those from `first` to `last`.

    out_indptr  int64 (num_given + 1,)    where each begins in `out`
    indptr      int64 (num_nodes + 1,)
    nodes       int64 (num_given,)
    values      anything (num_edges,)
    out         like values (out_indptr[-1],)
    """
    for i in range(first, last):
        begin, end = np.uint64(indptr[nodes[i]]), np.uint64(indptr[nodes[i] + 1])
        to = np.uint64(out_indptr[i])
        for e in range(end - begin):
            out[to + e] = values[begin + e]


@kernel
def count_columns_with_self(first, last, nodes, indptr, indices, out):
    """out[i] = 1 + the edges into nodes[i] from other nodes.

    nodes    int64 (num_given,)
    indptr   int64 (num_nodes + 1,)
    indices  integers (num_edges,)
    out      int64 (num_given,)
    """
    for i in range(first, last):
        node = nodes[i]
        count = 1
        for e in range(np.uint64(indptr[node]), np.uint64(indptr[node + 1])):
            count += indices[e] != node
        out[i] = count


@kernel
def join_columns_with_self(first, last, out_indptr, indptr, nodes, indices, out):
    """As `join_columns`, without edges from a node to itself but for one, the last of its column.

    out_indptr  int64 (num_given + 1,)               sums of `count_columns_with_self`
    out         integers (out_indptr[-1],)
    """
    for i in range(first, last):
        node = nodes[i]
        to = np.uint64(out_indptr[i])
        for e in range(np.uint64(indptr[node]), np.uint64(indptr[node + 1])):
            if indices[e] != node:
                out[to] = indices[e]
                to += np.uint64(1)
        out[to] = node


@kernel
def take_rows_of(first, last, row_of, ids):
    """ids[i] = row_of[ids[i]], from `first` to `last`.

    row_of  integers (num_nodes,)
    ids     integers (num_ids,)      updated
    """
    for i in range(np.uint64(first), np.uint64(last)):
        ids[i] = row_of[np.uint64(ids[i])]
