"""GraphSAINT's draws and weights, as their definitions read."""

import torch
from torch import Tensor

from gnnfast.kernels.reference.random import random_below


def draw_nodes(num_nodes: int, key: int, num_draws: int) -> Tensor:
    """Uniform nodes, with replacement."""
    return torch.tensor([random_below(key, draw, num_nodes) for draw in range(num_draws)], dtype=torch.int64)


def draw_edge_ends(indptr: Tensor, indices: Tensor, key: int, num_draws: int) -> Tensor:
    """A uniform node and the source of a uniform in-edge of it, or the node itself; `(num_draws, 2)`."""
    ends = []
    for draw in range(num_draws):
        node = random_below(key, 2 * draw, indptr.numel() - 1)
        column = indices[indptr[node] : indptr[node + 1]].tolist()
        ends.append([node, column[random_below(key, 2 * draw + 1, len(column))] if column else node])
    return torch.tensor(ends, dtype=torch.int64)


def frontier_walk(indptr: Tensor, indices: Tensor, frontier: Tensor, key: int, num_steps: int) -> Tensor:
    """The nodes that steps lead to, each along a uniform one of all in-edges of the frontier."""
    heads = frontier.tolist()
    visited: list[int] = []
    for step in range(num_steps):
        in_edges = [
            (walk, source)
            for walk, head in enumerate(heads)
            for source in indices[indptr[head] : indptr[head + 1]].tolist()
        ]
        if not in_edges:
            break
        walk, source = in_edges[random_below(key, step, len(in_edges))]
        heads[walk] = source
        visited.append(source)
    return torch.tensor(visited, dtype=torch.int64)


def counted_weights(indptr: Tensor, edges: Tensor, dst_count: Tensor, edge_count: Tensor) -> Tensor:
    """(count of the destination + 1) / (count of the edge + 1), float32."""
    per_edge = torch.repeat_interleave(dst_count, indptr[1:] - indptr[:-1])
    return ((per_edge + 1).double() / (edge_count[edges] + 1)).float()


def independent_weights(
    indptr: Tensor, indices: Tensor, draw_probability: Tensor, joint: Tensor | None, num_draws: int
) -> Tensor:
    """P(v taken) / P(u and v taken) by inclusion and exclusion, float64."""
    dst = torch.repeat_interleave(torch.arange(indptr.numel() - 1), indptr[1:] - indptr[:-1])
    src = indices.long()
    p_u, p_v = draw_probability[src], draw_probability[dst]
    either = p_u + p_v - (0 if joint is None else joint)
    both = 1 - (1 - p_u) ** num_draws - (1 - p_v) ** num_draws + (1 - either) ** num_draws
    return torch.where(src == dst, 1.0, (1 - (1 - p_v) ** num_draws) / both)


def edge_draw_probability(indptr: Tensor, indices: Tensor) -> Tensor:
    """The sum, over all ways in which a draw of `draw_edge_ends` takes a node, of their probabilities."""
    num_nodes = indptr.numel() - 1
    out = torch.zeros(num_nodes, dtype=torch.float64)
    for node in range(num_nodes):
        column = indices[indptr[node] : indptr[node + 1]].tolist()
        for source in column or [node]:
            for taken in {node, source}:
                out[taken] += 1 / num_nodes / max(len(column), 1)
    return out


def edge_joint_probability(indptr: Tensor, indices: Tensor, in_degree: Tensor, num_nodes: int) -> Tensor:
    """For each edge of a square block, the sum over the edges between the same two nodes, either way."""
    pairs = [
        (source, node)
        for node in range(indptr.numel() - 1)
        for source in indices[indptr[node] : indptr[node + 1]].tolist()
    ]
    chance = {(u, v): pairs.count((u, v)) / int(in_degree[v]) for u, v in pairs}
    joint = [0.0 if u == v else (chance[u, v] + chance.get((v, u), 0.0)) / num_nodes for u, v in pairs]
    return torch.tensor(joint, dtype=torch.float64)


def gcn_column_norms(operator: Tensor) -> Tensor:
    """The squared norms of the columns of a dense operator, `(num_nodes, num_nodes)`."""
    return operator.square().sum(dim=0)
