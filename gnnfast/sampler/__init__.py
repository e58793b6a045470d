"""Samplers: graph and seeds in, mini-batch out."""

from gnnfast.sampler.base import EpochSampler as EpochSampler
from gnnfast.sampler.base import LinkSampler as LinkSampler
from gnnfast.sampler.base import Sampler as Sampler
from gnnfast.sampler.base import StepSampler as StepSampler
from gnnfast.sampler.edge.full_graph import FullGraphSampler as FullGraphSampler
from gnnfast.sampler.edge.link_neighbor import LinkNeighborSampler as LinkNeighborSampler
from gnnfast.sampler.edge.negatives import NegativeSampler as NegativeSampler
from gnnfast.sampler.law import Law as Law
from gnnfast.sampler.node.labor import LaborSampler as LaborSampler
from gnnfast.sampler.node.layerwise import FastGCNSampler as FastGCNSampler
from gnnfast.sampler.node.layerwise import LadiesSampler as LadiesSampler
from gnnfast.sampler.node.layerwise import PLadiesSampler as PLadiesSampler
from gnnfast.sampler.node.neighbor import NeighborSampler as NeighborSampler
from gnnfast.sampler.node.random_walk import RandomWalkSampler as RandomWalkSampler
from gnnfast.sampler.node.weighted import WeightedNeighborSampler as WeightedNeighborSampler
from gnnfast.sampler.subgraph.cluster import ClusterSampler as ClusterSampler
from gnnfast.sampler.subgraph.ego import EgoSampler as EgoSampler
from gnnfast.sampler.subgraph.gas import GASSampler as GASSampler
from gnnfast.sampler.subgraph.ibmb import IBMBSampler as IBMBSampler
from gnnfast.sampler.subgraph.random_node import RandomNodeSampler as RandomNodeSampler
from gnnfast.sampler.subgraph.saint_edge import SaintEdgeSampler as SaintEdgeSampler
from gnnfast.sampler.subgraph.saint_node import SaintNodeSampler as SaintNodeSampler
from gnnfast.sampler.subgraph.saint_walk import SaintMultiWalkSampler as SaintMultiWalkSampler
from gnnfast.sampler.subgraph.saint_walk import SaintWalkSampler as SaintWalkSampler
from gnnfast.sampler.subgraph.shadow import ShadowSampler as ShadowSampler
