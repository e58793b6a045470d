"""Feeding a model: seeds -> sample -> gather -> transfer."""

from gnnfast.loader.compat.neighbor import NeighborLoader as NeighborLoader
from gnnfast.loader.dataloader import DataLoader as DataLoader
