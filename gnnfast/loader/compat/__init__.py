"""PyG's loaders, with our samplers and threads behind them."""

from gnnfast.loader.compat.neighbor import NeighborLoader as NeighborLoader
