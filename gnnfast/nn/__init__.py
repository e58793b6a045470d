"""Convolutions on blocks and on PyG's `edge_index`, and the model that stacks them."""

from gnnfast.nn.aggregate import segment_max as segment_max
from gnnfast.nn.aggregate import segment_mean as segment_mean
from gnnfast.nn.aggregate import segment_sum as segment_sum
from gnnfast.nn.conv.gat import GATConv as GATConv
from gnnfast.nn.conv.gatv2 import GATv2Conv as GATv2Conv
from gnnfast.nn.conv.gcn import GCNConv as GCNConv
from gnnfast.nn.conv.gin import GINConv as GINConv
from gnnfast.nn.conv.lg import LGConv as LGConv
from gnnfast.nn.conv.sage import SAGEConv as SAGEConv
from gnnfast.nn.decoder import DotDecoder as DotDecoder
from gnnfast.nn.decoder import MLPDecoder as MLPDecoder
from gnnfast.nn.embedding import NodeEmbedding as NodeEmbedding
from gnnfast.nn.gnn import GNN as GNN
from gnnfast.nn.lightgcn import LightGCN as LightGCN
from gnnfast.nn.link_model import LinkModel as LinkModel
