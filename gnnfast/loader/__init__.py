"""Feeding a model: seeds -> sample -> gather -> transfer."""

from gnnfast.loader.dataloader import DataLoader as DataLoader
