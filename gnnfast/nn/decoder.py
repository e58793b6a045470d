"""From the representations of two nodes to the score of their edge."""

from __future__ import annotations

from typing import Protocol

import torch
from torch import Tensor

from gnnfast.nn.dropout import Dropout


class Decoder(Protocol):
    """Scores pairs of nodes: the logarithm of the odds that there is an edge, or just higher for likelier ones."""

    def __call__(self, src: Tensor, dst: Tensor) -> Tensor:
        """Scores of pairs, `(num_pairs,)`, from the rows of their ends, `(num_pairs, channels)` each."""
        ...

    def score_all(self, src: Tensor, dst: Tensor) -> Tensor:
        """Scores of all sources with all destinations, `(num_src, num_dst)`."""
        ...

    @property
    def pair_channels(self) -> int:
        """Numbers that `score_all` holds per pair."""
        ...


class DotDecoder(torch.nn.Module):
    """The inner product of both rows.

    Args:
        in_channels: Width of the rows; does not matter here.
    """

    pair_channels = 1

    def __init__(self, in_channels: int | None = None):
        super().__init__()

    def forward(self, src: Tensor, dst: Tensor) -> Tensor:
        return (src * dst).sum(-1)

    def score_all(self, src: Tensor, dst: Tensor) -> Tensor:
        return src @ dst.T


class MLPDecoder(torch.nn.Module):
    """A perceptron on the product of both rows, channel by channel; the same in both directions.

    Args:
        in_channels: Width of the rows.
        hidden_channels: Width of its hidden layers.
        num_layers: Linear maps, at least 1.
        dropout: Probability of dropping a hidden value.

    Raises:
        ValueError: If there is no layer or a width is not positive.
    """

    def __init__(self, in_channels: int, hidden_channels: int = 64, num_layers: int = 2, dropout: float = 0.0):
        super().__init__()
        if min(in_channels, hidden_channels, num_layers) < 1:
            raise ValueError(
                f"a decoder needs at least one layer and channel, got {in_channels=}, {hidden_channels=}, {num_layers=}"
            )
        widths = [in_channels] + [hidden_channels] * (num_layers - 1)
        layers: list[torch.nn.Module] = []
        for width in widths[1:]:
            layers += [torch.nn.Linear(in_channels, width), torch.nn.ReLU(), Dropout(dropout)]
            in_channels = width
        self.layers = torch.nn.Sequential(*layers, torch.nn.Linear(in_channels, 1))
        self.pair_channels = 2 * max(widths)

    def forward(self, src: Tensor, dst: Tensor) -> Tensor:
        scores: Tensor = self.layers(src * dst)
        return scores.squeeze(-1)

    def score_all(self, src: Tensor, dst: Tensor) -> Tensor:
        scores: Tensor = self(src[:, None], dst[None])
        return scores
