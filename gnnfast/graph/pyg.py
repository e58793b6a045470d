"""The seam to PyG and torch_sparse: their types in, their types out."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from gnnfast.graph.block import Block
from gnnfast.graph.csc import CSCGraph
from gnnfast.graph.dataset import Dataset
from gnnfast.graph.features import FeatureStore
from gnnfast.graph.minibatch import MiniBatch
from gnnfast.graph.splits import mask_to_ids

if TYPE_CHECKING:
    from torch_geometric.data import Data


def graph_from_pyg(data: Data, keep_edge_ids: bool = False) -> CSCGraph:
    """The graph of a PyG `Data`: its `edge_index` or `adj_t`, and its `edge_weight`.

    Raises:
        TypeError: If `data` is heterogeneous.
        ValueError: If it holds no edges in either form.
    """
    if hasattr(data, "edge_types"):
        raise TypeError("a heterogeneous graph is not supported: pass one node and edge type, or data.to_homogeneous()")
    if data.edge_index is not None:
        weight = data.edge_weight if "edge_weight" in data else None
        return CSCGraph.from_edge_index(data.edge_index, data.num_nodes, weight, keep_edge_ids)
    if "adj_t" in data:
        return CSCGraph.from_sparse_tensor(data.adj_t)
    raise ValueError("the PyG data holds neither edge_index nor adj_t")


def dataset_from_pyg(data: Data, name: str = "pyg") -> Dataset:
    """A node-classification data set from a PyG `Data` with `x`, `y`, `train_mask`, `val_mask` and `test_mask`."""
    missing = [key for key in ("x", "y", "train_mask", "val_mask", "test_mask") if getattr(data, key, None) is None]
    if missing:
        raise ValueError(f"the PyG data has no {', '.join(missing)}, which node classification needs")
    return Dataset(
        name=name,
        graph=graph_from_pyg(data),
        features=FeatureStore(data.x),
        labels=data.y.squeeze(-1) if data.y.dim() == 2 and data.y.shape[1] == 1 else data.y,
        train_ids=mask_to_ids(data.train_mask),
        val_ids=mask_to_ids(data.val_mask),
        test_ids=mask_to_ids(data.test_mask),
    )


def dataset_to_pyg(dataset: Dataset) -> Data:
    """The data set as one PyG `Data`: features, labels, masks, `edge_index` sorted by destination, `edge_weight`."""
    from torch_geometric.data import Data

    data = Data(
        x=dataset.features.rows, y=dataset.labels, edge_index=dataset.graph.to_edge_index(), num_nodes=dataset.num_nodes
    )
    if dataset.graph.edge_weight is not None:
        data.edge_weight = dataset.graph.edge_weight
    for key in ("train", "val", "test"):
        mask = torch.zeros(dataset.num_nodes, dtype=torch.bool)
        mask[getattr(dataset, f"{key}_ids")] = True
        data[f"{key}_mask"] = mask
    return data


def minibatch_to_pyg(batch: MiniBatch) -> Data:
    """One PyG `Data` with the edges of all blocks, each source-destination pair of a redrawn hop once.

    PyG's scripts read the outputs of the first `batch_size` rows: seeds come first, one that came twice counts once.

    Weights that the sampler gives have the names of PyG's GraphSAINT loaders: `edge_norm`, `(num_edges,)`, is what it
    multiplies each edge with (`Block.inclusion_weight`; of an edge that was redrawn, the one nearest the input), and
    `node_norm`, `(batch_size,)`, the factor of each seed's loss (`MiniBatch.seed_weight`). They are the mini-batch's:
    PyG's own `node_norm` is divided by the number of nodes. A sampler that gives none leaves the attribute out.
    """
    from torch_geometric.data import Data

    widest = batch.blocks[0]
    edge_index, edge_weight, edge_norm = widest.edge_index, widest.edge_weight, widest.inclusion_weight
    if not all(_is_prefix(block, widest) for block in batch.blocks[1:]):
        edge_index = torch.cat([block.edge_index for block in batch.blocks], dim=1)
        keys, inverse = torch.unique(edge_index[1] * batch.num_nodes + edge_index[0], return_inverse=True)
        positions = torch.arange(inverse.numel(), device=inverse.device)
        first = torch.empty_like(keys).scatter_reduce(0, inverse, positions, "amin", include_self=False)
        edge_index = edge_index[:, first]
        if edge_weight is not None:
            edge_weight = torch.cat([b.edge_weight for b in batch.blocks if b.edge_weight is not None])[first]
        if any(block.inclusion_weight is not None for block in batch.blocks):
            edge_norm = torch.cat([_inclusion_weight(block) for block in batch.blocks])[first]
    x, y, node_ids, num_seeds, node_norm = batch.x, batch.y, batch.node_ids, batch.num_seeds, batch.seed_weight
    if batch.seed_rows is not None:
        order, first_seed = _seeds_first(batch.seed_rows, batch.num_nodes)
        new_row = torch.empty_like(order).index_copy_(0, order, torch.arange(order.numel(), device=order.device))
        edge_index, node_ids, num_seeds = new_row[edge_index], node_ids[order], first_seed.numel()
        x, y = None if x is None else x[order], None if y is None else y[first_seed]
        node_norm = None if node_norm is None else node_norm[first_seed]
    data = Data(x=x, y=y, edge_index=edge_index, num_nodes=batch.num_nodes)
    data.n_id, data.input_id, data.batch_size = node_ids, node_ids[:num_seeds], num_seeds
    for key, value in (("edge_weight", edge_weight), ("edge_norm", edge_norm), ("node_norm", node_norm)):
        if value is not None:
            data[key] = value
    return data


def _inclusion_weight(block: Block) -> Tensor:
    if block.inclusion_weight is not None:
        return block.inclusion_weight
    return torch.ones(block.num_edges, device=block.device)


def _seeds_first(seed_rows: Tensor, num_rows: int) -> tuple[Tensor, Tensor]:
    """All rows, those of seeds before the others; and for each of these the first seed that it belongs to."""
    seeds = torch.arange(seed_rows.numel(), device=seed_rows.device)
    first_seed = seed_rows.new_full((num_rows,), seeds.numel())
    first_seed.scatter_reduce_(0, seed_rows, seeds, "amin")
    is_seed = first_seed < seeds.numel()
    return torch.argsort(~is_seed, stable=True), first_seed[is_seed]


def _is_prefix(block: Block, widest: Block) -> bool:
    """Whether `block` is the first columns of `widest`, as where every node was expanded once."""
    num_edges = block.num_edges
    return bool(
        block is widest
        or (
            torch.equal(block.indptr, widest.indptr[: block.num_dst + 1])
            and torch.equal(block.indices, widest.indices[:num_edges])
        )
    )


def sparse_tensor(indptr: Tensor, indices: Tensor, weight: Tensor | None, num_src: int) -> Any:
    """CSC arrays as `torch_sparse.SparseTensor` of shape `(num_dst, num_src)`."""
    try:
        from torch_sparse import SparseTensor
    except ImportError as error:
        raise ImportError("SparseTensor needs torch_sparse: pip install 'gnnfast[sparse]'") from error
    return SparseTensor(
        rowptr=indptr,
        col=indices.long(),
        value=weight,
        sparse_sizes=(indptr.numel() - 1, num_src),
        is_sorted=True,
        trust_data=True,
    )
