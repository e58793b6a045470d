"""The vocabulary of every room above: graphs, blocks, mini-batches, features, data sets."""

from gnnfast.graph.block import Block as Block
from gnnfast.graph.csc import CSCGraph as CSCGraph
from gnnfast.graph.dataset import Dataset as Dataset
from gnnfast.graph.features import FeatureStore as FeatureStore
from gnnfast.graph.link_dataset import LinkDataset as LinkDataset
from gnnfast.graph.minibatch import MiniBatch as MiniBatch
from gnnfast.graph.splits import per_class_split as per_class_split
from gnnfast.graph.splits import random_split as random_split
