"""PyG's loaders, with our samplers and threads behind them."""

from gnnfast.loader.compat.adapters import PyGSampler as PyGSampler
from gnnfast.loader.compat.adapters import to_pyg_sampler as to_pyg_sampler
from gnnfast.loader.compat.cluster import ClusterData as ClusterData
from gnnfast.loader.compat.cluster import ClusterLoader as ClusterLoader
from gnnfast.loader.compat.link_neighbor import LinkNeighborLoader as LinkNeighborLoader
from gnnfast.loader.compat.neighbor import NeighborLoader as NeighborLoader
from gnnfast.loader.compat.random_node import RandomNodeLoader as RandomNodeLoader
from gnnfast.loader.compat.saint import GraphSAINTEdgeSampler as GraphSAINTEdgeSampler
from gnnfast.loader.compat.saint import GraphSAINTNodeSampler as GraphSAINTNodeSampler
from gnnfast.loader.compat.saint import GraphSAINTRandomWalkSampler as GraphSAINTRandomWalkSampler
from gnnfast.loader.compat.shadow import ShaDowKHopSampler as ShaDowKHopSampler
