"""Samplers: graph and seeds in, mini-batch out."""

from gnnfast.sampler.base import Sampler as Sampler
from gnnfast.sampler.node.neighbor import NeighborSampler as NeighborSampler
