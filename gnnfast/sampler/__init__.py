"""Samplers: graph and seeds in, mini-batch out."""

from gnnfast.sampler.base import EpochSampler as EpochSampler
from gnnfast.sampler.base import LinkSampler as LinkSampler
from gnnfast.sampler.base import Sampler as Sampler
from gnnfast.sampler.law import Law as Law
from gnnfast.sampler.node.neighbor import NeighborSampler as NeighborSampler
