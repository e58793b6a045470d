"""Graph in, parts out: of about equal size, few edges between them."""

from gnnfast.partition.partition import Partition as Partition
from gnnfast.partition.partitioner import METHODS as METHODS
from gnnfast.partition.partitioner import partition_graph as partition_graph
