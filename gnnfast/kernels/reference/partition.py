"""Cutting a graph into parts, in plain Python and torch."""

from itertools import pairwise

import torch
from torch import Tensor


def join_parallel_edges(indptr: Tensor, indices: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Sorted columns without self-loops, each source once: (indptr, indices, how often each stood there)."""
    num_nodes = indptr.numel() - 1
    edges = torch.stack([torch.repeat_interleave(indptr.diff()), indices.long()])
    edges, counts = edges[:, edges[0] != edges[1]].unique_consecutive(dim=1, return_counts=True)
    in_degree = torch.bincount(edges[0], minlength=num_nodes)
    return torch.cat([indptr[:1], in_degree.cumsum(0)]), edges[1], counts


def grow_parts(indptr: Tensor, indices: Tensor, counts: Tensor, order: list[int], num_parts: int) -> list[int]:
    """Every part starts at the first free node of `order` and takes the node with the largest share of links to it.

    A share is the number of edges to the part by the number of neighbors; the smaller id wins a tie. A part without
    links to free nodes starts anew.
    """
    num_nodes = len(order)
    links = _links(indptr, indices, counts)
    part_of = [-1] * num_nodes
    for part in range(num_parts):
        for _ in range(num_nodes // num_parts + (part < num_nodes % num_parts)):
            shares = {
                v: sum(count for u, count in links[v] if part_of[u] == part) / len(links[v])
                for v in range(num_nodes)
                if part_of[v] < 0 and links[v]
            }
            best = max(shares, key=lambda v: (shares[v], -v), default=-1)
            if not shares or shares[best] == 0:
                best = next(v for v in order if part_of[v] < 0)
            part_of[best] = part
    return part_of


def refine_parts(
    indptr: Tensor,
    indices: Tensor,
    counts: Tensor,
    order: list[int],
    largest: int,
    smallest: int,
    num_passes: int,
    part_of: list[int],
    num_parts: int,
) -> tuple[list[int], int]:
    """Every node in turn goes to the part it has most links to, if both sizes allow: (parts, cut edges saved)."""
    links = _links(indptr, indices, counts)
    part_of = list(part_of)
    sizes = [part_of.count(part) for part in range(num_parts)]
    saved = 0
    for _ in range(num_passes):
        before = saved
        for v in order:
            own = part_of[v]
            num_links = {own: 0}
            for u, count in links[v]:
                num_links[part_of[u]] = num_links.get(part_of[u], 0) + count
            best = own
            for part in dict.fromkeys(part_of[u] for u, _ in links[v]):
                if part != own and sizes[part] < largest:
                    gain = num_links[part] - num_links[best]
                    if gain > 0 or (gain == 0 and sizes[part] + 1 < sizes[best]):
                        best = part
            if best != own and sizes[own] > smallest:
                saved += 2 * (num_links[best] - num_links[own])
                part_of[v] = best
                sizes[own] -= 1
                sizes[best] += 1
        if saved == before:
            break
    return part_of, saved


def count_cut_edges(indptr: Tensor, indices: Tensor, part_of: Tensor) -> tuple[int, int]:
    """Edges between parts, and edges that are no self-loops."""
    dst = torch.repeat_interleave(indptr.diff())
    return int((part_of[indices] != part_of[dst]).sum()), int((indices != dst).sum())


def _links(indptr: Tensor, indices: Tensor, counts: Tensor) -> list[list[tuple[int, int]]]:
    """Each node's neighbors with the number of edges to them."""
    ends = indptr.tolist()
    pairs = list(zip(indices.tolist(), counts.tolist(), strict=True))
    return [pairs[first:last] for first, last in pairwise(ends)]
