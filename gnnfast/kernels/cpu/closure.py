"""Which nodes a layer needs."""

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
