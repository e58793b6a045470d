"""Feeding a model: seeds -> sample -> gather -> transfer."""

from gnnfast.loader.compat import ClusterData as ClusterData
from gnnfast.loader.compat import ClusterLoader as ClusterLoader
from gnnfast.loader.compat import GraphSAINTEdgeSampler as GraphSAINTEdgeSampler
from gnnfast.loader.compat import GraphSAINTNodeSampler as GraphSAINTNodeSampler
from gnnfast.loader.compat import GraphSAINTRandomWalkSampler as GraphSAINTRandomWalkSampler
from gnnfast.loader.compat import LinkNeighborLoader as LinkNeighborLoader
from gnnfast.loader.compat import NeighborLoader as NeighborLoader
from gnnfast.loader.compat import PyGSampler as PyGSampler
from gnnfast.loader.compat import RandomNodeLoader as RandomNodeLoader
from gnnfast.loader.compat import ShaDowKHopSampler as ShaDowKHopSampler
from gnnfast.loader.compat import to_pyg_sampler as to_pyg_sampler
from gnnfast.loader.dataloader import DataLoader as DataLoader
