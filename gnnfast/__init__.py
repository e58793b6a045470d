"""Trains graph neural networks by mini-batch sampling, fast, exactly and reproducibly."""

__version__ = "0.1.0"
