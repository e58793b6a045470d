"""Which nodes a layer needs, and the columns it sums over."""

import torch
from torch import Tensor


def mark_in_neighbors(indptr: Tensor, indices: Tensor, nodes: Tensor, marked: Tensor) -> Tensor:
    marked = marked.clone()
    marked[nodes] = True
    marked[join_columns(indptr, nodes, indices).long()] = True
    return marked


def join_columns(indptr: Tensor, nodes: Tensor, values: Tensor) -> Tensor:
    return torch.cat([values[:0], *(values[indptr[v] : indptr[v + 1]] for v in nodes.tolist())])


def count_columns_with_self(nodes: Tensor, indptr: Tensor, indices: Tensor) -> Tensor:
    others = [int((indices[indptr[v] : indptr[v + 1]] != v).sum()) for v in nodes.tolist()]
    return 1 + torch.tensor(others, dtype=torch.int64)


def join_columns_with_self(indptr: Tensor, nodes: Tensor, indices: Tensor) -> Tensor:
    columns = ((v, indices[indptr[v] : indptr[v + 1]]) for v in nodes.tolist())
    parts = [part for v, column in columns for part in (column[column != v], column.new_tensor([v]))]
    return torch.cat([indices[:0], *parts])


def take_rows_of(row_of: Tensor, ids: Tensor) -> Tensor:
    return row_of[ids.long()].to(ids.dtype)
